# SPDX-License-Identifier: Apache-2.0
"""Writes charts/rserpool/README.md from the comments of values.yaml: `python charts/readme.py`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import yaml

CHART: Final = Path(__file__).parent / "rserpool"
PAGE: Final = CHART / "README.md"
_MARK: Final = "# -- "


@dataclass(frozen=True, slots=True, kw_only=True)
class Value:
    """One row of the table."""

    key: str
    default: str
    meaning: str


def values(text: str) -> Iterator[Value]:
    """The values of a values.yaml whose comments begin with ``# --``.

    A comment above a mapping makes the whole mapping one row; without one its keys are described one by one.

    Raises:
        ValueError: a value has no comment.
    """
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    assert isinstance(root, yaml.MappingNode)
    yield from _rows(root, text.splitlines(), ())


def _rows(mapping: yaml.MappingNode, lines: list[str], above: tuple[str, ...]) -> Iterator[Value]:
    for key, node in mapping.value:
        path = (*above, key.value)
        meaning = _comment(lines, key.start_mark.line)
        if meaning:
            default = json.dumps(yaml.safe_load(yaml.serialize(node)))
            yield Value(key=".".join(path), default=default, meaning=meaning)
        elif isinstance(node, yaml.MappingNode) and node.value:
            yield from _rows(node, lines, path)
        else:
            raise ValueError(
                f"values.yaml:{key.start_mark.line + 1}: {'.'.join(path)}: write a comment above it: {_MARK}…"
            )


def _comment(lines: list[str], line: int) -> str:
    """The comment that stands directly above a line, if it is one for the table."""
    found: list[str] = []
    for text in reversed(lines[:line]):
        stripped = text.strip()
        if not stripped.startswith("#"):
            break
        if stripped.startswith(_MARK):
            return " ".join([stripped.removeprefix(_MARK), *found])
        found.insert(0, stripped.removeprefix("#").strip())
    return ""


def page() -> str:
    """The page's text."""
    rows = "\n".join(
        f"| `{v.key}` | {_code(v.default)} | {v.meaning.replace('|', chr(92) + '|')} |"
        for v in values((CHART / "values.yaml").read_text())
    )
    return f"""\
# The chart `rserpool`

<!-- Written by `python charts/readme.py` from the comments in values.yaml; do not edit. -->

Installs the operator of [ServerPools](../../README.md): two replicas, their rights, the webhook that gives members
their sidecar, and the CustomResourceDefinition. Kubernetes 1.30 or newer; Helm 3 or 4 (tested with 4). cert-manager
is needed only by pools that use it (the default signer).

    make images push REGISTRY=registry.example/team
    helm upgrade --install rserpool charts/rserpool --namespace rserpool-system --create-namespace \\
      --set image.registry=registry.example/team --wait

One installation in a cluster: the names are fixed, whatever the release is called. Give it a namespace of its own:
the keys of every pool's authority lie there, and who can read Secrets in it can be anybody in any pool. It runs under
Pod Security "restricted".

**Rights.** Each rule of [templates/rbac.yaml](templates/rbac.yaml) says what it is for, and `helm template` shows the
reasons with the rules. With `watch.namespaces` the operator has rights on pools, pods and what it makes of them only
in those namespaces; cluster-wide remain: review tokens, read namespaces and nodes, read its own
CustomResourceDefinition, complete its own webhook. Nothing lets it hand out rights or enter a container, and it reads
and writes Secrets only in its own namespace. The cluster's roles `view`, `edit` and `admin` learn of ServerPools, and
of nothing else.

**Monitoring.** PodMonitors, alerts and a dashboard are off by default: [monitoring](../../docs/monitoring.md).
Each alert has its section in [the runbook](../../docs/runbook.md).

**Upgrade.** `helm upgrade` restarts the operator, one pod after another, and no registrar and no application.

**Uninstallation.** Delete the ServerPools first: `helm uninstall` is refused while there are any, and names them. The
CustomResourceDefinition stays (`kubectl delete crd serverpools.rserpool.io` takes it away), and so does the Secret
`rserpool-installation-ca`, which goes with the namespace.

## Values

What is misspelt is refused (values.schema.json).

| key | default | meaning |
|---|---|---|
{rows}
"""


def _code(text: str) -> str:
    """Code in a table's cell."""
    return f"`{text}`".replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(page())
