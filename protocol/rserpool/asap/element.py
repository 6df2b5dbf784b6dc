# SPDX-License-Identifier: Apache-2.0
"""The pool element: registers, stays registered, answers keep-alives, follows its home, leaves (RFC 5352 3).

It belongs to the pool while it *wants* to, which is while its application is healthy; everything else is the machine's
affair: finding a registrar, registering again when one dies, accepting the one that took over.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from random import Random
from typing import Final

from rserpool.asap.authorisation import Authoriser
from rserpool.asap.effects import Association, Effect, Endpoint, transport_of
from rserpool.asap.endpoint import EndpointMachine
from rserpool.asap.events import ElementState, ElementStateChanged, Refused
from rserpool.asap.flood import FloodGuard, Verdict
from rserpool.asap.home import Home
from rserpool.asap.hunt import Hunter
from rserpool.asap.profiles import FAST, EndpointTimers
from rserpool.wire import (
    RFC,
    CauseCode,
    Dialect,
    ErrorCause,
    Message,
    Policy,
    PoolElement,
    Transport,
    asap,
)

FIRST_BACKOFF: Final = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ElementConfig:
    """What a pool element is told at its start.

    Attributes:
        identifiers: PE identifiers it may use, in this order; the next one is tried when one is taken.
        transport: its User Transport.
        policy: its policy data, which may change later.
        listening: where it listens for registrars.
        registrars: where registrars may be.
    """

    pool_handle: bytes
    identifiers: tuple[int, ...]
    transport: Transport
    policy: Policy
    listening: Endpoint
    registrars: tuple[Endpoint, ...] = ()
    timers: EndpointTimers = field(default_factory=lambda: FAST.endpoint)
    dialect: Dialect = RFC


class Element(EndpointMachine):
    """A pool element's machine. Driven by :meth:`serve` and :meth:`leave`; says where it stands by events."""

    def __init__(self, config: ElementConfig, authoriser: Authoriser, rng: Random) -> None:
        super().__init__(config.dialect, rng)
        self._config = config
        self._timers = config.timers
        self._hunter = Hunter(self.desk, config.timers, authoriser)
        self._hunter.on_found = self._found
        self._hunter.on_failed = self._not_found
        self._hunter.set_registrars(config.registrars)
        self._policy = config.policy
        self._wants = False
        self._registered = False
        self._held = False  # a registrar may hold a registration of ours
        self._pending = False  # one was sent, and may be granted whether we hear of it or not
        self._leaving = False
        self._state = ElementState.STOPPED
        self._identifier = 0
        self._home = Home(self.desk, self._hunter)
        self._home.replacement.on_replaced = self._replaced
        self._attempts = 0
        self._backoff = 0.0
        self._refusals = 0
        self._guard = FloodGuard()

    # -- what the daemon asks

    @property
    def state(self) -> ElementState:
        """Where it stands."""
        return self._state

    @property
    def pe_identifier(self) -> int:
        """The identifier in use."""
        return self._config.identifiers[self._identifier]

    @property
    def home_id(self) -> int:
        """Server ID of the home registrar, 0 while unknown."""
        return self._home.server_id

    @property
    def registered(self) -> bool:
        """Whether its registration was granted and nothing has ended it, as far as it knows."""
        return self._registered

    def serve(self, now: float) -> list[Effect]:
        """Join the pool, and stay in it."""
        self._enter(now)
        if not self._wants:
            self._wants, self._leaving = True, False
            self._attempts = self._refusals = 0
            self._backoff = 0.0
            self._go_on()
        return self._leave()

    def leave(self, now: float, reason: str = "") -> list[Effect]:
        """Leave the pool; :data:`ElementState.DEREGISTERED` says when that is done (RFC 5352 3.2)."""
        self._enter(now)
        self._wants = False
        for timer in ("T2", "T4", "again"):
            self.desk.timers.cancel(timer)
        if self._held or self._pending:
            self._leaving = True
            self._become(ElementState.DEREGISTERING, reason)
            self._go_on()
        elif not self._leaving:
            self._hunter.stop()
            self._become(ElementState.DEREGISTERED, reason)
        return self._leave()

    def set_policy(self, policy: Policy, now: float) -> list[Effect]:
        """Change weight, priority or load; registers again with it (RFC 5352 6.5.2)."""
        self._enter(now)
        if policy != self._policy:
            self._policy = policy
            self._register_anew()
        return self._leave()

    def set_registrars(self, registrars: Iterable[Endpoint], now: float) -> list[Effect]:
        """Say anew where registrars may be."""
        self._enter(now)
        self._hunter.set_registrars(registrars)
        return self._leave()

    def reconfigure(self, now: float, *, timers: EndpointTimers) -> list[Effect]:
        """Go on with other timers; registers again if the registration's life is another one."""
        self._enter(now)
        before, self._timers = self._timers, timers
        self._hunter.reconfigured(timers)
        if self._home.association is not None and before.silent_home != timers.silent_home:
            self.desk.timers.cancel("silent")
            self._await_home()
        if before.life != timers.life or before.t4 != timers.t4:
            self._register_anew()
        return self._leave()

    def reauthorise(self, authoriser: Authoriser, now: float) -> list[Effect]:
        """Go on with other rules; who is no registrar by them any more is left, and another home looked for.

        An association that is being opened is judged by them when it is up.
        """
        self._enter(now)
        self._hunter.reauthorise(authoriser)
        for association in sorted(self.desk.associations.values(), key=lambda a: a.id == self._home.association):
            refusal = self._hunter.refusal(association, "ASAP association")
            if refusal is not None:
                self._lost(association, refusal)
        return self._leave()

    def renewed(self, now: float, within: float = 0.0) -> list[Effect]:
        """Its own leaf is another one: what was rejected may be tried again, and a newer association be home.

        The one that stands was opened with the former leaf and ends with it. It is replaced at a random time within so
        many seconds; the element stays registered.
        """
        effects = self.changed(now)
        self._enter(now)
        self._home.replacement.begin(within)
        return effects + self._leave()

    def changed(self, now: float) -> list[Effect]:
        """Credentials or configuration have changed: what was rejected may be tried again."""
        self._enter(now)
        if self._state is ElementState.REJECTED and self._wants:
            self._refusals = 0
            self._go_on()
        return self._leave()

    # -- home

    def _go_on(self) -> None:
        """Do the next thing: find a home, register there, or leave."""
        if self._home.association is None:
            if self._wants:
                self._become(ElementState.NO_HOME)
            self._hunter.hunt()
        elif self._leaving:
            self._deregister()
        elif self._wants:
            self._register()

    def _found(self, association: Association) -> None:
        if self._home.association is not None:  # a registrar took us over while we were looking
            self.desk.close(association.id, "another registrar is home already")
            return
        self._home.move_to(association.id, 0)
        self._await_home()
        self._go_on()

    def _not_found(self, reason: str) -> None:
        if self._wants:
            self._become(ElementState.NO_HOME, reason)

    def _replaced(self, association: Association) -> None:
        """There is a newer association to the home: it is home once we are registered on it."""
        self._home.replace(association.id)
        if self._leaving or self._wants:
            self._go_on()
        else:
            self._home.end_former()

    def _await_home(self) -> None:
        if self._timers.silent_home and self._state is not ElementState.REJECTED:
            self.desk.after("silent", self._timers.silent_home, self._home_silent, expiry=True)

    def _home_silent(self) -> None:
        self._leave_home("it sent no keep-alive")

    def _leave_home(self, reason: str, lost: Association | None = None) -> None:
        """Look for another home; the one that failed is tried last."""
        avoid = self._drop_home(reason)
        if lost is not None:
            avoid = self._home.place_of(lost)
        self.desk.timers.cancel("again")
        if self._wants:
            self._become(ElementState.NO_HOME, reason)
        if self._wants or self._leaving:
            self._hunter.hunt(avoid=avoid)

    def _drop_home(self, reason: str) -> Endpoint | None:
        """Have no home any more; returns where it was, if the configuration knows that place."""
        for timer in ("silent", "T2", "T3", "T4"):
            self.desk.timers.cancel(timer)
        return self._home.drop(reason)

    # -- registration

    def _register(self) -> None:
        assert self._home.association is not None
        element = PoolElement(
            identifier=self.pe_identifier,
            home=0,
            life=self._timers.life * (1000 if self._config.dialect.life_in_milliseconds else 1),
            transport=self._config.transport,
            policy=self._policy,
            asap_transport=transport_of(self._config.listening) if self._config.dialect.tcp_profile else None,
        )
        if self._state is not ElementState.REGISTERED:
            self._become(ElementState.REGISTERING)
        self.desk.timers.cancel("again")
        self._pending = True
        self.desk.after("T2", self._timers.t2, self._unanswered, expiry=True)
        self.desk.send(self._home.association, asap.Registration(pool_handle=self._config.pool_handle, element=element))

    def _register_anew(self) -> None:
        """What is registered has changed."""
        waiting = self.desk.timers.is_set("T2")
        if (self._registered or waiting) and self._wants and self._home.association is not None:
            self._register()

    def _unanswered(self) -> None:
        """T2: the home does not answer; look for another (RFC 5352 3.1, 7.3)."""
        self._attempts += 1
        tries = f"no answer to {self._attempts} registrations"
        self._leave_home(tries if self._attempts > self._timers.max_attempts else "no answer to a registration")

    def _responded(self, association: Association, response: asap.RegistrationResponse) -> None:
        expected = response.pe_identifier == self.pe_identifier and self.desk.timers.is_set("T2")
        if association.id != self._home.association or not expected or response.pool_handle != self._config.pool_handle:
            self._ignore(association, "ASAP_REGISTRATION_RESPONSE", "nobody asked")
            return
        self.desk.timers.cancel("T2")
        self._pending = False
        self._home.end_former()
        if response.reject:
            self._rejected(response.error)
            return
        self._attempts = self._refusals = 0
        self._backoff = 0.0
        self._await_home()  # from now on it owes us the next keep-alive
        self._registered = self._held = True
        self._become(ElementState.REGISTERED, ", ".join(str(c) for c in response.error))
        again = self._timers.reregistration(self._timers.life)
        self.desk.after("T4", again, self._refresh)

    def _refresh(self) -> None:
        if self._wants:
            self._go_on()

    def _rejected(self, causes: tuple[ErrorCause, ...]) -> None:
        """What to do about it (RFC 5352 3.1): never the same again unless something else may have changed."""
        codes = {cause.code for cause in causes}
        reason = ", ".join(str(c) for c in causes) or "no reason given"
        self._registered = False
        if CauseCode.NON_UNIQUE_PE_IDENTIFIER in codes and self._identifier + 1 < len(self._config.identifiers):
            self._identifier += 1
            self._register()
            return
        self.desk.timers.cancel("silent")  # who rejects us owes us no keep-alives
        self.desk.timers.cancel("T4")
        self._become(ElementState.REJECTED, reason)
        if CauseCode.SECURITY_REJECTION in codes and self._refusals == 0:
            self._refusals += 1
            self._leave_home("it refuses us")
            return
        if codes & {CauseCode.LACK_OF_RESOURCES, CauseCode.SECURITY_REJECTION, CauseCode.NON_UNIQUE_PE_IDENTIFIER}:
            if CauseCode.NON_UNIQUE_PE_IDENTIFIER in codes:
                self._identifier = 0
            self._backoff = min(max(self._backoff * 2, FIRST_BACKOFF), max(self._timers.retran_max, 30.0))
            self.desk.after("again", self._backoff * self.desk.rng.uniform(0.8, 1.2), self._refresh)

    # -- deregistration

    def _deregister(self) -> None:
        assert self._home.association is not None
        self.desk.after("T3", self._timers.t3, self._not_deregistered, expiry=True)
        self.desk.send(
            self._home.association,
            asap.Deregistration(pool_handle=self._config.pool_handle, pe_identifier=self.pe_identifier),
        )

    def _not_deregistered(self) -> None:
        self._leave_home("no answer to a deregistration")

    def _deregistered(self, association: Association, response: asap.DeregistrationResponse) -> None:
        ours = response.pool_handle == self._config.pool_handle and response.pe_identifier == self.pe_identifier
        if association.id != self._home.association or not ours:
            self._ignore(association, "ASAP_DEREGISTRATION_RESPONSE", "not from our home, or not for us")
            return
        self.desk.timers.cancel("T3")
        if self._leaving:
            self._leaving = self._registered = self._held = self._pending = False
            self._become(ElementState.DEREGISTERED, ", ".join(str(c) for c in response.error))
        elif not response.error and self._registered:  # the registration has expired there
            self._registered = self._held = False
            self._become(ElementState.NO_HOME, "the registration has expired there")
            self._go_on()

    # -- keep-alives

    def _keep_alive(self, association: Association, message: asap.EndpointKeepAlive) -> None:
        """RFC 5352 3.4, within limits."""
        if message.pool_handle != self._config.pool_handle or message.pe_identifier not in (None, self.pe_identifier):
            return  # silently (RFC 5352 3.4)
        if not self._wants:
            return  # it left: who still asks shall see that it is gone
        verdict = self._guard.judge(association.principal.name, self.desk.now)
        if verdict is not Verdict.ANSWER:
            self._flooded(association, verdict)
            return
        self.desk.send(
            association.id,
            asap.EndpointKeepAliveAck(pool_handle=self._config.pool_handle, pe_identifier=self.pe_identifier),
        )
        if association.id == self._home.association:
            self._home.heard(message.server_id)
            self._await_home()
        elif message.home:
            self._adopt(association, message)

    def _adopt(self, association: Association, message: asap.EndpointKeepAlive) -> None:
        """H = 1: the sender is home from now on (RFC 5352 3.4), unless homes change too often to be true."""
        if not self._home.may_change():
            self._ignore(association, "ASAP_ENDPOINT_KEEP_ALIVE", "the home changes too often")
            return
        self._hunter.stop()
        self._home.adopted_by(association.id, message.server_id)
        for timer in ("T2", "T4"):
            self.desk.timers.cancel(timer)
        self._await_home()
        self._registered = self._held = True
        self._become(ElementState.REGISTERED, "taken over")
        self.desk.after("again", self.desk.rng.uniform(*self._timers.settle), self._refresh)

    def _flooded(self, association: Association, verdict: Verdict) -> None:
        reason = "it asks too often"
        what = "ASAP_ENDPOINT_KEEP_ALIVE"
        self.desk.emit(Refused(threat="2.14", peer=str(association), what=what, reason=reason))
        if verdict is not Verdict.LEAVE:
            return
        if association.id == self._home.association:
            self._leave_home(reason)
        else:
            self.desk.close(association.id, reason, abort=True)

    # -- inputs

    def _accepted(self, association: Association) -> None:
        self._hunter.refusal(association, "ASAP association")

    def _understood(self, association: Association, message: Message) -> bool:
        if association.id == self._home.association:
            self._hunter.confirmed()
        match message:
            case asap.EndpointKeepAlive():
                self._keep_alive(association, message)
            case asap.RegistrationResponse():
                self._responded(association, message)
            case asap.DeregistrationResponse():
                self._deregistered(association, message)
            case _:
                return False
        return True

    def _ageing(self, association: Association) -> None:
        if association.id == self._home.association:
            self._home.replacement.begin()

    def _lost(self, association: Association, reason: str) -> None:
        if association.id == self._home.former:
            self._home.former = None
        if association.id != self._home.association:
            return
        if self._home.fall_back():  # the newer one did not last: the registration stands on the former one
            self._go_on()
            return
        if self._state is ElementState.REJECTED:  # it need not hunt to be rejected again
            self._drop_home(reason)
        else:
            self._hunter.lost()
            self._leave_home(f"the association to it was lost: {reason}", association)

    def _become(self, state: ElementState, reason: str = "") -> None:
        if state is self._state and not reason:
            return
        self._state = state
        self.desk.emit(
            ElementStateChanged(
                state=state,
                pool_handle=self._config.pool_handle,
                pe_identifier=self.pe_identifier,
                home=self._home.server_id,
                reason=reason,
            )
        )
