# SPDX-License-Identifier: Apache-2.0
"""Threat 2.14: an element is drowned in keep-alives, by a registrar, or by users who have registrars ask it."""

from __future__ import annotations

import contextlib
import select
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from attacks.kit import daemons
from attacks.kit.figures import figure
from attacks.kit.system import System, running_system, weakened_system
from attacks.kit.undisturbed import undisturbed
from rserpool.asap.authorisation import Role
from rserpool.wire import RFC as DIALECT
from rserpool.wire import asap, encode
from support.rig_refusals import HANDLE, asap_line, registration
from support.rogue import Rogue

FLOOD = 1000
REPORTERS, REPORTS = 30, 4
BURST, PER_SECOND = 4, 2
"""Keep-alives that a registrar sends an element at once, and a second, with the Fast profile."""
ANSWERED_BURST, ANSWERED_PER_SECOND = 10, 4
"""Keep-alives that an element answers one registrar."""


@pytest.fixture(scope="module")
def system() -> Iterator[System]:
    with running_system() as running:
        yield running


def pour(rogue: Rogue, address: str, identifier: int, patience: float = 0.5) -> tuple[int, float]:
    """A thousand keep-alives to an element's sidecar; returns how many were answered, and the seconds until then.

    With `patience`, in seconds, more answers are waited for.
    """
    question = asap.EndpointKeepAlive(server_id=0xBAD, pool_handle=HANDLE, pe_identifier=identifier)
    octets = encode(question, DIALECT)
    answer = encode(asap.EndpointKeepAliveAck(pool_handle=HANDLE, pe_identifier=identifier), DIALECT)
    began, answers = time.monotonic(), b""
    with contextlib.closing(rogue.context().wrap_socket(rogue.connect(address, daemons.ASAP))) as sock:
        for _ in range(FLOOD // 20):
            sock.sendall(octets * 20)
            answers += _waiting(sock, 0.02)
        answers += _waiting(sock, patience)
    assert answers == answer * (len(answers) // len(answer)), "it said something else"
    return len(answers) // len(answer), time.monotonic() - began


def _waiting(sock: socket.socket, patience: float) -> bytes:
    """What comes within so many seconds of silence."""
    found = b""
    while select.select([sock], [], [], patience)[0]:
        octets = sock.recv(65536)
        if not octets:
            return found
        found += octets
    return found


def echo(address: str) -> float:
    """Seconds in which an element's application answers."""
    began = time.monotonic()
    with socket.create_connection((address, daemons.APPLICATION), 5) as sock:
        sock.sendall(b"hello\n")
        assert sock.recv(100).endswith(b"hello\n")
    return time.monotonic() - began


@pytest.mark.rfc("threats 2.14: keep-alives to an element are limited")
def test_a_registrar_that_asks_a_thousand_times_is_answered_a_few_times(system: System) -> None:
    element, rogue = system.a.elements[0], system.stranger(system.a.leaf(Role.REGISTRAR))
    identifier = _identifier(system, 0)
    quiet = max(echo(element.address) for _ in range(5))
    with undisturbed(system, threat="2.14", peers=[rogue.name]):
        answered, seconds = pour(rogue, element.address, identifier)
        disturbed = max(echo(element.address) for _ in range(5))
    figure(
        f"2.14: {answered} of {FLOOD} keep-alives answered; a user waits {disturbed * 1000:.1f} ms, before {quiet * 1000:.1f} ms"
    )
    assert 0 < answered <= ANSWERED_BURST + ANSWERED_PER_SECOND * seconds + 1
    assert disturbed <= max(2 * quiet, 0.05)


@pytest.mark.rfc("threats 2.14: keep-alives to an element are limited")
@pytest.mark.parametrize("role", [Role.ELEMENT, Role.USER])
def test_who_is_no_registrar_is_not_answered_at_all(system: System, role: Role) -> None:
    element, rogue = system.a.elements[1], system.stranger(system.a.leaf(role))
    with undisturbed(system, threat="2.6", peers=[rogue.name], what=f"2.14 keep-alives of a {role.value}"):
        try:
            answered, _ = pour(rogue, element.address, _identifier(system, 1))
        except OSError:
            answered = 0
    assert answered == 0


def _identifier(system: System, index: int) -> int:
    identity = system.a.plan.sidecars[index].identity
    assert identity is not None
    return system.a.leaf(Role.ELEMENT, identity.pod_uid).pe_identifier


def provoke(system: System) -> tuple[int, float]:
    """Have many users report an element that answers; returns how often its registrar asked it, in how many seconds."""
    registrar, rogue = system.a.registrars[0], system.compromised(0)
    assert rogue.leaf is not None
    identifier, asked, over = rogue.leaf.pe_identifier, [0], threading.Event()
    report = asap.EndpointUnreachable(pool_handle=HANDLE, pe_identifier=identifier)
    with asap_line(rogue, registrar) as line:
        line.say(registration(identifier, rogue.source))
        [granted] = line.hear()
        assert isinstance(granted, asap.RegistrationResponse)
        assert not granted.reject

        def answer() -> None:
            while not over.is_set():
                if line.socket.pending() or select.select([line.socket], [], [], 0.05)[0]:  # type: ignore[attr-defined] # a TLS socket: the system is secure
                    for message in line.hear():
                        asked[0] += isinstance(message, asap.EndpointKeepAlive)
                        line.say(asap.EndpointKeepAliveAck(pool_handle=HANDLE, pe_identifier=identifier))

        thread = threading.Thread(target=answer)
        thread.start()
        try:
            began = time.monotonic()
            with contextlib.ExitStack() as stack:
                lines = [stack.enter_context(asap_line(system.stranger(), registrar)) for _ in range(REPORTERS)]
                for _ in range(REPORTS):
                    for reporter in lines:
                        reporter.say(report)
                        time.sleep(0.01)
            seconds = time.monotonic() - began
            count = asked[0]
        finally:
            over.set()
            thread.join()
        line.say(asap.Deregistration(pool_handle=HANDLE, pe_identifier=identifier))
        while not isinstance(line.hear()[0], asap.DeregistrationResponse):
            pass
    return count, seconds


@pytest.mark.rfc("threats 2.14: keep-alives to an element are limited")
def test_users_who_report_an_element_all_the_time_do_not_have_it_asked_all_the_time(system: System) -> None:
    with undisturbed(system, refused=False, what="2.14 provoked"):
        count, seconds = provoke(system)
    figure(f"2.14: {REPORTERS * REPORTS} reports in {seconds:.1f} s made {count} keep-alives")
    assert 0 < count <= BURST + PER_SECOND * seconds + 1


def test_without_the_registrars_limit_each_report_is_a_keep_alive() -> None:
    with weakened_system("keep-alive-rate") as system:
        count, seconds = provoke(system)
    assert count > 3 * (BURST + PER_SECOND * seconds)


def test_without_its_own_limit_an_element_answers_them_all() -> None:
    with weakened_system(registrars=1) as system, daemons.sidecar(system, without=["flood-guard"]) as victim:
        victim.ready()
        answered, _ = pour(system.stranger(system.a.leaf(Role.REGISTRAR)), victim.address, victim.identifier, 5.0)
        assert answered == FLOOD
