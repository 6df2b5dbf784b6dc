# SPDX-License-Identifier: Apache-2.0
"""The registrar's configuration, and what it makes of it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from rserpool.asap.limits import Rate
from rserpool.asap.profiles import PROFILES, RegistrarTimers
from rserpool.asap.server.desk import Limits
from rserpool.daemon import parsers as parse
from rserpool.daemon.sections import ControlSection, LogSection, OperatorSection, PoolSection, SecuritySection
from rserpool.daemon.settings import KeyFaultError, section, setting
from rserpool.transport.tcp import TcpLimits
from rserpool.wire import Address

_DURATION = parse.optional(parse.seconds)


@dataclass(frozen=True, kw_only=True)
class NetworkSection:
    """Where the registrar is."""

    address: Address = setting(parse.address, "Own address: where it listens and dials from.", example='"10.0.0.7"')
    asap_port: int = setting(parse.port, "Port for pool elements and pool users.", 3864)
    enrp_port: int = setting(parse.port, "Port for other registrars.", 9902)
    http_port: int = setting(parse.port_or_none, "Port for /healthz, /readyz and /metrics; 0: none.", 8080)
    loopback: bool = setting(parse.boolean, "Let elements register loopback addresses: a pool on one machine.", False)


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
class TimersSection:
    """How fast failures are noticed; empty: as the profile has it. All registrars must use the same."""

    profile: str = setting(parse.one_of(*PROFILES), "Fast or RFC.", "Fast")
    heartbeat: float | None = setting(_DURATION, "PEER-HEARTBEAT-CYCLE.", "")
    last_heard: float | None = setting(_DURATION, "MAX-TIME-LAST-HEARD; above twice the heartbeat.", "")
    no_response: float | None = setting(_DURATION, "MAX-TIME-NO-RESPONSE.", "")
    takeover: float | None = setting(_DURATION, "Wait for acknowledgements of a takeover.", "")
    keep_alive: float | None = setting(_DURATION, "Between keep-alives to an element.", "")
    keep_alive_timeout: float | None = setting(_DURATION, "Wait for one acknowledgement.", "")

    def timers(self) -> RegistrarTimers:
        """The timers in force."""
        given = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "profile"}
        changes = {name: value for name, value in given.items() if value is not None}
        return dataclasses.replace(PROFILES[self.profile].registrar, **changes)

    def check(self) -> None:
        """Whether they fit together.

        Raises:
            KeyFaultError: they contradict each other.
        """
        for field in dataclasses.fields(self):
            if getattr(self, field.name) == 0:
                raise KeyFaultError(field.name, "0 is no time to wait; write a duration such as 500ms")
        timers = self.timers()
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
    elements: int = setting(parse.integer(1, 1_000_000), "Elements in the handlespace.", 50_000)
    items: int = setting(parse.integer(0, 10_000), "Elements in an answer to a resolution; 0: all.", 0)
    half_open: int = setting(parse.integer(1, 65536), "Connections that have not authenticated yet.", 256)
    handshake: float = setting(parse.positive, "Time for a connection to authenticate.", "5s")
    idle: float = setting(parse.seconds, "Silence after which an association ends.", "300s")

    def limits(self) -> Limits:
        """The machine's limits."""
        return Limits(
            registrations=Rate(self.registrations_per_second, max(1, 2 * self.registrations_per_second)),
            resolutions=Rate(self.resolutions_per_second, max(1, 2 * self.resolutions_per_second)),
            reports=Rate(self.reports_per_second, max(1, self.reports_per_second)),
            elements=self.elements,
            items=self.items,
        )

    def tcp(self, user_timeout: float) -> TcpLimits:
        """The transport's."""
        return TcpLimits(handshake=self.handshake, idle=self.idle, half_open=self.half_open, user_timeout=user_timeout)


@dataclass(frozen=True, kw_only=True)
class RegistrarSettings:
    """The whole configuration."""

    pool: PoolSection = section(PoolSection)
    network: NetworkSection = section(NetworkSection)
    peers: PeersSection = section(PeersSection)
    security: SecuritySection = section(SecuritySection)
    operator: OperatorSection = section(OperatorSection)
    users: UsersSection = section(UsersSection)
    timers: TimersSection = section(TimersSection)
    limits: LimitsSection = section(LimitsSection)
    control: ControlSection = section(ControlSection)
    log: LogSection = section(LogSection)
