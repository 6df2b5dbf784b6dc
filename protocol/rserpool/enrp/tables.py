# SPDX-License-Identifier: Apache-2.0
"""Serving the handlespace to other registrars, in parts (RFC 5353 3.2.3 and 3.6.1, the asked side)."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import Final

from rserpool.asap.effects import Association, AssociationId
from rserpool.asap.server.desk import RegistrarDesk
from rserpool.wire import PoolElement, PoolEntry, enrp
from rserpool.wire.elements import encode_element

PART_ELEMENTS: Final = 128
PART_OCTETS: Final = 8192
PART_OCTETS_PLAIN: Final = 1400
"""Over SCTP without TLS: one packet, as rsplib does."""


@dataclass(slots=True)
class _Session:
    """One registrar's walk through a snapshot of all keys.

    Attributes:
        handles, identifiers: of the elements, in order; not 10,000 pairs, which the garbage collector would look at.
        at: how far it has come.
    """

    own_children_only: bool
    handles: list[bytes] = field(default_factory=list)
    identifiers: list[int] = field(default_factory=list)
    at: int = 0

    @property
    def is_over(self) -> bool:
        """Whether there is nothing left."""
        return self.at >= len(self.identifiers)


class Tables:
    """Table sessions."""

    def __init__(self, desk: RegistrarDesk) -> None:
        self._desk = desk
        self._sessions: dict[AssociationId, _Session] = {}

    def requested(self, association: Association, message: enrp.HandleTableRequest) -> None:
        """Answer with the next part, or the first of a new walk."""
        session = self._sessions.get(association.id)
        if session is None or session.own_children_only != message.own_children_only:
            if session is None and len(self._sessions) >= self._desk.config.limits.table_sessions:
                self.reject(association, message)
                return
            session = self._sessions[association.id] = self._session(message.own_children_only)
        entries = self._part(session)
        more = not session.is_over
        if more:
            timer, delay = ("table", association.id), self._desk.config.timers.no_response
            self._desk.after(timer, delay, partial(self.lost, association.id), expiry=True)
        else:
            self.lost(association.id)
        self._desk.send(
            association.id,
            enrp.HandleTableResponse(
                sender=self._desk.server_id, receiver=message.sender, more=more, pools=tuple(entries)
            ),
        )

    def reject(self, association: Association, message: enrp.HandleTableRequest) -> None:
        """Not now (the R flag)."""
        response = enrp.HandleTableResponse(sender=self._desk.server_id, receiver=message.sender, reject=True)
        self._desk.send(association.id, response)

    def lost(self, association: AssociationId) -> None:
        """Free a session."""
        self._sessions.pop(association, None)
        self._desk.timers.cancel(("table", association))

    def _session(self, own_children_only: bool) -> _Session:
        session = _Session(own_children_only)
        for handle, pool in sorted(self._desk.space.pools.items()):
            wanted = [i for i, e in pool.elements.items() if not own_children_only or e.home == self._desk.server_id]
            session.handles += [handle] * len(wanted)
            session.identifiers += sorted(wanted)
        return session

    def _part(self, session: _Session) -> list[PoolEntry]:
        """The elements of the next part, as they are now."""
        room = PART_OCTETS if self._desk.config.secure or self._desk.dialect.tcp_profile else PART_OCTETS_PLAIN
        entries: list[tuple[bytes, list[PoolElement]]] = []
        count = 0
        while not session.is_over and count < PART_ELEMENTS:
            handle = session.handles[session.at]
            element = self._desk.space.get((handle, session.identifiers[session.at]))
            own = element is not None and element.home == self._desk.server_id
            if element is not None and (own or not session.own_children_only):
                new_pool = not entries or entries[-1][0] != handle
                size = len(encode_element(element, self._desk.dialect)) + (len(handle) + 8 if new_pool else 0) + 3
                if count and size > room:
                    break
                room -= size
                count += 1
                if new_pool:
                    entries.append((handle, []))
                entries[-1][1].append(element)
            session.at += 1
        return [PoolEntry(pool_handle=handle, elements=tuple(elements)) for handle, elements in entries]
