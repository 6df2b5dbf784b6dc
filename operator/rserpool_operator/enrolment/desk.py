# SPDX-License-Identifier: Apache-2.0
"""Serves enrolment: with a token once, with the current leaf ever after. The decision is the same.

A pod whose first leaf came from the kubelet asks with that leaf whom to trust, and renews as all others do.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from typing import Final, NamedTuple

from aiohttp import web

from rserpool.asap.authorisation import Role
from rserpool.asap.limits import Rate
from rserpool.authority import SigningError
from rserpool.daemon.enrolment import EnrolmentRequest, is_token
from rserpool.daemon.logs import PeerLog
from rserpool.identity.certificates import Leaf
from rserpool.pool import ServerPool
from rserpool.pool.model import Selector
from rserpool.pool.values import LABEL_PATTERN
from rserpool_operator.answers import body_of, certificate_of, granted, refused
from rserpool_operator.authorities import AuthorityError, sign, whole_bundle
from rserpool_operator.buckets import Buckets
from rserpool_operator.enrolment import facts
from rserpool_operator.enrolment.decision import Bearer, Claim, Denied, Granted, PodFacts, may
from rserpool_operator.installation import Installation
from rserpool_operator.kube import Kube, KubeError, Object
from rserpool_operator.metrics import OperatorMetrics
from rserpool_operator.notes import Notes
from rserpool_operator.plan import Note, about_pod
from rserpool_operator.reasons import Reason
from rserpool_operator.trust import Truster, TrustError

_log: Final = logging.getLogger(__name__)
_LABEL: Final = re.compile(LABEL_PATTERN)
POD_RATE: Final = Rate(0.5, 5)
"""Of one source: a pod enrols once; what asks all the time is broken or means harm."""


class _Judged(NamedTuple):
    """What was granted, and on what grounds."""

    verdict: Granted
    raw: Object
    pool: ServerPool
    pod: PodFacts


class EnrolmentDesk:
    """Decides and signs.

    Args:
        kube: what it decides on.
        installation: for whom.
        truster: verifies leaves against the pool they name.
        notes: where refusals are told.
        check_source: look at the address that asks.
        per_second: enrolments of a namespace.
        clock: seconds, never going backwards.
    """

    def __init__(
        self,
        kube: Kube,
        installation: Installation,
        truster: Truster,
        notes: Notes,
        metrics: OperatorMetrics,
        *,
        check_source: bool,
        per_second: float,
        clock: Callable[[], float],
    ) -> None:
        self._kube = kube
        self._installation = installation
        self._truster = truster
        self._notes = notes
        self._metrics = metrics
        self._check_source = check_source
        self._rate = Rate(per_second, max(1.0, 5 * per_second))
        self._clock = clock
        self._peer_log = PeerLog(_log)
        self._buckets = Buckets(POD_RATE)

    async def enrol(self, request: web.Request) -> web.Response:
        """``POST /v1/enrol``: who has a token."""
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme != "Bearer" or not is_token(token):
            return self._refuse(request, "token", Denied(word="NoToken", message="a bearer token is needed"), 401)
        source = f"source {request.remote}" if self._check_source else "behind NAT"
        if not self._allowed(source, POD_RATE if self._check_source else self._rate):
            return self._slow(request, "token")
        try:
            bearer = await facts.bearer_of(self._kube, token)
        except KubeError as e:
            return self._away(request, "token", e)
        if isinstance(bearer, str):
            return self._refuse(request, "token", Denied(word="Unauthorized", message=bearer), 401)
        return await self._decide(request, "token", bearer)

    async def renew(self, request: web.Request) -> web.Response:
        """``POST /v1/renew``: who has a leaf."""
        leaf = await self._leaf(request)
        if isinstance(leaf, web.Response):
            return leaf
        return await self._decide(request, "leaf", self._holder(leaf), (leaf.identity.pool, leaf.identity.role))

    async def bundle(self, request: web.Request) -> web.Response:
        """``POST /v1/bundle``: who has a leaf of the kubelet's, and does not know yet whom to trust."""
        leaf = await self._leaf(request)
        if isinstance(leaf, web.Response):
            return leaf
        identity = leaf.identity
        claim = Claim(namespace=identity.namespace, pool=identity.pool, role=identity.role)
        try:
            judged = await self._judged(request, "leaf", self._holder(leaf), claim)
            if isinstance(judged, web.Response):
                return judged
            bundle = await whole_bundle(self._kube, judged.raw, judged.pool, self._installation.namespace)
        except AuthorityError as e:
            return self._refuse(request, "leaf", Denied(word="NoAuthority", message=str(e), retry=True), 503)
        except KubeError as e:
            return self._away(request, "leaf", e)
        return granted({"bundle": bundle.decode()})

    async def _leaf(self, request: web.Request) -> Leaf | web.Response:
        """The leaf that somebody shows, if it is believed, and not shown all the time."""
        certificate = certificate_of(request)
        if certificate is None:
            denied = Denied(word="NoCertificate", message="this takes the current certificate")
            return self._refuse(request, "leaf", denied, 401)
        try:
            leaf, _ = await self._truster.verified(certificate)
        except TrustError as e:
            return self._refuse(request, "leaf", Denied(word="Forbidden", message=str(e)), 403)
        except KubeError as e:
            return self._away(request, "leaf", e)
        return leaf if self._allowed(f"pod {leaf.identity.pod_uid}", POD_RATE) else self._slow(request, "leaf")

    def _holder(self, leaf: Leaf) -> Bearer:
        identity = leaf.identity
        name = self._truster.pod_name(identity.pod_uid)
        return Bearer(namespace=identity.namespace, pod_uid=identity.pod_uid, pod_name=name, serial=leaf.serial)

    async def _decide(
        self, request: web.Request, way: str, bearer: Bearer, bound: tuple[str, Role] | None = None
    ) -> web.Response:
        try:
            wanted = EnrolmentRequest.from_json(await body_of(request))
            if not _LABEL.fullmatch(wanted.namespace) or not _LABEL.fullmatch(wanted.pool):
                raise ValueError("namespace and pool must be names")  # noqa: TRY301 - one answer to all bad bodies
        except ValueError as e:
            return self._refuse(request, way, Denied(word="BadRequest", message=str(e)), 400)
        if not self._allowed(f"namespace {bearer.namespace}", self._rate):
            return self._slow(request, way)
        if bound is not None and bound != (wanted.pool, wanted.role):
            denied = Denied(word="OtherIdentity", message="a leaf renews itself, and nothing else")
            return self._refuse(request, way, denied, 403)
        claim = Claim(namespace=wanted.namespace, pool=wanted.pool, role=wanted.role)
        try:
            return await self._answer(request, way, bearer, claim, wanted.request)
        except KubeError as e:
            return self._away(request, way, e)

    async def _answer(self, request: web.Request, way: str, bearer: Bearer, claim: Claim, csr: bytes) -> web.Response:
        judged = await self._judged(request, way, bearer, claim)
        if isinstance(judged, web.Response):
            return judged
        return await self._sign(request, way, judged, csr)

    async def _judged(self, request: web.Request, way: str, bearer: Bearer, claim: Claim) -> _Judged | web.Response:
        """The decision, or the answer that refuses."""
        found = None
        if claim.namespace == bearer.namespace:  # nobody learns of other namespaces' pools by asking
            found = await facts.pool_facts(self._kube, claim.namespace, claim.pool)
        pool = found[0].pool if found is not None else None
        selective = pool is not None and pool.spec.elements.nodes != Selector()
        pod = await self._pod(bearer, with_node=selective and claim.role is Role.ELEMENT)
        verdict = may(
            claim,
            bearer,
            pod,
            found[0] if found is not None else None,
            trust_domain=self._installation.trust_domain,
            cluster_domain=self._installation.cluster_domain,
            source=request.remote if self._check_source else None,
        )
        if isinstance(verdict, Denied):
            if pod is not None:
                await self._tell(pod, verdict)
            return self._refuse(request, way, verdict, 503 if verdict.retry else 403, pod)
        assert found is not None
        assert pool is not None
        assert pod is not None
        return _Judged(verdict, found[1], pool, pod)

    async def _pod(self, bearer: Bearer, *, with_node: bool) -> PodFacts | None:
        if bearer.pod_name:
            return await facts.pod_facts(self._kube, bearer.namespace, bearer.pod_name, with_node=with_node)
        name = await self._truster.find_pod(bearer.namespace, bearer.pod_uid)
        if not name:
            return None
        return await facts.pod_facts(self._kube, bearer.namespace, name, with_node=with_node)

    async def _sign(self, request: web.Request, way: str, judged: _Judged, csr: bytes) -> web.Response:
        namespace, verdict = self._installation.namespace, judged.verdict
        try:
            chain, bundle = await sign(
                self._kube, judged.raw, judged.pool, namespace, verdict.identity, csr, verdict.dns_names
            )
        except SigningError as e:
            denied = Denied(word="BadRequest", message=str(e))
            await self._tell(judged.pod, denied)
            return self._refuse(request, way, denied, 400, judged.pod)
        except AuthorityError as e:
            return self._refuse(request, way, Denied(word="NoAuthority", message=str(e), retry=True), 503)
        self._metrics.enrolments.labels(way, "granted").inc()
        _log.info("certified %s by %s", verdict.identity, way)
        return granted({"chain": chain.decode(), "bundle": bundle.decode()})

    async def _tell(self, pod: PodFacts, denied: Denied) -> None:
        about = about_pod(pod.namespace, pod.name, pod.uid)
        if denied.word == "NoAddressYet":
            return
        reason = Reason.POOL_NOT_FOUND if denied.word == "PoolNotFound" else Reason.ENROLMENT_REFUSED
        message = f"{denied.word}: {denied.message}"
        await self._notes.write(Note(about=about, reason=reason, message=message, warning=True))

    def _refuse(
        self, request: web.Request, way: str, denied: Denied, status: int, pod: PodFacts | None = None
    ) -> web.Response:
        """Refuse, counted, and logged once a minute for each who asks and what for."""
        self._metrics.enrolments.labels(way, denied.word).inc()
        who = f"pod {pod.namespace}/{pod.name}" if pod is not None else str(request.remote)
        extra = {"peer": who, "reason": denied.word}
        self._peer_log.write(
            logging.WARNING, who, denied.word, f"refused enrolment: {denied.message}", extra, self._clock()
        )
        return refused(status, denied.word, denied.message)

    def _slow(self, request: web.Request, way: str) -> web.Response:
        return self._refuse(request, way, Denied(word="TooMany", message="too many requests; ask later"), 429)

    def _away(self, request: web.Request, way: str, error: KubeError) -> web.Response:
        _log.warning("enrolment cannot be decided: %s", error)
        denied = Denied(word="ApiServer", message="the API server does not answer; ask again", retry=True)
        return self._refuse(request, way, denied, 503)

    def _allowed(self, name: str, rate: Rate) -> bool:
        return self._buckets.allow(name, self._clock(), rate)
