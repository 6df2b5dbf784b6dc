# SPDX-License-Identifier: Apache-2.0
"""What the Secrets of a pool hold: its CAs, of which only certificates are kept, and the keys of its cookies."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Mapping
from datetime import datetime

from rserpool.session.cookies import SHORTEST_KEY
from rserpool_operator import names
from rserpool_operator.installation_ca import InstallationError, key_pair_of
from rserpool_operator.kube import Object
from rserpool_operator.observed import AuthorityState, CookieState


def authority_of(secret: Object | None, uid: str, *, available: bool, asked: Object | None) -> AuthorityState:
    """A CA that we make, without its key.

    Args:
        secret: the one of its name, if there is one.
        uid: the ServerPool's, whose it has to be.
        available: whoever makes it is installed.
        asked: cert-manager's Certificate, if there is one.
    """
    ours = secret is not None and _belongs(secret, uid)
    return AuthorityState(
        available=available,
        exists=secret is not None,
        certificate=certificate_of(secret) if secret is not None and ours else b"",
        sound=secret is not None and ours and _is_pair(secret),
        says=_says(asked or {}),
    )


def _says(certificate: Object) -> str:
    """What cert-manager says of a certificate that it was asked for."""
    conditions = (certificate.get("status") or {}).get("conditions") or []
    return next((str(c.get("message", "")) for c in conditions if c.get("type") == "Ready"), "")


def _belongs(secret: Object, uid: str) -> bool:
    return bool((secret["metadata"].get("labels") or {}).get(names.OWNER_UID_LABEL) == uid)


def _is_pair(secret: Object) -> bool:
    """Whether there is a key, and it is the certificate's: one that does not fit would sign nothing."""
    try:
        key_pair_of(secret, secret["metadata"]["name"])
    except InstallationError:
        return False
    return True


def cookies_of(secret: Object | None, uid: str) -> CookieState:
    """The keys of a pool's cookies.

    Args:
        secret: the one of their name, if there is one.
        uid: the ServerPool's, whose it has to be.
    """
    if secret is None:
        return CookieState()
    metadata = secret["metadata"]
    annotations = metadata.get("annotations") or {}
    if not _belongs(secret, uid):
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
