# SPDX-License-Identifier: Apache-2.0
"""kubectl, as the user has it: it knows how to reach the cluster and how to log in; we do not."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from rserpool_cli.errors import CommandError

Manifest = dict[str, Any]
MISSING: Final = "kubectl is not on PATH: a cluster is asked through it; see https://kubernetes.io/docs/tasks/tools/"
TIMEOUT: Final = 60.0
"""Seconds for one call."""
LOGIN: Final = 300.0
"""Likewise, once kubectl has asked the user for something."""
QUIET: Final = 3.0
"""Seconds after which what kubectl has said on standard error so far is shown: it may wait for a login."""
_KLOG: Final = re.compile(r"[EWIF]\d{4} \d\d:\d\d:\d\d")
_BESIDE: Final = re.compile(r"(?i)command terminated with exit code \d+|warning: |Defaulted container ")
"""Lines beside the one that says what went wrong."""
_REASON: Final = re.compile(r"Error from server \((\w+)\): (.*)")


class KubectlError(CommandError):
    """kubectl ended with an error; the text is one line of what it said.

    Attributes:
        reason: the API server's, such as NotFound or Forbidden; empty: it was none of its.
        ended: kubectl's own exit status, which with `exec` is the command's.
    """

    def __init__(self, message: str, *, reason: str = "", ended: int = 1) -> None:
        super().__init__(message)
        self.reason = reason
        self.ended = ended


def find_kubectl() -> str:
    """The program.

    Raises:
        CommandError: there is none.
    """
    found = shutil.which("kubectl")
    if found is None:
        raise CommandError(MISSING)
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Kubectl:
    """One way to a cluster.

    Attributes:
        program: the path of kubectl.
        options: where the cluster is, as kubectl's own options; none: as its configuration says.
        namespace: where nothing else is said; ``None``: the one of kubectl's context.
    """

    program: str
    options: tuple[str, ...] = ()
    namespace: str | None = None

    def run(self, *arguments: str, namespace: str | None = None, given: str = "", longest: float = TIMEOUT) -> str:
        """Run it; returns its standard output.

        Args:
            arguments: the subcommand and what belongs to it.
            namespace: another one than the usual.
            given: standard input; empty: the user's own.
            longest: seconds.

        Raises:
            KubectlError: it failed, or did not end in time.
        """
        command = [self.program, *self.options, *arguments]
        where = namespace or self.namespace
        if where and "-A" not in arguments and "--raw" not in arguments:
            command[1:1] = ["-n", where]
        status, out, err = _run(command, given.encode() or None, longest)
        if status:
            raise _failed(_telling(err) or _telling(out), status)
        return out

    def get(self, *arguments: str, namespace: str | None = None) -> Any:
        """``kubectl get … -o json``: an object, or the list of them.

        Raises:
            KubectlError: it failed.
        """
        answer = read_json(self.run("get", *arguments, "-o", "json", namespace=namespace))
        return answer["items"] if answer.get("kind", "").endswith("List") else answer

    def raw(self, path: str) -> Any:
        """A path of the API server.

        Raises:
            KubectlError: it failed.
        """
        return read_json(self.run("get", "--raw", path))

    def exec(self, namespace: str, pod: str, container: str, *command: str) -> str:
        """Run a command in a container; returns its standard output.

        Raises:
            KubectlError: kubectl failed, or the command did; its standard error is what is said.
        """
        return self.run("exec", pod, "-c", container, "--", *command, namespace=namespace)


def read_json(text: str) -> Any:
    """An answer of kubectl's.

    Raises:
        KubectlError: it is no JSON object.
    """
    try:
        answer = json.loads(text)
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        raise KubectlError(f"kubectl answered with something that is no JSON object: {text[:60]!r}")
    return answer


def _run(command: list[str], given: bytes | None, longest: float) -> tuple[int, str, str]:
    """Run a program; while it takes long, what it says on standard error is passed on."""
    started, shown = time.monotonic(), 0
    stdin = subprocess.PIPE if given is not None else None
    with subprocess.Popen(  # noqa: S603 - kubectl, with words of the user's own
        command, stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        while True:
            left = started + (LOGIN if shown else longest) - time.monotonic()
            try:
                out, err = process.communicate(given, timeout=max(0.0, min(QUIET, left)))
            except subprocess.TimeoutExpired as e:
                said = e.stderr or b""
                given = None  # it has been sent
                shown += _pass_on(said[shown:])
                if left <= QUIET:
                    process.kill()
                    raise KubectlError(f"kubectl did not end within {longest:g} s; is the cluster reachable?") from None
            except BaseException:
                process.kill()
                raise
            else:
                return process.returncode, out.decode(errors="replace"), err.decode(errors="replace")


def _pass_on(said: bytes) -> int:
    """Show whole lines, but for those of kubectl's own log; returns how many octets are dealt with."""
    whole = said[: said.rfind(b"\n") + 1]
    for line in whole.decode(errors="replace").splitlines():
        if not _KLOG.match(line):
            print(line, file=sys.stderr, flush=True)
    return len(whole)


def _telling(text: str) -> list[str]:
    """Lines that say what went wrong."""
    lines = [line.strip() for line in text.splitlines()]
    return [line for line in lines if line and not _KLOG.match(line) and not _BESIDE.match(line)]


def _failed(lines: Sequence[str], status: int) -> KubectlError:
    told = next((line for line in lines if _REASON.match(line)), lines[-1] if lines else "")
    found = _REASON.match(told)
    message = told.removeprefix("error: ") or f"it ended with status {status} and said nothing"
    return KubectlError(f"kubectl: {message}", reason=found[1] if found else "", ended=status)
