# SPDX-License-Identifier: Apache-2.0
"""Signs a leaf with the authority a pool has; what comes back is looked at before it is given away."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from rserpool.authority import EmbeddedAuthority, SigningError, names_of_request
from rserpool.authority.requests import subject_alternative_names
from rserpool.identity import IdentityError, LeafIdentity
from rserpool.identity.certificates import leaf_of
from rserpool.identity.parsing import certificates_from_pem, request_from_pem
from rserpool.pool import ServerPool
from rserpool.pool.model import Signer, SignerType
from rserpool_operator import names
from rserpool_operator.generations import generations_of
from rserpool_operator.installation_ca import InstallationError, key_pair_of
from rserpool_operator.kube import Kube, KubeError, Object
from rserpool_operator.kube.kinds import CERTIFICATE_REQUEST, SECRET
from rserpool_operator.manifests import authority as manifests
from rserpool_operator.plan.certificates import issued_by, joined, key_hash
from rserpool_operator.plan.signers import bundle_of_signer, is_ours
from rserpool_operator.secret_states import certificate_of

PATIENCE: Final = 12.0
"""Seconds for cert-manager to sign in."""
POLL: Final = 0.1
"""Seconds after which it is looked whether it has, at first."""
SLOWEST_POLL: Final = 0.5
"""The same when it takes long."""


class AuthorityError(Exception):
    """The pool's authority does not sign now; the text may be told to the pod, which asks again."""


async def bundle_of(kube: Kube, raw: Object, pool: ServerPool, namespace: str) -> bytes:
    """What is to be trusted in a pool, PEM: the CAs that are recorded in its status, and no others.

    While a CA is being replaced, one of two that is lost takes nothing from the other.

    Raises:
        AuthorityError: there is none of them now.
        KubeError: it cannot be read.
    """
    return joined([pem for _, pem in await authorities_of(kube, raw, pool, namespace)])


async def authorities_of(kube: Kube, raw: Object, pool: ServerPool, namespace: str) -> list[tuple[Signer, bytes]]:
    """The same one by one: who signs, or signed, with each, and its certificates, PEM.

    Raises:
        AuthorityError: there is none of them now.
        KubeError: it cannot be read.
    """
    record = generations_of(raw, pool)
    found, reason = [], "the pool's CA is not there yet"
    for generation in record.trusted or (record.generation,):
        try:
            found.append((record.signers[generation], await _authority(kube, raw, pool, namespace, generation)))
        except AuthorityError as e:
            reason = str(e)
    if not found:
        raise AuthorityError(reason)
    return found


async def _authority(kube: Kube, raw: Object, pool: ServerPool, namespace: str, generation: int) -> bytes:
    """The CA of a generation, or all in the bundle that was recorded with it, PEM.

    Raises:
        AuthorityError: it is not there, or is another one than the recorded one.
    """
    signer = generations_of(raw, pool).signers[generation]
    if is_ours(signer):
        return certificate_of(await secret_of(kube, raw, pool, namespace, generation))
    pem = bundle_of_signer(signer)
    if not pem:
        raise AuthorityError("spec.security.signer.caBundle holds no certificate")
    return pem


async def whole_bundle(kube: Kube, raw: Object, pool: ServerPool, namespace: str) -> bytes:
    """The bundle that goes with a new leaf: with all whose leaves are in use, or whoever has it would refuse others.

    Raises:
        AuthorityError: one of them is not there now.
        KubeError: it cannot be read.
    """
    record = generations_of(raw, pool)
    if record.former is not None and record.former in record.keys:
        try:
            await _authority(kube, raw, pool, namespace, record.former)
        except AuthorityError:
            raise AuthorityError("the CA that is being replaced is gone, and pods still need it") from None
    return await bundle_of(kube, raw, pool, namespace)


async def secret_of(kube: Kube, raw: Object, pool: ServerPool, namespace: str, generation: int | None = None) -> Object:
    """The Secret of a generation's CA, by default that of the one that signs.

    Raises:
        AuthorityError: it is not there, or holds another key than the one that is recorded.
    """
    record = generations_of(raw, pool)
    generation = record.generation if generation is None else generation
    recorded = record.keys.get(generation)
    if not recorded:
        raise AuthorityError("the pool's CA is not there yet")
    secret = await kube.get(SECRET, namespace, _name(raw, pool, generation))
    certificate = certificate_of(secret) if secret is not None else b""
    if secret is None or not certificate or key_hash(certificate) != recorded:
        raise AuthorityError("the pool's CA is not the one that is recorded in its status (CALost)")
    return secret


def _name(raw: Object, pool: ServerPool, generation: int | None = None) -> str:
    uid = raw["metadata"]["uid"]
    generation = generations_of(raw, pool).generation if generation is None else generation
    return names.authority(pool.metadata.namespace, pool.metadata.name, uid, generation)


async def sign(
    kube: Kube,
    raw: Object,
    pool: ServerPool,
    namespace: str,
    identity: LeafIdentity,
    request: bytes,
    dns_names: Sequence[str],
) -> tuple[bytes, bytes]:
    """Sign a leaf.

    Args:
        kube: where authorities are kept.
        raw: the ServerPool as the API server has it.
        pool: the same, read.
        namespace: the operator's.
        identity: whom it is for, as decided.
        request: PKCS #10, PEM, which must name exactly that identity.
        dns_names: host names of a registrar.

    Returns:
        Chain and bundle, PEM.

    Raises:
        SigningError: the request is not one for that identity.
        AuthorityError: the authority does not sign now.
        KubeError: the API server does not answer.
    """
    record = generations_of(raw, pool)
    if record.signers[record.generation].type is SignerType.EMBEDDED:
        return await _embedded(kube, raw, pool, namespace, identity, request, dns_names)
    # the one that signs is there, and is the recorded one
    authority = await _authority(kube, raw, pool, namespace, record.generation)
    bundle = await whole_bundle(kube, raw, pool, namespace)
    _check(request, identity, dns_names)
    chain = await _cert_manager(kube, raw, pool, namespace, identity, request)
    _check_answer(chain, authority, identity, request, dns_names)
    return chain, bundle


async def _embedded(
    kube: Kube, raw: Object, pool: ServerPool, namespace: str, identity: LeafIdentity, request: bytes,
    dns_names: Sequence[str],
) -> tuple[bytes, bytes]:  # fmt: skip
    secret = await secret_of(kube, raw, pool, namespace)
    try:
        certificate, key = key_pair_of(secret, f"{namespace}/{secret['metadata']['name']}")
    except InstallationError as e:
        raise AuthorityError(str(e)) from None
    authority = EmbeddedAuthority(certificate, pool.spec.security.leaf_duration, key)
    bundle = await whole_bundle(kube, raw, pool, namespace)
    return authority.sign(identity, request, datetime.now(UTC), dns_names), bundle


def _check(request: bytes, identity: LeafIdentity, dns_names: Sequence[str]) -> None:
    """cert-manager copies names from the request, so they are compared octet by octet before it sees them."""
    try:
        parsed = request_from_pem(request)
        sound, asked = parsed.is_signature_valid, names_of_request(parsed)
    except Exception as e:  # noqa: BLE001 - whatever a parser has to say to octets of a stranger
        raise SigningError(f"not a certificate request that can be read: {type(e).__name__}") from None
    names_ = subject_alternative_names(identity, dns_names)
    if not sound:
        raise SigningError("the request is not signed by its own key")
    if asked != names_.public_bytes():
        raise SigningError(f"the request asks for other names than {', '.join(str(n.value) for n in names_)}")
    if list(parsed.subject):
        raise SigningError("the request names a subject; leave it empty")


async def _cert_manager(
    kube: Kube, raw: Object, pool: ServerPool, namespace: str, identity: LeafIdentity, request: bytes
) -> bytes:
    record = generations_of(raw, pool)
    own = record.signers[record.generation].issuer_ref
    issuer = (
        {"name": own.name, "kind": own.kind, "group": own.group}
        if own is not None
        else {"name": _name(raw, pool), "kind": "Issuer", "group": "cert-manager.io"}
    )
    labels = manifests.leaf_labels(pool, raw["metadata"]["uid"])
    name = manifests.request_name(identity.pod_uid, request)
    life = pool.spec.security.leaf_duration
    manifest = manifests.certificate_request(name, namespace, labels, issuer, request, identity.role, life)
    try:
        await kube.create(CERTIFICATE_REQUEST, namespace, manifest)
    except KubeError as e:
        if e.status == 404:
            raise AuthorityError("the cluster has no cert-manager") from None
        if e.status != 409:
            raise
    try:
        return await _signed(kube, namespace, name)
    finally:
        await kube.delete(CERTIFICATE_REQUEST, namespace, name)


async def _signed(kube: Kube, namespace: str, name: str) -> bytes:
    says, pause = "no answer yet", POLL
    try:
        async with asyncio.timeout(PATIENCE):
            while True:
                live = await kube.get(CERTIFICATE_REQUEST, namespace, name)
                status = (live or {}).get("status") or {}
                if status.get("certificate"):
                    return base64.b64decode(status["certificate"])
                for condition in status.get("conditions") or []:
                    says = str(condition.get("message", says))
                    final = condition.get("reason") in ("Failed", "Denied")
                    if final or (condition.get("type") == "Denied" and condition.get("status") == "True"):
                        raise AuthorityError(f"cert-manager refused: {says[:200]}")
                await asyncio.sleep(pause)
                pause = min(1.5 * pause, SLOWEST_POLL)
    except TimeoutError:
        raise AuthorityError(f"cert-manager has not signed within {PATIENCE:g} s: {says[:200]}") from None


def _check_answer(
    chain: bytes, authority: bytes, identity: LeafIdentity, request: bytes, dns_names: Sequence[str]
) -> None:
    """What an issuer gave is what was asked for, and of an authority of the generation that signs.

    One of the other generation is in the bundle, too, but not trusted by all yet, or about to be trusted no more.
    """
    try:
        certificates = certificates_from_pem(chain)
        leaf = leaf_of(certificates[0])
    except (ValueError, IndexError, IdentityError) as e:
        raise AuthorityError(f"the issuer gave something that is no leaf of ours: {e}") from None
    asked = request_from_pem(request).public_key()
    if leaf.identity != identity or leaf.dns_names != tuple(dns_names) or certificates[0].public_key() != asked:
        raise AuthorityError("the issuer gave a certificate for other names or another key than asked for")
    if not any(issued_by(certificates[0], one) for one in certificates_from_pem(authority)):
        raise AuthorityError(
            "the issuer's leaf is not signed by an authority of its bundle: the one that signs must be in it"
        )
