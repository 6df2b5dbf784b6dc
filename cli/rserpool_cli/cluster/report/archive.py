# SPDX-License-Identifier: Apache-2.0
"""The archive: one folder in a tar.gz, of bounded size; everything that goes in passes the redaction."""

from __future__ import annotations

import io
import json
import os
import tarfile
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from rserpool_cli.cluster.report.redaction import redact, redact_object
from rserpool_cli.errors import CommandError

MOST_OF_FILE: Final = 4 * 1024 * 1024
MOST: Final = 128 * 1024 * 1024
"""Octets of all files together, before compression."""


class Archive:
    """Used as a context: closed and complete at its end, gone if that is an exception.

    Args:
        path: where; there must be no such file.
        folder: in which everything is, inside.
        when: the time of all files in it.
        most: octets of all files together.

    Raises:
        CommandError: it cannot be made there.
    """

    def __init__(self, path: Path, folder: str, when: datetime, most: int = MOST) -> None:
        self.path = path
        self.missing: dict[str, str] = {}
        self._folder = folder
        self._when = when
        self._left = most
        self._files: dict[str, int] = {}
        self._cut: dict[str, str] = {}
        try:
            descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        except FileExistsError:
            raise CommandError(f"{path} is there already: choose another name with -o") from None
        except OSError as e:
            raise CommandError(f"{path} cannot be written: {(e.strerror or str(e)).lower()}") from None
        self._file = os.fdopen(descriptor, "wb")
        self._tar = tarfile.open(fileobj=self._file, mode="w:gz")  # noqa: SIM115 - closed with us

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                told = {"written": self._when.isoformat(), "notRead": self.missing, "cut": self._cut}
                self._write("contents.json", _json(redact_object({**told, "files": self._files})).encode())
            self._tar.close()
        finally:
            self._file.close()
            if error is not None:
                self.path.unlink(missing_ok=True)

    def text(self, name: str, text: str) -> None:
        """A text, such as a log; of one that is too long, the end."""
        self._add(name, redact(text).encode(errors="replace"))

    def data(self, name: str, value: Any) -> None:
        """An object, as JSON."""
        self._add(name, _json(redact_object(value)).encode(errors="replace"))

    def not_read(self, name: str, why: str) -> None:
        """What should be there, and why it is not."""
        self.missing[name] = why

    @property
    def files(self) -> int:
        """How many there are."""
        return len(self._files)

    def _add(self, name: str, octets: bytes) -> None:
        room = min(MOST_OF_FILE, self._left)
        if not room and octets:
            self.not_read(name, "the archive is full")
            return
        if len(octets) > room:
            self._cut[name] = f"the last {room} of {len(octets)} octets"
            octets = octets[-room:]
        self._left -= len(octets)
        self._write(name, octets)

    def _write(self, name: str, octets: bytes) -> None:
        entry = tarfile.TarInfo(f"{self._folder}/{name}")
        entry.size, entry.mode, entry.mtime = len(octets), 0o600, int(self._when.timestamp())
        self._tar.addfile(entry, io.BytesIO(octets))
        self._files[name] = len(octets)


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"
