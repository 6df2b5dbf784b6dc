# SPDX-License-Identifier: Apache-2.0
"""What the fields of a ServerPool must be to each other, one rule a function, each with its words."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import timedelta

from rserpool.asap.profiles import PROFILES
from rserpool.pool.model import (
    UP_COMMAND,
    Dialect,
    Enrolment,
    LoadSource,
    Mode,
    Protocol,
    ServerPool,
    SignerType,
    Timers,
    TransportName,
)
from rserpool.pool.problems import Path, Problem, shown
from rserpool.pool.values import METRIC_ADVICE, METRIC_PATTERN, format_duration

Rule = Callable[[ServerPool], Iterator[Problem]]

_METRIC = re.compile(METRIC_PATTERN)
LONGEST_LIFE = timedelta(seconds=0x7FFFFFFF)
LONGEST_CA = timedelta(days=36500)
SHORTEST_LEAF = timedelta(seconds=10)
SHORTEST_CERT_MANAGER_LEAF = timedelta(hours=1)
SHORTEST_POD_CERTIFICATE = timedelta(hours=1)
LONGEST_POD_CERTIFICATE = timedelta(days=91)


def check(pool: ServerPool) -> list[Problem]:
    """All faults of a ServerPool whose fields are each in order."""
    return [problem for rule in RULES for problem in rule(pool)]


def _problem(path: str, message: str) -> Problem:
    parts: Path = tuple(path.split("."))
    return Problem(path=parts, message=message)


def _handle(pool: ServerPool) -> Iterator[Problem]:
    octets = len(pool.handle)
    if octets > 255:
        yield _problem("spec.poolHandle", f"{octets} octets: write at most 255")
    elif pool.spec.dialect is Dialect.RSPLIB and octets > 32:
        yield _problem("spec.poolHandle", f"{octets} octets: with dialect RSPLIB write at most 32")


def _health(pool: ServerPool) -> Iterator[Problem]:
    elements = pool.spec.elements
    health = elements.health
    if health is None:
        if elements.protocol is Protocol.UDP:
            yield _problem(
                "spec.elements.health", "is required for protocol UDP; write tcpSocket or httpGet with a port"
            )
        return
    if health.exec is not None:
        yield _problem(
            "spec.elements.health.exec",
            "a sidecar cannot run programs of another container; write tcpSocket or httpGet",
        )
        return
    probes = [name for name, probe in (("tcpSocket", health.tcp_socket), ("httpGet", health.http_get)) if probe]
    if len(probes) > 1:
        yield _problem("spec.elements.health", "has tcpSocket and httpGet; write one of them")
    probe = health.tcp_socket or health.http_get
    if elements.protocol is not Protocol.TCP and (probe is None or probe.port is None):
        where = f"spec.elements.health.{probes[0]}" if probes else "spec.elements.health"
        yield _problem(where, f"names no port, and the element's speaks {elements.protocol}; write a TCP port")


def _load(pool: ServerPool) -> Iterator[Problem]:
    elements = pool.spec.elements
    load = elements.load
    if load.source is LoadSource.PROMETHEUS and not load.metric:
        yield _problem("spec.elements.load.metric", "is required with source prometheus; write the metric's name")
    if load.metric and not _METRIC.fullmatch(load.metric):
        yield _problem("spec.elements.load.metric", f"{shown(load.metric)}: {METRIC_ADVICE}")
    if load.source is not LoadSource.CPU and load.port is None and elements.protocol is not Protocol.TCP:
        yield _problem(
            "spec.elements.load.port", f"is required: the element's port speaks {elements.protocol}; write a TCP port"
        )
    if load.minimum_interval <= timedelta(0):
        yield _problem("spec.elements.load.minimumInterval", "is 0; write a positive duration")


def _drain(pool: ServerPool) -> Iterator[Problem]:
    drain = pool.spec.elements.drain
    if drain > timedelta(hours=1):
        yield _problem("spec.elements.drain", f"{format_duration(drain)} is longer than 1h; write at most 1h")


def _timers(pool: ServerPool) -> Iterator[Problem]:
    timers = pool.spec.timers
    profile = PROFILES[timers.profile.value].registrar
    for name in Timers.model_fields:
        value = getattr(timers, name)
        if isinstance(value, timedelta) and value <= timedelta(0):
            yield _problem(f"spec.timers.{_camel(name)}", "is 0; write a positive duration")
    heartbeat = _seconds(timers.heartbeat_cycle, profile.heartbeat)
    last_heard = _seconds(timers.max_time_last_heard, profile.last_heard)
    if last_heard <= 2 * heartbeat:
        field = "maxTimeLastHeard" if timers.max_time_last_heard is not None else "heartbeatCycle"
        yield _problem(
            f"spec.timers.{field}",
            f"maxTimeLastHeard {last_heard:g}s is not above twice heartbeatCycle {heartbeat:g}s;"
            f" write more than {2 * heartbeat:g}s for it",
        )
    life = timers.registration_life
    if life is not None and (life % timedelta(seconds=1) or life < timedelta(seconds=3)):
        yield _problem("spec.timers.registrationLife", f"{format_duration(life)}: write whole seconds, 3s or more")
    elif life is not None and life > LONGEST_LIFE:
        yield _problem(
            "spec.timers.registrationLife", f"{format_duration(life)}: write {format_duration(LONGEST_LIFE)} or less"
        )


def _seconds(duration: timedelta | None, otherwise: float) -> float:
    return otherwise if duration is None else duration.total_seconds()


def _signer(pool: ServerPool) -> Iterator[Problem]:
    security = pool.spec.security
    signer = security.signer
    if signer.type is SignerType.ISSUER_REF:
        if signer.issuer_ref is None:
            yield _problem("spec.security.signer.issuerRef", "is required with signer type IssuerRef")
        if not signer.ca_bundle:
            yield _problem("spec.security.signer.caBundle", "is required with signer type IssuerRef: PEM in base64")
    else:
        if signer.issuer_ref is not None:
            yield _problem("spec.security.signer.issuerRef", f"means nothing with signer type {signer.type}")
        if signer.ca_bundle is not None:
            yield _problem("spec.security.signer.caBundle", f"means nothing with signer type {signer.type}")
    if security.enrolment is Enrolment.POD_CERTIFICATE:
        yield from _pod_certificate(pool)
    shortest = SHORTEST_LEAF if signer.type is SignerType.EMBEDDED else SHORTEST_CERT_MANAGER_LEAF
    if security.leaf_duration < shortest:
        least = "10s" if signer.type is SignerType.EMBEDDED else "1h"
        yield _problem(
            "spec.security.leafDuration",
            f"{format_duration(security.leaf_duration)}: with signer type {signer.type} write {least} or more",
        )
    if security.ca.duration > LONGEST_CA:
        yield _problem(
            "spec.security.ca.duration",
            f"{format_duration(security.ca.duration)}: write {format_duration(LONGEST_CA)} or less",
        )
    elif security.leaf_duration * 2 > security.ca.duration:
        yield _problem("spec.security.ca.duration", "is less than twice leafDuration; write more")


def _pod_certificate(pool: ServerPool) -> Iterator[Problem]:
    """What a kubelet sends names nobody, and the API server bounds for how long its leaves are valid."""
    security = pool.spec.security
    if security.signer.type is not SignerType.EMBEDDED:
        yield _problem(
            "spec.security.signer.type",
            f"{security.signer.type} cannot sign what kubelets ask for; with enrolment PodCertificate write Embedded",
        )
    if not SHORTEST_POD_CERTIFICATE <= security.leaf_duration <= LONGEST_POD_CERTIFICATE:
        least, most = format_duration(SHORTEST_POD_CERTIFICATE), format_duration(LONGEST_POD_CERTIFICATE)
        yield _problem(
            "spec.security.leafDuration",
            f"{format_duration(security.leaf_duration)}: with enrolment PodCertificate write {least} to {most}",
        )


def _dialect(pool: ServerPool) -> Iterator[Problem]:
    spec = pool.spec
    if spec.dialect is not Dialect.RSPLIB:
        return
    if spec.security.mode is not Mode.INSECURE:
        yield _problem("spec.security.mode", "rsplib knows no TLS; with dialect RSPLIB write Insecure")
    if spec.transport.order != [TransportName.SCTP]:
        yield _problem("spec.transport.order", "rsplib speaks SCTP only; with dialect RSPLIB write [SCTP]")


def _control_channel(pool: ServerPool) -> Iterator[Problem]:
    if pool.spec.control_channel and pool.spec.elements.protocol is not Protocol.TCP:
        yield _problem("spec.controlChannel", f"is for elements of protocol TCP, not {pool.spec.elements.protocol}")


def _up_command(pool: ServerPool) -> Iterator[Problem]:
    command = pool.metadata.annotations.get(UP_COMMAND)
    if command is not None and not command.strip():
        problem = Problem(path=("metadata", "annotations", UP_COMMAND), message=f"{shown(command)}: write a command")
        yield problem


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)


RULES: tuple[Rule, ...] = (
    _handle,
    _health,
    _load,
    _drain,
    _timers,
    _signer,
    _dialect,
    _control_channel,
    _up_command,
)
