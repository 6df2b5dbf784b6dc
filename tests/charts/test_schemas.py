# SPDX-License-Identifier: Apache-2.0
"""The judges of manifests find what they are for: otherwise every test that uses them would pass."""

from __future__ import annotations

from typing import Any

import pytest

from charts.schemas import custom_faults, kubernetes_faults

VERSIONS = ("1.30", "1.33", "1.37")

THINGS: dict[str, Any] = {
    "spec": {
        "group": "example.io",
        "names": {"kind": "Thing"},
        "versions": [
            {
                "name": "v1",
                "served": True,
                "schema": {
                    "openAPIV3Schema": {
                        "type": "object",
                        "properties": {
                            "spec": {
                                "type": "object",
                                "required": ["size"],
                                "properties": {
                                    "size": {"type": "integer", "format": "int32"},
                                    "port": {"x-kubernetes-int-or-string": True, "anyOf": [{"type": "integer"}]},
                                    "note": {"type": "string", "nullable": True},
                                    "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
                                    "list": {"type": "array", "items": {"type": "object", "properties": {"a": {}}}},
                                },
                            },
                        },
                    },
                },
            },
        ],
    },
}


@pytest.mark.parametrize("version", VERSIONS)
def test_kubernetes_takes_a_good_service_and_names_a_misspelt_field(version: str) -> None:
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a"}, "spec": {"ports": [{"port": 1}]}}
    assert kubernetes_faults(service, version) == []
    service["spec"] = {"ports": [{"port": 1, "targetport": 2}]}
    (fault,) = kubernetes_faults(service, version)
    assert fault.startswith("spec.ports[0]: ")
    assert "targetport" in fault


def test_kubernetes_names_a_kind_it_does_not_have() -> None:
    with pytest.raises(FileNotFoundError, match="thing-example-v1"):
        kubernetes_faults({"apiVersion": "example.io/v1", "kind": "Thing"}, "1.30")


def test_a_good_custom_object_is_taken() -> None:
    spec = {"size": 1, "port": "http", "note": None, "free": {"any": 1}, "list": [{"a": 1}]}
    assert custom_faults(thing(spec), THINGS) == []


@pytest.mark.parametrize(
    ("spec", "place"),
    [
        ({"size": "1"}, "spec.size: "),
        ({}, "spec: "),
        ({"size": 1, "sise": 2}, "spec: "),
        ({"size": 1, "list": [{"b": 1}]}, "spec.list[0]: "),
        ({"size": None}, "spec.size: "),
        ({"size": 1, "port": True}, "spec.port: "),
    ],
)
def test_a_wrong_custom_object_is_refused_at_its_place(spec: dict[str, Any], place: str) -> None:
    (fault,) = custom_faults(thing(spec), THINGS)
    assert fault.startswith(place)


def test_another_kind_or_version_is_refused() -> None:
    assert "is not example.io Thing" in custom_faults(thing({}) | {"kind": "Other"}, THINGS)[0]
    assert "there are v1" in custom_faults(thing({}) | {"apiVersion": "example.io/v2"}, THINGS)[0]


def thing(spec: dict[str, Any]) -> dict[str, Any]:
    return {"apiVersion": "example.io/v1", "kind": "Thing", "metadata": {"name": "a"}, "spec": spec}
