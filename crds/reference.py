# SPDX-License-Identifier: Apache-2.0
"""Writes docs/serverpool.md, the reference of every field, from the same schema as the definition: `make crds`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from crd_rules import FIXED, RULES
from crd_schema import at, server_pool_schema
from crd_status import CONDITIONS
from rserpool.pool.values import DURATION_ADVICE, LABEL_PATTERN

PAGE: Final = Path(__file__).parent.parent / "docs" / "serverpool.md"
_NAMES: Final = {"string": "text", "integer": "whole number", "number": "number", "boolean": "true or false"}
_REQUIRED: Final = "required"
_TABLES: Final = (
    ("registrars", "Registrars"),
    ("elements", "Elements"),
    ("users", "Users"),
    ("timers", "Timers"),
    ("security", "Security"),
    ("limits", "Limits"),
)

Schema = dict[str, Any]


def page() -> str:
    """The page's text."""
    schema = server_pool_schema()
    spec = at(schema, "spec")
    rest = [name for name in spec["properties"] if name not in dict(_TABLES)]
    parts = [_INTRODUCTION, "## The pool\n", _table(_rows(spec, "spec", rest))]
    for name, title in _TABLES:
        node = spec["properties"][name]
        parts += [f"## {title}\n", f"{node['description']}\n", _table(_rows(node, f"spec.{name}"))]
    parts += [_FIXED_HEAD, *(f"* `{rule.path}`" for rule in RULES if rule.message == FIXED), ""]
    parts += [_RULES_HEAD, "| field | what it says |\n|---|---|"]
    parts += [f"| `{rule.path}` | {_cell(rule.message)} |" for rule in RULES if rule.message != FIXED]
    parts += [_STATUS_HEAD, _table(_rows(at(schema, "status"), "status"), defaults=False)]
    parts += ["### Conditions\n", "| type | True when |\n|---|---|"]
    parts += [f"| {name} | {meaning} |" for name, meaning in CONDITIONS.items()]
    return "\n".join(parts) + "\n"


_INTRODUCTION: Final = f"""\
# ServerPool: every field

<!-- Written by `make crds` from the model in the code; do not edit. -->

`rserpool.io/v1alpha1`, namespaced; short name `spool`. The name is a DNS label of at most 40 characters. The least
there is:

```yaml
apiVersion: rserpool.io/v1alpha1
kind: ServerPool
metadata:
  name: echo
spec:
  elements:
    port: 7007
```

A duration is text such as 500ms, 10s, 5m, 1h30m or 24h: whole milliseconds, hundred years at most; what is none is
refused with "{DURATION_ADVICE}"; timers are not 0. `rserpool up` and the API server refuse the same
manifests at the same fields.
"""
_FIXED_HEAD: Final = """\
## What cannot be changed

These stay as they were when the ServerPool was created; to change one, delete and re-create the ServerPool. Writing a
default out is no change.
"""
_RULES_HEAD: Final = """\
## What fields must be to each other

The API server refuses anything else with the field's name and these words.
"""
_STATUS_HEAD: Final = """
## Status

Written by the operator.
"""


def _rows(node: Schema, path: str, names: list[str] | None = None) -> Iterator[tuple[str, Schema]]:
    """The fields below one, each before those inside it."""
    for name, inner in node.get("properties", {}).items():
        if names is None or name in names:
            yield from _row(inner, f"{path}.{name}", required=name in node.get("required", []))


def _row(node: Schema, path: str, *, required: bool) -> Iterator[tuple[str, Schema]]:
    yield path, {**node, "default": _REQUIRED} if required else node
    yield from _rows(node, path)
    if "items" in node:
        yield from _rows(node["items"], f"{path}[]")


def _table(rows: Iterator[tuple[str, Schema]], *, defaults: bool = True) -> str:
    head = ["field", "type", *(["default"] if defaults else []), "meaning", "constraint"]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for path, node in rows:
        shown = [_default(node)] if defaults else []
        cells = [f"`{path}`", _type(node), *shown, _cell(node["description"]), _constraint(node)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _type(node: Schema) -> str:
    if any(rule["message"] == DURATION_ADVICE for rule in node.get("x-kubernetes-validations", [])):
        return "duration"
    match node["type"]:
        case "array":
            items = node["items"]
            return "list of mappings" if items["type"] == "object" else f"list of {_NAMES[items['type']]}"
        case "object" if "additionalProperties" in node:
            return "mapping of text"
        case "object":
            return "mapping"
        case kind:
            return _NAMES[kind]


def _default(node: Schema) -> str:
    if "default" not in node or node["type"] == "object":  # a mapping's default is that of its fields
        return ""
    value = node["default"]
    if value == _REQUIRED:
        return _REQUIRED
    return f"`{value if isinstance(value, str) else json.dumps(value)}`"


def _constraint(node: Schema) -> str:
    if _type(node) == "duration":
        return ""
    found = []
    inner = node.get("items", node)
    if "enum" in inner:
        found.append(", ".join(f"`{value}`" for value in inner["enum"]))
    if "minimum" in node or "maximum" in node:
        found.append(_range(node))
    if inner.get("pattern") == LABEL_PATTERN:
        found.append("DNS label")
    elif "pattern" in inner:
        found.append(f"`{_cell(inner['pattern'])}`")
    if "maxLength" in inner:
        found.append(f"at most {inner['maxLength']} characters")
    if "maxItems" in node:
        found.append(f"at most {node['maxItems']} items, each once")
    return "; ".join(found)


def _range(node: Schema) -> str:
    lowest, highest = node.get("minimum"), node.get("maximum")
    return f"{lowest} or more" if highest is None else f"{lowest} to {highest}"


def _cell(text: str) -> str:
    return " ".join(text.replace("|", r"\|").split())


if __name__ == "__main__":
    PAGE.write_text(page())
