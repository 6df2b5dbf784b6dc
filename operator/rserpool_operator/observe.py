# SPDX-License-Identifier: Apache-2.0
"""Reads one pool's world from the API server. What it returns is all that a plan may know."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from pydantic import ValidationError

from rserpool.pool import ServerPool
from rserpool.pool.model import Enrolment, Signer, SignerType
from rserpool.pool.problems import explain
from rserpool.pool.rules import check
from rserpool_operator import names
from rserpool_operator.generations import Generations, generations_of
from rserpool_operator.installation import Installation
from rserpool_operator.kube import Kind, Kube, KubeError, Object, Ref, kind_of
from rserpool_operator.kube.kinds import (
    CERTIFICATE,
    CERTIFICATE_REQUEST,
    CONFIG_MAP,
    ISSUER,
    NAMESPACE,
    NETWORK_POLICY,
    POD,
    POD_CERTIFICATE_REQUEST,
    POD_DISRUPTION_BUDGET,
    SECRET,
    SERVER_POOL,
    SERVICE,
    SERVICE_ACCOUNT,
    STATEFUL_SET,
    controller_of,
)
from rserpool_operator.manifests.common import registrar_selector
from rserpool_operator.observed import AuthorityState, Observed, Report
from rserpool_operator.plan.signers import bundle_of_signer, is_ours
from rserpool_operator.pod_states import has_ended, member_of, registrar_of
from rserpool_operator.secret_states import authority_of, cookies_of
from rserpool_operator.selectors import selects


def read_pool(raw: Object) -> tuple[ServerPool | None, tuple[str, ...]]:
    """A ServerPool as the model reads it, or its faults."""
    relevant = {key: raw[key] for key in ("apiVersion", "kind", "metadata", "spec") if key in raw}
    try:
        pool = ServerPool.model_validate_json(json.dumps(relevant), by_alias=True, by_name=False)
    except ValidationError as e:
        return None, tuple(str(explain(error, [])) for error in e.errors(include_url=False))
    problems = tuple(str(problem) for problem in check(pool))
    return (None, problems) if problems else (pool, ())


async def find_pool(kube: Kube, namespace: str, name: str) -> Object | None:
    """The ServerPool, as the API server has it.

    Raises:
        KubeError: it cannot be read.
    """
    return await kube.get(SERVER_POOL, namespace, name)


async def member_pods(kube: Kube, namespace: str, name: str) -> list[Object]:
    """Pods that are labelled as members and have not ended.

    Raises:
        KubeError: they cannot be read.
    """
    pods = await kube.list(POD, namespace, f"{names.POOL_LABEL}={name}")
    return [pod for pod in pods if not has_ended(pod)]


async def observe(
    kube: Kube,
    raw: Object,
    installation: Installation,
    reports: Mapping[str, Report],
    listening: timedelta = timedelta.max,
    now: datetime | None = None,
) -> Observed:
    """Read all there is about one pool; what was reported, and for how long we have listened, is known already.

    Args:
        kube: where it is read.
        raw: the ServerPool.
        installation: whose.
        reports: what the pool's processes said last, by pod UID.
        listening: for how long they could.
        now: the time, UTC; ``None``: the clock's.

    Raises:
        KubeError: something cannot be read; then nothing may be decided.
    """
    pool, problems = read_pool(raw)
    metadata = raw["metadata"]
    namespace, name, uid = metadata["namespace"], metadata["name"], metadata["uid"]
    selector = ",".join(f"{key}={value}" for key, value in registrar_selector(name).items())
    (foreign, cert_manager), own, pods, of_registrars, user_namespaces, pod_certificates = await asyncio.gather(
        _foreign(kube, installation, uid),
        _by_name(kube, _own_refs(namespace, name), {}),
        member_pods(kube, namespace, name),
        kube.list(POD, namespace, selector),
        _user_namespaces(kube, pool, installation),
        _pod_certificates(kube, pool),
    )
    authorities = tuple(_authorities(raw, generations_of(raw, pool))) if pool is not None else ()
    named = [Ref(CONFIG_MAP, other, names.users_config_map(name, namespace)) for other in user_namespaces]
    named += (ref for authority in authorities for ref in authority.refs(installation.namespace))
    cookies = Ref(SECRET, installation.namespace, names.cookie_keys(namespace, name, uid))
    if pool is not None and pool.spec.control_channel:
        named.append(cookies)
    by_name = await _by_name(kube, named, foreign)  # what has the name of ours may be somebody else's
    known = foreign | by_name
    objects = own | {ref: live for ref, live in known.items() if ref.kind in (CERTIFICATE, ISSUER)}
    objects |= {ref: live for ref, live in by_name.items() if ref.kind == CONFIG_MAP}
    foreign.pop(Ref(CONFIG_MAP, namespace, names.users_config_map(name, namespace)), None)
    states = [
        (a.generation, a.state(installation.namespace, uid, known, cert_manager=cert_manager)) for a in authorities
    ]
    ours = Ref(STATEFUL_SET, namespace, names.registrar_set(name))
    present = objects[ours]["metadata"]["uid"] if ours in objects else ""
    registrars: list[Object] = []
    former: list[Object] = []
    for pod in of_registrars:
        controller = controller_of(pod)  # of a pod that was orphaned, the next StatefulSet will be it
        if (controller.get("kind"), controller.get("name")) == (STATEFUL_SET.kind, ours.name):
            (registrars if controller.get("uid") == present else former).append(pod)
    early = pool is not None and pool.spec.security.enrolment is Enrolment.POD_CERTIFICATE
    return Observed(
        now=now or datetime.now(UTC),
        raw=raw,
        pool=pool,
        problems=problems,
        objects=objects,
        foreign={ref: _without_keys(ref, live) for ref, live in foreign.items()},
        authority=states[0][1] if states else AuthorityState(),
        others=dict(states[1:]),
        pod_certificates=pod_certificates,
        cookies=cookies_of(by_name.get(cookies), uid),
        members=tuple(member_of(pod, early=early) for pod in pods),
        registrars=tuple(registrar_of(pod, early=early) for pod in registrars),
        leaving=tuple(sorted(pod["metadata"]["name"] for pod in former)),
        user_namespaces=user_namespaces,
        reports=reports,
        listening=listening,
    )


async def _by_name(kube: Kube, refs: Iterable[Ref], known: Mapping[Ref, Object]) -> dict[Ref, Object]:
    """These objects, as far as they are there; those that are known are not asked for again."""
    wanted = tuple(refs)
    unknown = [ref for ref in wanted if ref not in known]
    read = await asyncio.gather(*(kube.get(ref.kind, ref.namespace, ref.name) for ref in unknown))
    found = {ref: known[ref] for ref in wanted if ref in known}
    return found | {ref: live for ref, live in zip(unknown, read, strict=True) if live is not None}


def _own_refs(namespace: str, name: str) -> Iterable[Ref]:
    registrars = names.registrar_set(name)
    yield Ref(STATEFUL_SET, namespace, registrars)
    yield Ref(SERVICE_ACCOUNT, namespace, registrars)
    yield Ref(POD_DISRUPTION_BUDGET, namespace, registrars)
    yield Ref(NETWORK_POLICY, namespace, registrars)
    yield Ref(SERVICE, namespace, names.asap_service(name))
    yield Ref(SERVICE, namespace, names.peers_service(name))


class _Authority(NamedTuple):
    """A generation's CA; ``name`` is that of its Secret, and of what cert-manager is asked for."""

    generation: int
    signer: Signer
    name: str

    def refs(self, namespace: str) -> Iterable[Ref]:
        """Where it is kept, and what cert-manager is asked for, if we make it."""
        if is_ours(self.signer):
            yield Ref(SECRET, namespace, self.name)
        if self.signer.type is SignerType.CERT_MANAGER:
            yield Ref(CERTIFICATE, namespace, self.name)
            yield Ref(ISSUER, namespace, self.name)
            yield Ref(ISSUER, namespace, f"{self.name}-root")

    def state(self, namespace: str, uid: str, known: Mapping[Ref, Object], *, cert_manager: bool) -> AuthorityState:
        """How it stands by what was read, without its key."""
        available = cert_manager or self.signer.type is SignerType.EMBEDDED
        if is_ours(self.signer):
            secret, asked = (known.get(Ref(kind, namespace, self.name)) for kind in (SECRET, CERTIFICATE))
            return authority_of(secret, uid, available=available, asked=asked)
        pem = bundle_of_signer(self.signer)
        return AuthorityState(available=available, exists=bool(pem), certificate=pem, sound=bool(pem))


def _authorities(raw: Object, record: Generations) -> Iterable[_Authority]:
    """All CAs that matter, the one that signs first."""
    metadata = raw["metadata"]
    for number in record.involved:
        name = names.authority(metadata["namespace"], metadata["name"], metadata["uid"], number)
        yield _Authority(number, record.signers[number], name)


async def _foreign(kube: Kube, installation: Installation, uid: str) -> tuple[dict[Ref, Object], bool]:
    """Our objects for this pool that the garbage collector does not know as the pool's; and whether cert-manager is."""
    labels = f"{names.OWNER_UID_LABEL}={uid}"
    kinds = (SECRET, CERTIFICATE, ISSUER, CERTIFICATE_REQUEST)
    lists = await asyncio.gather(
        *(_list_if_installed(kube, kind, installation.namespace, labels) for kind in kinds),
        *(kube.list(CONFIG_MAP, namespace, labels) for namespace in installation.watch or (None,)),
    )
    found = {
        Ref(kind_of(live), live["metadata"]["namespace"], live["metadata"]["name"]): live
        for listed in lists
        for live in listed or ()
    }
    return found, lists[kinds.index(ISSUER)] is not None


def _without_keys(ref: Ref, live: Object) -> Object:
    """A private key is read by who signs, and kept by nobody."""
    return {key: value for key, value in live.items() if key != "data"} if ref.kind == SECRET else live


async def _list_if_installed(kube: Kube, kind: Kind, namespace: str, labels: str) -> list[Object] | None:
    """``None``: the cluster does not know the kind, as without cert-manager."""
    try:
        return await kube.list(kind, namespace, labels)
    except KubeError as e:
        if e.status == 404:
            return None
        raise


async def has_pod_certificates(kube: Kube, namespace: str) -> bool:
    """Whether the cluster knows PodCertificateRequests (Kubernetes 1.37), as seen in a namespace that is served.

    Raises:
        KubeError: the API server does not say.
    """
    return await _is_known(kube, POD_CERTIFICATE_REQUEST, namespace)


async def _pod_certificates(kube: Kube, pool: ServerPool | None) -> bool:
    if pool is None or pool.spec.security.enrolment is not Enrolment.POD_CERTIFICATE:
        return True
    return await has_pod_certificates(kube, pool.metadata.namespace)


async def _is_known(kube: Kube, kind: Kind, namespace: str) -> bool:
    try:
        await kube.get_list_head(kind, namespace)
    except KubeError as e:
        if e.status == 404:
            return False
        raise
    return True


async def _user_namespaces(kube: Kube, pool: ServerPool | None, installation: Installation) -> tuple[str, ...]:
    """Namespaces whose pods may use the pool: its own, and those its selector names."""
    if pool is None:
        return ()
    home = pool.metadata.namespace
    selector = pool.spec.users.namespaces
    if not selector.match_labels and not selector.match_expressions:
        return (home,)
    found = {home}
    for namespace in await kube.list(NAMESPACE):
        metadata = namespace["metadata"]
        served = installation.serves(metadata["name"])
        if served and "deletionTimestamp" not in metadata and selects(selector, metadata.get("labels") or {}):
            found.add(metadata["name"])
    return tuple(sorted(found))
