# SPDX-License-Identifier: Apache-2.0
"""The sidecar's configuration, and what it makes of it."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass

from rserpool.asap.profiles import PROFILES, EndpointTimers
from rserpool.daemon import parsers as parse
from rserpool.daemon.sections import ControlSection, LogSection, OperatorSection, PoolSection, SecuritySection
from rserpool.daemon.settings import KeyFaultError, section, setting
from rserpool.wire import Address, Policy, SctpTransport, TcpTransport, Transport, UdpTransport, policies
from rserpool.wire.policies import MAX_LOAD

_U32 = parse.integer(0, 0xFFFFFFFF)
_POLICIES = (
    "RoundRobin",
    "WeightedRoundRobin",
    "Random",
    "WeightedRandom",
    "Priority",
    "LeastUsed",
    "LeastUsedDegradation",
    "PriorityLeastUsed",
    "RandomizedLeastUsed",
)


_PATH = re.compile(r"/[!-~]*")
_HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t -~]*")


def _some_places(raw: object) -> tuple[tuple[str, int], ...]:
    found = parse.places(raw)
    if not found:
        raise ValueError("write at least one host:port")
    return found


def _http_path(raw: object) -> str:
    if not _PATH.fullmatch(parse.text(raw)):
        raise ValueError("write a path that begins with /, in ASCII, without spaces")
    return parse.text(raw)


def _http_headers(raw: object) -> tuple[str, ...]:
    headers = parse.texts(raw)
    for header in headers:
        if not _HEADER.fullmatch(header):
            raise ValueError(f"{header!r} is no header; write each as Name: value, in ASCII")
    return headers


@dataclass(frozen=True, kw_only=True)
class NetworkSection:
    """Where the element is."""

    address: Address = setting(parse.address, "Own address: the pod's.", example='"10.0.0.8"')
    asap_port: int = setting(parse.port, "Port on which registrars reach this sidecar.", 3864)
    http_port: int = setting(parse.port_or_none, "Port for /healthz, /readyz and /metrics; 0: none.", 8081)


@dataclass(frozen=True, kw_only=True)
class RegistrarsSection:
    """Where registrars may be."""

    addresses: tuple[tuple[str, int], ...] = setting(
        _some_places,
        "host:port of each; names are resolved again and again. May be left to the operator.",
        example='["registrars.demo.svc:3864"]',
        later=(),
    )


@dataclass(frozen=True, kw_only=True)
class ApplicationSection:
    """What is registered."""

    port: int = setting(
        parse.port, "Where the application serves pool users. May be left to the operator.", example="7007", later=0
    )
    protocol: str = setting(parse.one_of("TCP", "SCTP", "UDP"), "What pool users speak to it.", "TCP")

    def transport(self, address: Address) -> Transport:
        """The User Transport."""
        match self.protocol:
            case "SCTP":
                return SctpTransport(port=self.port, addresses=(address,))
            case "UDP":
                return UdpTransport(port=self.port, address=address)
            case _:
                return TcpTransport(port=self.port, address=address)


@dataclass(frozen=True, kw_only=True)
class PolicySection:
    """How the element is chosen, and its share."""

    type: str = setting(parse.one_of(*_POLICIES), "The pool's policy (RFC 5356).", "RoundRobin")
    weight: int = setting(_U32, "WeightedRoundRobin, WeightedRandom: share of the work.", 1)
    priority: int = setting(_U32, "Priority: the larger number comes first.", 0)
    degradation: float = setting(
        parse.number(0, 1), "LeastUsedDegradation, PriorityLeastUsed: load one more user adds.", 0.0
    )

    def policy(self, load: float) -> Policy:
        """The policy with its data, at a load from 0 to 1."""
        share, more = round(load * MAX_LOAD), round(self.degradation * MAX_LOAD)
        match self.type:
            case "WeightedRoundRobin":
                return policies.WeightedRoundRobin(self.weight)
            case "Random":
                return policies.Random()
            case "WeightedRandom":
                return policies.WeightedRandom(self.weight)
            case "Priority":
                return policies.Priority(self.priority)
            case "LeastUsed":
                return policies.LeastUsed(share)
            case "LeastUsedDegradation":
                return policies.LeastUsedDegradation(share, more)
            case "PriorityLeastUsed":
                return policies.PriorityLeastUsed(share, more)
            case "RandomizedLeastUsed":
                return policies.RandomizedLeastUsed(share)
            case _:
                return policies.RoundRobin()


@dataclass(frozen=True, kw_only=True)
class HealthSection:
    """When the application is healthy; the fields are those of Kubernetes' probes."""

    probe: str = setting(parse.one_of("tcpSocket", "httpGet"), "tcpSocket or httpGet.", "tcpSocket")
    port: int = setting(parse.port_or_none, "Port to probe; 0: the application's.", 0)
    path: str = setting(_http_path, "httpGet: the path.", "/")
    headers: tuple[str, ...] = setting(_http_headers, "httpGet: headers, each as Name: value.", ())
    initial_delay: float = setting(parse.seconds, "Before the first probe.", "0s")
    period: float = setting(parse.positive, "Between two probes; after a failed one half of it.", "1s")
    timeout: float = setting(parse.positive, "For one probe.", "1s")
    failure_threshold: int = setting(parse.integer(1, 1000), "Failures in a row that make it unhealthy.", 2)
    success_threshold: int = setting(parse.integer(1, 1000), "Successes in a row that make it healthy.", 1)


@dataclass(frozen=True, kw_only=True)
class TimersSection:
    """How fast failures are noticed; empty: as the profile has it."""

    profile: str = setting(parse.one_of(*PROFILES), "Fast or RFC, as the registrars'.", "Fast")
    registration_life: float | None = setting(parse.optional(parse.seconds), "Registration Life, whole seconds.", "")
    leave: float = setting(parse.seconds, "Longest time to deregister in when the process ends.", "5s")

    def timers(self) -> EndpointTimers:
        """The timers in force."""
        timers = PROFILES[self.profile].endpoint
        if self.registration_life is None:
            return timers
        return dataclasses.replace(timers, life=int(self.registration_life))

    def check(self) -> None:
        """Whether a registration can have such a life.

        Raises:
            KeyFaultError: it cannot.
        """
        life = self.registration_life
        if life is not None and (life < 3 or life % 1 or life > 0x7FFFFFFF):
            raise KeyFaultError("registration_life", f"{life:g} s cannot be; write whole seconds, 3 or more: 30s")


@dataclass(frozen=True, kw_only=True)
class SidecarSettings:
    """The whole configuration."""

    pool: PoolSection = section(PoolSection)
    network: NetworkSection = section(NetworkSection)
    registrars: RegistrarsSection = section(RegistrarsSection)
    application: ApplicationSection = section(ApplicationSection)
    policy: PolicySection = section(PolicySection)
    health: HealthSection = section(HealthSection)
    security: SecuritySection = section(SecuritySection)
    operator: OperatorSection = section(OperatorSection)
    timers: TimersSection = section(TimersSection)
    control: ControlSection = section(ControlSection)
    log: LogSection = section(LogSection)
