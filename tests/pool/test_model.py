# SPDX-License-Identifier: Apache-2.0
"""What the model says of itself, and how its faults are worded."""

from __future__ import annotations

from datetime import timedelta

import pytest
from pydantic import ValidationError

from rserpool.pool import ManifestError, Problem
from rserpool.pool.manifest import read_text
from rserpool.pool.model import ServerPool
from rserpool.pool.rules import check
from support.rig_model import server_pool


def test_the_least_manifest_means_what_the_design_says() -> None:
    [manifest] = read_text(
        "{apiVersion: rserpool.io/v1alpha1, kind: ServerPool, metadata: {name: echo}, spec: {elements: {port: 7007}}}",
        "-",
    )
    pool = manifest.pool
    assert (pool.full_name, pool.handle) == ("default/echo", b"echo")
    assert pool.spec.model_dump(mode="json", by_alias=True) == {
        "poolHandle": "",
        "policy": {"type": "RoundRobin"},
        "registrars": {
            "replicas": 3, "resources": {}, "nodeSelector": {}, "tolerations": [], "topologySpreadConstraints": [],
            "podDisruptionBudget": {"maxUnavailable": 1},
        },
        "elements": {
            "port": 7007, "protocol": "TCP", "weight": 1, "priority": 0, "loadDegradation": 0.0, "health": None,
            "load": {
                "source": "cpu", "path": "", "port": None, "metric": "", "smoothing": "3s", "minimumInterval": "1s",
                "minimumChange": 1 / 64,
            },
            "drain": "10s", "serviceAccounts": [],
            "nodes": {"matchLabels": {}, "matchExpressions": []},
        },
        "users": {
            "anonymous": True, "namespaces": {"matchLabels": {}, "matchExpressions": []}, "serviceAccounts": [],
        },
        "timers": {
            "profile": "Fast", "heartbeatCycle": None, "maxTimeLastHeard": None, "maxTimeNoResponse": None,
            "takeoverTimeout": None, "keepAliveInterval": None, "keepAliveTimeout": None, "registrationLife": None,
        },
        "transport": {"order": ["SCTP", "TCP"]},
        "security": {
            "mode": "Secure", "signer": {"type": "CertManager", "issuerRef": None, "caBundle": None},
            "enrolment": "Token", "leafDuration": "24h", "ca": {"duration": "8760h", "generation": 1}, "revoked": [],
        },
        "limits": {
            "endpointUnreachablePerSecond": 5.0, "registrationsPerSecond": 50.0, "resolutionsPerSecond": 1000.0,
            "elements": 50000,
        },
        "controlChannel": False, "dialect": "RFC", "networkPolicy": False, "version": "", "paused": False,
    }  # fmt: skip


def test_a_pool_handle_of_its_own_is_its_octets() -> None:
    assert server_pool(poolHandle="Größe").handle == "Größe".encode()


def test_nothing_changes_once_it_is_read() -> None:
    pool = server_pool()
    with pytest.raises(ValidationError, match="frozen"):
        pool.spec.paused = True  # type: ignore[misc] # it is frozen, which is tested


def test_a_pool_can_be_made_from_python_and_is_held_to_the_same_rules() -> None:
    pool = server_pool()
    drain = pool.spec.elements.model_copy(update={"drain": timedelta(hours=2)})
    made = ServerPool.model_validate(pool.model_copy(update={"spec": pool.spec.model_copy(update={"elements": drain})}))
    assert [p.field for p in check(made)] == ["spec.elements.drain"]
    assert check(pool) == []


def test_a_field_is_written_as_kubernetes_does() -> None:
    problem = Problem(path=("spec", "transport", "order", 0), message="no", line=7)
    assert (problem.field, str(problem)) == ("spec.transport.order[0]", "spec.transport.order[0]: no")
    assert str(Problem(path=(), message="not YAML")) == "not YAML"


def test_an_error_is_a_line_for_each_fault() -> None:
    error = ManifestError("f.yaml", [Problem(path=("a",), message="x", line=3), Problem(path=(), message="y")])
    assert list(error.lines()) == ["f.yaml:3: a: x", "f.yaml: y"]
    assert str(error) == "f.yaml:3: a: x\nf.yaml: y"
