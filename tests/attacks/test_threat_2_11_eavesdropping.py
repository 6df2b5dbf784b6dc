# SPDX-License-Identifier: Apache-2.0
"""Threat 2.11: somebody reads along, everywhere, from the first octet to the last."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import ssl
from collections.abc import Iterator
from dataclasses import dataclass, replace
from ipaddress import ip_address

import pytest

from attacks.kit import daemons
from attacks.kit.figures import figure
from attacks.kit.middle import Middle, Toward, Unit
from attacks.kit.system import System, running_system
from attacks.kit.undisturbed import undisturbed
from rserpool.asap.authorisation import Role
from rserpool.client import PoolUser
from rserpool.session.frames import control, data
from rserpool.wire import Ppid, asap, decode
from support.rig_channel import RawUser

KEY = base64.b64encode(bytes(range(32))).decode()
WORD = b"a word of a pool user"


@dataclass(frozen=True)
class Capture:
    """What was read along, and what must not be in it.

    Attributes:
        octets: of each link, both ways.
        secrets: by what they are.
    """

    octets: dict[str, bytes]
    secrets: dict[str, bytes]

    def found(self) -> set[tuple[str, str]]:
        """Which secrets are in which link's octets."""
        return {
            (link, name)
            for link, octets in self.octets.items()
            for name, secret in self.secrets.items()
            if secret in octets
        }


@contextlib.contextmanager
def _tap(system: System, host: str, port: int) -> Iterator[Middle]:
    with Middle((daemons.place(system), port), (host, port), Unit.ANY) as middle:
        yield middle


def scenario(system: System) -> Capture:
    """A registrar joins, an element registers, a user resolves, speaks with the element and keeps its cookie.

    Everybody reaches everybody past somebody who listens.
    """
    first = system.a.registrars[0]
    with (
        _tap(system, first.address, first.enrp_port) as between_registrars,
        _tap(system, first.address, first.asap_port) as of_element,
        _tap(system, first.address, first.asap_port) as of_user,
        daemons.registrar(system, peers=[between_registrars.at]) as joined,
    ):
        joined.ready()
        with daemons.sidecar(system, registrars=[of_element.at], channel=[f"1:{KEY}"]) as element:
            element.ready()
            joined.wait("the update has reached it", lambda: element.address in str(joined.dump()["handlespace"]))
            asyncio.run(_resolve(system, of_user))
            with _tap(system, element.address, daemons.CHANNEL) as of_channel:
                cookie = asyncio.run(_speak(system, of_channel))
            address, name = ip_address(element.address).packed, element.address.encode()
            identifier, uid = int(element.dump()["pe_identifier"], 16).to_bytes(4), element.identity.pod_uid.encode()
        joined.wait("it is gone", lambda: element.address not in str(joined.dump()["handlespace"]))
    taps = {"ENRP": between_registrars, "element": of_element, "user": of_user, "channel": of_channel}
    return Capture(
        {link: tap.recorded(Toward.SERVER) + tap.recorded(Toward.CLIENT) for link, tap in taps.items()},
        {
            "pool handle": b"echo", "address": address, "address as text": name, "PE identifier": identifier,
            "pod": uid, "identity": b"spiffe://", "cookie": cookie, "user data": WORD,
        },
    )  # fmt: skip


async def _resolve(system: System, tap: Middle) -> None:
    async with PoolUser(replace(system.a.scope, registrars=(tap.at,)), patience=5) as users:
        assert (await users.resolve("echo", fresh=True)).elements


async def _speak(system: System, tap: Middle) -> bytes:
    """A line of user data over the control channel; returns the cookie that comes with the answer."""
    context = None
    if system.a.scope.bundle is not None:
        context = ssl.create_default_context(cadata=system.a.scope.bundle.decode())
        context.check_hostname = False
    user = await RawUser.connect(tap.at[1], context, host=tap.at[0])
    await user.send(b"".join(data(WORD + b"\n")))
    cookie = b""
    while True:
        frame = await user.frame()
        assert frame is not None
        if frame.ppid == Ppid.ASAP:
            message = decode(frame.payload, Ppid.ASAP)
            assert isinstance(message, asap.Cookie)
            cookie = message.cookie
        elif cookie:
            break
    await user.send(control(asap.CookieEcho(cookie=cookie)))
    user.abort()
    return cookie


@pytest.fixture(scope="module")
def system() -> Iterator[System]:
    with running_system(elements=1) as running:
        yield running


@pytest.mark.rfc("threats 2.11: nothing can be overheard")
def test_whoever_reads_along_learns_neither_names_nor_addresses_nor_cookies(system: System) -> None:
    with undisturbed(system, refused=False, what="2.11 reading along"):
        capture = scenario(system)
    figure(
        "2.11: " + ", ".join(f"{link} {len(octets)} octets" for link, octets in capture.octets.items()) + " read along"
    )
    assert all(len(octets) > 2000 for octets in capture.octets.values())
    assert capture.found() == set()


@pytest.mark.rfc("threats 2.11: nothing can be overheard")
@pytest.mark.parametrize("ciphers", ["NULL:eNULL:@SECLEVEL=0", "aNULL:@SECLEVEL=0", "AES128-SHA:@SECLEVEL=0"])
def test_a_peer_that_offers_nothing_but_weak_ciphers_is_refused(system: System, ciphers: str) -> None:
    registrar, rogue = system.a.registrars[0], system.stranger(system.a.leaf(Role.ELEMENT))
    context = rogue.context()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.set_ciphers(ciphers)
    except ssl.SSLError:
        pytest.skip(f"this OpenSSL cannot even offer {ciphers}")
    with undisturbed(system, threat="2.1", peers=[rogue.source], what=f"2.11 {ciphers}"):
        sock = rogue.connect(registrar.address, registrar.asap_port)
        with contextlib.closing(sock), pytest.raises((ssl.SSLError, ConnectionError)):
            context.wrap_socket(sock)


@pytest.mark.rfc("threats 2.11: nothing can be overheard")
def test_a_peer_that_offers_an_old_protocol_only_is_refused(system: System) -> None:
    registrar, rogue = system.a.registrars[0], system.stranger()
    hello = _old_hello()
    with (
        undisturbed(system, threat="2.1", peers=[rogue.source], what="2.11 TLS 1.0"),
        contextlib.closing(rogue.connect(registrar.address, registrar.asap_port)) as sock,
    ):
        sock.sendall(hello)
        answer = sock.recv(4096)
        assert answer[:1] in (b"", b"\x15"), "it is answered by more than an alert"


def _old_hello() -> bytes:
    """A ClientHello of TLS 1.0, written out: what OpenSSL offers today does not go as low."""
    suites = bytes.fromhex("002f0035c013c014000a")
    body = b"\x03\x01" + bytes(32) + b"\x00" + len(suites).to_bytes(2) + suites + b"\x01\x00"
    handshake = b"\x01" + len(body).to_bytes(3) + body
    return b"\x16\x03\x01" + len(handshake).to_bytes(2) + handshake


def test_without_encryption_the_same_listener_reads_all_of_it() -> None:
    with running_system(secure=False, foreign=False, driven=False, elements=1) as system:
        found = scenario(system).found()
    on_path = {"pool handle", "address", "PE identifier"}
    assert {(link, name) for link in ("ENRP", "element", "user") for name in on_path} <= found
    assert {("channel", "cookie"), ("channel", "user data")} <= found
