# SPDX-License-Identifier: Apache-2.0
"""What one peer can have of a registrar's memory: 128 KiB before it has shown a certificate, 1 MiB after.

A registrar process of its own for each kind of peer, since what one had is there for the next. Measured is the greatest
memory while many such peers are there at once, less what it was before, divided by their number: allocator and all.
"""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from ipaddress import IPv4Address
from itertools import count
from pathlib import Path
from typing import Final

import pytest

from rserpool.asap.authorisation import Role
from rserpool.identity import pe_identifiers
from rserpool.wire import Framer, Message, PoolElement, TcpTransport, asap, decode, encode, policies
from rserpool.wire.codes import Ppid
from support.far_ends import leaf
from support.rig_memory import ASAP, ENRP, Watched, client_context, hello, watched
from support.rig_transport import NOBODYS, OTHER_CA, credentials, shake

STRANGER, MEMBER = 128, 1024
"""KiB that one peer may have."""
NO_ROOM: Final = 4096
ROUNDS: Final = 90
"""In each a peer that reads nothing asks four times."""
pytestmark = pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="memory is measured by Linux' /proc")
_registrars: Final = count(1)
Figure = Callable[[str, object], None]


@pytest.fixture
def registrar(tmp_path: Path) -> Iterator[Watched]:
    """A registrar in a pool of 320 elements: an answer has 13 KiB."""
    number = next(_registrars)
    address = IPv4Address(f"127.{90 + number}.{os.getpid() >> 8 & 0xFF}.{os.getpid() & 0xFE | 1}")
    with watched(tmp_path, address) as there, ExitStack() as lines:
        for k in range(1, 41):
            line = lines.enter_context(there.secure(f"127.0.1.{k}", credentials(Role.ELEMENT, k)))
            register(line, k)
        for k in range(8):  # what is loaded once, and what every process grows to, is nobody's
            with there.secure(f"127.0.3.{k}", NOBODYS) as line:
                ask(line, asap.HandleResolution(pool_handle=b"echo"))
        there.settle()
        yield there


def ask(line: socket.socket, *messages: Message) -> list[Message]:
    """Say some, and hear as many answers."""
    line.sendall(b"".join(encode(m) for m in messages))
    framer, heard = Framer(), list[Message]()
    while len(heard) < len(messages):
        octets = line.recv(65536)
        assert octets, "it hung up"
        heard += [decode(o, Ppid.ASAP) for o in framer.feed(octets)]
    return heard


def register(line: ssl.SSLSocket, number: int) -> None:
    """As many elements as an identity may have."""
    address, identifiers = IPv4Address(line.getsockname()[0]), pe_identifiers(leaf(Role.ELEMENT, number).pod_uid)
    for i, identifier in enumerate(identifiers):
        element = PoolElement(
            identifier=identifier,
            home=0,
            life=300,
            transport=TcpTransport(port=7000 + i, address=address),
            policy=policies.RoundRobin(),
            asap_transport=TcpTransport(port=ASAP, address=address),
        )
        (answer,) = ask(line, asap.Registration(pool_handle=b"echo", element=element))
        assert isinstance(answer, asap.RegistrationResponse)
        assert not answer.reject, answer


def source(number: int) -> str:
    return f"127.0.{16 + number // 250}.{1 + number % 250}"


def weigh(
    there: Watched,
    record: Figure,
    name: str,
    peers: int,
    come: Callable[[int], socket.socket],
    go_on: Callable[[], None],
) -> float:
    """KiB that one of so many peers has at most.

    Args:
        there: the registrar.
        record: where the figure is shown.
        name: of the kind of peer.
        peers: how many there are at once.
        come: one comes; they stay until the end.
        go_on: what they do when all of them are there.
    """
    before = there.forget()
    with ExitStack() as lines:
        for number in range(peers):
            lines.enter_context(come(number))
        go_on()
        there.settle()
        each = (there.memory("VmHWM") - before) / peers
    record("figure", f"memory of a registrar for each peer, {name}: {each:.0f} KiB")
    return each


def test_a_peer_that_says_nothing_or_half_a_handshake_costs_128_kib_at_most(
    registrar: Watched, record_property: Figure
) -> None:
    greeting = hello(client_context(NOBODYS))
    beginnings = [
        b"",
        greeting,
        greeting[:-1],
        b"\x16\x03\x01\x40\x00\x01\x00\x3f\x00" + b"x" * 16000,  # a record that never ends
        b"\x16\x03\x01\x1f\xf0\x01\x02\x01\x00\x03\x03" + b"x" * 8170 + b"\x16\x03\x01\x1e\x00" + b"x" * 7000,
    ]

    def come(number: int) -> socket.socket:
        sock = registrar.dial(source(number), room=NO_ROOM)
        sock.sendall(beginnings[number % len(beginnings)])
        return sock

    assert weigh(registrar, record_property, "before its handshake", 200, come, lambda: None) <= STRANGER


def test_a_peer_with_a_long_chain_that_does_not_finish_costs_128_kib_at_most(
    registrar: Watched, record_property: Figure
) -> None:
    own = credentials(Role.ELEMENT, 1, "echo", OTHER_CA)
    context = client_context(own, OTHER_CA.bundle * 30)
    context.load_verify_locations(cadata=OTHER_CA.bundle.decode())

    def come(number: int) -> socket.socket:
        """Its second flight but for the last octets of the record with all its certificates; then nothing more."""
        sock = registrar.dial(source(number))
        flight = shake(sock, context)[1].read()
        assert len(flight) > 10_000
        sock.sendall(flight[:-400])
        return sock

    assert weigh(registrar, record_property, "amid its certificate", 150, come, lambda: None) <= STRANGER


def test_an_anonymous_user_with_an_unfinished_message_costs_128_kib_at_most(
    registrar: Watched, record_property: Figure
) -> None:
    def come(number: int) -> socket.socket:
        line = registrar.secure(source(number))
        with contextlib.suppress(OSError):  # it may have been hung up by then
            line.sendall(b"\5\0\xff\xff" + b"x" * 65000)
        return line

    assert weigh(registrar, record_property, "anonymous, unfinished message", 100, come, lambda: None) <= STRANGER


def read_nothing(there: Watched, lines: list[ssl.SSLSocket], question: bytes) -> None:
    """Each asks and asks and reads nothing, all of them in step, so that all have their most at once."""
    with there.secure("127.0.2.1", credentials(Role.USER, 1)) as honest:
        for _ in range(ROUNDS):
            for line in lines:
                with contextlib.suppress(OSError):  # it may have been left by then
                    line.sendall(question * 4)
            ask(honest, asap.HandleResolution(pool_handle=b"echo", items=1))  # by now all have been answered


def test_an_anonymous_user_who_reads_no_answer_costs_128_kib_at_most(
    registrar: Watched, record_property: Figure
) -> None:
    lines: list[ssl.SSLSocket] = []

    def come(number: int) -> socket.socket:
        lines.append(registrar.secure(source(number), room=NO_ROOM))
        return lines[-1]

    def go_on() -> None:
        read_nothing(registrar, lines, encode(asap.HandleResolution(pool_handle=b"echo", send_updates=True)))

    assert weigh(registrar, record_property, "anonymous, reads nothing", 6, come, go_on) <= STRANGER


@pytest.mark.parametrize(("role", "port"), [(Role.ELEMENT, ASAP), (Role.REGISTRAR, ENRP)])
def test_who_is_authenticated_costs_1_mib_at_most_whatever_it_does(
    registrar: Watched, record_property: Figure, role: Role, port: int
) -> None:
    lines: list[ssl.SSLSocket] = []

    def come(number: int) -> socket.socket:
        lines.append(registrar.secure(source(number), credentials(role, 100 + number), port, NO_ROOM))
        return lines[-1]

    def go_on() -> None:
        """Answers that nobody reads, a subscription, and last an unfinished message of the longest kind."""
        if role is not Role.REGISTRAR:
            question = asap.HandleResolution(pool_handle=b"echo", send_updates=True)
            read_nothing(registrar, lines, encode(question))
        for line in lines:
            with contextlib.suppress(OSError):
                line.sendall(b"\5\0\xff\xff" + b"x" * 65000)

    assert weigh(registrar, record_property, f"{role.value}, does its worst", 6, come, go_on) <= MEMBER
