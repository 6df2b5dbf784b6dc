# SPDX-License-Identifier: Apache-2.0
"""Threat 2.9: a user's element dies, and somebody with other security waits where the next one was."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import signal
import socket
import ssl
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest

from attacks.kit import daemons
from attacks.kit.attackers import of_impostor
from attacks.kit.system import System, running_system
from attacks.kit.weakened import weaken
from rserpool.asap.authorisation import Role
from rserpool.client import Failover, PoolUser
from support.rig_sessions import said
from support.rogue import Leaf

SECRET = b"the user's secret\n"
KEYS = [f"1:{base64.b64encode(bytes(range(32))).decode()}"]
KINDS = ("without TLS", "another authority", "another element", "a registrar")


@dataclass
class Caught:
    """What an impostor has been told, in plain text.

    Attributes:
        calls: how often somebody came.
    """

    said: bytes = b""
    calls: int = 0


@pytest.fixture(scope="module")
def system() -> Iterator[System]:
    with running_system(elements=0, foreign=False, driven=False) as running:
        yield running


def leaf_for(system: System, victim: daemons.Victim, kind: str) -> Leaf | None:
    """What the impostor shows."""
    if kind == "without TLS":
        return None
    if kind == "another authority":
        return of_impostor(victim.identity, system.a.authority.bundle)
    return (
        system.a.leaf(Role.ELEMENT)
        if kind == "another element"
        else system.a.leaf(Role.REGISTRAR, victim.identity.pod_uid)
    )


@contextlib.contextmanager
def impostor(address: str, leaf: Leaf | None) -> Iterator[Caught]:
    """Somebody who listens where an element's users connect."""
    caught, over = Caught(), threading.Event()
    context = None
    if leaf is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        with tempfile.NamedTemporaryFile() as file:
            file.write(leaf.key_pem + leaf.chain)
            file.flush()
            context.load_cert_chain(file.name)

    def hear(sock: socket.socket) -> None:
        sock.settimeout(2)
        with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
            stack.callback(sock.close)
            if context is not None:
                sock = stack.enter_context(context.wrap_socket(sock, server_side=True))
            while octets := sock.recv(4096):
                if context is not None or octets[:1] != b"\x16":  # the user's side of a handshake is no secret
                    caught.said += octets
                if context is None:
                    return

    def listen() -> None:
        hearing = []
        while not over.is_set():
            with contextlib.suppress(TimeoutError):
                sock, _ = server.accept()
                caught.calls += 1
                hearing.append(threading.Thread(target=hear, args=(sock,)))
                hearing[-1].start()
        for one in hearing:
            one.join()

    with socket.create_server((address, daemons.CHANNEL)) as server:
        server.settimeout(0.05)
        thread = threading.Thread(target=listen)
        thread.start()
        try:
            yield caught
        finally:
            over.set()
            thread.join()


@contextlib.contextmanager
def three(system: System) -> Iterator[list[daemons.Victim]]:
    """Three elements, all ready, and known to every registrar."""
    with contextlib.ExitStack() as stack:
        victims = [stack.enter_context(daemons.sidecar(system, channel=KEYS)) for _ in range(3)]
        for victim in victims:
            victim.ready()
        system.wait("all are known", lambda: all(len(held) == 3 for held in system.held().values()))
        yield victims
    system.wait("they are gone", lambda: not any(system.held().values()))


def die(victim: daemons.Victim) -> None:
    """Its sidecar is killed."""
    assert victim.process is not None
    victim.process.send_signal(signal.SIGKILL)
    victim.process.wait()


async def fail_over(system: System, victims: list[daemons.Victim], kind: str) -> tuple[str, Caught, list[Failover]]:
    """A user's element dies, and the next one has been replaced; returns the answer of whom it goes on with, if any."""
    asked: list[Failover] = []
    told = asyncio.Event()

    def agree(failover: Failover) -> None:
        asked.append(failover)
        told.set()

    scope = replace(system.a.scope, control_channel=True)
    async with PoolUser(scope, patience=5) as users:
        await users.resolve("echo")  # remembered: nobody tells of who leaves afterwards
        async with users.session("echo", on_failover=agree, follow=False) as session:
            assert (await said(session, "hello")).startswith("1 ")
            assert session.cookie is not None
            every = (await users.resolve("echo")).elements
            at = [e.identifier for e in every].index(session.element.identifier)
            order = [next(v for v in victims if v.identifier == every[(at + k) % 3].identifier) for k in range(3)]
            die(order[1])
            with impostor(order[1].address, leaf_for(system, order[1], kind)) as caught:
                die(order[0])
                answer = ""
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(6):
                        await told.wait()  # what is sent before goes to a dead element
                    async with asyncio.timeout(2):
                        answer = await said(session, SECRET.decode().rstrip())
                return answer, caught, asked


@pytest.mark.rfc("threats 2.9: an application is told of a fail-over to another security")
@pytest.mark.parametrize("kind", KINDS)
def test_an_impostor_in_the_next_elements_place_gets_neither_cookie_nor_data(system: System, kind: str) -> None:
    with three(system) as victims:
        answer, caught, asked = asyncio.run(fail_over(system, victims, kind))
        assert answer == f"2 {SECRET.decode().strip()}", "the cookie has come to the true one"
        assert caught.calls == 1, "the impostor was not even tried"
        assert caught.said == b""
        survivor = next(v for v in victims if v.process is not None and v.process.poll() is None)
        assert [f.new.element.identifier for f in asked] == [survivor.identifier], "the application is told, once"
        assert asked[0].new.security.protected


@pytest.mark.parametrize(
    ("kind", "mechanisms"), [("another element", ["element-identity"]), ("another authority", ["verification"])]
)
def test_a_user_that_does_not_look_gives_the_impostor_all(
    system: System, monkeypatch: pytest.MonkeyPatch, kind: str, mechanisms: list[str]
) -> None:
    weaken(mechanisms, monkeypatch.setattr)
    with three(system) as victims:
        answer, caught, _ = asyncio.run(fail_over(system, victims, kind))
    assert answer == "", "nobody true has answered"
    assert SECRET in caught.said
