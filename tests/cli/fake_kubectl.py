# SPDX-License-Identifier: Apache-2.0
"""A kubectl that answers what it was told to, and remembers what it was asked.

What it is told to answer looks as real answers do (kubectl 1.37 at a kind cluster): lists are of kind List, whatever
they list; errors of the API server begin with ``Error from server (REASON): `` and others with ``error: ``, on standard
error, after any number of lines of kubectl's own log; with ``exec`` the command's standard error comes first, then
``command terminated with exit code N``, and N is the exit status.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pytest

NOT_FOUND = 'Error from server (NotFound): serverpools.rserpool.io "{}" not found'
FORBIDDEN = (
    'Error from server (Forbidden): {0} is forbidden: User "system:serviceaccount:default:default" cannot list resource'
    ' "{0}" in API group "" at the cluster scope'
)
NO_RESOURCE = 'error: the server doesn\'t have a resource type "serverpools"'
NO_PATH = "Error from server (NotFound): the server could not find the requested resource"
REFUSED = (
    'E1125 21:23:15.451514   29164 memcache.go:265] "Unhandled Error" err="couldn\'t get current server API group list:'
    ' Get \\"https://127.0.0.1:1/api?timeout=32s\\": dial tcp 127.0.0.1:1: connect: connection refused"\n'
    "The connection to the server 127.0.0.1:1 was refused - did you specify the right host or port?"
)
_HERE = Path(__file__)


class FakeCluster:
    """The cluster as the fake kubectl knows it, in a folder; kubectl itself is put on PATH by a fixture."""

    def __init__(self, folder: Path) -> None:
        self._answers = folder / "answers.json"
        self._calls = folder / "calls.jsonl"
        self._rules: list[dict[str, Any]] = []
        self.program = folder / "bin" / "kubectl"
        self.program.parent.mkdir()
        self.program.write_text(
            f"#!{sys.executable} -SE\nimport runpy, sys\nsys.argv.insert(1, {str(folder)!r})\n"
            f"runpy.run_path({str(_HERE)!r}, run_name='__main__')\n"
        )
        self.program.chmod(0o755)
        self._calls.touch()
        self._write()

    def says(self, asked: str, answer: Any = "", *, error: str = "", status: int | None = None) -> None:
        """Answer so when a call's words match a regular expression; what is said last counts.

        Lists become lists of kubectl's, other data JSON.
        """
        if isinstance(answer, list):
            answer = {"apiVersion": "v1", "kind": "List", "items": answer, "metadata": {"resourceVersion": ""}}
        text = answer if isinstance(answer, str) else json.dumps(answer)
        self._rules.insert(
            0, {"asked": asked, "out": text, "err": error, "status": int(bool(error)) if status is None else status}
        )
        self._write()

    def answer_in_process(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Answer without starting a program: for tests that ask a hundred times."""

        def run(command: list[str], given: bytes | None, longest: float) -> tuple[int, str, str]:
            return answer(self._answers.parent, command[1:], (given or b"").decode())

        monkeypatch.setattr("rserpool_cli.cluster.kubectl._run", run)

    def _write(self) -> None:
        self._answers.write_text(json.dumps(self._rules))

    def calls(self, asked: str = "") -> list[list[str]]:
        """What kubectl was asked, word by word."""
        found = [json.loads(line)["words"] for line in self._calls.read_text().splitlines()]
        return [words for words in found if re.search(asked, " ".join(words))]

    def given(self, asked: str) -> Any:
        """The JSON it was given on standard input in the only such call."""
        found = [json.loads(line) for line in self._calls.read_text().splitlines()]
        (text,) = [call["given"] for call in found if re.search(asked, " ".join(call["words"]))]
        return json.loads(text)


def answer(folder: Path, words: Sequence[str], given: str) -> tuple[int, str, str]:
    """Be kubectl for one call: exit status, standard output, standard error."""
    line = " ".join(words)
    with (folder / "calls.jsonl").open("a") as calls:
        calls.write(json.dumps({"words": list(words), "given": given}) + "\n")
    for rule in json.loads((folder / "answers.json").read_text()):
        if re.search(rule["asked"], line):
            return rule["status"], rule["out"], rule["err"]
    return 1, "", f"error: the fake kubectl was not told what to answer to: {line}"


if __name__ == "__main__":
    said = answer(Path(sys.argv[1]), sys.argv[2:], sys.stdin.read() if "-f" in sys.argv else "")
    sys.stdout.write(said[1])
    sys.stdout.flush()
    sys.stderr.write(said[2] + "\n" if said[2] else "")
    sys.stderr.flush()
    os._exit(said[0])
