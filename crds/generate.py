# SPDX-License-Identifier: Apache-2.0
"""Writes the CustomResourceDefinition of ServerPool, once for kubectl and once for the chart: `make crds`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import yaml

from crd_schema import server_pool_schema
from crd_status import COLUMNS
from rserpool.pool.model import API_VERSION, KIND

ROOT: Final = Path(__file__).parent.parent
PLAIN: Final = ROOT / "crds" / "serverpools.rserpool.io.yaml"
CHART: Final = ROOT / "charts" / "rserpool" / "templates" / "crds.yaml"
_HEAD: Final = (
    "# SPDX-License-Identifier: Apache-2.0\n# Written by `make crds` from the model in the code; do not edit.\n"
)
KEEP: Final = {"helm.sh/resource-policy": "keep"}
"""`helm uninstall` leaves the definition behind, and with it every ServerPool."""


def definition(annotations: dict[str, str] | None = None) -> dict[str, Any]:
    """The CustomResourceDefinition."""
    group, version = API_VERSION.split("/")
    plural = f"{KIND.lower()}s"
    metadata: dict[str, Any] = {"name": f"{plural}.{group}"}
    if annotations:
        metadata["annotations"] = annotations
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": metadata,
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {
                "kind": KIND,
                "listKind": f"{KIND}List",
                "plural": plural,
                "singular": KIND.lower(),
                "shortNames": ["spool"],
                "categories": ["rserpool"],
            },
            "versions": [
                {
                    "name": version,
                    "served": True,
                    "storage": True,
                    "subresources": {"status": {}},
                    "additionalPrinterColumns": COLUMNS,
                    "schema": {"openAPIV3Schema": server_pool_schema()},
                }
            ],
        },
    }


class _Dumper(yaml.SafeDumper):
    """Without anchors: whoever reads the file shall find each part where it is."""

    def ignore_aliases(self, data: Any) -> bool:
        """Write everything out."""
        del data
        return True


def _text(value: dict[str, Any]) -> str:
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, width=120, allow_unicode=True)


def plain() -> str:
    """The file for `kubectl apply -f`."""
    return _HEAD + _text(definition())


def chart() -> str:
    """The chart's template."""
    text = _text(definition(KEEP))
    if "{{" in text:
        raise ValueError("two braces in a description or rule: Helm would take them for its own")
    return f"{_HEAD}{{{{- if .Values.crds.install }}}}\n{text}{{{{- end }}}}\n"


if __name__ == "__main__":
    CHART.parent.mkdir(parents=True, exist_ok=True)
    PLAIN.write_text(plain())
    CHART.write_text(chart())
