# SPDX-License-Identifier: Apache-2.0
"""Reads one pool's world from the API server. What it returns is all that a plan may know."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta

from pydantic import ValidationError

from rserpool.pool import ServerPool
from rserpool.pool.model import Enrolment, SignerType
from rserpool.pool.problems import explain
from rserpool.pool.rules import check
from rserpool.session.cookies import SHORTEST_KEY
from rserpool_operator import names
from rserpool_operator.generations import generations_of
from rserpool_operator.installation import Installation
from rserpool_operator.installation_ca import InstallationError, key_pair_of
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
from rserpool_operator.observed import AuthorityState, CookieState, Member, Observed, RegistrarPod, Report
from rserpool_operator.plan.signers import bundle_of_signer, is_ours
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


def has_ended(pod: Object) -> bool:
    """Whether a pod's work is over."""
    return pod.get("status", {}).get("phase") in ("Succeeded", "Failed")


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
    foreign = await _foreign(kube, installation, uid)
    objects: dict[Ref, Object] = {}
    for ref in _own_refs(namespace, name):
        live = await kube.get(ref.kind, ref.namespace, ref.name)
        if live is not None:
            objects[ref] = live
    objects |= {ref: live for ref, live in foreign.items() if ref.kind in (CERTIFICATE, ISSUER)}
    record = generations_of(raw, pool) if pool is not None else None
    if pool is not None and record is not None:
        for generation in record.involved:
            if record.signers[generation].type is not SignerType.CERT_MANAGER:
                continue
            for ref in _authority_refs(installation.namespace, _authority_name(raw, pool, generation)):
                live = objects.get(ref) or await kube.get(ref.kind, ref.namespace, ref.name)
                if live is not None:
                    objects[ref] = live
    user_namespaces = await _user_namespaces(kube, pool, installation) if pool is not None else ()
    for other in user_namespaces:  # by name too: what has ours may be somebody else's
        ref = Ref(CONFIG_MAP, other, names.users_config_map(name, namespace))
        live = foreign.get(ref) or await kube.get(CONFIG_MAP, other, ref.name)
        if live is not None:
            objects[ref] = live
    foreign.pop(Ref(CONFIG_MAP, namespace, names.users_config_map(name, namespace)), None)
    authorities = await _authorities(kube, pool, raw, installation, objects) if pool is not None else ()
    pods = await member_pods(kube, namespace, name)
    selector = ",".join(f"{key}={value}" for key, value in registrar_selector(name).items())
    ours = Ref(STATEFUL_SET, namespace, names.registrar_set(name))
    present = objects[ours]["metadata"]["uid"] if ours in objects else ""
    registrars: list[Object] = []
    former: list[Object] = []
    for pod in await kube.list(POD, namespace, selector):
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
        foreign=foreign,
        authority=authorities[0][1] if authorities else AuthorityState(),
        others=dict(authorities[1:]),
        pod_certificates=await _pod_certificates(kube, pool),
        cookies=await cookie_state(kube, raw, pool, installation.namespace),
        members=tuple(_member(pod, early=early) for pod in pods),
        registrars=tuple(_registrar(pod, early=early) for pod in registrars),
        leaving=tuple(sorted(pod["metadata"]["name"] for pod in former)),
        user_namespaces=user_namespaces,
        reports=reports,
        listening=listening,
    )


def _own_refs(namespace: str, name: str) -> Iterable[Ref]:
    registrars = names.registrar_set(name)
    yield Ref(STATEFUL_SET, namespace, registrars)
    yield Ref(SERVICE_ACCOUNT, namespace, registrars)
    yield Ref(POD_DISRUPTION_BUDGET, namespace, registrars)
    yield Ref(NETWORK_POLICY, namespace, registrars)
    yield Ref(SERVICE, namespace, names.asap_service(name))
    yield Ref(SERVICE, namespace, names.peers_service(name))


def _authority_name(raw: Object, pool: ServerPool, generation: int) -> str:
    return names.authority(pool.metadata.namespace, pool.metadata.name, raw["metadata"]["uid"], generation)


def _authority_refs(namespace: str, name: str) -> Iterable[Ref]:
    yield Ref(CERTIFICATE, namespace, name)
    yield Ref(ISSUER, namespace, name)
    yield Ref(ISSUER, namespace, f"{name}-root")


async def _foreign(kube: Kube, installation: Installation, uid: str) -> dict[Ref, Object]:
    """Our objects for this pool that the garbage collector does not know as the pool's."""
    labels = f"{names.OWNER_UID_LABEL}={uid}"
    found: dict[Ref, Object] = {}
    for kind in (SECRET, CERTIFICATE, ISSUER, CERTIFICATE_REQUEST):
        for live in await _list_if_installed(kube, kind, installation.namespace, labels):
            # a private key is read by who signs, and kept by nobody
            found[Ref(kind, installation.namespace, live["metadata"]["name"])] = _without_data(live)
    for namespace in installation.watch or (None,):
        for live in await kube.list(CONFIG_MAP, namespace, labels):
            found[Ref(kind_of(live), live["metadata"]["namespace"], live["metadata"]["name"])] = live
    return found


def _without_data(live: Object) -> Object:
    return {key: value for key, value in live.items() if key != "data"}


async def _list_if_installed(kube: Kube, kind: Kind, namespace: str, labels: str) -> list[Object]:
    try:
        return await kube.list(kind, namespace, labels)
    except KubeError as e:
        if e.status == 404:  # no cert-manager
            return []
        raise


async def _authorities(
    kube: Kube, pool: ServerPool, raw: Object, installation: Installation, objects: Mapping[Ref, Object]
) -> tuple[tuple[int, AuthorityState], ...]:
    """The CAs by generation, the one that signs first, without their keys."""
    record, uid = generations_of(raw, pool), raw["metadata"]["uid"]
    types = {record.signers[generation].type for generation in record.involved}
    cert_manager = types != {SignerType.EMBEDDED} and await has_cert_manager(kube, installation.namespace)
    found = []
    for generation in record.involved:
        signer = record.signers[generation]
        available = cert_manager or signer.type is SignerType.EMBEDDED
        if not is_ours(signer):
            pem = bundle_of_signer(signer)
            state = AuthorityState(available=available, exists=bool(pem), certificate=pem, sound=bool(pem))
            found.append((generation, state))
            continue
        name = _authority_name(raw, pool, generation)
        secret = await kube.get(SECRET, installation.namespace, name)
        ours = secret is not None and (secret["metadata"].get("labels") or {}).get(names.OWNER_UID_LABEL) == uid
        state = AuthorityState(
            available=available,
            exists=secret is not None,
            certificate=certificate_of(secret) if secret is not None and ours else b"",
            sound=secret is not None and ours and _is_pair(secret, name),
            says=_says(objects.get(Ref(CERTIFICATE, installation.namespace, name), {})),
        )
        found.append((generation, state))
    return tuple(found)


def _is_pair(secret: Object, name: str) -> bool:
    """Whether there is a key, and it is the certificate's: one that does not fit would sign nothing."""
    try:
        key_pair_of(secret, name)
    except InstallationError:
        return False
    return True


async def cookie_state(kube: Kube, raw: Object, pool: ServerPool | None, namespace: str) -> CookieState:
    """The keys of the pool's cookies, if it has any.

    Raises:
        KubeError: they cannot be read.
    """
    if pool is None or not pool.spec.control_channel:
        return CookieState()
    uid = raw["metadata"]["uid"]
    secret = await kube.get(SECRET, namespace, names.cookie_keys(pool.metadata.namespace, pool.metadata.name, uid))
    if secret is None:
        return CookieState()
    metadata = secret["metadata"]
    annotations = metadata.get("annotations") or {}
    if (metadata.get("labels") or {}).get(names.OWNER_UID_LABEL) != uid:
        return CookieState(exists=True)
    numbers = (n for n in annotations.get(names.COOKIE_KEYS, "").split(",") if n.isascii() and n.isdigit())
    try:
        changed = datetime.fromisoformat(annotations.get(names.COOKIE_KEYS_CHANGED, ""))
    except ValueError:
        changed = None
    return CookieState(
        exists=True,
        ours=True,
        keys=dict(_cookie_keys(secret.get("data") or {})),
        order=tuple(dict.fromkeys(int(n) for n in numbers)),
        changed=changed if changed is not None and changed.tzinfo is not None else None,
        renew=annotations.get(names.RENEW, ""),
        version=metadata.get("resourceVersion", ""),
    )


def _cookie_keys(data: Mapping[str, str]) -> Iterable[tuple[int, bytes]]:
    """What can be used of a Secret's data; what cannot is nobody's key."""
    for number, text in data.items():
        try:
            key = base64.b64decode(text, validate=True)
        except (ValueError, binascii.Error):
            continue
        if number.isascii() and number.isdigit() and int(number) <= 255 and len(key) >= SHORTEST_KEY:
            yield int(number), key


def certificate_of(secret: Object) -> bytes:
    """The CA's certificate in a Secret of type kubernetes.io/tls, PEM; empty if there is none."""
    try:
        return base64.b64decode((secret.get("data") or {}).get("tls.crt", ""), validate=True)
    except (ValueError, binascii.Error):
        return b""


def _says(certificate: Object) -> str:
    conditions = (certificate.get("status") or {}).get("conditions") or []
    return next((str(c.get("message", "")) for c in conditions if c.get("type") == "Ready"), "")


async def has_cert_manager(kube: Kube, namespace: str) -> bool:
    """Whether the cluster knows cert-manager's objects.

    Raises:
        KubeError: the API server does not say.
    """
    return await _is_known(kube, ISSUER, namespace)


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


async def _user_namespaces(kube: Kube, pool: ServerPool, installation: Installation) -> tuple[str, ...]:
    """Namespaces whose pods may use the pool: its own, and those its selector names."""
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


def _member(pod: Object, *, early: bool) -> Member:
    metadata = pod["metadata"]
    version = (metadata.get("annotations") or {}).get(names.INJECTED, "")
    containers = pod["spec"].get("initContainers") or []
    injected = any(c.get("name") == names.SIDECAR for c in containers)
    own = [c for c in (pod.get("status") or {}).get("initContainerStatuses") or [] if c.get("name") == names.SIDECAR]
    return Member(
        name=metadata["name"],
        uid=metadata["uid"],
        version=version if injected else "",
        service_account=pod["spec"].get("serviceAccountName") or "default",
        started=_may_have_leaf(pod, own, early=early),
    )


def _registrar(pod: Object, *, early: bool) -> RegistrarPod:
    metadata, status = pod["metadata"], pod.get("status") or {}
    ready = any(c.get("type") == "Ready" and c.get("status") == "True" for c in status.get("conditions") or [])
    return RegistrarPod(
        name=metadata["name"],
        uid=metadata["uid"],
        ready=ready and "deletionTimestamp" not in metadata,
        trouble=_trouble(status),
        started=_may_have_leaf(pod, status.get("containerStatuses") or [], early=early),
    )


def _may_have_leaf(pod: Object, containers: Iterable[Object], *, early: bool) -> bool:
    """Whether a pod may hold a leaf: its container obtains it, or (``early``) the kubelet, before it has an address."""
    return _has_started(pod, containers) or (early and bool((pod.get("status") or {}).get("podIPs")))


def _has_started(pod: Object, containers: Iterable[Object]) -> bool:
    """Whether our container may ever have run. Until it has, the pod is Pending; the reverse does not hold."""
    if (pod.get("status") or {}).get("phase") != "Pending":
        return True
    return any(
        c.get("restartCount") or c.get("lastState") or set(c.get("state") or {}) & {"running", "terminated"}
        for c in containers
    )


_PATIENT = frozenset({"ContainerCreating", "PodInitializing"})


def _trouble(status: Object) -> str:
    for container in status.get("containerStatuses") or []:
        waiting = (container.get("state") or {}).get("waiting") or {}
        if waiting.get("reason") and waiting["reason"] not in _PATIENT:
            return " ".join(f"{waiting['reason']}: {waiting.get('message', '')}".split())[:200].rstrip(": ")
    for condition in status.get("conditions") or []:
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            return " ".join(f"{condition.get('reason')}: {condition.get('message', '')}".split())[:200]
    return ""
