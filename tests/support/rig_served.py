# SPDX-License-Identifier: Apache-2.0
"""The operator's own server, as it serves pods, on this machine; behind it a cluster in memory."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from typing import Any, Final

from rserpool.asap.authorisation import Role
from rserpool.authority import EmbeddedAuthority, make_request
from rserpool.authority.serving import InstallationAuthority, ServingKeyAndChain
from rserpool.daemon.enrolment import EnrolmentClient, EnrolmentRequest
from rserpool.identity import LeafIdentity
from rserpool.transport.http import Response, Target, ask
from rserpool.transport.tls import Credentials, make_context
from rserpool_operator import names
from rserpool_operator.admission.desk import AdmissionDesk
from rserpool_operator.config import ServerSection
from rserpool_operator.control.desk import ControlDesk
from rserpool_operator.enrolment.desk import EnrolmentDesk
from rserpool_operator.installation_ca import key_pair_of
from rserpool_operator.kube import Object, Ref
from rserpool_operator.kube.kinds import POD
from rserpool_operator.metrics import OperatorMetrics
from rserpool_operator.notes import Notes
from rserpool_operator.server import health_page, metrics_page, serving
from rserpool_operator.trust import Truster
from rserpool_operator.work_queue import Key
from support.ports import free_port
from support.rig_cluster import Cluster, ca_ref, member, raw_pool

HERE: Final = IPv4Address("127.0.0.1")
ELSEWHERE: Final = IPv4Address("127.0.0.2")
TOKEN: Final = "s3cret.token-of.one-pod"
UID: Final = "0f8fad5b-d9cb-469f-a165-70867728950e"
SECOND_UID: Final = "7c9e6679-7425-40de-944b-e07fc1f90ae7"
ECHO, OTHER = Key("demo", "echo"), Key("demo2", "echo")


def identity(role: Role = Role.ELEMENT, uid: str = UID, key: Key = ECHO) -> LeafIdentity:
    return LeafIdentity(trust_domain="cluster.local", namespace=key.namespace, pool=key.name, role=role, pod_uid=uid)


def reviewed(pod: str, uid: str, *, namespace: str = "demo", account: str = "default") -> Object:
    """What the API server says of a good token."""
    extra = {"authentication.kubernetes.io/pod-name": [pod], "authentication.kubernetes.io/pod-uid": [uid]}
    return {
        "authenticated": True,
        "audiences": [names.AUDIENCE],
        "user": {"username": f"system:serviceaccount:{namespace}:{account}", "extra": extra},
    }


@dataclass
class Made:
    """A leaf that somebody holds."""

    identity: LeafIdentity
    credentials: Credentials


class Served:
    """An operator that serves.

    Attributes:
        cluster: with pools demo/echo and demo2/echo, each with a CA, and a member of the first.
        now: the desks' clock.
        refusals: why TLS handshakes failed.
        leading: whether this replica leads.
    """

    def __init__(self) -> None:
        self.cluster = Cluster()
        for key in (ECHO, OTHER):
            self.cluster.create(raw_pool(key.name, key.namespace, security={"signer": {"type": "Embedded"}}))
        self.world = self.cluster.world
        self.pod(member("app-1", "echo"), UID)
        self.world.tokens[TOKEN] = reviewed("app-1", UID)
        self.now = 1000.0
        self.refusals: list[str] = []
        self.leading = True
        self.installation = InstallationAuthority.create("installation", datetime.now(UTC), life=timedelta(days=1))
        self.shown = self.show()
        self.url, self.port, self.http_port = "", 0, 0

    def pod(self, manifest: Object, uid: str, address: object = HERE) -> None:
        """Have this pod, at an address of this machine."""
        manifest["metadata"]["uid"] = uid
        manifest["status"]["podIPs"] = [{"ip": str(address)}]
        self.world.put(manifest)

    def settle(self) -> None:
        """Have the pools' CAs made and recorded. Not from within the loop."""
        assert self.cluster.settle(ECHO, OTHER)

    def show(self) -> ServingKeyAndChain:
        """A new serving identity, shown from now on."""
        self.shown = self.installation.issue([], [HERE], datetime.now(UTC), life=timedelta(days=1))
        return self.shown

    def authority(self, key: Key = ECHO) -> EmbeddedAuthority:
        """A pool's CA, with its key."""
        certificate, private = key_pair_of(self.world.objects[ca_ref(self.cluster, key)], "the test's")
        return EmbeddedAuthority(certificate, timedelta(hours=1), private)

    def leaf(self, whose: LeafIdentity | None = None, signer: EmbeddedAuthority | None = None) -> Credentials:
        """A leaf, of its pool's CA unless a test wants another."""
        whose = whose or identity()
        signer = signer or self.authority(Key(whose.namespace, whose.pool))
        made = make_request(whose)
        chain = signer.sign(whose, made.request, datetime.now(UTC))
        return Credentials.from_pem(chain, self.installation.bundle, made.key)

    @property
    def client(self) -> EnrolmentClient:
        return self.client_at(HERE)

    def client_at(self, local: IPv4Address) -> EnrolmentClient:
        return EnrolmentClient(self.url, self.installation.bundle, local)

    async def post(
        self,
        path: str,
        body: object,
        leaf: Credentials | None = None,
        headers: dict[str, str] | None = None,
        local: IPv4Address = HERE,
    ) -> Response:
        """Ask as whoever one likes."""
        credentials = leaf or Credentials.trusting(self.installation.bundle)
        context = make_context(credentials, require_certificate=True)
        target = Target(host=str(HERE), port=self.port, context=context, local=local)
        octets = body if isinstance(body, bytes) else json.dumps(body).encode()
        return await ask(target, "POST", path, body=octets, headers=headers or {})

    async def get(self, path: str) -> Response:
        """A page of the plain server."""
        return await ask(Target(host=str(HERE), port=self.http_port), "GET", path)

    async def is_member(self, key: Key, uid: str) -> bool:
        pods = self.world.of(POD, key.namespace)
        return any(
            p["metadata"]["uid"] == uid and p["metadata"].get("labels", {}).get(names.POOL_LABEL) == key.name
            for p in pods
        )

    @asynccontextmanager
    async def running(self, *, check_source: bool = True, per_second: float = 100.0) -> AsyncIterator[Served]:
        kube, metrics = self.world.kube, OperatorMetrics()
        self.metrics = metrics
        self.truster = Truster(kube, self.cluster.operator, lambda: self.shown)
        await self.truster.refresh()
        notes = Notes(kube, "operator-0", lambda: self.now)
        enrolment = EnrolmentDesk(
            kube, self.cluster.operator, self.truster, notes, metrics,
            check_source=check_source, per_second=per_second, clock=lambda: self.now,
        )  # fmt: skip
        control = ControlDesk(
            self.cluster.boards, self.truster, notes, metrics, lambda: self.now, lambda: self.leading, self.is_member
        )
        admission = AdmissionDesk(kube, self.cluster.operator, metrics, lambda: self.now)
        routes = {
            "/v1/enrol": enrolment.enrol,
            "/v1/renew": enrolment.renew,
            "/v1/bundle": enrolment.bundle,
            "/v1/control": control.control,
            "/admission/pods": admission.pods,
        }
        pages = {"/livez": health_page(lambda: ""), "/metrics": metrics_page(metrics.registry)}
        self.port, self.http_port = free_port(), free_port()
        self.url = f"https://{HERE}:{self.port}"
        section = ServerSection(address=HERE, https_port=self.port, http_port=self.http_port)
        async with serving(
            section, routes, self.truster.context, lambda: self.truster.context, pages, self.refusals.append
        ):
            yield self


def served(test: Callable[[Served], Coroutine[Any, Any, None]], **options: Any) -> None:
    """Run a test against a served operator."""
    found = Served()
    found.settle()

    async def run() -> None:
        async with found.running(**options):
            await test(found)

    asyncio.run(run())


def asked(whose: LeafIdentity | None = None, dns_names: tuple[str, ...] = ()) -> tuple[EnrolmentRequest, Any]:
    """A request for an identity, and its key."""
    whose = whose or identity()
    made = make_request(whose, dns_names)
    request = EnrolmentRequest(namespace=whose.namespace, pool=whose.pool, role=whose.role, request=made.request)
    return request, made.key


def pod_ref(name: str, namespace: str = "demo") -> Ref:
    return Ref(POD, namespace, name)
