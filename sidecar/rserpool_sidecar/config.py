# SPDX-License-Identifier: Apache-2.0
"""The sidecar's configuration, and what it makes of it."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from ipaddress import ip_address

from rserpool.asap.profiles import PROFILES, EndpointTimers
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
from rserpool.wire import Address, Policy, SctpTransport, TcpTransport, Transport, UdpTransport, policies
from rserpool.wire.policies import MAX_LOAD
from rserpool_sidecar.channel.section import ChannelSection
from rserpool_sidecar.load.section import LoadSection

_U32 = parse.integer(0, 0xFFFFFFFF)
_DURATION = parse.optional(parse.seconds)
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
    "PriorityLeastUsedDegradation",
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
        parse.number(0, 1), "LeastUsedDegradation, PriorityLeastUsed(Degradation): load one more user adds.", 0.0
    )

    @property
    def adaptive(self) -> bool:
        """Whether the policy goes by the load."""
        return "LeastUsed" in self.type

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
            case "PriorityLeastUsedDegradation":
                return policies.PriorityLeastUsedDegradation(share, more)
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
    registration_life: float | None = setting(_DURATION, "Registration Life, whole seconds.", "")
    t2: float | None = setting(_DURATION, "T2-registration: wait for an answer.", "")
    t3: float | None = setting(_DURATION, "T3-deregistration: wait for an answer.", "")
    t4: float | None = setting(_DURATION, "T4-reregistration, at the longest.", "")
    t5: float | None = setting(_DURATION, "T5-Serverhunt, the first round.", "")
    t7: float | None = setting(_DURATION, "T7-ENRPoutdate, for how long an announced registrar is remembered.", "")
    retran_max: float | None = setting(_DURATION, "RETRAN-MAX, the longest round and pause.", "")
    max_attempts: int | None = setting(
        parse.optional(parse.integer(0, 1000)), "MAX-REG-ATTEMPT, repetitions before a failure is reported.", ""
    )
    connect: float | None = setting(_DURATION, "To open an association, TLS included.", "")
    hunt_stagger: float | None = setting(_DURATION, "Between the attempts of a round.", "")
    silent_home: float | None = setting(_DURATION, "A home that is silent for so long is left; 0s: never.", "")
    leave: float = setting(parse.seconds, "Longest time to deregister in when the process ends.", "5s")

    def timers(self) -> EndpointTimers:
        """The timers in force."""
        changes = given(self, "profile", "registration_life", "leave")
        if self.registration_life is not None:
            changes["life"] = int(self.registration_life)
        return dataclasses.replace(PROFILES[self.profile].endpoint, **changes)

    def check(self) -> None:
        """Whether a registration can have such a life, and whether there is time to wait.

        Raises:
            KeyFaultError: it cannot, or there is none.
        """
        for key in ("t2", "t3", "t4", "t5", "t7", "retran_max", "connect"):
            if getattr(self, key) == 0:
                raise KeyFaultError(key, "0 is no time to wait; write a duration such as 500ms")
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
    channel: ChannelSection = section(ChannelSection)
    policy: PolicySection = section(PolicySection)
    load: LoadSection = section(LoadSection)
    health: HealthSection = section(HealthSection)
    security: SecuritySection = section(SecuritySection)
    operator: OperatorSection = section(OperatorSection)
    timers: TimersSection = section(TimersSection)
    discovery: DiscoverySection = section(DiscoverySection)
    control: ControlSection = section(ControlSection)
    log: LogSection = section(LogSection)

    @property
    def user_transport(self) -> Transport:
        """The User Transport: the channel's, or the application's own."""
        address = self.network.address
        return self.channel.transport(address) if self.channel.enabled else self.application.transport(address)

    @property
    def application_addresses(self) -> tuple[Address, ...]:
        """Where the application may listen: with a channel also where no pool user can go round it."""
        address = self.network.address
        if not self.channel.enabled or address.is_loopback:
            return (address,)
        return (address, ip_address("::1" if address.version == 6 else "127.0.0.1"))
