# SPDX-License-Identifier: Apache-2.0
"""Answers PodCertificateRequests, in the leader: signs, waits, or denies for ever.

A kubelet that starts again asks anew for every pod of its node, and a request that waits is asked about again and
again: so what is signed is limited by namespace, and what waits is looked at the more rarely the older it is.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from rserpool.asap.authorisation import Role
from rserpool.asap.limits import Rate
from rserpool.authority import SigningError
from rserpool.daemon.logs import PeerLog
from rserpool.pool.model import Selector
from rserpool_operator.authorities import AuthorityError, certify
from rserpool_operator.buckets import Buckets
from rserpool_operator.enrolment import facts
from rserpool_operator.enrolment.decision import Denied, Granted, PodFacts
from rserpool_operator.enrolment.pod_certificates import Asked, denied, is_ours, is_over, issued, judge, read
from rserpool_operator.installation import Installation
from rserpool_operator.kube import Kube, KubeError, Object
from rserpool_operator.kube.kinds import POD_CERTIFICATE_REQUEST
from rserpool_operator.metrics import OperatorMetrics
from rserpool_operator.notes import Notes
from rserpool_operator.plan import Note, about_pod
from rserpool_operator.reasons import Reason
from rserpool_operator.work_queue import NEVER, Key

_log: Final = logging.getLogger(__name__)
WAY: Final = "podCertificate"
SOON: Final = 2.0
"""Seconds after which a request that waits is looked at again: a quarter of its age, not less than this..."""
LATE: Final = 30.0
"""...and not more than this."""


class PodCertificateDesk:
    """Decides and signs.

    Args:
        kube: what it decides on.
        installation: for whom.
        notes: where refusals are told.
        per_second: leaves of a namespace.
        clock: seconds, never going backwards.
        now: the time, UTC.
    """

    def __init__(
        self,
        kube: Kube,
        installation: Installation,
        notes: Notes,
        metrics: OperatorMetrics,
        *,
        per_second: float,
        clock: Callable[[], float],
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._kube = kube
        self._installation = installation
        self._notes = notes
        self._metrics = metrics
        self._buckets = Buckets(Rate(per_second, max(1.0, 5 * per_second)))
        self._clock = clock
        self._now = now
        self._peer_log = PeerLog(_log)
        self._open: dict[str, Key] = {}

    @property
    def open(self) -> tuple[Key, ...]:
        """The requests that were seen and not answered yet."""
        return tuple(self._open.values())

    def seen(self, kind: str, request: Mapping[str, Any]) -> Key | None:
        """A watch has told of a request; returns it if there is something to do about it."""
        found, metadata = dict(request), request["metadata"]
        if kind == "DELETED" or not is_ours(found) or is_over(found):
            self._open.pop(metadata["uid"], None)
            return None
        key = self._open[metadata["uid"]] = Key(metadata["namespace"], metadata["name"])
        return key

    async def look(self, key: Key) -> float:
        """Do what is to be done about one request; returns the seconds after which to look again.

        Raises:
            KubeError: the API server does not answer, or refuses.
        """
        request = await self._kube.get(POD_CERTIFICATE_REQUEST, key.namespace, key.name)
        if request is None or not is_ours(request) or is_over(request):
            return NEVER
        asked = read(request)
        if isinstance(asked, Denied):
            return await self._deny(request, asked, None)
        return await self._decide(request, asked)

    async def _decide(self, request: Object, asked: Asked) -> float:
        claim = asked.claim
        found = await facts.pool_facts(self._kube, claim.namespace, claim.pool)
        pool = found[0].pool if found is not None else None
        selective = pool is not None and pool.spec.elements.nodes != Selector() and claim.role is Role.ELEMENT
        pod = await facts.pod_facts(self._kube, claim.namespace, asked.bearer.pod_name, with_node=selective)
        verdict = judge(
            asked,
            pod,
            found[0] if found is not None else None,
            trust_domain=self._installation.trust_domain,
            cluster_domain=self._installation.cluster_domain,
        )
        if isinstance(verdict, Denied):
            return await (self._deny if verdict.never else self._wait)(request, verdict, pod)
        assert found is not None
        assert pool is not None
        assert pod is not None
        if not self._buckets.allow(claim.namespace, self._clock()):
            return SOON
        try:
            chain = await certify(
                self._kube,
                found[1],
                pool,
                self._installation.namespace,
                verdict.identity,
                asked.key,
                verdict.dns_names,
                asked.longest,
                self._now(),
            )
        except AuthorityError as e:
            return await self._wait(request, Denied(word="NoAuthority", message=str(e), retry=True), pod)
        except SigningError as e:
            return await self._deny(request, Denied(word="BadRequest", message=str(e), never=True), pod)
        return await self._give(request, issued(request, chain, self._now()), verdict)

    async def _give(self, request: Object, answer: Object, verdict: Granted) -> float:
        if await self._apply(request, answer):
            self._metrics.enrolments.labels(WAY, "granted").inc()
            _log.info("certified %s by %s", verdict.identity, WAY)
        return NEVER

    async def _deny(self, request: Object, why: Denied, pod: PodFacts | None) -> float:
        if await self._apply(request, denied(request, why, self._now())):
            await self._say(request, why, pod, "denied")
        return NEVER

    async def _wait(self, request: Object, why: Denied, pod: PodFacts | None) -> float:
        await self._say(request, why, pod, "waits")
        made = datetime.fromisoformat(request["metadata"]["creationTimestamp"])
        return min(LATE, max(SOON, (self._now() - made).total_seconds() / 4))

    async def _apply(self, request: Object, answer: Object) -> bool:
        """Write an answer; returns whether the request was still there to be answered."""
        try:
            await self._kube.apply(POD_CERTIFICATE_REQUEST, answer, subresource="status")
        except KubeError as e:
            if e.status not in (404, 409):
                raise
            return False
        self._open.pop(request["metadata"]["uid"], None)
        return True

    async def _say(self, request: Object, why: Denied, pod: PodFacts | None, how: str) -> None:
        """Counted, told at the pod, and logged once a minute for each pod and reason."""
        self._metrics.enrolments.labels(WAY, why.word).inc()
        who = f"pod {request['metadata']['namespace']}/{request['spec']['podName']}"
        message = f"PodCertificateRequest {request['metadata']['name']} {how}: {why.message}"
        extra = {"peer": who, "reason": why.word}
        self._peer_log.write(logging.WARNING, who, why.word, f"refused enrolment: {message}", extra, self._clock())
        untold = why.word == "NoAuthority"  # of which the ServerPool itself tells
        if pod is not None and pod.uid == request["spec"]["podUID"] and not untold:
            about = about_pod(pod.namespace, pod.name, pod.uid)
            reason = Reason.POOL_NOT_FOUND if why.word == "PoolNotFound" else Reason.ENROLMENT_REFUSED
            note = Note(about=about, reason=reason, message=f"{why.word}: {why.message}", warning=True)
            await self._notes.write(note)
