# SPDX-License-Identifier: Apache-2.0
"""Which CA a signer stands for: whether another signer means another CA, to which the pool has to move.

``CertManager`` and ``Embedded`` each stand for a CA that they made for the pool: who took over the other's key would
make another certificate of it, maybe under another name of the key, by which OpenSSL finds no issuer of the leaves in
use. A signer of type ``IssuerRef`` stands for the CAs of its bundle.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator
from dataclasses import replace

from rserpool.identity.parsing import certificates_from_pem
from rserpool.pool.model import Signer, SignerType
from rserpool_operator.generations import Generations
from rserpool_operator.plan.certificates import is_certificate, key_hash_of


def is_ours(signer: Signer) -> bool:
    """Whether the CA is one that we make."""
    return signer.type is not SignerType.ISSUER_REF


def bundle_of_signer(signer: Signer) -> bytes:
    """What an ``IssuerRef`` says is to be trusted, PEM; empty: no certificate that can be read."""
    try:
        pem = base64.b64decode(signer.ca_bundle or "", validate=True)
    except (ValueError, binascii.Error):
        return b""
    return pem if is_certificate(pem) else b""


def same_authority(one: Signer, other: Signer) -> bool:
    """Whether both sign with the same CAs: then who trusts the one trusts the other."""
    if is_ours(one) or is_ours(other):
        return one.type is other.type
    return set(_authorities(bundle_of_signer(one))) == set(_authorities(bundle_of_signer(other)))


def adopted(record: Generations, wanted: Signer) -> Generations:
    """With what the user wrote about a CA that is there already: another issuer of it, or its certificate renewed."""
    if record.generation not in record.keys:
        return replace(record, signers={**record.signers, record.generation: wanted})
    numbers = (n for n in (record.generation, record.next) if n is not None)
    fresh = {n: wanted for n in numbers if same_authority(record.signers[n], wanted)}
    return replace(record, signers={**record.signers, **fresh})


def objection(wanted: Signer, trusted: str) -> str:
    """Why the CAs of a bundle cannot be trusted beside the present ones; empty: they can.

    TLS finds the issuer of a certificate by its name: two keys under one name would get into each other's way.
    """
    keys = dict(_authorities(trusted.encode()))
    for subject, key in _authorities(bundle_of_signer(wanted)):
        if keys.setdefault(subject, key) != key:
            return (
                "spec.security.signer.caBundle holds a CA with the subject of another one that is trusted, and another"
                " key: give the new CA another subject"
            )
    return ""


def _authorities(pem: bytes) -> Iterator[tuple[bytes, str]]:
    """Subject and key of each."""
    for certificate in certificates_from_pem(pem) if pem else ():
        yield certificate.subject.public_bytes(), key_hash_of(certificate)
