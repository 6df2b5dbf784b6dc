# SPDX-License-Identifier: Apache-2.0
"""Carries out a machine's effects over a network, and tells it what happens. It decides nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import count

from rserpool.asap.effects import (
    Abandon,
    Association,
    AssociationId,
    Close,
    Connect,
    Effect,
    Emit,
    Machine,
    RequestId,
    Send,
)
from rserpool.asap.events import Event, Refused
from rserpool.transport.base import ConnectError, Link, Network

Call = Callable[[float], list[Effect]]


class Driver:
    """One machine on one network.

    Args:
        machine: what to drive.
        network: where.
        on_event: told of each event the machine emits, and of those that were turned away before it heard of them.
    """

    def __init__(self, machine: Machine, network: Network, on_event: Callable[[Event], None]) -> None:
        self._machine = machine
        self._network = network
        self._on_event = on_event
        self._loop = asyncio.get_running_loop()
        self._ids = count(1)
        self._links: dict[AssociationId, Link] = {}
        self._known: dict[Link, AssociationId] = {}
        self._dialling: dict[RequestId, asyncio.Task[None]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._armed: float | None = None
        self._closed = False

    def call(self, call: Call) -> None:
        """Give the machine an input, and carry out what it answers."""
        if not self._closed:
            self._apply(call(self._loop.time()))
            self._arm()

    # -- LinkHandler

    def up(self, link: Link) -> None:
        """A peer has opened an association."""
        self._connected(link, None)

    def message(self, link: Link, octets: bytes) -> None:
        """A message has come in."""
        association = self._known.get(link)
        if association is not None and not self._closed:  # without a closure: it is called the most
            self._apply(self._machine.received(association, octets, self._loop.time()))
            self._arm()

    def send_failed(self, link: Link, octets: bytes) -> None:
        """What cannot be delivered ends the association: RFC 5352's SEND.FAILURE."""
        del octets
        if link in self._known:
            link.abort("a message could not be delivered")
            self.down(link, "a message could not be delivered")

    def restarted(self, link: Link) -> None:
        """The peer has started again: the old association is over, and a new one must prove itself."""
        if link in self._known:
            link.abort("the peer has started again")
            self.down(link, "the peer has started again")

    def down(self, link: Link, reason: str) -> None:
        """An association has ended."""
        association = self._known.pop(link, None)
        if association is not None:
            del self._links[association]
            self.call(lambda now: self._machine.lost(association, reason, now))

    def ageing(self, link: Link) -> None:
        """A peer's leaf ends soon."""
        association = self._known.get(link)
        if association is not None:
            self.call(lambda now: self._machine.ageing(association, now))

    def refused(self, threat: str, peer: str, what: str, reason: str) -> None:
        """Somebody was turned away."""
        self._on_event(Refused(threat=threat, peer=peer, what=what, reason=reason))

    # -- effects

    def _apply(self, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case Send(association, octets):
                    link = self._links.get(association)
                    if link is not None:
                        link.send(octets)
                case Emit(event):
                    self._on_event(event)
                case Connect():
                    self._dialling[effect.request] = self._loop.create_task(self._dial(effect))
                case Abandon(request):
                    task = self._dialling.pop(request, None)
                    if task is not None:
                        task.cancel()
                case Close():
                    self._close(effect)

    def _close(self, effect: Close) -> None:
        link = self._links.pop(effect.association, None)
        if link is None:
            return
        del self._known[link]
        if effect.abort:
            link.abort(effect.reason)
        else:
            link.close(effect.reason)

    async def _dial(self, effect: Connect) -> None:
        def opened(link: Link) -> None:
            if self._dialling.pop(effect.request, None) is None:
                link.abort("nobody wants it any more")
            else:
                self._connected(link, effect.request)

        try:
            await self._network.connect(effect.service, effect.endpoint, effect.deadline, self, opened)
        except ConnectError as e:
            reason = str(e)
            if self._dialling.pop(effect.request, None) is not None:
                self.call(lambda now: self._machine.connect_failed(effect.request, reason, now))

    def _connected(self, link: Link, request: RequestId | None) -> None:
        if self._closed:
            link.abort("the process ends")
            return
        association = Association(
            id=AssociationId(next(self._ids)),
            service=link.service,
            outbound=link.outbound,
            kind=link.kind,
            peer_addresses=link.peer_addresses,
            peer_port=link.peer_port,
            principal=link.principal,
        )
        self._links[association.id] = link
        self._known[link] = association.id
        self.call(lambda now: self._machine.connected(association, request, now))

    # -- time

    def _arm(self) -> None:
        """One timer, for the earliest deadline; one that comes too early finds nothing due and is set anew."""
        deadline = self._machine.deadline()
        if self._armed is not None and deadline is not None and deadline >= self._armed:
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._armed = deadline
        if deadline is not None:
            self._timer = self._loop.call_at(deadline, self._wake)

    def _wake(self) -> None:
        due, self._timer, self._armed = self._armed or 0.0, None, None
        deadline = self._machine.deadline()
        if deadline is None or deadline > due:  # it was put off after the timer had been set
            self._arm()
        else:
            self.call(lambda now: self._machine.wake(max(now, due)))  # uvloop is up to half a millisecond early

    async def close(self) -> None:
        """Stop: no input reaches the machine any more, what was sent before is delivered where that is possible.

        Nobody is accepted from the first moment on, so that who comes again at once learns that we are gone.
        """
        self._closed = True
        self._network.stop_listening()
        if self._timer is not None:
            self._timer.cancel()
        for task in self._dialling.values():
            task.cancel()
        for link in list(self._links.values()):
            link.close("the process ends")
        await self._network.close()
