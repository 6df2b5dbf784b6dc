# SPDX-License-Identifier: Apache-2.0
"""What a process of tests knows to be secret, and what was written in it since it was searched last."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from support.leaks.known import Known, Place, PrivateKey

LONGEST: Final = 4 << 20
"""Characters of one text that are searched, its last ones."""
MOST: Final = 5000
"""Texts that are noted between two searches; of more the first ones are taken."""
DEEPEST: Final = 6
LARGEST_SECRET: Final = 64 << 10
"""Octets of a file that is taken for a token or a key."""
LOGS: Final = (".log", "log", ".out", ".err")
SECRETS: Final = ("token", "key", "key.pem", ".token", ".key", "cookie_keys")


@dataclass(frozen=True, slots=True)
class Leak:
    """A secret where it must not be; it says everything but the secret."""

    place: str
    line: int
    what: str

    def __str__(self) -> str:
        return f"{self.place}, line {self.line}: {self.what}"


class Guard:
    """Learns secrets, is told texts, and searches these for those.

    Attributes:
        known: what was learnt.
    """

    def __init__(self) -> None:
        self.known = Known()
        self._keys: list[tuple[PrivateKey, str]] = []
        self._octets: list[tuple[bytes, str]] = []
        self._texts: list[tuple[str, str]] = []
        self._logs: dict[Path, int] = {}

    # -- what is secret

    def key(self, key: PrivateKey, what: str) -> None:
        """Learn a private key, at the next search."""
        self._keys.append((key, what))

    def octets(self, secret: bytes, what: str) -> None:
        """Learn octets, at the next search."""
        self._octets.append((secret, what))

    def token(self, secret: str, what: str) -> None:
        """Learn a token."""
        self.known.text(secret, what)

    # -- what was written

    def note(self, place: str, text: str) -> None:
        """A text that must not tell any secret."""
        if len(self._texts) < MOST:
            self._texts.append((place, text[-LONGEST:]))

    def log(self, file: Path) -> None:
        """A file that is being written, and searched from now on for as long as it is there."""
        self._logs.setdefault(file, 0)

    def sweep(self, folder: Path) -> None:
        """Learn the tokens and keys in a folder, and note its logs; before it is removed."""
        for file in _files(folder):
            with suppress(OSError):
                if file.name.endswith(LOGS):
                    self.log(file)
                elif file.name in SECRETS or file.name.endswith((".token", ".key")):
                    self._file(file)
        self._read_logs()

    def _file(self, file: Path) -> None:
        data, what = file.read_bytes()[:LARGEST_SECRET], f"the secret in a file {file.name}"
        if b"-----" not in data:
            for line in data.decode("ascii", "replace").split():
                self.known.text(line, what)
            return
        self.known.pem(data, what)

    def _read_logs(self) -> None:
        for file, offset in list(self._logs.items()):
            try:
                with file.open("rb") as log:
                    log.seek(max(offset, os.fstat(log.fileno()).st_size - LONGEST))
                    data = log.read()
                    self._logs[file] = log.tell()
            except OSError:
                del self._logs[file]
                continue
            if data:
                self.note(f"the log {file.name}", data.decode(errors="replace"))

    # -- the search

    def search(self) -> list[Leak]:
        """All leaks in what was noted since the last time."""
        self._read_logs()
        texts, self._texts = self._texts, []
        return [leak for place, text in texts for leak in self.leaks(place, text)]

    def leaks(self, place: str, text: str) -> list[Leak]:
        """All leaks in one text."""
        self._learn()
        return [Leak(place, found.line, found.what) for found in _once(self.known.find(text))]

    def _learn(self) -> None:
        keys, self._keys = self._keys, []
        octets, self._octets = self._octets, []
        for key, what in keys:
            self.known.key(key, what)
        for secret, what in octets:
            self.known.octets(secret, what)


def _once(places: Iterator[Place]) -> list[Place]:
    """One for each line and secret."""
    return list({(place.line, place.what): place for place in places}.values())


def _files(folder: Path, deep: int = 0) -> Iterator[Path]:
    with suppress(OSError):
        for entry in os.scandir(folder):
            if entry.is_dir(follow_symlinks=False):
                if deep < DEEPEST:
                    yield from _files(Path(entry.path), deep + 1)
            elif entry.is_file(follow_symlinks=False):
                yield Path(entry.path)


GUARD: Final = Guard()
"""This process's."""
