# SPDX-License-Identifier: Apache-2.0
"""An ended connection frees its TLS at once, without Python's garbage collector: nobody can pile up our memory."""

from __future__ import annotations

import contextlib
import gc
import weakref
from collections.abc import Iterator
from ipaddress import ip_address
from typing import Any

import pytest

from rserpool.asap.authorisation import Role
from rserpool.transport import tcp
from rserpool.transport.base import ConnectError
from rserpool.transport.tls import TlsEngine
from support.rig_transport import (
    OTHER_CA,
    aside,
    at,
    comes,
    credentials,
    dial,
    dialled,
    drained,
    listening,
    message,
    plays,
    security,
)

pytestmark = pytest.mark.usefixtures("either_loop")


@pytest.fixture
def engines(monkeypatch: pytest.MonkeyPatch) -> Iterator[weakref.WeakSet[TlsEngine]]:
    """All TLS engines in memory; nothing but the last reference frees one."""
    alive: weakref.WeakSet[TlsEngine] = weakref.WeakSet()

    class Watched(TlsEngine):
        """One that is counted."""

        def __init__(self, *words: Any, **options: Any) -> None:
            super().__init__(*words, **options)
            alive.add(self)

    monkeypatch.setattr(tcp, "TlsEngine", Watched)
    gc.disable()
    yield alive
    gc.enable()


@plays
async def test_both_sides_of_an_association_that_has_ended(engines: weakref.WeakSet[TlsEngine]) -> None:
    there = await listening(security())
    network, link = await dial(there.endpoint, security(Role.ELEMENT))
    link.send(message())
    await there.told.until(lambda: there.told.messages)
    assert len(engines) == 2
    link.close("enough")
    await there.told.until(lambda: there.told.downs)
    await comes(lambda: not engines)
    assert network.associations == 0


@plays
async def test_a_stranger_without_tls(engines: weakref.WeakSet[TlsEngine]) -> None:
    there = await listening(security())

    def speak() -> bytes:
        peer = dialled(there.port)
        peer.sendall(message())
        return drained(peer)

    await aside(speak)
    await comes(lambda: there.told.refusals and not engines)


@plays
async def test_a_silent_stranger_at_its_deadline(engines: weakref.WeakSet[TlsEngine]) -> None:
    there = await listening(security(), tcp.TcpLimits(handshake=0.05))
    with await aside(dialled, there.port):
        await comes(lambda: there.told.refusals and not engines)


@plays
async def test_both_sides_of_a_handshake_that_fails(engines: weakref.WeakSet[TlsEngine]) -> None:
    there = await listening(security())
    mine = security(Role.ELEMENT, credentials(Role.ELEMENT, signer=OTHER_CA))
    with contextlib.suppress(ConnectError):  # TLS 1.3 tells a client of it late, as the end of its association
        await dial(there.endpoint, mine)
    await comes(lambda: there.told.refusals and not engines)


@plays
async def test_a_connection_that_never_was(engines: weakref.WeakSet[TlsEngine]) -> None:
    there = await listening(security())
    there.network.stop_listening()
    with pytest.raises(ConnectError):
        await dial(at(there.port, ip_address("127.0.0.1")), security(Role.ELEMENT))
    assert not engines
