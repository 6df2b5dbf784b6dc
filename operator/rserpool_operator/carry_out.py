# SPDX-License-Identifier: Apache-2.0
"""Carries out a plan, effect by effect. What fails ends it: the next plan begins with what is there then."""

from __future__ import annotations

import base64
import secrets
from typing import Final

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from rserpool.authority import make_request
from rserpool.authority.embedded import self_signed
from rserpool.session.cookies import SHORTEST_KEY
from rserpool_operator import names
from rserpool_operator.kube import Kube, KubeError, Object, kind_of
from rserpool_operator.kube.kinds import CERTIFICATE_REQUEST, SECRET, SERVER_POOL
from rserpool_operator.manifests.authority import certificate_request
from rserpool_operator.observed import Observed
from rserpool_operator.plan import AddCookieKey, Apply, CreateAuthority, Delete, Effect, Finalize, Plan, TryIssuer

FINALIZER_MANAGER: Final = "rserpool-operator-finalizer"


async def carry_out(plan: Plan, observed: Observed, kube: Kube) -> None:
    """Do what a plan says, the status last.

    Raises:
        KubeError: an effect was refused; those before it stand.
    """
    for effect in plan.effects:
        await _carry_out(effect, observed, kube)
    if plan.status is not None:
        await kube.apply(SERVER_POOL, _server_pool(observed) | {"status": plan.status}, subresource="status")


async def _carry_out(effect: Effect, observed: Observed, kube: Kube) -> None:
    match effect:
        case Apply(manifest):
            await kube.apply(kind_of(manifest), manifest)
        case Delete(ref, uid):
            await kube.delete(ref.kind, ref.namespace, ref.name, uid)
        case Finalize(present):
            pool = _server_pool(observed)
            pool["metadata"]["finalizers"] = [names.FINALIZER] if present else []
            await kube.apply(SERVER_POOL, pool, manager=FINALIZER_MANAGER)
        case CreateAuthority():
            await _create_authority(effect, kube)
        case AddCookieKey():
            await _add_cookie_key(effect, kube)
        case TryIssuer():
            await _try_issuer(effect, kube)


def _server_pool(observed: Observed) -> Object:
    """Just so much of the ServerPool as says which one it is."""
    metadata = observed.raw["metadata"]
    return {
        "apiVersion": observed.raw["apiVersion"],
        "kind": observed.raw["kind"],
        "metadata": {key: metadata[key] for key in ("name", "namespace", "uid")},
    }


async def _create_authority(effect: CreateAuthority, kube: Kube) -> None:
    """Make a CA; one that is there already is never overwritten."""
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = self_signed(key, effect.common_name, effect.at, effect.life)
    secret = tls_secret(effect.name, effect.namespace, dict(effect.labels), key, certificate.public_bytes(PEM))
    try:
        await kube.create(SECRET, effect.namespace, secret)
    except KubeError as e:
        if e.status != 409:
            raise


async def _try_issuer(effect: TryIssuer, kube: Kube) -> None:
    """Ask for a certificate with a key that nobody keeps."""
    request, labels = make_request(effect.identity).request, dict(effect.labels)
    issuer, role = effect.issuer_ref, effect.identity.role
    manifest = certificate_request(effect.name, effect.namespace, labels, issuer, request, role, effect.life)
    try:
        await kube.create(CERTIFICATE_REQUEST, effect.namespace, manifest)
    except KubeError as e:
        if e.status != 409:
            raise


async def _add_cookie_key(effect: AddCookieKey, kube: Kube) -> None:
    """Make a key: in a Secret that is not there yet, or in the very state of it that was seen."""
    key = base64.b64encode(secrets.token_bytes(SHORTEST_KEY)).decode()
    metadata: Object = {
        "name": effect.name,
        "namespace": effect.namespace,
        "labels": dict(effect.labels),
        "annotations": {
            names.COOKIE_KEYS: ",".join(str(number) for number in effect.kept),
            names.COOKIE_KEYS_CHANGED: effect.at.isoformat(),
            names.RENEW: effect.renew,
        },
    }
    data: dict[str, str | None] = {str(effect.number): key}
    if effect.version:
        metadata["resourceVersion"] = effect.version
        gone = {str(number): None for number in effect.dropped}
        await kube.patch(SECRET, effect.namespace, effect.name, {"metadata": metadata, "data": data | gone})
        return
    secret = {"apiVersion": "v1", "kind": "Secret", "type": "Opaque", "metadata": metadata, "data": data}
    try:
        await kube.create(SECRET, effect.namespace, secret)
    except KubeError as e:
        if e.status != 409:  # somebody was quicker: what is there is looked at again
            raise


PEM: Final = serialization.Encoding.PEM


def tls_secret(
    name: str, namespace: str, labels: dict[str, str], key: ec.EllipticCurvePrivateKey, certificate: bytes
) -> Object:
    """A Secret of type kubernetes.io/tls."""
    pem = key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "kubernetes.io/tls",
        "metadata": {"name": name, "namespace": namespace, "labels": labels},
        "data": {"tls.crt": base64.b64encode(certificate).decode(), "tls.key": base64.b64encode(pem).decode()},
    }
