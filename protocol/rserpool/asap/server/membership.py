# SPDX-License-Identifier: Apache-2.0
"""All changes of a registrar's handlespace, and who is told of them.

Nothing else writes to the handlespace. Lives are watched here: an own element that does not register again is removed
(RFC 5352 3.1, 3.2); another registrar's is kept a quarter longer, since its home should remove it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

from rserpool.asap.events import Change, ElementChanged
from rserpool.asap.server.desk import RegistrarDesk
from rserpool.handlespace import ElementKey
from rserpool.wire import PoolElement, UpdateAction

SAFETY: Final = 1.25
"""How much longer than its life an element of another registrar is kept."""

EXPIRED: Final = "its registration expired"
Announce = Callable[[UpdateAction, bytes, PoolElement], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Transition:
    """One change of one element, told to observers after it has happened.

    Attributes:
        before: ``None`` if it was not known.
        after: ``None`` if it is known no more.
    """

    change: Change
    handle: bytes
    before: PoolElement | None
    after: PoolElement | None
    reason: str

    @property
    def key(self) -> ElementKey:
        """Which element."""
        element = self.after or self.before
        assert element is not None
        return self.handle, element.identifier


class Membership:
    """The only writer of the handlespace.

    Attributes:
        announce: sends an ENRP_HANDLE_UPDATE to all peers; set by whoever knows them.
        on_expiry: called before an own element is removed because its life is over.
        observers: called with each transition, and when an element has registered again without any change.
    """

    def __init__(self, desk: RegistrarDesk) -> None:
        self._desk = desk
        self.announce: Announce = lambda _action, _handle, _element: None
        self.on_expiry: Callable[[ElementKey], None] = lambda _: None
        self.observers: list[Callable[[Transition], None]] = []

    def grant(self, handle: bytes, element: PoolElement) -> None:
        """An element has registered here: it is ours now (RFC 5352 3.1). It must fit its pool."""
        desk = self._desk
        owned = element if element.home == desk.server_id else replace(element, home=desk.server_id)
        before = desk.space.get((handle, element.identifier))
        if before == owned:
            owned = before  # whoever has it at hand sees at a glance that it is the same
        fits = desk.space.put(handle, owned)
        assert fits
        self._watch_life((handle, element.identifier), owned)
        self.announce(UpdateAction.ADD_PE, handle, owned)
        if before is None:
            self._tell(Change.REGISTERED, handle, None, owned)
        elif before.home != owned.home:
            self._tell(Change.MOVED, handle, before, owned, "registered here")
        elif before != owned:
            self._tell(Change.UPDATED, handle, before, owned)
        else:  # nothing to report, but whoever keeps count of it begins anew
            self._observe(Transition(change=Change.UPDATED, handle=handle, before=before, after=owned, reason=""))

    def learn(self, handle: bytes, element: PoolElement, reason: str) -> bool:
        """Another registrar says that this is its element.

        Returns:
            False if the element does not fit its pool; nothing has changed then.
        """
        before = self._desk.space.get((handle, element.identifier))
        if not self._desk.space.put(handle, element):
            return False
        self._watch_life((handle, element.identifier), element)
        if before is None:
            self._tell(Change.LEARNED, handle, None, element, reason)
        elif before.home != element.home:
            self._tell(Change.MOVED, handle, before, element, reason)
        elif before != element:
            self._tell(Change.UPDATED, handle, before, element, reason)
        return True

    def rehome(self, key: ElementKey, home: int, reason: str) -> None:
        """An element's owner has been taken over (RFC 5353 3.5.2); nobody is told on the wire."""
        before = self._desk.space.get(key)
        if before is None or before.home == home:
            return
        after = self._desk.space.set_home(key, home)
        self._watch_life(key, after)
        self._tell(Change.MOVED, key[0], before, after, reason)

    def drop(self, key: ElementKey, change: Change, reason: str, *, announce: bool) -> PoolElement | None:
        """Take an element out.

        Args:
            key: which one.
            change: ``DEREGISTERED`` or ``REMOVED``.
            reason: why, for the operator.
            announce: tell the peers; only its home does.

        Returns:
            The element as it was, ``None`` if it was not known.
        """
        before = self._desk.space.remove(key)
        if before is None:
            return None
        self._desk.timers.cancel(("life", key))
        self._desk.repeats.forget(key)
        if announce:
            self.announce(UpdateAction.DEL_PE, key[0], before)
        self._tell(change, key[0], before, None, reason)
        return before

    def _watch_life(self, key: ElementKey, element: PoolElement) -> None:
        own = element.home == self._desk.server_id
        life = self._desk.life_of(element) * (1.0 if own else SAFETY)
        self._desk.after(("life", key), life, partial(self._expired, key), expiry=True)

    def _expired(self, key: ElementKey) -> None:
        element = self._desk.space.get(key)
        if element is not None:
            own = element.home == self._desk.server_id
            if own:
                self.on_expiry(key)
            self.drop(key, Change.REMOVED, EXPIRED, announce=own)

    def _tell(
        self, change: Change, handle: bytes, before: PoolElement | None, after: PoolElement | None, reason: str = ""
    ) -> None:
        element = after or before
        assert element is not None
        self._desk.emit(ElementChanged(change=change, pool_handle=handle, element=element, reason=reason))
        self._observe(Transition(change=change, handle=handle, before=before, after=after, reason=reason))

    def _observe(self, transition: Transition) -> None:
        for observer in self.observers:
            observer(transition)
