# SPDX-License-Identifier: Apache-2.0
"""Serves the control channel: ``POST /v1/control`` over mutual TLS. A process is told of its own pool only."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final

from aiohttp import web

from rserpool.asap.authorisation import Role
from rserpool.asap.limits import Rate
from rserpool.daemon.logs import PeerLog
from rserpool.identity import LeafIdentity
from rserpool.identity.revoked import LEAF_REVOKED
from rserpool_operator.answers import certificate_of, granted, json_of, refused
from rserpool_operator.buckets import Buckets
from rserpool_operator.control.board import Boards
from rserpool_operator.kube import KubeError
from rserpool_operator.metrics import OperatorMetrics
from rserpool_operator.notes import Notes
from rserpool_operator.observed import Report
from rserpool_operator.plan import Note, about_pod
from rserpool_operator.reasons import Reason
from rserpool_operator.trust import Truster, TrustError
from rserpool_operator.work_queue import Key

_log: Final = logging.getLogger(__name__)
LONGEST_WAIT: Final = 25.0
FIRST_WAIT: Final = 3.0
"""Seconds for a pool that has just been created, or a leader that has just begun, to know what to say."""
RATE: Final = Rate(5, 30)
"""Questions of one identity: one a second at most is usual."""
NO_MEMBER: Final = "the pod is no member of the pool any more"
PARTS: Final = ("settings", "bundle", "ended", "renew")


class ControlDesk:
    """Answers registrars and sidecars.

    Args:
        boards: what is told and said.
        truster: verifies leaves against the pool they name.
        notes: where intruders are told of.
        leading: whether this replica leads.
        is_member: whether the pod of that UID is a member of that pool now.
    """

    def __init__(
        self,
        boards: Boards,
        truster: Truster,
        notes: Notes,
        metrics: OperatorMetrics,
        clock: Callable[[], float],
        leading: Callable[[], bool],
        is_member: Callable[[Key, str], Awaitable[bool]],
    ) -> None:
        self._boards = boards
        self._truster = truster
        self._notes = notes
        self._metrics = metrics
        self._clock = clock
        self._leading = leading
        self._is_member = is_member
        self._buckets = Buckets(RATE)
        self._peer_log = PeerLog(_log)

    async def control(self, request: web.Request) -> web.Response:
        """One exchange."""
        certificate = certificate_of(request)
        if certificate is None:
            return self._refuse(str(request.remote), 401, "NoCertificate", "the control channel takes a certificate")
        if not self._leading():
            return self._refuse(str(request.remote), 503, "NotLeader", "this replica does not lead; ask again")
        try:
            leaf, issuer = await self._truster.verified(certificate)
            identity = leaf.identity
            if not self._buckets.allow(str(identity), self._clock()):
                return self._refuse(str(identity), 429, "TooMany", "too many requests; ask later")
            if self._boards.has_revoked(Key(identity.namespace, identity.pool), leaf.serial):
                return self._refuse(str(identity), 403, LEAF_REVOKED, "the leaf is in spec.security.revoked")
            body = await json_of(request)
            role, wait, report = _read(body)
            report = replace(report, issuer=issuer)
            if identity.role is Role.ELEMENT and not await self._still_member(identity):
                return self._refuse(str(identity), 403, "Revoked", NO_MEMBER)
        except TrustError as e:
            return self._refuse(str(request.remote), 403, "Forbidden", str(e))
        except ValueError as e:
            return self._refuse(str(request.remote), 400, "BadRequest", str(e))
        except KubeError:
            return self._refuse(str(request.remote), 503, "ApiServer", "the API server does not answer; ask again")
        if role is not identity.role:
            message = f"a leaf of role {identity.role.value} is told nothing as {role.value}"
            await self._tell(identity, message)
            return self._refuse(str(identity), 403, "OtherRole", message)
        return await self._answer(identity, report, wait)

    async def _still_member(self, identity: LeafIdentity) -> bool:
        """Whether the pod is one now: a leader that has just begun does not know who lost its label before."""
        key = Key(identity.namespace, identity.pool)
        if self._boards.has_ended(key, identity.pod_uid):
            return False
        if await self._is_member(key, identity.pod_uid):
            return True
        self._boards.pod_ended(key, identity.pod_uid)
        return False

    async def _answer(self, identity: LeafIdentity, report: Report, wait: float) -> web.Response:
        key = Key(identity.namespace, identity.pool)
        if self._boards.has_ended(key, identity.pod_uid):
            return self._refuse(str(identity), 403, "Revoked", NO_MEMBER)
        self._boards.report(key, identity.pod_uid, report)
        news = self._boards.news(key, identity.role, report.loaded, report.issuer)
        if news is None:
            await self._boards.wait(key, FIRST_WAIT)
            news = self._boards.news(key, identity.role, report.loaded, report.issuer)
        elif not news and wait > 0:
            await self._boards.wait(key, wait)
            news = self._boards.news(key, identity.role, report.loaded, report.issuer)
        if news is None:
            return self._refuse(str(identity), 503, "NotKnownYet", "the pool has not been looked at yet; ask again")
        self._metrics.controls.labels("news" if news else "nothing_new").inc()
        return granted(news)

    async def _tell(self, identity: LeafIdentity, message: str) -> None:
        """Say at the pod that somebody in it asked for what is not its own."""
        name = self._truster.pod_name(identity.pod_uid)
        if name:
            about = about_pod(identity.namespace, name, identity.pod_uid)
            await self._notes.write(Note(about=about, reason=Reason.CONTROL_REFUSED, message=message, warning=True))

    def _refuse(self, peer: str, status: int, reason: str, message: str) -> web.Response:
        self._metrics.controls.labels(reason).inc()
        level = logging.INFO if status == 503 else logging.WARNING
        text = f"refused a request on the control channel: {message}"
        self._peer_log.write(level, peer, reason, text, {"peer": peer, "reason": reason}, self._clock())
        return refused(status, reason, message)


def _read(body: Mapping[str, Any]) -> tuple[Role, float, Report]:
    """What a process says.

    Raises:
        ValueError: it is not what one says.
    """
    loaded, state, transports = body.get("loaded"), body.get("state"), body.get("transports")
    wait = body.get("wait", 0)
    if (
        body.get("role") not in (Role.REGISTRAR.value, Role.ELEMENT.value)
        or not isinstance(loaded, dict)
        or not all(isinstance(loaded.get(part, ""), str) for part in PARTS)
        or not isinstance(state, dict)
        or not isinstance(transports, list)
        or not isinstance(wait, int | float)
        or isinstance(wait, bool)
    ):
        raise ValueError("the body must have role, wait, loaded, transports and state")
    report = Report(
        role=body["role"],
        loaded={part: loaded.get(part, "")[:64] for part in PARTS},
        transports=tuple(sorted(t for t in transports if t in ("TCP", "SCTP"))),
        state=_scalars(state),
        at=datetime.now(UTC),
    )
    return Role(body["role"]), min(max(0.0, float(wait)), LONGEST_WAIT), report


def _scalars(state: Mapping[str, Any]) -> dict[str, object]:
    """At most a few short values: a process is believed about itself, but costs us no more than that."""
    found: dict[str, object] = {}
    for key, value in list(state.items())[:16]:
        if value is None or isinstance(value, bool | int | float):
            found[str(key)[:32]] = value
        elif isinstance(value, str):
            found[str(key)[:32]] = value[:200]
    return found
