# SPDX-License-Identifier: Apache-2.0
"""Configuration: one TOML file, overridden by the environment, read into frozen dataclasses.

Unknown keys and impossible values are refused at the start, all at once, each with its file and line. The same
declarations make the commented example file. (A sidecar has no room for a larger library than this.)
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

T = TypeVar("T")
Parser = Callable[[object], Any]
PREFIX: Final = "RSERPOOL_"
OPERATOR: Final = "operator"
"""The section whose ``url`` names an operator that says later what is missing at the start."""
_LINK: Final = re.compile(r"_SERVICE_(HOST|PORT)(_|$)|_PORT(_[0-9]+_(TCP|UDP|SCTP).*)?$")


class SettingsError(Exception):
    """A configuration that cannot be used; each line names a place and what to write there."""

    def __init__(self, lines: list[str]) -> None:
        super().__init__("\n".join(lines))
        self.lines = lines


class KeyFaultError(ValueError):
    """Raised by a section's ``check``: its keys contradict each other.

    Args:
        key: the one to change.
        message: what to write instead.
    """

    def __init__(self, key: str, message: str) -> None:
        super().__init__(message)
        self.key = key


def setting(
    parse: Parser,
    doc: str,
    default: object = dataclasses.MISSING,
    example: str = "",
    later: object = dataclasses.MISSING,
    *,
    secret: bool = False,
) -> Any:
    """Declare one key of a section.

    Args:
        parse: turns what TOML or the environment gave into the value; raises ValueError with what to write instead.
        doc: one sentence for the example file and the documentation.
        default: as it would stand in the file; without one the key is required.
        example: shown for a key without a default.
        later: the value of a required key for as long as the operator has not said another; without an operator it
            is required at the start.
        secret: the value is shown nowhere: in no fault, no log, no representation; what ``parse`` raises must not
            hold it either.
    """
    metadata = {
        "parse": parse, "doc": doc, "default": default, "example": example, "later": later, "secret": secret
    }  # fmt: skip
    if default is dataclasses.MISSING:
        return dataclasses.field(default=later, metadata=metadata, repr=not secret)
    return dataclasses.field(default=parse(default), metadata=metadata, repr=not secret)


def given(values: Any, *but: str) -> dict[str, Any]:
    """What a section says, by key: without those that were left empty (``None``), and without the keys in ``but``."""
    found = {f.name: getattr(values, f.name) for f in dataclasses.fields(values) if f.name not in but}
    return {name: value for name, value in found.items() if value is not None}


def section(cls: type[T]) -> Any:
    """Declare a section; one that has required keys must be in the file."""
    required = any(f.default is dataclasses.MISSING for f in dataclasses.fields(cls))  # type: ignore[arg-type] # every section is a dataclass
    metadata = {"section": cls}
    if required:
        return dataclasses.field(metadata=metadata)
    return dataclasses.field(default_factory=cls, metadata=metadata)


def load(root: type[T], path: Path | None, environ: Mapping[str, str]) -> T:
    """Read a configuration.

    Args:
        root: a dataclass of :func:`section` fields.
        path: the file; ``None`` if everything comes from the environment.
        environ: variables such as ``RSERPOOL_NETWORK_ADDRESS`` override ``address`` in ``[network]``.

    Raises:
        SettingsError: something is missing, unknown or impossible.
    """
    text, source = "", "environment"
    if path is not None:
        source = str(path)
        try:
            text = path.read_text()
        except (OSError, UnicodeDecodeError) as e:
            reason = e.strerror if isinstance(e, OSError) else "it is not UTF-8 text"
            raise SettingsError([f"{source}: cannot be read: {reason}"]) from None
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as e:
        raise SettingsError([f"{source}: not TOML: {e}"]) from None
    reader = _Reader(source, text, environ)
    value = reader.root(root, tables)
    if reader.faults:
        raise SettingsError(reader.faults)
    assert value is not None
    return value


class _Reader:
    """Reads one configuration, and collects all its faults."""

    def __init__(self, source: str, text: str, environ: Mapping[str, str]) -> None:
        self._source = source
        self._lines = text.splitlines()
        self._environ = environ
        self._later: list[str] = []
        self.faults: list[str] = []

    def root(self, root: type[T], tables: dict[str, Any]) -> T | None:
        sections = {f.name: f.metadata["section"] for f in dataclasses.fields(root)}  # type: ignore[arg-type] # every section is a dataclass
        for name in tables:
            if name not in sections:
                self._fault(name, None, _unknown("section", name, sections))
        self._unknown_variables(sections)
        values = {}
        for name, cls in sections.items():
            table = tables.get(name, {})
            if isinstance(table, dict):
                values[name] = self._section(name, cls, table)
            else:
                self._fault(name, None, f"write a table: [{name}]")
        if not getattr(values.get(OPERATOR), "url", ""):  # nobody will say later what is missing now
            self.faults += self._later
        return None if self.faults else root(**values)

    def _unknown_variables(self, sections: Mapping[str, type[Any]]) -> None:
        """A misspelt override is refused like a misspelt key; what Kubernetes sets for a Service is not ours."""
        for variable in sorted(self._environ):
            for name, cls in sections.items():
                start = f"{PREFIX}{name}_".upper()
                key = variable.removeprefix(start).lower()
                known = {f.name: f for f in dataclasses.fields(cls)}
                if variable.startswith(start) and key not in known and not _LINK.search(variable):
                    self.faults.append(f"{variable}: [{name}] {_unknown('key', key, known)}")

    def _section(self, name: str, cls: type[Any], table: dict[str, Any]) -> Any:
        fields = {f.name: f for f in dataclasses.fields(cls)}
        for key in table:
            if key not in fields:
                self._fault(name, key, _unknown("key", key, fields))
        values: dict[str, Any] = {}
        for key, field in fields.items():
            variable = f"{PREFIX}{name}_{key}".upper()
            if variable in self._environ:
                self._parse(values, field, self._environ[variable], variable)
            elif key in table:
                self._parse(values, field, table[key], self._place(name, key))
            elif field.metadata["later"] is not dataclasses.MISSING:
                values[key] = field.default
                self._later.append(f"{self._place(name, None)}: [{name}] {_required(field)}")
            elif field.default is dataclasses.MISSING:
                self._fault(name, None, _required(field))
        return None if self.faults else self._checked(name, cls(**values))

    def _checked(self, name: str, value: Any) -> Any:
        """A section that says of itself whether its keys fit together, by a method ``check``."""
        check = getattr(value, "check", None)
        if check is not None:
            try:
                check()
            except KeyFaultError as e:
                variable = f"{PREFIX}{name}_{e.key}".upper()
                place = variable if variable in self._environ else self._place(name, e.key)
                self.faults.append(f"{place}: [{name}] {e.key}: {e}")
        return value

    def _parse(self, values: dict[str, Any], field: dataclasses.Field[Any], raw: object, place: str) -> None:
        try:
            values[field.name] = field.metadata["parse"](raw)
        except ValueError as e:
            self.faults.append(f"{place}: {field.name} = {_shown(raw, field)}: {e}")

    def _fault(self, section: str, key: str | None, message: str) -> None:
        self.faults.append(f"{self._place(section, key)}: [{section}] {message}")

    def _place(self, section: str, key: str | None) -> str:
        """File and line where a key stands; that of the section if it is not there."""
        header = re.compile(rf"\s*\[\s*{re.escape(section)}\s*\]")
        begin = next((i for i, line in enumerate(self._lines) if header.match(line)), None)
        if begin is None:
            return self._source
        if key is not None:
            wanted = re.compile(rf"""\s*["']?{re.escape(key)}["']?\s*=""")
            for i in range(begin + 1, len(self._lines)):
                if self._lines[i].lstrip().startswith("["):
                    break
                if wanted.match(self._lines[i]):
                    return f"{self._source}:{i + 1}"
        return f"{self._source}:{begin + 1}"


def overlay(
    base: T, tables: Mapping[str, Mapping[str, object]], own: Mapping[str, frozenset[str]]
) -> tuple[T, tuple[str, ...]]:
    """Lay the operator's tables over a process's own configuration.

    Args:
        base: the process's own, which stays for what the tables do not name.
        tables: sections and keys.
        own: by section, the keys that are the process's own affair; no keys: the whole section. The tables may repeat
            them and not change them.

    Returns:
        The configuration, and what the tables say that this version does not know: it has no effect.

    Raises:
        SettingsError: an impossible value, a key of its own that differs, or something is still missing.
    """
    sections = {f.name: f.metadata["section"] for f in dataclasses.fields(base)}  # type: ignore[arg-type] # every section is a dataclass
    unknown = [f"[{name}]" for name in tables if name not in sections]
    faults: list[str] = []
    values: dict[str, Any] = {}
    for name, cls in sections.items():
        fields = {f.name: f for f in dataclasses.fields(cls)}
        before, changes = getattr(base, name), {}
        for key, raw in tables.get(name, {}).items():
            if key not in fields:
                unknown.append(f"[{name}] {key}")
                continue
            try:
                value = fields[key].metadata["parse"](raw)
            except (ValueError, TypeError) as e:
                faults.append(f"[{name}] {key} = {_shown(raw, fields[key])}: {e}")
                continue
            if name in own and (not own[name] or key in own[name]):
                if value != getattr(before, key):
                    faults.append(f"[{name}] {key}: is the pod's own and cannot be changed by settings; leave it out")
                continue
            changes[key] = value
        values[name] = after = dataclasses.replace(before, **changes)
        faults += [f"[{name}] {_required(f)}" for f in fields.values() if getattr(after, f.name) == f.metadata["later"]]
        faults += _contradictions(name, after)
    if faults:
        raise SettingsError(faults)
    return dataclasses.replace(base, **values), tuple(unknown)  # type: ignore[type-var] # every section is a dataclass


def _contradictions(name: str, section: Any) -> Iterator[str]:
    check = getattr(section, "check", None)
    if check is not None:
        try:
            check()
        except KeyFaultError as e:
            yield f"[{name}] {e.key}: {e}"


def _required(field: dataclasses.Field[Any]) -> str:
    return f"{field.name} is required: write {field.name} = {field.metadata['example']}"


def _unknown(what: str, name: str, known: Mapping[str, Any]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"
    return f"unknown {what} {name!r}; {hint}"


def _shown(raw: object, field: dataclasses.Field[Any]) -> str:
    if field.metadata["secret"]:
        return "(not shown)"
    text = repr(raw)
    return text if len(text) <= 60 else text[:60] + "..."


def example(root: type[Any], *, comment_defaults: bool = True) -> str:
    """The commented example of a configuration file: every key, what it means, its default."""
    return "\n".join(_example_lines(root, comment_defaults=comment_defaults)) + "\n"


def _example_lines(root: type[Any], *, comment_defaults: bool) -> Iterator[str]:
    for part in dataclasses.fields(root):
        cls = part.metadata["section"]
        yield f"[{part.name}]  # {(cls.__doc__ or '').splitlines()[0]}" if cls.__doc__ else f"[{part.name}]"
        for field in dataclasses.fields(cls):
            default = field.metadata["default"]
            yield f"# {field.metadata['doc']}"
            if default is dataclasses.MISSING:
                yield f"{field.name} = {field.metadata['example']}"
            else:
                yield f"{'# ' if comment_defaults else ''}{field.name} = {_toml(default)}"
        yield ""


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return repr(value).removesuffix(".0") if isinstance(value, float) else str(value)
    if isinstance(value, tuple | list):
        return "[" + ", ".join(_toml(v) for v in value) + "]"
    return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")


def render(tables: Mapping[str, Mapping[str, object]]) -> str:
    """Write a configuration file."""
    lines: list[str] = []
    for name, table in tables.items():
        lines.append(f"[{name}]")
        lines += [f"{key} = {_toml(value)}" for key, value in table.items()]
        lines.append("")
    return "\n".join(lines)
