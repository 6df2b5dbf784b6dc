# SPDX-License-Identifier: Apache-2.0
"""The structural schema of a ServerPool, from the model: every field with its description, default and constraints."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any, Final, get_args

from annotated_types import Ge
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from crd_rules import RULES, CelRule, duration_format, least, positive, unique_items
from crd_status import STATUS
from rserpool.pool.model import ServerPoolSpec
from rserpool.pool.values import DURATION_LENGTH, Unique, format_duration

Schema = dict[str, Any]

_KEPT: Final = ("type", "enum", "minimum", "maximum", "minLength", "maxLength", "pattern", "minItems", "maxItems")
"""Of what pydantic writes into a JSON schema; titles and defaults are not taken from there."""
_INTEGER: Final = {"type": "integer", "format": "int64"}


def server_pool_schema() -> Schema:
    """The whole object's."""
    spec = _object(ServerPoolSpec, "What the pool shall be.")
    schema: Schema = {
        "type": "object",
        "description": "A server pool (RFC 5351): registrars, elements, and a certificate authority of its own.",
        "required": ["metadata", "spec"],
        "properties": {
            "apiVersion": {"type": "string", "description": "rserpool.io/v1alpha1"},
            "kind": {"type": "string", "description": "ServerPool"},
            "metadata": {"type": "object", "properties": {"name": {"type": "string"}}},
            "spec": spec,
            "status": STATUS,
        },
    }
    for rule in (*_rules_of_fields(), *RULES):
        node = at(schema, rule.at)
        node.setdefault("x-kubernetes-validations", []).append(rule.entry())
    return schema


def at(schema: Schema, path: str) -> Schema:
    """The schema of a field."""
    for name in filter(None, path.split(".")):
        schema = schema["properties"][name]
    return schema


def fields(model: type[BaseModel], path: str) -> Iterator[tuple[str, FieldInfo]]:
    """All fields of a model and of the models in it, by their paths; not of items of lists."""
    for field in model.model_fields.values():
        here = f"{path}.{field.alias}"
        yield here, field
        if (inner := _model(field.annotation)) is not None and list not in _types(field.annotation):
            yield from fields(inner, here)


def default_of(field: FieldInfo) -> Any:
    """What a field is if it is not written, as manifests write it; nothing if that is empty or depends on others."""
    if field.is_required():
        return None
    return _written(field.get_default(call_default_factory=True))


def _written(value: Any) -> Any:
    if isinstance(value, BaseModel):
        # In full, though the fields inside have the same defaults: the API server tries the rules on what stands here.
        inside = {field.alias: default_of(field) for field in type(value).model_fields.values()}
        return {name: default for name, default in inside.items() if default is not None} or None
    if isinstance(value, timedelta):
        return format_duration(value)
    if isinstance(value, list):
        return [_written(item) for item in value] or None
    if isinstance(value, float):
        return int(value) if value.is_integer() else value
    if isinstance(value, str):
        return str(value) or None
    return value if value != {} else None


def _rules_of_fields() -> Iterator[CelRule]:
    for path, field in fields(ServerPoolSpec, "spec"):
        if timedelta in _types(field.annotation):
            yield duration_format(path)
            if path.startswith("spec.timers."):
                yield positive(path)
        if Unique in field.metadata:
            yield unique_items(path)
        lowest = next((m.ge for m in field.metadata if isinstance(m, Ge)), 0)
        if isinstance(lowest, float) and not lowest.is_integer():
            yield least(path, lowest)


def _object(model: type[BaseModel], description: str) -> Schema:
    written = model.model_json_schema(by_alias=True)
    schema: Schema = {"type": "object", "description": description}
    required = [field.alias for field in model.model_fields.values() if field.is_required()]
    if required:
        schema["required"] = required
    schema["properties"] = {
        str(field.alias): _field(field, written["properties"][field.alias], written.get("$defs", {}))
        for field in model.model_fields.values()
    }
    return schema


def _field(field: FieldInfo, written: Schema, definitions: dict[str, Schema]) -> Schema:
    inner = _model(field.annotation)
    description = field.description or (inner.__doc__ if inner else None)
    if not description:
        raise ValueError(f"{field.alias}: has no description in the model")
    schema = _value(_resolved(written, definitions), inner, definitions)
    head: Schema = {"type": schema.pop("type"), "description": description.strip()}
    if (default := default_of(field)) is not None:
        head["default"] = default
    return head | {key: value for key, value in schema.items() if key != "description"}


def _resolved(written: Schema, definitions: dict[str, Schema]) -> Schema:
    """What a reference stands for; of a value or nothing, the value: to the API server null is as good as nothing."""
    if "anyOf" in written:
        written = next(choice for choice in written["anyOf"] if choice.get("type") != "null")
    if "$ref" in written:
        return definitions[written["$ref"].rpartition("/")[2]]
    return written


def _value(written: Schema, inner: type[BaseModel] | None, definitions: dict[str, Schema]) -> Schema:
    if written.get("format") == "duration":
        return {"type": "string", "maxLength": DURATION_LENGTH}
    schema: Schema = {key: written[key] for key in _KEPT if key in written}
    if "const" in written:
        schema["enum"] = [written["const"]]
    match written["type"]:
        case "integer":
            schema |= _INTEGER
        case "array":
            schema["items"] = _value(_resolved(written["items"], definitions), inner, definitions)
            schema["x-kubernetes-list-type"] = "atomic"
        case "object" if inner is not None:
            schema = _object(inner, (inner.__doc__ or "").strip())
        case "object" if isinstance(values := written.get("additionalProperties"), dict):
            schema["additionalProperties"] = {"type": values["type"]}
        case "object":
            schema["x-kubernetes-preserve-unknown-fields"] = True
    return schema


def _types(annotation: Any) -> Iterator[Any]:
    """An annotation, and all that it is made of."""
    yield annotation
    yield getattr(annotation, "__origin__", None)
    for inner in get_args(annotation):
        yield from _types(inner)


def _model(annotation: Any) -> type[BaseModel] | None:
    found = (part for part in _types(annotation) if isinstance(part, type) and issubclass(part, BaseModel))
    return next(found, None)
