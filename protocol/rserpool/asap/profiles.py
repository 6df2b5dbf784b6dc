# SPDX-License-Identifier: Apache-2.0
"""Timers and thresholds, in seconds: the RFCs' values, and the fast profile with which failures are noticed in seconds.

RFC 5352 7 (T1 to T7 and their limits), RFC 5353 4.2 (heartbeats). Where the RFCs give none, the values are ours. All
registrars of an operational scope must use the same profile.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from rserpool.asap.limits import Rate


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistrarTimers:
    """A registrar's timers.

    Attributes:
        heartbeat: PEER-HEARTBEAT-CYCLE, between two presences.
        last_heard: MAX-TIME-LAST-HEARD, silence of a peer before it is probed; more than twice the heartbeat.
        no_response: MAX-TIME-NO-RESPONSE, silence after a probe before a peer is dead; also waited for any answer.
        takeover: how long to wait for acknowledgements of a takeover.
        takeover_rate: elements of a dead registrar claimed a second.
        keep_alive: mean interval between keep-alives to an own element; each is 50 to 150 % of it.
        keep_alive_timeout: how long to wait for one acknowledgement.
        keep_alive_tries: unanswered keep-alives before an element is removed.
        keep_alive_min_interval: mean interval below which an element is never asked (threat 2.14).
        keep_alive_burst: keep-alives to one element that may follow each other at once.
        connect: to open an association, TLS included.
        mentor_discovery: how long a starting registrar looks for another before it serves alone.
        retry_after_reject: how long to wait after "not now".
        reclaim: how long an element must be seen attached before a foreign claim is answered.
        max_life: cap of a registration's life.
        t6: T6-Serverannounce, the unit of announcements by multicast.
    """

    heartbeat: float
    last_heard: float
    no_response: float
    takeover: float
    takeover_rate: float
    keep_alive: float
    keep_alive_timeout: float
    keep_alive_tries: int
    keep_alive_min_interval: float
    keep_alive_burst: int
    connect: float
    mentor_discovery: float
    retry_after_reject: float
    reclaim: float = 0.3
    max_life: float = 86400.0
    t6: float = 1.0

    @property
    def keep_alive_rate(self) -> Rate:
        """How often one element may be asked (threat 2.14)."""
        return Rate(1 / self.keep_alive_min_interval, self.keep_alive_burst)


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointTimers:
    """A pool element's and a pool user's timers.

    Attributes:
        t1: waiting for a handle resolution response.
        t2: waiting for a registration response.
        t3: waiting for a deregistration response.
        t4: longest time between two registrations of an element.
        t5: one round of server hunt; doubled when a round fails.
        retran_max: ceiling of all that is doubled.
        connect: to open an association, TLS included.
        hunt_stagger: between the attempts of one round.
        silent_home: a home registrar that sent no keep-alive for so long is left; 0 where it need not send any.
        life: Registration Life an element asks for.
        max_attempts: MAX-REG-ATTEMPT and MAX-REQUEST-RETRANSMIT, repetitions before a failure is reported.
        settle: an element adopted by a new home registers there within so long, at a random time.
        t7: T7-ENRPoutdate, for how long an announced registrar is remembered.
    """

    t1: float
    t2: float
    t3: float
    t4: float
    t5: float
    retran_max: float
    connect: float
    silent_home: float
    life: int
    hunt_stagger: float = 0.2
    max_attempts: int = 2
    settle: tuple[float, float] = (1.0, 5.0)
    t7: float = 5.0

    def reregistration(self, life: float) -> float:
        """T4 for a registration of that life: well before its end (RFC 5352 7.1; a third of a short life)."""
        return min(self.t4, life - 20) if life >= 60 else min(self.t4, life / 3)


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """The timers of all roles."""

    name: str
    registrar: RegistrarTimers
    endpoint: EndpointTimers


FAST: Final = Profile(
    name="Fast",
    registrar=RegistrarTimers(
        heartbeat=0.4,
        last_heard=0.9,
        no_response=0.4,
        takeover=0.4,
        takeover_rate=500,
        keep_alive=1.0,
        keep_alive_timeout=0.4,
        keep_alive_tries=3,
        keep_alive_min_interval=0.5,
        keep_alive_burst=4,
        connect=1.0,
        mentor_discovery=3.0,
        retry_after_reject=0.2,
    ),
    endpoint=EndpointTimers(
        t1=0.5, t2=1.0, t3=1.0, t4=10.0, t5=1.0, retran_max=4.0, connect=1.0, silent_home=3.0, life=30
    ),
)
RFC: Final = Profile(
    name="RFC",
    registrar=RegistrarTimers(
        heartbeat=30.0,
        last_heard=61.0,
        no_response=5.0,
        takeover=5.0,
        takeover_rate=100,
        keep_alive=30.0,
        keep_alive_timeout=5.0,
        keep_alive_tries=3,
        keep_alive_min_interval=1.0,
        keep_alive_burst=3,
        connect=5.0,
        mentor_discovery=15.0,
        retry_after_reject=2.0,
    ),
    endpoint=EndpointTimers(
        t1=15.0, t2=30.0, t3=30.0, t4=600.0, t5=10.0, retran_max=60.0, connect=5.0, silent_home=0.0, life=300
    ),
)
PROFILES: Final = {profile.name: profile for profile in (FAST, RFC)}
