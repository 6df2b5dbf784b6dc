# SPDX-License-Identifier: Apache-2.0
"""What fields of a ServerPool must be to each other, in CEL: rserpool.pool.rules, as the API server can check it.

A rule that fails on one value must not fail because of another that is already refused: an expression that cannot be
evaluated would be reported too, at a field that is in order. So what compares durations first asks whether they are.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from rserpool.asap.profiles import FAST, RFC
from rserpool.pool.rules import (
    LONGEST_LIFE,
    LONGEST_POD_CERTIFICATE,
    SHORTEST_CERT_MANAGER_LEAF,
    SHORTEST_LEAF,
    SHORTEST_POD_CERTIFICATE,
)
from rserpool.pool.values import (
    DURATION_ADVICE,
    DURATION_PATTERN,
    LABEL_PATTERN,
    LONGEST_DURATION,
    METRIC_ADVICE,
    METRIC_PATTERN,
    format_duration,
)

FIXED: Final = "cannot be changed; delete and re-create the ServerPool"
"""Of the rules that compare with what was before."""
_LONGEST_DRAIN: Final = timedelta(hours=1)
_SHORTEST_REGISTRATION: Final = timedelta(seconds=3)


@dataclass(frozen=True, slots=True, kw_only=True)
class CelRule:
    """One rule.

    Attributes:
        at: the field whose schema carries it; ``self`` of the expression.
        check: true of what is in order.
        message: what to write instead.
        field: the field that is at fault, from ``at`` on; empty: that field itself.
    """

    at: str
    check: str
    message: str
    field: str = ""

    @property
    def path(self) -> str:
        """The field that is named when it fails."""
        return f"{self.at}{self.field}".removeprefix(".")

    def entry(self) -> dict[str, Any]:
        """As x-kubernetes-validations has it."""
        entry = {"rule": self.check, "message": self.message}
        return {**entry, "fieldPath": self.field} if self.field else entry


def _span(length: timedelta) -> str:
    return f"duration('{format_duration(length)}')"


def _is_duration(value: str) -> str:
    return f"{value}.matches(r'{DURATION_PATTERN}') && duration({value}) <= {_span(LONGEST_DURATION)}"


def _if_duration(check: str, *values: str) -> str:
    return f"!({' && '.join(map(_is_duration, values))}) || {check}"


def duration_format(at: str) -> CelRule:
    """Of every duration: that it is one. Not a pattern, whose message would be the pattern."""
    return CelRule(at=at, check=_is_duration("self"), message=DURATION_ADVICE)


def unique_items(at: str) -> CelRule:
    """Of every list without repeats; a list of type set would name the item, and forget the order."""
    return CelRule(at=at, check="self.all(x, self.exists_one(y, x == y))", message="write each item once")


def least(at: str, number: float) -> CelRule:
    """Of every number whose minimum has a fraction: the API server cuts that off before it compares a whole number."""
    return CelRule(at=at, check=f"self >= {number}", message=f"write {number} or more")


def _names() -> Iterator[CelRule]:
    yield CelRule(
        at="",
        check=f"self.metadata.name.size() <= 40 && self.metadata.name.matches(r'{LABEL_PATTERN}')",
        message="write a DNS label of at most 40 characters: lower-case letters, digits and dashes,"
        " with a letter or digit at both ends",
        field=".metadata.name",
    )
    handle = "(has({0}.spec.poolHandle) && {0}.spec.poolHandle != '' ? {0}.spec.poolHandle : {0}.metadata.name)"
    yield CelRule(
        at="spec.poolHandle", check="bytes(self).size() <= 255", message="write at most 255 octets (of UTF-8)"
    )
    yield CelRule(
        at="",
        check=f"self.spec.dialect != 'RSPLIB' || bytes({handle.format('self')}).size() <= 32",
        message="with dialect RSPLIB write at most 32 octets; default is the object's name",
        field=".spec.poolHandle",
    )
    yield CelRule(
        at="",
        check=f"{handle.format('self')} == {handle.format('oldSelf')}",
        message=FIXED,
        field=".spec.poolHandle",
    )


def _fixed() -> Iterator[CelRule]:
    for field in (".policy.type", ".elements.protocol", ".controlChannel", ".security.mode", ".security.enrolment"):
        yield CelRule(at="spec", check=f"self{field} == oldSelf{field}", message=FIXED, field=field)


def _elements() -> Iterator[CelRule]:
    health = "spec.elements.health"
    yield CelRule(
        at="spec.elements",
        check="self.protocol != 'UDP' || has(self.health)",
        message="is required for protocol UDP; write tcpSocket or httpGet with a port",
        field=".health",
    )
    yield CelRule(
        at=health,
        check="!has(self.exec)",
        message="a sidecar cannot run programs of another container; write tcpSocket or httpGet",
        field=".exec",
    )
    yield CelRule(
        at=health,
        check="has(self.exec) || !has(self.tcpSocket) || !has(self.httpGet)",
        message="has tcpSocket and httpGet; write one of them",
    )
    other = "self.protocol == 'TCP' || !has(self.health) || has(self.health.exec)"
    tcp, http = "has(self.health.tcpSocket)", "has(self.health.httpGet)"
    message = "names no port, and the element's does not speak TCP; write a TCP port"
    for check, field in (
        (f"!{tcp} || has(self.health.tcpSocket.port)", ".health.tcpSocket"),
        (f"{tcp} || !{http} || has(self.health.httpGet.port)", ".health.httpGet"),
        (f"{tcp} || {http}", ".health"),
    ):
        yield CelRule(at="spec.elements", check=f"{other} || {check}", message=message, field=field)
    yield CelRule(
        at="spec.elements.load",
        check="self.source != 'prometheus' || has(self.metric) && self.metric != ''",
        message="is required with source prometheus; write the metric's name",
        field=".metric",
    )
    yield CelRule(
        at="spec.elements.load.metric",
        check=f"self == '' || self.matches(r'{METRIC_PATTERN}')",
        message=METRIC_ADVICE,
    )
    yield CelRule(
        at="spec.elements",
        check="self.load.source == 'cpu' || has(self.load.port) || self.protocol == 'TCP'",
        message="is required: the element's port does not speak TCP; write a TCP port",
        field=".load.port",
    )
    yield positive("spec.elements.load.minimumInterval")
    yield CelRule(
        at="spec.elements.drain",
        check=_if_duration(f"duration(self) <= {_span(_LONGEST_DRAIN)}", "self"),
        message=f"write at most {format_duration(_LONGEST_DRAIN)}",
    )
    yield CelRule(
        at="spec",
        check="!self.controlChannel || self.elements.protocol == 'TCP'",
        message="is for elements of protocol TCP; write false",
        field=".controlChannel",
    )


def positive(at: str) -> CelRule:
    """Of every timer."""
    return CelRule(
        at=at,
        check=_if_duration("duration(self) > duration('0s')", "self"),
        message="is 0; write a positive duration",
    )


def _either(field: str, fast: float, rfc: float) -> str:
    """A timer, or its profile's."""
    spans = [_span(timedelta(seconds=value)) for value in (rfc, fast)]
    return f"(has(self.{field}) ? duration(self.{field}) : self.profile == 'RFC' ? {spans[0]} : {spans[1]})"


def _timers() -> Iterator[CelRule]:
    heartbeat = _either("heartbeatCycle", FAST.registrar.heartbeat, RFC.registrar.heartbeat)
    heard = _either("maxTimeLastHeard", FAST.registrar.last_heard, RFC.registrar.last_heard)
    guard = " && ".join(
        f"(!has(self.{name}) || {_is_duration(f'self.{name}')})" for name in ("heartbeatCycle", "maxTimeLastHeard")
    )
    enough = f"!({guard}) || {heard} - {heartbeat} > {heartbeat}"
    beat, rfc_beat, wait, rfc_wait = (
        format_duration(timedelta(seconds=value))
        for value in (
            FAST.registrar.heartbeat,
            RFC.registrar.heartbeat,
            FAST.registrar.last_heard,
            RFC.registrar.last_heard,
        )
    )
    yield CelRule(
        at="spec.timers",
        check=f"!has(self.maxTimeLastHeard) || {enough}",
        message=f"is not above twice heartbeatCycle (default: Fast {beat}, RFC {rfc_beat}); write more",
        field=".maxTimeLastHeard",
    )
    yield CelRule(
        at="spec.timers",
        check=f"has(self.maxTimeLastHeard) || {enough}",
        message=f"maxTimeLastHeard is not above twice heartbeatCycle (default: Fast {wait}, RFC {rfc_wait});"
        " write more for it, or less for heartbeatCycle",
        field=".heartbeatCycle",
    )
    whole = "duration(self).getMilliseconds() % 1000 == 0"
    yield CelRule(
        at="spec.timers.registrationLife",
        check=_if_duration(f"({whole} && duration(self) >= {_span(_SHORTEST_REGISTRATION)})", "self"),
        message="write whole seconds, 3s or more",
    )
    yield CelRule(
        at="spec.timers.registrationLife",
        check=_if_duration(f"duration(self) <= {_span(LONGEST_LIFE)}", "self"),
        message=f"write {format_duration(LONGEST_LIFE)} or less",
    )


def _signer() -> Iterator[CelRule]:
    at = "spec.security.signer"
    theirs = "self.type == 'IssuerRef'"
    for check, message, field in (
        (f"!({theirs}) || has(self.issuerRef)", "is required with signer type IssuerRef", ".issuerRef"),
        (
            f"!({theirs}) || (has(self.caBundle) && self.caBundle != '')",
            "is required with signer type IssuerRef: PEM in base64",
            ".caBundle",
        ),
        (
            f"{theirs} || !has(self.issuerRef)",
            "means nothing with this signer type; remove it, or write type IssuerRef",
            ".issuerRef",
        ),
        (
            f"{theirs} || !has(self.caBundle)",
            "means nothing with this signer type; remove it, or write type IssuerRef",
            ".caBundle",
        ),
    ):
        yield CelRule(at=at, check=check, message=message, field=field)


def _lives() -> Iterator[CelRule]:
    leaf, ca = "self.leafDuration", "self.ca.duration"
    for types, other, shortest in (
        ("Embedded", "self.signer.type != 'Embedded'", SHORTEST_LEAF),
        ("CertManager or IssuerRef", "self.signer.type == 'Embedded'", SHORTEST_CERT_MANAGER_LEAF),
    ):
        yield CelRule(
            at="spec.security",
            check=f"{other} || {_if_duration(f'duration({leaf}) >= {_span(shortest)}', leaf)}",
            message=f"with signer type {types} write {format_duration(shortest)} or more",
            field=".leafDuration",
        )
    other = "self.enrolment != 'PodCertificate'"
    yield CelRule(
        at="spec.security",
        check=f"{other} || self.signer.type == 'Embedded'",
        message="cannot sign what kubelets ask for; with enrolment PodCertificate write Embedded",
        field=".signer.type",
    )
    least, most = SHORTEST_POD_CERTIFICATE, LONGEST_POD_CERTIFICATE
    between = f"(duration({leaf}) >= {_span(least)} && duration({leaf}) <= {_span(most)})"
    yield CelRule(
        at="spec.security",
        check=f"{other} || {_if_duration(between, leaf)}",
        message=f"with enrolment PodCertificate write {format_duration(least)} to {format_duration(most)}",
        field=".leafDuration",
    )
    yield CelRule(
        at="spec.security",
        check=_if_duration(f"duration({ca}) - duration({leaf}) >= duration({leaf})", leaf, ca),
        message="is less than twice leafDuration; write more",
        field=".ca.duration",
    )


def _dialect() -> Iterator[CelRule]:
    yield CelRule(
        at="spec",
        check="self.dialect != 'RSPLIB' || self.security.mode == 'Insecure'",
        message="rsplib knows no TLS; with dialect RSPLIB write Insecure",
        field=".security.mode",
    )
    yield CelRule(
        at="spec",
        check="self.dialect != 'RSPLIB' || self.transport.order == ['SCTP']",
        message="rsplib speaks SCTP only; with dialect RSPLIB write [SCTP]",
        field=".transport.order",
    )


RULES: Final = (
    *_names(),
    *_fixed(),
    *_elements(),
    *_timers(),
    *_signer(),
    *_lives(),
    *_dialect(),
)
"""All but those that every duration, timer and list without repeats has."""
