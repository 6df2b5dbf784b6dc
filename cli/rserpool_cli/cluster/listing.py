# SPDX-License-Identifier: Apache-2.0
"""Elements as people and programs see them; the same on a machine and on a cluster."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rserpool_cli.cluster.holdings import Holdings
from rserpool_cli.output import table


def shown(holdings: Holdings, pods: Mapping[str, str] | None = None) -> str:
    """The table of elements; without `pods`, on a machine that has none."""
    headings = ["ELEMENT", *(["POD"] if pods is not None else []), "ADDRESS", "HOME", "POLICY"]
    rows = []
    for element in holdings.elements:
        pod = [pods.get(element.identifier, "-")] if pods is not None else []
        held = [f"{len(element.holders)}/{len(holdings.serving)}"] if holdings.differences else []
        rows.append((element.identifier, *pod, element.place, element.home, element.policy, *held))
    if holdings.differences:
        headings.append("HELD BY")
    return table(headings, rows)


def differences(holdings: Holdings) -> list[str]:
    """Where registrars disagree, a line each."""
    return [f"registrars disagree: {sentence}" for sentence in holdings.differences]


def plain_elements(holdings: Holdings, pods: Mapping[str, str] | None = None) -> list[dict[str, Any]]:
    """Elements as JSON data."""
    return [
        {
            "identifier": e.identifier,
            "handle": e.handle,
            **({"pod": pods.get(e.identifier)} if pods is not None else {}),
            "transport": e.place,
            "home": e.home,
            "policy": e.policy,
            "heldBy": list(e.holders),
        }
        for e in holdings.elements
    ]
