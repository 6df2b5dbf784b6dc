# SPDX-License-Identifier: Apache-2.0
"""SECURITY.md says of rights, defaults and bounds what the chart and the code say."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from rserpool.pool import ServerPool
from rserpool.pool.model import Mode
from rserpool.transport.half_open import MOST
from rserpool.transport.tcp import TcpLimits
from rserpool.transport.tls import MOST_BEFORE_HANDSHAKE

RIGHTS: Final = re.compile(
    r"^ *- apiGroups: \[(?P<group>[^\]]*)\]\n +resources: \[(?P<resources>[^\]]*)\]\n"
    r"(?: +resourceNames: \[(?P<names>[^\]]*)\]\n)? +verbs: \[(?P<verbs>[^\]]*)\]$",
    re.MULTILINE,
)
FORBIDDEN: Final = {"*", "bind", "escalate", "impersonate", "deletecollection"}


@pytest.fixture(scope="module")
def page(repository: Path) -> str:
    return (repository / "SECURITY.md").read_text()


def rights(template: str) -> list[str]:
    """The table's lines, as the template has them."""
    pools, _, rest = template.partition("{{- end -}}\n")
    cluster, _, own = rest.partition("# The operator's own namespace")
    return [
        f"| {where} | {what(found)} | {found['verbs']} |"
        for where, text in (("pools", pools), ("cluster", cluster), ("own", own))
        for found in RIGHTS.finditer(text)
    ]


def what(found: re.Match[str]) -> str:
    group = found["group"].strip('"')
    named = f" `{found['names']}`" if found["names"] else ""
    return ", ".join(f"`{r}`" for r in found["resources"].split(", ")) + (f" of {group}" if group else "") + named


def test_the_rights_of_the_operator_are_those_of_the_chart(page: str, repository: Path) -> None:
    template = (repository / "charts" / "rserpool" / "templates" / "rbac.yaml").read_text()
    assert len(RIGHTS.findall(template)) == template.count("apiGroups:")
    said = re.findall(r"^\| (?:pools|cluster|own) \|.*$", page, re.MULTILINE)
    assert said == rights(template), "write:\n" + "\n".join(rights(template))


def test_the_operator_cannot_do_what_the_page_says_it_cannot(repository: Path) -> None:
    template = (repository / "charts" / "rserpool" / "templates" / "rbac.yaml").read_text()
    for line in rights(template):
        _, where, resources, verbs, _ = (part.strip() for part in line.split("|"))
        assert not FORBIDDEN & set(verbs.split(", ")), line
        assert "pods/" not in resources, "a way into a pod"
        assert ("`secrets`" in resources) <= (where == "own"), line
        if "`pods`" in resources and where != "own":
            assert verbs == "get, list, watch", line


def default(page: str, name: str) -> str:
    """The default the page names, as text."""
    (line,) = [line for line in page.splitlines() if line.startswith("| ") and f"`{name}`" in line.split("|")[1]]
    found = re.match(r" `([^`]*)`", line.split("|")[2])
    assert found is not None
    return found[1]


def test_defaults_are_those_of_the_manifest(page: str) -> None:
    spec = ServerPool.model_validate(
        {
            "apiVersion": "rserpool.io/v1alpha1",
            "kind": "ServerPool",
            "metadata": {"name": "echo", "namespace": "demo"},
            "spec": {"elements": {"port": 7007}},
        }
    ).spec
    assert default(page, "spec.security.mode") == spec.security.mode.value == Mode.SECURE.value
    assert default(page, "spec.security.leafDuration") == f"{spec.security.leaf_duration.total_seconds() / 3600:g}h"
    assert default(page, "spec.users.anonymous") == str(spec.users.anonymous).lower()
    assert default(page, "spec.networkPolicy") == str(spec.network_policy).lower()


def test_defaults_are_those_of_the_chart(page: str, repository: Path) -> None:
    values: Any = yaml.safe_load((repository / "charts" / "rserpool" / "values.yaml").read_text())
    for path in re.findall(r"^\| chart `([\w.]+)`", page, re.MULTILINE):
        value = values
        for key in path.split("."):
            value = value[key]
        assert yaml.safe_load(default(page, path)) == value, path


def test_bounds_are_those_of_the_transport(page: str) -> None:
    (bounds,) = re.findall(r"## Bounds\n\n(.*?)\n\n", page, re.DOTALL)
    limits = TcpLimits()
    assert f"{MOST_BEFORE_HANDSHAKE} octets of a handshake, {limits.handshake:g} s" in bounds
    assert f"at most {MOST} connections whose" in bounds
    assert f"{limits.per_identity} associations for each identity" in bounds
    assert f"{limits.anonymous_per_source} for each address without a certificate" in bounds
