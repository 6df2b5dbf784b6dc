# SPDX-License-Identifier: Apache-2.0
"""Half handshakes and floods: bounded, cut off in time, and honest users are served meanwhile."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from functools import partial

import pytest

from rserpool.wire import CauseCode, asap
from support.rig_refusals import (
    HANDLE,
    Refusal,
    asap_line,
    causes,
    refused,
    registration,
    served,
    stranger,
    unmoved,
)
from support.rogue import ENDED, Rogue, end_of, stolen
from support.running import RegistrarProcess, RunningPool, manifest, pool_running, started

RATE = 2
"""Registrations of one identity a second."""
HANDSHAKE = 5.0
HALF_OPEN = 256
SLACK = 5.0
"""Seconds by which a slow machine may be late."""


@pytest.fixture(scope="module")
def pool() -> Iterator[RunningPool]:
    with pool_running(manifest(more=f"  limits: {{registrationsPerSecond: {RATE}}}\n")) as running:
        started(running)
        yield running


# -- handshakes that never end


def halves(rogue: Rogue, host: str, port: int) -> list[socket.socket]:
    """Not a word; half a hello; all of it, and nothing after; a hello in drops."""
    hello = rogue.hello()
    sockets = [rogue.connect(host, port) for _ in range(4)]
    for sock, octets in zip(sockets, (b"", hello[: len(hello) // 2], hello, hello[:1]), strict=True):
        sock.sendall(octets)
    return sockets


@pytest.mark.rfc("threats 2.2: floods of those who are no elements change nothing")
def test_half_a_handshake_is_cut_off_in_time_and_others_are_served_meanwhile(pool: RunningPool) -> None:
    first, second, _ = pool.registrars
    rogue = stranger(pool)
    late = f"no handshake within {HANDSHAKE:g} s"
    with (
        refused(pool, first, Refusal("2.1", "handshake", late, rogue.source, 4)),
        refused(pool, second, Refusal("2.5", "handshake", late, rogue.source, 4)),
        ExitStack() as stack,
    ):
        began = time.monotonic()
        sockets = [
            *halves(rogue, first.address, first.asap_port),
            *halves(rogue, second.address, second.enrp_port),
        ]
        for sock in sockets:
            stack.enter_context(sock)
        for registrar in (first, second):
            pool.wait("all halves are there", partial(is_half_open, pool, registrar, 4))
        assert served(pool, first) == served(pool, second) == 3
        assert time.monotonic() - began < HANDSHAKE, "too slow to have seen anything"
        hello, dripping = rogue.hello(), [sockets[3], sockets[7]]
        at = 1
        while pool.metric(first, "rserpool_half_open") or pool.metric(second, "rserpool_half_open"):
            assert time.monotonic() - began < HANDSHAKE + SLACK
            for sock in dripping if at < len(hello) - 1 else ():  # a drop now and then does not put it off
                with suppress(ConnectionError):
                    sock.sendall(hello[at : at + 1])
            at += 1
        assert time.monotonic() - began >= HANDSHAKE - 1
        assert all(end_of(sock) in ENDED for sock in sockets)


def test_a_crowd_without_handshakes_makes_room_by_its_own_oldest(pool: RunningPool) -> None:
    registrar = pool.registrars[2]
    rogue = stranger(pool)
    crowd = HALF_OPEN + 44
    expected = Refusal("2.1", "handshake", "too many connections without a handshake", rogue.source, None)
    with refused(pool, registrar, expected), ExitStack() as stack:
        half = rogue.hello()[:100]
        sockets = [stack.enter_context(rogue.connect(registrar.address, registrar.asap_port)) for _ in range(crowd)]
        for sock in sockets:
            with suppress(ConnectionError):
                sock.sendall(half)
        assert end_of(sockets[0]) in ENDED
        assert pool.metric(registrar, "rserpool_half_open") <= HALF_OPEN
        assert served(pool, registrar) == 3


# -- floods of messages


@pytest.mark.rfc("threats 2.2: floods of those who are no elements change nothing")
def test_registrations_above_the_limit_are_refused_and_counted_as_a_flood(pool: RunningPool) -> None:
    leaf = stolen(pool.directory)
    rogue, victim = Rogue(pool.elements[0].address, leaf), pool.elements[1].address
    for registrar in pool.registrars:
        with (
            refused(
                pool,
                registrar,
                Refusal("2.3", "ASAP_REGISTRATION", "is not its own address", rogue.name, None),
                Refusal("2.2", "ASAP_REGISTRATION", "over the limit of registrations", rogue.name, None),
            ),
            asap_line(rogue, registrar) as line,
        ):
            line.say(*[registration(leaf.pe_identifier, victim)] * 100)
            found = [causes(answer) for answer in line.hear(10)]
            allowed = found.count([CauseCode.SECURITY_REJECTION])
            assert 0 < allowed < 10
            assert found == [[CauseCode.SECURITY_REJECTION]] * allowed + [[CauseCode.LACK_OF_RESOURCES]] * (
                10 - allowed
            )


@pytest.mark.rfc("threats 2.13: unreachable reports are limited")
def test_a_flood_of_unreachable_reports_is_cut_off_and_removes_no_healthy_element(pool: RunningPool) -> None:
    victim = stolen(pool.directory, 1).pe_identifier
    report = asap.EndpointUnreachable(pool_handle=HANDLE, pe_identifier=victim)
    for registrar in pool.registrars:  # its home, and those that have it by hearsay
        rogue = stranger(pool)
        expected = Refusal(
            "2.13", "ASAP_ENDPOINT_UNREACHABLE", "reports elements unreachable too often", rogue.source, None
        )
        with refused(pool, registrar, expected), asap_line(rogue, registrar) as line:
            line.say(*[report] * 300)
            assert line.fate() in ENDED


@pytest.mark.rfc("threats 2.13: unreachable reports are limited")
def test_many_users_without_a_certificate_together_remove_no_healthy_element(pool: RunningPool) -> None:
    victim = stolen(pool.directory, 2).pe_identifier
    report = asap.EndpointUnreachable(pool_handle=HANDLE, pe_identifier=victim)
    for registrar in pool.registrars:
        with unmoved(pool, registrar):
            before = reports_refused(pool, registrar)
            for _ in range(10):
                with asap_line(stranger(pool), registrar) as line:
                    line.say(*[report] * 4, asap.HandleResolution(pool_handle=HANDLE))
                    (answer,) = line.hear()
                    assert isinstance(answer, asap.HandleResolutionResponse)
                    assert victim in {element.identifier for element in answer.elements}
            assert reports_refused(pool, registrar) == before  # none of them was too many


def is_half_open(pool: RunningPool, registrar: RegistrarProcess, count: int) -> bool:
    return pool.metric(registrar, "rserpool_half_open") == count


def reports_refused(pool: RunningPool, registrar: RegistrarProcess) -> float:
    return pool.metric(registrar, "rserpool_refusals_total", threat="2.13")
