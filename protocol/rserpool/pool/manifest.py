# SPDX-License-Identifier: Apache-2.0
"""Reads ServerPools from YAML, as `kubectl apply -f` would, and names the line of each fault."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError
from pydantic.alias_generators import to_camel

from rserpool.pool.model import API_VERSION, KIND, ServerPool
from rserpool.pool.problems import ManifestError, Problem, explain, shown
from rserpool.pool.problems import Path as FieldPath
from rserpool.pool.rules import check

MOST_OCTETS = 1024 * 1024
MOST_NODES = 100_000
MOST_LEVELS = 64
MOST_BITS = 4096
"""Of a whole number; none of ours needs more than 64."""
_JSON_NUMBER = re.compile(r"-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?")
_JSON_TAGS = frozenset(f"tag:yaml.org,2002:{kind}" for kind in ("null", "bool", "int", "float", "str"))
"""What YAML and JSON have in common; a date, for one, is text to Kubernetes."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """A ServerPool and where it was read."""

    pool: ServerPool
    source: str


def read_manifests(path: Path) -> list[Manifest]:
    """Read all ServerPools of a file, or of a folder's YAML files; objects of other kinds are passed over.

    Raises:
        ManifestError: a file cannot be read, is not YAML, or holds a ServerPool with faults.
    """
    files = sorted(f for f in path.iterdir() if f.suffix in (".yaml", ".yml", ".json")) if path.is_dir() else [path]
    manifests: list[Manifest] = []
    for file in files:
        try:
            text = file.read_text()
        except (OSError, UnicodeDecodeError) as e:
            reason = e.strerror.lower() if isinstance(e, OSError) and e.strerror else "it is not UTF-8 text"
            raise ManifestError(str(file), [Problem(path=(), message=f"cannot be read: {reason}")]) from None
        manifests += read_text(text, str(file))
    return manifests


def read_text(text: str, source: str) -> list[Manifest]:
    """Read all ServerPools of one YAML text.

    Raises:
        ManifestError: it is not YAML, or holds a ServerPool with faults.
    """
    if len(text) > MOST_OCTETS:
        raise ManifestError(source, [Problem(path=(), message=f"is longer than {MOST_OCTETS} characters")])
    try:
        documents = list(yaml.compose_all(text, Loader=yaml.SafeLoader))
    except yaml.MarkedYAMLError as e:
        line = e.problem_mark.line + 1 if e.problem_mark else 0
        raise ManifestError(source, [Problem(path=(), message=f"not YAML: {e.problem}", line=line)]) from None
    except yaml.YAMLError as e:
        raise ManifestError(source, [Problem(path=(), message=f"not YAML: {' '.join(str(e).split())}")]) from None
    except RecursionError:
        raise ManifestError(source, [Problem(path=(), message="not YAML: nested too deeply")]) from None
    manifests, problems = [], []
    for node in documents:
        reader = _Reader()
        try:
            value = reader.read(node, ())
        except _TooMuchError as e:
            raise ManifestError(source, [e.problem]) from None
        if not _is_server_pool(value):
            continue
        problems += reader.problems
        try:
            pool = ServerPool.model_validate_json(
                json.dumps(value), by_alias=True, by_name=False
            )  # by JSON's types, as the API server does
        except ValidationError as e:
            found = [explain(error, _siblings(error["loc"])) for error in e.errors(include_url=False)]
            problems += [replace(p, line=reader.line(p.path)) for p in found]
            continue
        problems += [replace(p, line=reader.line(p.path)) for p in check(pool)]
        manifests.append(Manifest(pool, source))
    if problems:
        raise ManifestError(source, problems)
    return manifests


def _is_server_pool(value: object) -> bool:
    """Whether a document means to be a ServerPool: by its kind, in any version of ours."""
    if not isinstance(value, dict) or value.get("kind") != KIND:
        return False
    version = value.get("apiVersion")
    return version is None or str(version).split("/")[0] == API_VERSION.split("/")[0]


class _TooMuchError(Exception):
    def __init__(self, problem: Problem) -> None:
        super().__init__(str(problem))
        self.problem = problem


class _Reader:
    """YAML nodes to plain data, with the line of every field, and repeated fields found."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []
        self._lines: dict[FieldPath, int] = {}
        self._constructor = yaml.constructor.SafeConstructor()
        self._open: list[yaml.Node] = []
        self._read = 0

    def line(self, path: FieldPath) -> int:
        """The line of a field, or of the nearest field around it."""
        while path and path not in self._lines:
            path = path[:-1]
        return self._lines.get(path, 0)

    def read(self, node: yaml.Node, path: FieldPath) -> Any:
        """A node's value."""
        self._lines.setdefault(path, node.start_mark.line + 1)
        self._read += 1
        if node in self._open or self._read > MOST_NODES or len(path) > MOST_LEVELS:
            why = "an alias of what it stands in" if node in self._open else "aliases and levels stand for too much"
            raise _TooMuchError(Problem(path=path[:2], message=f"{why}; write it out", line=self.line(path[:2])))
        self._open.append(node)
        try:
            return self._value(node, path)
        finally:
            self._open.pop()

    def _value(self, node: yaml.Node, path: FieldPath) -> Any:
        if isinstance(node, yaml.SequenceNode):
            return [self.read(item, (*path, index)) for index, item in enumerate(node.value)]
        if isinstance(node, yaml.MappingNode):
            return dict(self._fields(node, path))
        return self._scalar(node, path)

    def _fields(self, node: yaml.MappingNode, path: FieldPath) -> Iterator[tuple[Any, Any]]:
        seen: set[Any] = set()
        for key_node, value_node in node.value:
            key = str(self._scalar(key_node, path)) if isinstance(key_node, yaml.ScalarNode) else "?"
            self._lines[(*path, key)] = key_node.start_mark.line + 1
            if key in seen:
                line = key_node.start_mark.line + 1
                self.problems.append(Problem(path=(*path, key), message="stands here twice; write it once", line=line))
            seen.add(key)
            value = self.read(value_node, (*path, key))
            if value is not None:  # to the API server, null is as good as nothing
                yield key, value

    def _scalar(self, node: yaml.Node, path: FieldPath) -> Any:
        text = str(node.value)
        plain = isinstance(node, yaml.ScalarNode) and node.style is None
        if plain and node.tag.endswith(":str") and _JSON_NUMBER.fullmatch(text):  # 5e-1: YAML 1.1 does not know it
            return float(text)
        if plain and node.tag.endswith((":int", ":float")) and ":" in text:  # 22:30:00: only YAML 1.1 counts by sixties
            return text
        if node.tag not in _JSON_TAGS or text.lower().lstrip("+-") in (".inf", ".nan"):
            return text
        try:
            value = self._constructor.construct_object(node)
            if isinstance(value, str):  # two halves of a character, as JSON writes it; one alone is none
                value = value.encode("utf-16", "surrogatepass").decode("utf-16")
            readable = not isinstance(value, int) or value.bit_length() <= MOST_BITS
        except (yaml.YAMLError, ValueError, LookupError):
            value, readable = None, False
        if readable:
            return value
        line = node.start_mark.line + 1
        self.problems.append(Problem(path=path, message=f"{shown(node.value)}: cannot be read", line=line))
        return None


def _siblings(location: tuple[str | int, ...]) -> list[str]:
    """The fields of the model in which an unknown one was found."""
    model: Any = ServerPool
    for part in location[:-1]:
        if isinstance(part, int):
            continue
        field = next((f for n, f in model.model_fields.items() if part in (n, to_camel(n))), None)
        model = next((m for m in _models(field.annotation if field else None)), None)
        if model is None:
            return []
    return [to_camel(name) for name in model.model_fields]


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from _models(inner)
