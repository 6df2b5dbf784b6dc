# SPDX-License-Identifier: Apache-2.0
"""Whether the elements a registrar owns are still there (RFC 5352 3.4, 3.5; RFC 5353 3.5.2).

An element is *attached* while the association is up on which it registered, or which carried our keep-alive with H =
1 and its answer. It is asked at random intervals, over that association or, if there is none, over one opened for it.
Silence, or not being reachable, removes it; whoever removes an element also ends the association to it, so that a
thawed sidecar does not believe itself registered.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Final

from rserpool.asap.authorisation import Action
from rserpool.asap.effects import Association, AssociationId, RequestId, endpoint_of
from rserpool.asap.events import Change
from rserpool.asap.limits import TokenBucket
from rserpool.asap.profiles import RegistrarTimers
from rserpool.asap.server.desk import RegistrarDesk
from rserpool.asap.server.membership import EXPIRED, Membership, Transition
from rserpool.handlespace import ElementKey
from rserpool.wire import Ppid, asap, encode

TICK: Final = 0.05
"""Elements whose turn comes within so many seconds are asked together: fewer wake-ups, as random as before."""
MANY_LOST: Final = 20
"""More associations lost than this within a tenth of a second: probes are spread over a second."""


@dataclass(slots=True)
class _Watch:
    """One own element."""

    key: ElementKey
    bucket: TokenBucket
    timer: tuple[str, ElementKey]
    ask: Callable[[], None]
    unanswered: Callable[[], None]
    """The one timer it has, and what it can be set to: made once, and set several times a second."""
    identity: str | None = None
    attached: AssociationId | None = None
    probe: AssociationId | None = None
    dialling: RequestId | None = None
    outstanding: bool = False
    tries: int = 0
    claim: bool = False
    question: bytes = b""
    answer: bytes = b""
    """Its usual keep-alive and the answer to it, encoded once: most of a registrar's messages are these."""

    @property
    def line(self) -> AssociationId | None:
        """The association to ask it over."""
        return self.attached or self.probe


class Liveness:
    """Keep-alives to own elements."""

    def __init__(self, desk: RegistrarDesk, membership: Membership) -> None:
        self._desk = desk
        self._membership = membership
        self._watched: dict[ElementKey, _Watch] = {}
        self._on: dict[AssociationId, set[ElementKey]] = {}
        self._identities: Counter[str] = Counter()
        self._lost_at: deque[float] = deque(maxlen=MANY_LOST + 1)
        membership.observers.append(self._observe)
        membership.on_expiry = self._expired

    @property
    def _timers(self) -> RegistrarTimers:
        return self._desk.config.timers

    def reconfigured(self) -> None:
        """The desk has another configuration: who waits to be asked again waits as long as is usual now."""
        for watch in self._watched.values():
            watch.bucket.change(self._timers.keep_alive_rate, self._desk.now)
            if watch.attached is not None and not watch.outstanding and not watch.claim:
                self._ask_later(watch)

    def attach(self, key: ElementKey, association: Association) -> None:
        """An element has registered over this association."""
        watch = self._watch(key)
        self._unline(watch, "the element has another association now", but=association.id)
        watch.attached = association.id
        self._on.setdefault(association.id, set()).add(key)
        self._identify(watch, association.principal.name)
        self._answered(watch)

    def claim(self, keys: Iterable[ElementKey]) -> None:
        """Make elements of a dead registrar ours: tell each by a keep-alive with H = 1, spread in time."""
        for index, key in enumerate(keys):
            watch = self._watch(key)
            watch.claim = True
            self._desk.after(watch.timer, index / self._timers.takeover_rate, watch.ask)

    def detach(self, key: ElementKey, association: AssociationId) -> None:
        """An element leaves by itself: it is asked no more; the association it says so on stays."""
        watch = self._watched.pop(key, None)
        if watch is not None:
            self._release(association, key)
            self._unline(watch, "the element has deregistered", but=association)
            self._forget(watch)

    def ask_now(self, key: ElementKey) -> None:
        """Ask an own element at once, unless that is being done or was done too often (threat 2.14)."""
        watch = self._watched.get(key)
        if (
            watch is not None
            and not watch.outstanding
            and watch.dialling is None
            and watch.bucket.wait(self._desk.now) == 0
        ):
            self._ask(key)

    def expected(self, association: AssociationId, octets: bytes) -> asap.EndpointKeepAliveAck | None:
        """The answer to a keep-alive that these octets are, if they are exactly that; else they have to be read."""
        keys = self._on.get(association)
        if keys is None or len(keys) != 1:
            return None
        (key,) = keys
        if self._watched[key].answer != octets:
            return None
        return asap.EndpointKeepAliveAck(pool_handle=key[0], pe_identifier=key[1])

    def acknowledged(self, association: Association, message: asap.EndpointKeepAliveAck) -> bool:
        """An element has answered. Returns whether it is one that was asked over this association."""
        watch = self._watched.get((message.pool_handle, message.pe_identifier))
        if watch is None or association.id not in (watch.attached, watch.probe):
            return False
        if watch.claim:
            watch.claim = False
            watch.attached, watch.probe = association.id, None
        self._identify(watch, association.principal.name)
        self._answered(watch)
        return True

    def lost(self, association: AssociationId) -> None:
        """An association has ended: its elements are probed at once, over another one."""
        for key in sorted(self._on.pop(association, ())):
            watch = self._watched[key]
            if watch.attached == association:
                watch.attached = None
            if watch.probe == association:
                watch.probe = None
            if watch.line is not None:
                continue
            if watch.outstanding:  # it was asked, and hung up
                watch.outstanding = False
                watch.tries += 1
            if watch.tries >= self._timers.keep_alive_tries:
                self._fail(key, "it ends every association")
                continue
            self._lost_at.append(self._desk.now)
            many = len(self._lost_at) > MANY_LOST and self._desk.now - self._lost_at[0] <= 0.1
            delay = self._desk.rng.random() if many else 0.0
            self._desk.after(watch.timer, delay, watch.ask)

    def lagged(self) -> None:
        """The process did not run for a while: what went unanswered before it counts no more.

        An element may have been taken over meanwhile, and have ended its association to us, as it must.
        """
        for watch in self._watched.values():
            watch.tries = 0

    def is_attached(self, key: ElementKey) -> bool:
        """Whether an element's own association to us is up."""
        watch = self._watched.get(key)
        return watch is not None and watch.attached is not None

    def identity_of(self, key: ElementKey) -> str | None:
        """Who registered an own element, as far as this registrar knows."""
        watch = self._watched.get(key)
        return watch.identity if watch else None

    def association_of(self, key: ElementKey) -> AssociationId | None:
        """The association an own element is attached by."""
        watch = self._watched.get(key)
        return watch.attached if watch else None

    def count_of(self, identity: str) -> int:
        """How many own elements an identity has registered."""
        return self._identities[identity]

    def counts(self) -> tuple[int, int]:
        """How many own elements there are, and how many of them are attached."""
        return len(self._watched), sum(w.attached is not None for w in self._watched.values())

    def _watch(self, key: ElementKey) -> _Watch:
        watch = self._watched.get(key)
        if watch is None:
            bucket = TokenBucket(self._timers.keep_alive_rate, self._desk.now)
            ask, unanswered = partial(self._ask, key), partial(self._unanswered, key)
            watch = self._watched[key] = _Watch(key, bucket, ("alive", key), ask, unanswered)
        return watch

    def _identify(self, watch: _Watch, identity: str) -> None:
        if watch.identity != identity:
            self._unidentify(watch)
            watch.identity = identity
            self._identities[identity] += 1

    def _unidentify(self, watch: _Watch) -> None:
        if watch.identity is not None:
            self._identities[watch.identity] -= 1
            if not self._identities[watch.identity]:
                del self._identities[watch.identity]

    def _ask(self, key: ElementKey) -> None:
        watch = self._watched.get(key)
        element = self._desk.space.get(key)
        if watch is None or element is None:
            return
        line = watch.line
        if line is None:
            if watch.dialling is None:
                self._dial(watch)
            return
        wait = watch.bucket.wait(self._desk.now)
        if wait > 0:
            self._desk.after(watch.timer, wait, watch.ask)
            return
        watch.bucket.take(self._desk.now)
        watch.outstanding = True
        timeout = self._timers.keep_alive_timeout
        self._desk.after(watch.timer, timeout, watch.unanswered, expiry=True)
        if watch.claim:
            self._desk.send(line, self._question(key, home=True))
            return
        if not watch.question:
            watch.question = encode(self._question(key), self._desk.dialect)
            answer = asap.EndpointKeepAliveAck(pool_handle=key[0], pe_identifier=key[1])
            watch.answer = encode(answer, self._desk.dialect)
        self._desk.send_octets(line, watch.question)

    def _question(self, key: ElementKey, *, home: bool = False) -> asap.EndpointKeepAlive:
        return asap.EndpointKeepAlive(
            server_id=self._desk.server_id, pool_handle=key[0], pe_identifier=key[1], home=home
        )

    def _dial(self, watch: _Watch) -> None:
        element = self._desk.space.get(watch.key)
        if element is None or element.asap_transport is None:
            self._fail(watch.key, "it does not say where it listens")
            return
        self._desk.timers.cancel(watch.timer)
        deadline = self._timers.keep_alive_timeout * self._timers.keep_alive_tries
        endpoint = endpoint_of(element.asap_transport)
        watch.dialling = self._desk.connect(Ppid.ASAP, endpoint, deadline, partial(self._dialled, watch.key))

    def _dialled(self, key: ElementKey, association: Association | None, reason: str) -> None:
        watch = self._watched[key]  # a wish to connect is abandoned when its element is forgotten
        watch.dialling = None
        if association is None:
            self._fail(key, f"it cannot be reached: {reason}")
            return
        if self._desk.denial(association, Action.ACKNOWLEDGE, "keep-alive", *key):
            self._desk.close(association.id, "another peer than the element that was asked", abort=True)
            self._fail(key, "somebody else is where it should be")
            return
        watch.probe = association.id
        self._on.setdefault(association.id, set()).add(key)
        self._ask(key)

    def _unanswered(self, key: ElementKey) -> None:
        watch = self._watched[key]
        watch.outstanding = False
        watch.tries += 1
        if watch.tries >= self._timers.keep_alive_tries:
            self._fail(key, f"it left {watch.tries} keep-alives unanswered")
        else:
            self._ask(key)

    def _answered(self, watch: _Watch) -> None:
        watch.outstanding = False
        watch.tries = 0
        self._ask_later(watch)

    def _ask_later(self, watch: _Watch) -> None:
        interval = self._timers.keep_alive * self._desk.rng.uniform(0.5, 1.5)
        at = math.ceil((self._desk.now + interval) / TICK) * TICK
        self._desk.timers.set(watch.timer, at, watch.ask)

    def _fail(self, key: ElementKey, reason: str) -> None:
        self._membership.drop(key, Change.REMOVED, reason, announce=True)

    def _observe(self, transition: Transition) -> None:
        if transition.after is not None and transition.after.home == self._desk.server_id:
            return
        watch = self._watched.pop(transition.key, None)
        if watch is None:
            return
        gone = transition.after is None
        reason = f"the element was removed: {transition.reason}" if gone else "the element has another home now"
        self._unline(watch, reason, abort=gone and transition.reason != EXPIRED)
        self._forget(watch)

    def _expired(self, key: ElementKey) -> None:
        """Tell an element that its registration is over (RFC 5352 2.2.4)."""
        watch = self._watched.get(key)
        if watch is not None and watch.line is not None:
            self._desk.send(watch.line, asap.DeregistrationResponse(pool_handle=key[0], pe_identifier=key[1]))

    def _forget(self, watch: _Watch) -> None:
        self._desk.timers.cancel(watch.timer)
        self._desk.abandon(watch.dialling)
        watch.dialling = None
        self._unidentify(watch)
        for association in (watch.attached, watch.probe):
            if association is not None:
                self._release(association, watch.key)

    def _unline(self, watch: _Watch, reason: str, *, abort: bool = False, but: AssociationId | None = None) -> None:
        """End an element's associations, unless other elements share them; and any attempt to open one."""
        for association in {watch.attached, watch.probe} - {None, but}:
            assert association is not None
            self._release(association, watch.key)
            if association not in self._on:
                self._desk.close(association, reason, abort=abort)
        watch.attached = watch.probe = None
        self._desk.abandon(watch.dialling)
        watch.dialling = None

    def _release(self, association: AssociationId, key: ElementKey) -> None:
        keys = self._on.get(association)
        if keys is not None:
            keys.discard(key)
            if not keys:
                del self._on[association]
