# SPDX-License-Identifier: Apache-2.0
"""Settings that change while a process runs: what is in force, and what would need another pod.

The operator's tables are laid over the process's own configuration. What cannot be is refused whole, and the former
settings stay; what can be changed only by another pod stays as it is, the rest comes into force, and the version is not
reported as loaded.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Mapping
from typing import Any, Final, Generic, TypeVar

from rserpool.daemon.settings import SettingsError, overlay
from rserpool.daemon.vault import Tables, Vault

T = TypeVar("T")
Keys = Mapping[str, frozenset[str]]
_log: Final = logging.getLogger(__name__)
WHOLE: Final = frozenset[str]()
OWN: Final[Keys] = {
    "pool": frozenset({"namespace", "name", "trust_domain"}),
    "network": WHOLE,
    "discovery": WHOLE,
    "channel": frozenset({"port", "http_address", "http_port"}),
    "security": frozenset(
        {
            "source",
            "pod_uid",
            "dns_names",
            "url",
            "token_file",
            "authority_file",
            "authority",
            "directory",
            "credential_file",
            "chain_file",
            "key_file",
            "bundle_file",
        }
    ),
    "operator": WHOLE,
    "control": WHOLE,
}
"""What the pod was started with and no settings change: who and where it is, and whom it asks."""
POOLS: Final[Keys] = {"pool": frozenset({"handle", "dialect"}), "security": frozenset({"mode"})}
"""What is fixed as long as a pod lives."""


class LiveSettings(Generic[T]):
    """The settings of one process.

    Args:
        base: its own configuration.
        fixed: what only another pod can change, by section.
        operated: an operator says the rest; without one the base is all there is.
        vault: where settings survive a restart of the container.

    Attributes:
        value: the settings in force.
        complete: there is nothing to wait for.
        version: of the operator's settings in force; empty: none.
        on_changed: called after a change, with what was in force before.
    """

    def __init__(self, base: T, fixed: Keys, *, operated: bool, vault: Vault | None = None) -> None:
        self._base = base
        self._fixed = fixed
        self._vault = vault
        self._tables: Tables = {}
        self._judged = ""
        self._latest = True
        self.value = base
        self.complete = not operated
        self.version = ""
        self.on_changed: Callable[[T], None] = lambda _before: None

    def restore(self) -> None:
        """Take up what was in force before a restart of the container."""
        kept = self._vault.settings() if self._vault is not None else None
        if kept is not None:
            (version, tables), before = kept, self.value
            try:
                self.value, _ = overlay(self._base, tables, OWN)
            except SettingsError as e:
                _log.warning("the settings that were kept cannot be used: %s", e.lines[0])
                return
            self.version, self._tables, self.complete = version, tables, True
            self.on_changed(before)

    def take(self, version: str, tables: Tables) -> str:
        """Bring the operator's settings into force, as far as that can be; returns the version in force then."""
        before, first = self.value, version != self._judged
        self._judged = version
        try:
            value, unknown = overlay(self._base, tables, OWN)
        except SettingsError as e:
            if first:
                for line in e.lines:
                    _log.error("the operator's settings cannot be used, the former ones stay: %s", line)
            self._latest = False
            return self.version
        if unknown and first:
            _log.warning("settings this version does not know have no effect: %s", ", ".join(unknown)[:500])
        differing = self._differing(value) if self.complete else []
        if differing:
            if first:
                _log.warning("%s: to change that needs a new pod", ", ".join(f"[{s}] {key}" for s, key in differing))
            value, tables = self._kept(value, tables, differing)
        else:
            self.version = version
        self._latest = not differing
        changed = value != before or not self.complete
        self.value, self._tables, self.complete = value, tables, True
        if self._vault is not None and (changed or not differing):
            self._vault.keep_settings(self.version, tables)
        if changed:
            _log.info("other settings are in force", extra={"version": version})
            self.on_changed(before)
        return self.version

    def gauges(self) -> dict[str, tuple[str, float]]:
        """What metrics show."""
        text = "1 if the settings in force are the newest that were told."
        return {"rserpool_settings_in_force": (text, float(self.complete and self._latest))}

    def _differing(self, value: T) -> list[tuple[str, str]]:
        """What another pod is needed for."""
        keys = [(section, key) for section, names in self._fixed.items() for key in sorted(names)]
        return [(s, key) for s, key in keys if _at(value, s, key) != _at(self.value, s, key)]

    def _kept(self, value: T, tables: Tables, keys: list[tuple[str, str]]) -> tuple[T, Tables]:
        """The settings, and their tables, with these keys as they are in force."""
        written = {name: dict(table) for name, table in tables.items()}
        sections: dict[str, Any] = {}
        for section, key in keys:
            former = sections.get(section, getattr(value, section))
            sections[section] = dataclasses.replace(former, **{key: _at(self.value, section, key)})
            table = written.setdefault(section, {})
            table.pop(key, None)
            if key in self._tables.get(section, {}):
                table[key] = self._tables[section][key]
        return dataclasses.replace(value, **sections), written  # type: ignore[type-var] # every section is a dataclass


def _at(value: object, section: str, key: str) -> object:
    return getattr(getattr(value, section), key)
