# SPDX-License-Identifier: Apache-2.0
"""Registrars announce themselves about once in T6, all together; what is heard is a hint, for T7, and bounded."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address, ip_address
from itertools import pairwise
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rserpool.asap.announce import LONGEST, MOST, MOST_OF_ONE, PORT, READ, Announced, Announcer
from rserpool.asap.effects import Endpoint, TransportKind
from rserpool.asap.element import Element
from rserpool.asap.events import Refused
from rserpool.asap.profiles import FAST, RFC
from rserpool.wire import (
    Address,
    Message,
    Ppid,
    SctpTransport,
    TcpTransport,
    UnrecognizedParameter,
    asap,
    decode,
    encode,
)
from support.far_ends import NO_REGISTRARS, place, registrar
from support.rig_endpoints import Rig, element_rig

T6, T7 = 1.0, 5.0
V4, V6 = IPv4Address("10.1.0.9"), IPv6Address("fd00::9")
SERVED = (Endpoint(TransportKind.TCP, (V4,), 3864), Endpoint(TransportKind.TCP, (V6,), 3864))
SOURCE = IPv4Address("10.1.0.9")


def announcement(server_id: int = 7, *served: Endpoint) -> bytes:
    transports = tuple(TcpTransport(port=e.port, address=e.addresses[0]) for e in served)
    return encode(asap.ServerAnnounce(server_id=server_id, transports=transports))


def at(address: str, port: int = 3864) -> Endpoint:
    return Endpoint(TransportKind.TCP, (ip_address(address),), port)


def announcing(seed: int = 1) -> Announcer:
    announcer = Announcer(0xA1B2C3D4, SERVED, T6, Random(seed))
    announcer.start(0.0)
    return announcer


def times(announcer: Announcer, until: float, *, registrars: int = 63, others: int = 0) -> list[float]:
    """When it announces itself, while so many others do so each second."""
    sent = []
    for tick in range(round(until * 1000)):
        now = tick / 1000
        if tick % 1000 == 0:
            for other in range(1, others + 1):
                announcer.heard(announcement(other), now)
        if announcer.wake(now, registrars) is not None:
            sent.append(now)
    return sent


@pytest.mark.rfc("RFC 5352 2.2.10: an announcement names SCTP and TCP transports only")
def test_an_announcement_says_where_users_and_elements_are_served() -> None:
    announcer = announcing()
    octets = announcer.wake(T6, 0)
    assert octets is not None
    assert decode(octets, Ppid.ASAP) == asap.ServerAnnounce(
        server_id=0xA1B2C3D4,
        transports=(TcpTransport(port=3864, address=V4), TcpTransport(port=3864, address=V6)),
    )


@pytest.mark.rfc("RFC 5352 3.6: a registrar announces itself where multicast is used")
def test_a_registrar_alone_announces_itself_every_t6() -> None:
    sent = times(announcing(), 20)
    assert sent[0] <= T6
    assert [b - a for a, b in pairwise(sent)] == pytest.approx([T6] * (len(sent) - 1), abs=0.002)


@pytest.mark.rfc("RFC 5352 3.6: a registrar announces itself where multicast is used")
@pytest.mark.parametrize("others", [1, 2, 9])
def test_the_more_registrars_announce_the_less_often_each_does(others: int) -> None:
    sent = times(announcing(), 60, others=others)
    assert [b - a for a, b in pairwise(sent)] == pytest.approx([(others + 1) * T6] * (len(sent) - 1), abs=0.01)


def test_registrars_that_start_together_do_not_speak_together() -> None:
    firsts = {times(announcing(seed), 1.1)[0] for seed in range(20)}
    assert len(firsts) == 20
    assert max(firsts) - min(firsts) > 0.5


def test_nobody_is_announced_before_the_start() -> None:
    announcer = Announcer(1, SERVED, T6, Random(1))
    announcer.heard(announcement(), 5.0)
    assert announcer.deadline() is None
    assert announcer.wake(1e6, 3) is None


def test_another_registrar_that_falls_silent_counts_no_more_after_three_announcements() -> None:
    announcer = announcing()
    times(announcer, 10, others=1)
    sent = [t for t in range(10_000, 40_000) if announcer.wake(t / 1000, 63) is not None]
    assert [(b - a) / 1000 for a, b in pairwise(sent)][-5:] == [T6] * 5


def test_ones_own_announcement_and_one_of_nobody_count_for_nothing() -> None:
    announcer = announcing()
    for server_id in (0, 0xA1B2C3D4):
        announcer.heard(announcement(server_id), 0.0)
    sent = times(announcer, 10)
    assert [b - a for a, b in pairwise(sent)] == pytest.approx([T6] * (len(sent) - 1), abs=0.002)


@pytest.mark.rfc("threats 2.12: discovery cannot be thwarted or spoofed")
def test_nobody_makes_a_registrar_fall_silent_by_pretending_to_be_many() -> None:
    announcer = announcing()
    sent = []
    for tick in range(30_000):
        announcer.heard(announcement(0x1000 + tick), tick / 1000)
        if announcer.wake(tick / 1000, 2) is not None:
            sent.append(tick / 1000)
    assert all(b - a <= 3 * T6 + 0.01 for a, b in pairwise(sent))
    assert len(announcer._others) <= 64


@pytest.mark.rfc("RFC 5352 3.6: registrars come from configuration, names and announcements")
@pytest.mark.rfc("RFC 5352 3.6: an announced address is forgotten T7 after it was last heard")
def test_an_address_that_is_heard_is_told_and_forgotten_after_t7() -> None:
    announced = Announced(T7, 0.0)
    assert announced.deadline() is None
    assert announced.heard(announcement(7, at("10.1.0.9"), at("fd00::9")), SOURCE, 1.0)
    assert announced.endpoints == (at("10.1.0.9"), at("fd00::9"))
    assert announced.deadline() == 1.0 + T7
    assert not announced.wake(5.9)
    assert announced.wake(6.0)
    assert not announced.endpoints


@pytest.mark.rfc("RFC 5352 3.6: an announced address is forgotten T7 after it was last heard")
def test_each_announcement_of_an_address_starts_t7_anew() -> None:
    announced = Announced(T7, 0.0)
    assert announced.heard(announcement(7, at("10.1.0.9"), at("10.1.0.10")), SOURCE, 0.0)
    assert not announced.heard(announcement(7, at("10.1.0.9")), SOURCE, 4.0)
    assert announced.wake(5.0)
    assert announced.endpoints == (at("10.1.0.9"),)
    assert announced.wake(9.0)


@pytest.mark.rfc("RFC 5352 3.6")
@pytest.mark.parametrize("source", ["10.1.0.9", "::ffff:10.1.0.9"])
def test_an_announcement_without_a_transport_means_sctp_at_its_source(source: str) -> None:
    announced = Announced(T7, 0.0)
    assert announced.heard(announcement(), ip_address(source), 0.0)
    assert announced.endpoints == (Endpoint(TransportKind.SCTP, (SOURCE,), PORT),)


def test_sctp_transports_are_taken_with_all_their_addresses() -> None:
    announced = Announced(T7, 0.0)
    octets = encode(asap.ServerAnnounce(server_id=7, transports=(SctpTransport(port=3863, addresses=(V4, V6)),)))
    assert announced.heard(octets, SOURCE, 0.0)
    assert announced.endpoints == (Endpoint(TransportKind.SCTP, (V4, V6), 3863),)


NONE: dict[str, bytes] = {
    "nothing": b"",
    "no message": b"\x0a\0\0\3",
    "another message": encode(asap.HandleResolution(pool_handle=b"echo")),
    "a UDP transport that says stop": bytes.fromhex("0a000018 00000007 00064010 0f180000 00010008 0a010009"),
    "too long": encode(
        asap.ServerAnnounce(server_id=7, unrecognized=(UnrecognizedParameter(0, b"\x81\x23\x06\x00" + bytes(1532)),))
    ),
}


@pytest.mark.rfc("RFC 5352 2.2.10: an announcement names SCTP and TCP transports only")
@pytest.mark.parametrize("name", NONE)
def test_what_is_no_announcement_is_counted_and_does_nothing(name: str) -> None:
    announced, announcer = Announced(T7, 0.0), announcing()
    assert name != "too long" or len(NONE[name]) > LONGEST
    assert not announced.heard(NONE[name], SOURCE, 0.0)
    announcer.heard(NONE[name], 0.0)
    assert (announced.endpoints, announced.ignored) == ((), 1)
    assert announcer._others == {}


def test_a_transport_of_another_kind_in_an_announcement_is_not_taken() -> None:
    announced = Announced(T7, 0.0)
    udp = bytes.fromhex("00060010 0f180000 00010008 0a010009")
    octets = announcement(7, at("10.1.0.8")) + udp
    announced.heard(octets[:2] + len(octets).to_bytes(2) + octets[4:], SOURCE, 0.0)
    assert announced.endpoints == (at("10.1.0.8"),)


@pytest.mark.parametrize("address", ["224.0.0.1", "0.0.0.0", "ff02::1", "::"])
def test_where_no_registrar_can_be_is_not_kept(address: str) -> None:
    announced = Announced(T7, 0.0)
    assert not announced.heard(announcement(7, at(address)), SOURCE, 0.0)
    assert announced.endpoints == ()


@given(octets=st.binary(max_size=120), flags=st.integers(0, 255))
def test_arbitrary_datagrams_do_nothing_but_be_counted_or_read(octets: bytes, flags: int) -> None:
    announced = Announced(T7, 0.0)
    for datagram in (octets, bytes([0x0A, flags]) + (len(octets) + 4).to_bytes(2) + octets):
        announced.heard(datagram, SOURCE, 0.0)
    assert len(announced.endpoints) <= MOST_OF_ONE


@pytest.mark.rfc("PROTOCOL 6.10: announcements are a hint, and few of them are kept")
@pytest.mark.rfc("threats 2.12: discovery cannot be thwarted or spoofed")
def test_a_flood_of_announcements_is_bounded() -> None:
    announced, now = Announced(T7, 0.0), 0.0
    assert announced.heard(announcement(7, at("10.1.0.9")), SOURCE, 0.0)
    for number in range(20_000):
        now = number / 10_000
        source: Address = IPv4Address(0x0A020000 + number % 3)
        announced.heard(announcement(number, at(f"10.9.{number >> 8 & 255}.{number & 255}")), source, now)
        assert len(announced.endpoints) <= 1 + 3 * MOST_OF_ONE
    assert at("10.1.0.9") in announced.endpoints  # a genuine one is not pushed out
    assert announced.ignored >= 20_000 - READ.burst - 2 * READ.per_second - 3 * MOST_OF_ONE
    many = Announced(T7, 0.0)
    for number in range(90):
        many.heard(announcement(number, at(f"10.9.0.{number}")), IPv4Address(0x0A020000 + number), 0.0)
    assert len(many.endpoints) == MOST


@pytest.mark.rfc("PROTOCOL 6.10: announcements are a hint, and few of them are kept")
@pytest.mark.rfc("threats 2.12: discovery cannot be thwarted or spoofed")
def test_who_answers_at_an_announced_address_must_prove_to_be_a_registrar() -> None:
    announced = Announced(T7, 0.0)
    endpoint = place(9)
    announced.heard(announcement(66, endpoint), SOURCE, 0.0)
    rig: Rig[Element] = element_rig(registrars=0)
    rig.answers[endpoint] = NO_REGISTRARS[0]
    rig.do(rig.machine.set_registrars(announced.endpoints, rig.now))
    assert [e.threat for e in rig.of(Refused)] == ["2.6"]
    assert rig.messages == list[Message]()
    rig.answers[endpoint] = registrar(9)
    rig.run(3)
    assert rig.machine.registered


@pytest.mark.rfc("RFC 5352 7.1: the timers of ASAP")
def test_the_timers_are_those_of_the_rfc() -> None:
    for profile in (FAST, RFC):
        assert (profile.registrar.t6, profile.endpoint.t7) == (1.0, 5.0)
    assert replace(FAST.registrar, t6=2.0).t6 == 2.0
