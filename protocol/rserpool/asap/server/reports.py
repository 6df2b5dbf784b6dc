# SPDX-License-Identifier: Apache-2.0
"""ASAP_ENDPOINT_UNREACHABLE at a registrar (RFC 5352 3.5), within limits (threats 2.13, 2.14).

A report makes the registrar ask the element itself; only what the registrar sees removes it at once. Reports of users
who have proved who they are also count, and an element with too many is removed, since it may answer registrars and
nobody else.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial

from rserpool.asap.authorisation import Action, Denial, Role
from rserpool.asap.effects import Association, AssociationId, RequestId, endpoint_of
from rserpool.asap.events import Change
from rserpool.asap.limits import Buckets
from rserpool.asap.server.desk import RegistrarDesk
from rserpool.asap.server.liveness import Liveness
from rserpool.asap.server.membership import Membership, Transition
from rserpool.handlespace import ElementKey
from rserpool.wire import Ppid, asap

WHAT = "ASAP_ENDPOINT_UNREACHABLE"


@dataclass(slots=True)
class _Tally:
    count: int = 0
    reported: dict[str, float] = field(default_factory=dict)


@dataclass(slots=True)
class _Probe:
    """Another registrar's element, asked because somebody complained."""

    request: RequestId | None = None
    association: AssociationId | None = None
    tries: int = 0


class Reports:
    """Counts reports and asks the elements reported."""

    def __init__(self, desk: RegistrarDesk, membership: Membership, liveness: Liveness) -> None:
        self._desk = desk
        self._membership = membership
        self._liveness = liveness
        self._rate = Buckets(desk.config.limits.reports)
        self._probe_rate = Buckets(desk.config.timers.keep_alive_rate)
        self._tallies: dict[ElementKey, _Tally] = {}
        self._probes: dict[ElementKey, _Probe] = {}
        membership.observers.append(self._observe)

    def reconfigured(self) -> None:
        """The desk has another configuration."""
        config, now = self._desk.config, self._desk.now
        self._rate.change(config.limits.reports, now)
        self._probe_rate.change(config.timers.keep_alive_rate, now)

    def report(self, association: Association, message: asap.EndpointUnreachable) -> None:
        """Take a report; there is no answer."""
        desk = self._desk
        key = (message.pool_handle, message.pe_identifier)
        if desk.denial(association, Action.REPORT, WHAT, *key):
            desk.refuse(association.id, None)
            return
        name = association.principal.name
        if not self._rate.take(name, desk.now):
            desk.refused(association, Denial("2.13", "reports elements unreachable too often"), WHAT)
            desk.refuse(association.id, None)
            return
        element = desk.space.get(key)
        if element is None:
            return
        if element.home == desk.server_id:
            self._liveness.ask_now(key)
            if association.principal.role is not Role.ANONYMOUS:
                self._count(key, name)
        elif key not in self._probes and self._probe_rate.take(key, desk.now):
            self._dial(key)

    def _count(self, key: ElementKey, reporter: str) -> None:
        tally = self._tallies.setdefault(key, _Tally())
        self._age(tally)
        if reporter in tally.reported:
            return
        tally.reported[reporter] = self._desk.now
        tally.count += 1
        if tally.count > self._desk.config.limits.bad_reports:
            self._membership.drop(key, Change.REMOVED, f"{tally.count} users could not reach it", announce=True)

    def answered(self, key: ElementKey) -> None:
        """An own element has answered a keep-alive: what one user alone reports of it counts no more."""
        tally = self._tallies.get(key)
        if tally is None:
            return
        self._age(tally)
        if len(tally.reported) < 2:
            tally.count = 0

    def _age(self, tally: _Tally) -> None:
        limit, now = self._desk.config.limits.report_interval, self._desk.now
        tally.reported = {name: at for name, at in tally.reported.items() if now - at < limit}

    def acknowledged(self, association: Association, message: asap.EndpointKeepAliveAck) -> bool:
        """An element has answered. Returns whether a probe had been sent over this association."""
        key = (message.pool_handle, message.pe_identifier)
        probe = self._probes.get(key)
        if probe is None or probe.association != association.id:
            return False
        self._end(key, "the element has answered")
        return True

    def lost(self, association: AssociationId) -> None:
        """An association has ended; if it was a probe's, the element could not be reached."""
        for key, probe in list(self._probes.items()):
            if probe.association == association:
                self._unreachable(key, "it ended the association")

    def _dial(self, key: ElementKey) -> None:
        element = self._desk.space.get(key)
        if element is None or element.asap_transport is None:
            return
        timers = self._desk.config.timers
        probe = self._probes[key] = _Probe()
        probe.request = self._desk.connect(
            Ppid.ASAP,
            endpoint_of(element.asap_transport),
            timers.keep_alive_timeout * timers.keep_alive_tries,
            partial(self._dialled, key),
        )

    def _dialled(self, key: ElementKey, association: Association | None, reason: str) -> None:
        probe = self._probes[key]
        probe.request = None
        if association is None:
            self._unreachable(key, reason)
            return
        probe.association = association.id
        if self._desk.denial(association, Action.ACKNOWLEDGE, "keep-alive", *key):
            self._unreachable(key, "somebody else is where it should be")
            return
        self._ask(key)

    def _ask(self, key: ElementKey) -> None:
        probe = self._probes[key]
        timers = self._desk.config.timers
        if probe.tries >= timers.keep_alive_tries:
            self._unreachable(key, f"it left {probe.tries} keep-alives unanswered")
            return
        probe.tries += 1
        assert probe.association is not None
        self._desk.send(
            probe.association,
            asap.EndpointKeepAlive(server_id=self._desk.server_id, pool_handle=key[0], pe_identifier=key[1]),
        )
        pause = max(timers.keep_alive_timeout, timers.keep_alive_min_interval)
        self._desk.after(("probe", key), pause, partial(self._ask, key), expiry=True)

    def _unreachable(self, key: ElementKey, reason: str) -> None:
        """Remove it here; its home finds out by itself, or restores it by the audit."""
        self._end(key, reason)
        self._membership.drop(key, Change.REMOVED, f"reported unreachable, and {reason}", announce=False)

    def _end(self, key: ElementKey, reason: str) -> None:
        probe = self._probes.pop(key, None)
        if probe is not None:
            self._desk.timers.cancel(("probe", key))
            self._desk.abandon(probe.request)
            self._desk.close(probe.association, reason)

    def _observe(self, transition: Transition) -> None:
        registered = transition.after is not None and transition.after.home == self._desk.server_id
        if transition.after is None or registered:
            self._tallies.pop(transition.key, None)
            self._end(transition.key, "the element was registered here, or removed")
