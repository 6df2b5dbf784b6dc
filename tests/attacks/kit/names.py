# SPDX-License-Identifier: Apache-2.0
"""False answers of the name service: processes for which a name means what the attacker likes.

A process that is started by :attr:`FalseNames.command` sees another /etc/hosts, which the system's own resolver asks
before any other; it may be rewritten while the process runs. Nothing of the process is changed.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Final

import pytest

_WAYS: Final = (("unshare", "--mount"), ("unshare", "--user", "--map-root-user", "--mount"))
_BIND: Final = 'mount --bind "$0" /etc/hosts && exec "$@"'
_HEAD: Final = "127.0.0.1 localhost\n"


@cache
def _way(folder: Path) -> tuple[str, ...] | None:
    probe = folder / "probe"
    probe.write_text(f"{_HEAD}127.9.9.9 probe.test\n")
    for words in _WAYS:
        command = [*words, "sh", "-c", _BIND, str(probe), "getent", "hosts", "probe.test"]
        try:
            done = subprocess.run(command, capture_output=True, timeout=10, check=False)
        except OSError:
            continue
        if done.returncode == 0 and b"127.9.9.9" in done.stdout:
            return words
    return None


class FalseNames:
    """What names mean to the processes that were started by its command.

    Args:
        folder: for the file.
        names: addresses of each name to begin with.
    """

    def __init__(self, folder: Path, **names: Sequence[str]) -> None:
        self._file = folder / "hosts"
        self._file.touch()
        self._found = _way(folder)
        if self._found is None:
            reason = "no mount namespace can be made here: it needs unshare, mount, and root or user namespaces"
            if os.environ.get("CI"):
                pytest.fail(f"{reason} (with CI set, that is a failure)", pytrace=False)
            pytest.skip(reason)
        self.say({name.replace("_", "."): addresses for name, addresses in names.items()})

    def say(self, names: dict[str, Sequence[str]]) -> None:
        """From now on these names mean these addresses, and no other name means anything."""
        lines = [f"{address} {name}\n" for name, addresses in names.items() for address in addresses]
        with self._file.open("r+") as file:  # the very file that is mounted, and never an empty one
            text = _HEAD + "".join(lines)
            file.write(text)
            file.truncate(len(text))

    @property
    def command(self) -> tuple[str, ...]:
        """What stands before a command line, so that its process believes these names."""
        assert self._found is not None
        return (*self._found, "sh", "-c", _BIND, str(self._file))
