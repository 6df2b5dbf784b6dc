# SPDX-License-Identifier: Apache-2.0
"""The identity of one pod in one pool, as the one URI of its certificate says it.

``spiffe://<trust-domain>/ns/<namespace>/pool/<pool>/<role>/<pod-uid>``, and nothing but that: no percent-encoding, no
upper case, no empty or further segments. What has two spellings can be refused by one reader and accepted by another.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from rserpool.asap.authorisation import Role

_LABEL: Final = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_URI: Final = re.compile(
    rf"spiffe://(?P<domain>(?=[a-z0-9.-]{{1,253}}/){_LABEL}(?:\.{_LABEL})*)"
    rf"/ns/(?P<namespace>{_LABEL})/pool/(?P<pool>{_LABEL})"
    r"/(?P<role>registrar|element|user)"
    r"/(?P<uid>[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})",
    re.ASCII,
)
LONGEST: Final = 512


class IdentityError(ValueError):
    """Something that is not an identity of ours; the text says what is wrong with it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LeafIdentity:
    """Who a leaf certificate is for.

    Attributes:
        trust_domain: of the installation.
        namespace, pool: of the ServerPool.
        role: registrar, element or user.
        pod_uid: UID of the one pod that may use it, in the form Kubernetes gives it.
    """

    trust_domain: str
    namespace: str
    pool: str
    role: Role
    pod_uid: str

    def __str__(self) -> str:
        pool = f"ns/{self.namespace}/pool/{self.pool}"
        return f"spiffe://{self.trust_domain}/{pool}/{self.role.value}/{self.pod_uid}"

    @classmethod
    def parse(cls, uri: str) -> LeafIdentity:
        """Read the URI of a certificate.

        Raises:
            IdentityError: it has not exactly the one form.
        """
        found = _URI.fullmatch(uri) if len(uri) <= LONGEST else None
        if found is None:
            shown = uri if len(uri) <= 80 else uri[:80] + "..."
            raise IdentityError(
                f"{shown!r} is not spiffe://TRUST-DOMAIN/ns/NAMESPACE/pool/POOL/registrar|element|user/POD-UID"
            )
        return cls(
            trust_domain=found["domain"],
            namespace=found["namespace"],
            pool=found["pool"],
            role=Role(found["role"]),
            pod_uid=found["uid"],
        )
