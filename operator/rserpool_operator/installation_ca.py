# SPDX-License-Identifier: Apache-2.0
"""The installation's CA, in a Secret of the operator's namespace: made once, by whichever replica comes first."""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from rserpool.authority.embedded import self_signed
from rserpool.authority.serving import InstallationAuthority
from rserpool.identity.parsing import certificate_from_pem
from rserpool_operator import names
from rserpool_operator.carry_out import PEM, tls_secret
from rserpool_operator.kube import Kube, KubeError, Object
from rserpool_operator.kube.kinds import MUTATING_WEBHOOK, SECRET

LIFE: Final = timedelta(days=3650)


class InstallationError(Exception):
    """The installation's CA cannot be used; the text says what to do."""


async def obtain(kube: Kube, namespace: str) -> InstallationAuthority:
    """Read the CA, or make it.

    Raises:
        KubeError: the Secret can neither be read nor made.
        InstallationError: it holds something else.
    """
    secret = await kube.get(SECRET, namespace, names.INSTALLATION_CA)
    if secret is None:
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = self_signed(key, "rserpool installation", datetime.now(UTC), LIFE)
        labels = {**names.MANAGED_BY, "app.kubernetes.io/component": "installation"}
        made = tls_secret(names.INSTALLATION_CA, namespace, labels, key, certificate.public_bytes(PEM))
        try:
            secret = await kube.create(SECRET, namespace, made)
        except KubeError as e:
            if e.status != 409:
                raise
            secret = await kube.get(SECRET, namespace, names.INSTALLATION_CA)
    certificate, key = key_pair_of(secret or {}, f"{namespace}/{names.INSTALLATION_CA}")
    return InstallationAuthority(certificate, key)


def key_pair_of(secret: Object, name: str) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    """A CA's certificate and key, from its Secret.

    Raises:
        InstallationError: the Secret does not hold both.
    """
    data = secret.get("data") or {}
    try:
        certificate = certificate_from_pem(base64.b64decode(data["tls.crt"]))
        key = serialization.load_pem_private_key(base64.b64decode(data["tls.key"]), password=None)
    except Exception as e:  # noqa: BLE001 - whatever a parser says, its text must not get out: it may hold the key
        raise InstallationError(f"Secret {name} holds no certificate with its key ({type(e).__name__})") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
        raise InstallationError(f"Secret {name} holds a key that is not its certificate's, or no elliptic curve key")
    return certificate, key


async def complete_webhook(kube: Kube, name: str, bundle: bytes) -> bool:
    """Tell the API server by whom the webhook is certified; returns whether it had to be told.

    Raises:
        KubeError: it cannot be told.
    """
    live = await kube.get(MUTATING_WEBHOOK, "", name)
    if live is None:
        return False
    wanted = base64.b64encode(bundle).decode()
    hooks = live.get("webhooks") or []
    if all(hook["clientConfig"].get("caBundle") == wanted for hook in hooks):
        return False
    patched = [{**h, "clientConfig": {**h["clientConfig"], "caBundle": wanted}} for h in hooks]
    await kube.patch(
        MUTATING_WEBHOOK,
        "",
        name,
        {"metadata": {"resourceVersion": live["metadata"]["resourceVersion"]}, "webhooks": patched},
    )
    return True
