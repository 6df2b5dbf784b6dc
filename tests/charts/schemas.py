# SPDX-License-Identifier: Apache-2.0
"""Manifests against schemas: those of Kubernetes itself, and those in a CustomResourceDefinition."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import yaml
from referencing import Registry, Resource

Manifest = Mapping[str, Any]


def kubernetes_faults(manifest: Manifest, version: str) -> list[str]:
    """What Kubernetes of a version would not know or not take, each with its place.

    Args:
        manifest: of one of Kubernetes' own kinds.
        version: such as ``1.30``; the package ``kubernetes-validate`` carries the schemas of each minor version.
    """
    group, _, api_version = str(manifest["apiVersion"]).rpartition("/")
    name = "-".join(part for part in (str(manifest["kind"]).lower(), group.split(".")[0], api_version) if part)
    schema = _kubernetes_schema(version, name)
    validator = jsonschema.Draft202012Validator(schema, registry=_definitions(version))
    return _faults(validator, manifest)


def custom_faults(manifest: Manifest, definition: Manifest) -> list[str]:
    """What the schema of a CustomResourceDefinition would refuse, or silently drop, each with its place.

    CEL rules are not looked at: only an API server can.

    Args:
        manifest: an object of that kind.
        definition: the CustomResourceDefinition.
    """
    group, _, version = str(manifest["apiVersion"]).partition("/")
    spec = definition["spec"]
    if (group, manifest["kind"]) != (spec["group"], spec["names"]["kind"]):
        return [f"apiVersion, kind: {group} {manifest['kind']} is not {spec['group']} {spec['names']['kind']}"]
    schemas = {v["name"]: v["schema"]["openAPIV3Schema"] for v in spec["versions"] if v["served"]}
    if version not in schemas:
        return [f"apiVersion: {version} is not served; there are {', '.join(schemas)}"]
    schema = _closed(schemas[version])
    schema["properties"] |= {"apiVersion": {"type": "string"}, "kind": {"type": "string"}, "metadata": {}}
    return _faults(jsonschema.Draft202012Validator(schema), manifest)


def definition_in(template: Path) -> Manifest:
    """The CustomResourceDefinition in a chart's template: what Helm would fill in is left out."""
    lines = template.read_text().splitlines()
    found = yaml.safe_load("\n".join(line for line in lines if "{{" not in line))
    assert found["kind"] == "CustomResourceDefinition"
    definition: Manifest = found
    return definition


def _faults(validator: jsonschema.protocols.Validator, manifest: Manifest) -> list[str]:
    errors = sorted(validator.iter_errors(manifest), key=lambda e: e.json_path)
    return [f"{e.json_path.removeprefix('$').removeprefix('.')}: {e.message}" for e in errors]


def _closed(schema: Any) -> dict[str, Any]:
    """A structural schema as JSON Schema, in which a field that would be pruned is a fault."""
    extensions = {key for key in schema if key.startswith("x-kubernetes-")}
    plain = {key: value for key, value in schema.items() if key not in extensions | {"nullable", "format", "default"}}
    if schema.get("x-kubernetes-int-or-string"):
        plain.pop("anyOf", None)
        plain["type"] = ["integer", "string"]
    if schema.get("nullable") and "type" in plain:
        plain["type"] = [plain["type"], "null"]
    if "properties" in plain:
        plain["properties"] = {name: _closed(part) for name, part in plain["properties"].items()}
        if not schema.get("x-kubernetes-preserve-unknown-fields"):
            plain.setdefault("additionalProperties", False)
    for key in ("items", "additionalProperties"):
        if isinstance(plain.get(key), dict):
            plain[key] = _closed(plain[key])
    return plain


def _folder(version: str) -> Any:
    return files("kubernetes_validate").joinpath("kubernetes-json-schema", f"v{version}.0-local-strict")


@cache
def _kubernetes_schema(version: str, name: str) -> Any:
    return json.loads(_folder(version).joinpath(f"{name}.json").read_text())


@cache
def _definitions(version: str) -> Registry[Any]:
    """What the schemas of a version refer to; read once, it has megabytes."""
    contents = json.loads(_folder(version).joinpath("_definitions.json").read_text())
    return Resource.from_contents(contents) @ Registry()
