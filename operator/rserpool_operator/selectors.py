# SPDX-License-Identifier: Apache-2.0
"""Label selectors, as Kubernetes reads them."""

from __future__ import annotations

from collections.abc import Mapping

from rserpool.pool.model import Selector


def selects(selector: Selector, labels: Mapping[str, str]) -> bool:
    """Whether a selector selects what has these labels; an empty one selects everything."""
    return all(labels.get(key) == value for key, value in selector.match_labels.items()) and all(
        _holds(expression, labels) for expression in selector.match_expressions
    )


def _holds(expression: Mapping[str, object], labels: Mapping[str, str]) -> bool:
    key, values = str(expression.get("key", "")), expression.get("values") or ()
    assert isinstance(values, list | tuple)
    match expression.get("operator"):
        case "In":
            return labels.get(key) in values
        case "NotIn":
            return labels.get(key) not in values
        case "Exists":
            return key in labels
        case "DoesNotExist":
            return key not in labels
        case _:  # what nobody understands selects nobody
            return False
