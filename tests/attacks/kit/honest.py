# SPDX-License-Identifier: Apache-2.0
"""An honest element for each registrar, and an honest user: they register, register again, resolve, deregister, all the time.

``honest.py FILE`` takes its job from a JSON file and writes a line of JSON for each operation until it is killed. It is
a process of its own, so that an attacker's Python does not slow it down. What it is told of elements it does not know
is a failure: a user who believes it is an attacker's.
"""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).parent.parent.parent))

from rserpool.identity import pe_identifiers
from rserpool.wire import Message, PoolElement, Ppid, asap
from support.rig_refusals import registration
from support.rogue import Line

PATIENCE: Final = 5.0
"""Seconds after which an operation has failed."""
PAUSE: Final = 0.02
RENEW_LINES: Final = 5
"""Rounds after which all connections are made anew: handshakes are operations too."""


class FailedError(Exception):
    """An operation did not do what it should."""


class Honest:
    """Does one operation after the other.

    Args:
        job: who and where, as :mod:`attacks.kit.system` writes it.
    """

    def __init__(self, job: dict[str, Any]) -> None:
        self._handle = job["handle"].encode()
        self._known = frozenset(job["known"])
        self._elements = job["elements"]
        self._registrars = [(host, port) for host, port in job["registrars"]]
        self._contexts = [_context(job["bundle"], element) if job["bundle"] else None for element in self._elements]
        self._lines: list[Line | None] = [None] * len(self._registrars)

    def round(self, number: int) -> None:
        """Each element does everything at its registrar once."""
        for index, element in enumerate(self._elements):
            if number % RENEW_LINES == 0:
                self._hang_up(index)
            identifier = pe_identifiers(element["uid"])[0]
            join = registration(identifier, element["address"], self._handle)
            leave = asap.Deregistration(pool_handle=self._handle, pe_identifier=identifier)
            look = asap.HandleResolution(pool_handle=self._handle)
            with contextlib.suppress(FailedError):
                self._timed(index, "connect", partial(self._connect, index))
                self._timed(index, "register", partial(self._granted, index, join))
                self._timed(index, "register again", partial(self._granted, index, join))
                self._timed(index, "resolve", partial(self._resolved, index, look))
                self._timed(index, "deregister", partial(self._let_go, index, leave))

    def _timed(self, index: int, what: str, operation: Callable[[], None]) -> None:
        began = time.monotonic()
        failure = ""
        try:
            operation()
        except (FailedError, OSError) as e:
            failure = f"{type(e).__name__}: {e}"
            self._hang_up(index)
        took = time.monotonic() - began
        said = {"what": what, "registrar": index, "at": began, "seconds": took, "failure": failure}
        sys.stdout.write(json.dumps(said) + "\n")
        sys.stdout.flush()
        time.sleep(PAUSE)
        if failure:
            raise FailedError(failure)

    def _hang_up(self, index: int) -> None:
        line = self._lines[index]
        if line is not None:
            line.close()
        self._lines[index] = None

    def _connect(self, index: int) -> None:
        if self._lines[index] is None:
            source = (self._elements[index]["address"], 0)
            sock = socket.create_connection(self._registrars[index], PATIENCE, source)
            context = self._contexts[index]
            self._lines[index] = Line(sock if context is None else context.wrap_socket(sock), Ppid.ASAP)

    def _ask(self, index: int, message: Message, kind: type[Message]) -> Message:
        line = self._lines[index]
        assert line is not None
        line.say(message)
        while True:
            heard = line.hear()
            if not heard:
                raise FailedError(f"the registrar ended the association: {line.fate()}")
            if isinstance(heard[0], asap.EndpointKeepAlive):
                identifier = pe_identifiers(self._elements[index]["uid"])[0]
                line.say(asap.EndpointKeepAliveAck(pool_handle=self._handle, pe_identifier=identifier))
            elif isinstance(heard[0], kind):
                return heard[0]
            else:
                raise FailedError(f"said {heard[0]}")

    def _granted(self, index: int, message: Message) -> None:
        answer = self._ask(index, message, asap.RegistrationResponse)
        assert isinstance(answer, asap.RegistrationResponse)
        if answer.reject:
            raise FailedError(f"rejected: {answer.error}")

    def _let_go(self, index: int, message: Message) -> None:
        answer = self._ask(index, message, asap.DeregistrationResponse)
        assert isinstance(answer, asap.DeregistrationResponse)
        if answer.error:
            raise FailedError(f"refused: {answer.error}")

    def _resolved(self, index: int, message: Message) -> None:
        answer = self._ask(index, message, asap.HandleResolutionResponse)
        assert isinstance(answer, asap.HandleResolutionResponse)
        if answer.error or not answer.elements:
            raise FailedError(f"not resolved: {answer.error}")
        unknown = [a for element in answer.elements for a in _addresses(element) if a not in self._known]
        if unknown:
            raise FailedError(f"resolution tells of {unknown}")


def _addresses(element: PoolElement) -> list[str]:
    return [str(address) for address in element.transport.addresses]


def _context(bundle: str, element: dict[str, Any]) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(cadata=bundle)
    with tempfile.NamedTemporaryFile() as file:
        file.write((element["key"] + element["chain"]).encode())
        file.flush()
        context.load_cert_chain(file.name)
    return context


if __name__ == "__main__":
    honest = Honest(json.loads(Path(sys.argv[1]).read_text()))
    done = 0
    while True:
        honest.round(done)
        done += 1
