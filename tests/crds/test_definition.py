# SPDX-License-Identifier: Apache-2.0
"""The definition of ServerPool is what the model says, and the files are what the generator writes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic.fields import FieldInfo

import crd_rules
import crd_schema
import crd_status
import generate
import reference
from rserpool.pool.manifest import read_text
from rserpool.pool.model import ServerPool, ServerPoolSpec
from rserpool.pool.values import DURATION_ADVICE, DURATION_PATTERN

SCHEMA = crd_schema.server_pool_schema()
FIELDS = dict(crd_schema.fields(ServerPoolSpec, "spec"))
LEAST = "{apiVersion: rserpool.io/v1alpha1, kind: ServerPool, metadata: {name: echo}, spec: {elements: {port: 7007}}}"


def nodes(node: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """A schema and all schemas in it."""
    yield path, node
    for name, inner in node.get("properties", {}).items():
        yield from nodes(inner, f"{path}.{name}".removeprefix("."))
    for key in ("items", "additionalProperties"):
        if isinstance(node.get(key), dict):
            yield from nodes(node[key], f"{path}[]")


NODES = dict(nodes(SCHEMA))


def rules() -> list[tuple[str, dict[str, str]]]:
    return [(path, rule) for path, node in NODES.items() for rule in node.get("x-kubernetes-validations", [])]


def defaulted(node: dict[str, Any], value: Any) -> Any:
    """What the API server makes of a value."""
    if not isinstance(value, dict) or "properties" not in node:
        return value
    given = {k: defaulted(node["properties"][k], v) for k, v in value.items()}
    missing = {k: inner["default"] for k, inner in node["properties"].items() if k not in value and "default" in inner}
    return given | {k: defaulted(node["properties"][k], v) for k, v in missing.items()}


@pytest.mark.parametrize(
    ("file", "text"),
    [(generate.PLAIN, generate.plain), (generate.CHART, generate.chart), (reference.PAGE, reference.page)],
    ids=lambda value: value.name if isinstance(value, Path) else "",
)
def test_a_generated_file_is_what_the_generator_writes(file: Path, text: Any) -> None:
    assert file.read_text() == text(), "out of date: run `make crds`"


def test_the_chart_has_the_same_definition_which_outlives_it_and_can_be_left_out() -> None:
    lines = generate.chart().splitlines()
    guards = [n for n, line in enumerate(lines) if "{{" in line]
    assert [lines[n] for n in guards] == ["{{- if .Values.crds.install }}", "{{- end }}"]
    inside = yaml.safe_load("\n".join(lines[guards[0] + 1 : guards[1]]))
    assert inside["metadata"].pop("annotations") == {"helm.sh/resource-policy": "keep"}
    assert inside == yaml.safe_load(generate.plain())


def test_it_is_named_as_the_design_says() -> None:
    spec = generate.definition()["spec"]
    assert (spec["group"], spec["scope"]) == ("rserpool.io", "Namespaced")
    assert (spec["names"]["plural"], spec["names"]["shortNames"]) == ("serverpools", ["spool"])
    [version] = spec["versions"]
    assert (version["name"], version["subresources"]) == ("v1alpha1", {"status": {}})


@pytest.mark.parametrize("path", FIELDS)
def test_a_field_of_the_model_is_in_the_schema_with_what_it_says(path: str) -> None:
    field, node = FIELDS[path], NODES[path]
    assert "_" not in path
    assert node["description"]
    if field.description:
        assert node["description"] == field.description
    parent, _, name = path.rpartition(".")
    assert field.is_required() == (name in NODES[parent].get("required", []))


def test_the_schema_has_no_field_that_the_model_does_not_have() -> None:
    found = {path for path in NODES if path.startswith("spec.") and "[]" not in path}
    assert found == set(FIELDS)


def test_every_field_is_described_and_every_type_is_one_of_structural_schemas() -> None:
    assert [p for p, n in NODES.items() if "description" not in n and "[]" not in p and "metadata" not in p] == []
    assert {n["type"] for n in NODES.values()} == {"object", "array", "string", "integer", "number", "boolean"}
    free = [
        p for p, n in NODES.items() if n["type"] == "object" and not n.keys() & {"properties", "additionalProperties"}
    ]
    assert [p for p in free if not NODES[p].get("x-kubernetes-preserve-unknown-fields")] == []


def taken(path: str, value: object) -> bool:
    """Whether the model takes a value of a field."""
    spec: dict[str, Any] = {"elements": {"port": 7007}}
    *folders, name = path.removeprefix("spec.").split(".")
    inner = spec
    for folder in folders:
        inner = inner.setdefault(folder, {"name": "issuer"} if folder == "issuerRef" else {})
    inner[name] = value
    try:
        ServerPool.model_validate_json(json.dumps({**yaml.safe_load(LEAST), "spec": spec}))
    except ValueError:
        return False
    return True


@pytest.mark.parametrize("path", [p for p, n in NODES.items() if "enum" in n and p in FIELDS])
def test_what_a_field_may_be_is_what_the_model_takes(path: str) -> None:
    assert all(taken(path, value) for value in NODES[path]["enum"])
    assert not taken(path, "".join(NODES[path]["enum"]) + "s")
    assert NODES[path].get("default") in (None, *NODES[path]["enum"])


@pytest.mark.parametrize("path", [p for p, n in NODES.items() if "maxItems" in n or ("maxLength" in n and p in FIELDS)])
def test_what_is_longer_than_the_schema_says_the_model_refuses_too(path: str) -> None:
    node = NODES[path]
    if node["type"] == "string":
        assert taken(path, "1" * (node["maxLength"] - 1) + "s") or "x-kubernetes-validations" in node
        assert not taken(path, "1" * node["maxLength"] + "s")
    elif "enum" not in node["items"]:
        items = [f"a{n}" for n in range(node["maxItems"] + 1)]
        assert (taken(path, items[:-1]), taken(path, items)) == (True, False)


def test_the_api_server_fills_in_what_the_model_does_but_for_what_is_empty() -> None:
    filled = defaulted(NODES["spec"], {"elements": {"port": 7007}})
    [read] = read_text(LEAST, "-")
    [again] = read_text(yaml.safe_dump({**yaml.safe_load(LEAST), "spec": filled}), "-")
    assert again.pool == read.pool

    def without_empty(value: Any) -> Any:
        if isinstance(value, dict):
            inside = {k: without_empty(v) for k, v in value.items()}
            return {k: v for k, v in inside.items() if v not in (None, "", {}, [])}
        return value

    assert filled == without_empty(read.pool.spec.model_dump(mode="json", by_alias=True))


@pytest.mark.parametrize("path", [p for p, f in FIELDS.items() if not f.is_required()])
def test_a_default_in_the_schema_is_the_models(path: str) -> None:
    field: FieldInfo = FIELDS[path]
    assert NODES[path].get("default") == crd_schema.default_of(field)
    if isinstance(value := field.get_default(call_default_factory=True), int | bool):
        assert NODES[path]["default"] == value


@pytest.mark.parametrize("path", [p for p, n in NODES.items() if n["type"] in ("integer", "number") and p in FIELDS])
def test_a_number_may_be_what_the_model_takes_and_no_more(path: str) -> None:
    lowest, highest = NODES[path]["minimum"], NODES[path]["maximum"]
    assert taken(path, lowest)
    assert taken(path, highest)
    assert not taken(path, lowest - 0.001 if isinstance(lowest, float) else lowest - 1)
    assert not taken(path, highest + 1)
    assert taken(path, 1.0)
    assert taken(path, 1.5) == (NODES[path]["type"] == "number" and highest > 1)


def test_every_rule_says_what_to_write_in_one_short_line() -> None:
    for path, rule in rules():
        assert rule["rule"], path
        assert 0 < len(rule["message"]) < 200, path
        assert "\n" not in rule["message"]
        assert re.search(r"write|delete|is required with", rule["message"]), rule["message"]


def test_every_rule_names_a_field_that_there_is() -> None:
    for path, rule in rules():
        assert f"{path}{rule.get('fieldPath', '')}".removeprefix(".") in NODES


def test_every_duration_is_checked_and_bounded_and_no_timer_is_zero() -> None:
    durations = [p for p, n in NODES.items() if DURATION_ADVICE in str(n.get("x-kubernetes-validations"))
                 and n["type"] == "string"]  # fmt: skip
    assert len(durations) == 12
    assert all(NODES[p]["maxLength"] == 20 for p in durations)
    timers = [p for p in durations if p.startswith("spec.timers.")]
    assert len(timers) == 7
    assert all("is 0; write a positive duration" in str(NODES[p]) for p in timers)


def test_what_cannot_be_changed_is_what_the_design_says() -> None:
    fixed = {rule.path for rule in crd_rules.RULES if "oldSelf" in rule.check}
    assert fixed == {
        "spec.poolHandle", "spec.policy.type", "spec.elements.protocol", "spec.controlChannel", "spec.security.mode",
        "spec.security.enrolment",
    }  # fmt: skip
    # Where a field may be absent a rule on it would not be asked; of these two the API server always has both versions.
    assert {rule.at for rule in crd_rules.RULES if "oldSelf" in rule.check} == {"", "spec"}


def test_nothing_in_a_rule_is_newer_than_kubernetes_1_30() -> None:
    functions = {
        name for _, rule in rules() for name in re.findall(r"([A-Za-z_]+)\(", re.sub(r"r'[^']*'", "", rule["rule"]))
    }
    assert functions <= {"has", "size", "matches", "duration", "bytes", "all", "exists_one", "getMilliseconds"}
    assert "optionalOldSelf" not in generate.plain()


def test_what_a_rule_loops_over_is_bounded() -> None:
    for path, rule in rules():
        if ".all(" in rule["rule"]:
            assert NODES[path]["maxItems"] <= 256
            assert NODES[path]["items"].get("maxLength", 0) <= 64


def test_a_column_shows_a_field_that_there_is() -> None:
    for column in crd_status.COLUMNS:
        path = column["jsonPath"].removeprefix(".").replace('[?(@.type=="Ready")]', "[]")
        assert path in NODES or path == "metadata.creationTimestamp"


def test_the_page_names_every_field_and_every_condition() -> None:
    page = reference.page()
    sections = {"spec.registrars", "spec.elements", "spec.users", "spec.timers", "spec.security", "spec.limits"}
    assert [path for path in FIELDS if f"| `{path}` |" not in page and path not in sections] == []
    assert [name for name in crd_status.CONDITIONS if f"| {name} |" not in page] == []


DURATION = re.compile(DURATION_PATTERN)


@given(st.from_regex(r"\A([0-9]{1,11}(\.[0-9]{1,4})?(h|m|s|ms|us)){1,4}\Z"))
def test_what_the_rule_takes_for_a_duration_fits_into_64_bits_of_nanoseconds(text: str) -> None:
    if len(text) <= 20 and DURATION.fullmatch(text):
        units = {"h": 3600 * 10**9, "m": 60 * 10**9, "s": 10**9, "ms": 10**6}
        parts = re.findall(r"([0-9.]+)(ms|h|m|s)", text)
        assert sum(float(number) * units[unit] for number, unit in parts) < 2**63
