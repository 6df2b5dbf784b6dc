# SPDX-License-Identifier: Apache-2.0
"""Signs the keys of PodCertificateRequests, whose possession the API server has verified; only signer Embedded can.

What the kubelet sends as PKCS #10 names nobody, so an authority that takes names from a request cannot sign it.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from rserpool.authority import EmbeddedAuthority
from rserpool.identity import LeafIdentity
from rserpool.pool import ServerPool
from rserpool.pool.model import SignerType
from rserpool_operator.authorities.signing import AuthorityError, secret_of, whole_bundle
from rserpool_operator.installation_ca import InstallationError, key_pair_of
from rserpool_operator.kube import Kube, Object

EARLY: Final = timedelta(minutes=3)
"""How long before it is made a leaf is valid; the API server refuses more than five minutes by its own clock."""
SHORTEST: Final = timedelta(hours=1)
"""The API server refuses leaves that are valid for less."""


async def certify(
    kube: Kube,
    raw: Object,
    pool: ServerPool,
    namespace: str,
    identity: LeafIdentity,
    key: ec.EllipticCurvePublicKey,
    dns_names: tuple[str, ...],
    longest: timedelta,
    now: datetime,
) -> bytes:
    """Make a leaf of a bare public key.

    Args:
        kube: where authorities are kept.
        raw: the ServerPool as the API server has it.
        pool: the same, read.
        namespace: the operator's.
        identity: whom it is for, as decided.
        key: whose possession the API server has verified.
        dns_names: host names of a registrar.
        longest: the pod lets its leaves be valid for no longer.
        now: the time, UTC.

    Returns:
        The chain, PEM, leaf first.

    Raises:
        SigningError: the key is of a kind that is not used here.
        AuthorityError: the authority does not sign now.
        KubeError: the API server does not answer.
    """
    if pool.spec.security.signer.type is not SignerType.EMBEDDED:
        raise AuthorityError("PodCertificateRequests name nobody: only signer type Embedded can sign them")
    secret = await secret_of(kube, raw, pool, namespace)
    await whole_bundle(kube, raw, pool, namespace)  # a leaf is worth nothing to whom no bundle can be told
    try:
        certificate, private = key_pair_of(secret, f"{namespace}/{secret['metadata']['name']}")
    except InstallationError as e:
        raise AuthorityError(str(e)) from None
    life = pool.spec.security.leaf_duration
    not_before, not_after = validity(now, life, longest, certificate)
    return EmbeddedAuthority(certificate, life, private).certify(identity, key, not_before, not_after, dns_names)


def validity(
    now: datetime, life: timedelta, longest: timedelta, authority: x509.Certificate
) -> tuple[datetime, datetime]:
    """From when to when a leaf is valid, in whole seconds, as the API server accepts it.

    Raises:
        AuthorityError: the CA ends before a leaf could.
    """
    begin = max(now.replace(microsecond=0) - EARLY, authority.not_valid_before_utc)
    end = min((now + life).replace(microsecond=0), begin + longest, authority.not_valid_after_utc)
    if end - begin < SHORTEST:
        raise AuthorityError(f"the pool's CA ends at {authority.not_valid_after_utc.isoformat()}: too soon for a leaf")
    return begin.astimezone(UTC), end.astimezone(UTC)
