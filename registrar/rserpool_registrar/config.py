# SPDX-License-Identifier: Apache-2.0
"""The registrar's configuration, and what it makes of it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from rserpool.asap.limits import Rate
from rserpool.asap.profiles import PROFILES, RegistrarTimers
from rserpool.asap.server.desk import Limits
from rserpool.daemon import parsers as parse
from rserpool.daemon.sections import (
    ControlSection,
    DiscoverySection,
    LogSection,
    OperatorSection,
    PoolSection,
    SecuritySection,
)
from rserpool.daemon.settings import KeyFaultError, given, section, setting
from rserpool.handlespace import Increment
from rserpool.transport.tcp import TcpLimits
from rserpool.wire import Address

_DURATION = parse.optional(parse.seconds)
_COUNT = parse.optional(parse.integer(1, 1000))


@dataclass(frozen=True, kw_only=True)
class NetworkSection:
    """Where the registrar is."""

    address: Address = setting(parse.address, "Own address: where it listens and dials from.", example='"10.0.0.7"')
    also: tuple[Address, ...] = setting(
        parse.addresses, "Own address of the other IP family, for elements and users of that one.", ()
    )
    asap_port: int = setting(parse.port, "Port for pool elements and pool users.", 3864)
    enrp_port: int = setting(parse.port, "Port for other registrars.", 9902)
    http_port: int = setting(parse.port_or_none, "Port for /healthz, /readyz and /metrics; 0: none.", 8080)
    loopback: bool = setting(parse.boolean, "Let elements register loopback addresses: a pool on one machine.", False)

    @property
    def own(self) -> tuple[Address, ...]:
        """All own addresses, that for other registrars first."""
        return (self.address, *self.also)

    def check(self) -> None:
        """Whether there is one address of a family.

        Raises:
            KeyFaultError: there are several.
        """
        if len({address.version for address in self.own}) < len(self.own):
            raise KeyFaultError("also", "a registrar has one address of a family; write one of the other, or none")


@dataclass(frozen=True, kw_only=True)
class PeersSection:
    """The other registrars of the pool."""

    addresses: tuple[tuple[str, int], ...] = setting(
        parse.places, "host:port of each, itself included or not; names are resolved again and again.", ()
    )


@dataclass(frozen=True, kw_only=True)
class UsersSection:
    """Who may use the pool."""

    anonymous: bool = setting(parse.boolean, "Users without a certificate may resolve.", True)


@dataclass(frozen=True, kw_only=True)
class PolicySection:
    """How elements are chosen, as far as a registrar may decide it."""

    lud_increment: str = setting(
        parse.one_of(*Increment),
        "Whose degradation counters an answer raises: all of its elements', as in RFC 5356 5.2.2, or the first's.",
        Increment.ALL.value,
    )


@dataclass(frozen=True, kw_only=True)
class TimersSection:
    """How fast failures are noticed; empty: as the profile has it. All registrars must use the same."""

    profile: str = setting(parse.one_of(*PROFILES), "Fast or RFC.", "Fast")
    heartbeat: float | None = setting(_DURATION, "PEER-HEARTBEAT-CYCLE.", "")
    last_heard: float | None = setting(_DURATION, "MAX-TIME-LAST-HEARD; above twice the heartbeat.", "")
    no_response: float | None = setting(_DURATION, "MAX-TIME-NO-RESPONSE.", "")
    takeover: float | None = setting(_DURATION, "Wait for acknowledgements of a takeover.", "")
    takeover_rate: float | None = setting(
        parse.optional(parse.number(1, 1e5)), "Elements of a dead registrar told a second.", ""
    )
    keep_alive: float | None = setting(_DURATION, "Between keep-alives to an element.", "")
    keep_alive_timeout: float | None = setting(_DURATION, "Wait for one acknowledgement.", "")
    keep_alive_tries: int | None = setting(_COUNT, "Unanswered keep-alives that remove an element.", "")
    keep_alive_min_interval: float | None = setting(_DURATION, "No element is asked oftener in the long run.", "")
    keep_alive_burst: int | None = setting(_COUNT, "Keep-alives that may follow each other at once.", "")
    connect: float | None = setting(_DURATION, "To open an association, TLS included.", "")
    mentor_discovery: float | None = setting(_DURATION, "Longest search for a mentor at the start.", "")
    retry_after_reject: float | None = setting(_DURATION, 'Pause after "not now".', "")
    reclaim: float | None = setting(_DURATION, "An element is seen attached so long before a claim is answered.", "")
    max_life: float | None = setting(_DURATION, "Longest registration; longer ones are cut.", "")
    t6: float | None = setting(_DURATION, "T6-Serverannounce, the unit of announcements by multicast.", "")

    def timers(self) -> RegistrarTimers:
        """The timers in force."""
        return dataclasses.replace(PROFILES[self.profile].registrar, **given(self, "profile"))

    def check(self) -> None:
        """Whether they fit together.

        Raises:
            KeyFaultError: they contradict each other.
        """
        for field in dataclasses.fields(self):
            if getattr(self, field.name) == 0:
                raise KeyFaultError(field.name, "0 is no time to wait; write a duration such as 500ms")
        timers = self.timers()
        if timers.max_life < 1:
            raise KeyFaultError("max_life", f"{timers.max_life:g} s is no life; write 1s or more")
        if timers.last_heard <= 2 * timers.heartbeat:
            raise KeyFaultError(
                "last_heard" if self.last_heard is not None else "heartbeat",
                f"last_heard is {timers.last_heard:g} s and must be more than twice heartbeat,"
                f" which is {timers.heartbeat:g} s",
            )


@dataclass(frozen=True, kw_only=True)
class LimitsSection:
    """What one identity may cost."""

    registrations_per_second: float = setting(parse.number(0.01, 1e6), "Registrations of an identity.", 50.0)
    resolutions_per_second: float = setting(parse.number(0.01, 1e6), "Resolutions of an identity.", 1000.0)
    reports_per_second: float = setting(parse.number(0.01, 1e6), "Unreachable reports of an identity.", 5.0)
    report_interval: float = setting(parse.positive, "Reports of one user of one element count once in it.", "10s")
    bad_reports: int = setting(parse.integer(1, 1000), "MAX-BAD-PE-REPORT; one more removes an element.", 3)
    elements: int = setting(parse.integer(1, 1_000_000), "Elements in the handlespace.", 50_000)
    elements_per_identity: int = setting(parse.integer(1, 1_000_000), "Elements an identity may register.", 16)
    pools: int = setting(parse.integer(1, 1_000_000), "Pools in the handlespace.", 1000)
    subscriptions: int = setting(parse.integer(0, 100_000), "Pools an association is kept informed of.", 64)
    update_interval: float = setting(parse.seconds, "Between two updates to a subscriber of a pool.", "200ms")
    table_sessions: int = setting(parse.integer(1, 1000), "Registrars that copy the handlespace at once.", 16)
    items: int = setting(parse.integer(0, 10_000), "Elements in an answer to a resolution; 0: all.", 0)
    associations: int = setting(parse.integer(1, 65536), "Associations of an identity.", 32)
    anonymous_associations: int = setting(
        parse.integer(1, 65536), "Associations without a certificate from one address.", 256
    )
    half_open: int = setting(parse.integer(1, 65536), "Connections that have not authenticated yet.", 256)
    handshake: float = setting(parse.positive, "Time for a connection to authenticate.", "5s")
    idle: float = setting(parse.seconds, "Silence after which an association ends.", "300s")

    def limits(self) -> Limits:
        """The machine's limits."""
        return Limits(
            registrations=Rate(self.registrations_per_second, max(1, 2 * self.registrations_per_second)),
            resolutions=Rate(self.resolutions_per_second, max(1, 2 * self.resolutions_per_second)),
            reports=Rate(self.reports_per_second, max(1, self.reports_per_second)),
            report_interval=self.report_interval,
            bad_reports=self.bad_reports,
            elements=self.elements,
            elements_per_identity=self.elements_per_identity,
            pools=self.pools,
            subscriptions=self.subscriptions,
            update_interval=self.update_interval,
            table_sessions=self.table_sessions,
            items=self.items,
        )

    def tcp(self, user_timeout: float) -> TcpLimits:
        """The transport's."""
        return TcpLimits(
            handshake=self.handshake,
            idle=self.idle,
            user_timeout=user_timeout,
            half_open=self.half_open,
            anonymous_per_source=self.anonymous_associations,
            per_identity=self.associations,
        )


@dataclass(frozen=True, kw_only=True)
class RegistrarSettings:
    """The whole configuration."""

    pool: PoolSection = section(PoolSection)
    network: NetworkSection = section(NetworkSection)
    peers: PeersSection = section(PeersSection)
    security: SecuritySection = section(SecuritySection)
    operator: OperatorSection = section(OperatorSection)
    users: UsersSection = section(UsersSection)
    policy: PolicySection = section(PolicySection)
    timers: TimersSection = section(TimersSection)
    limits: LimitsSection = section(LimitsSection)
    discovery: DiscoverySection = section(DiscoverySection)
    control: ControlSection = section(ControlSection)
    log: LogSection = section(LogSection)
