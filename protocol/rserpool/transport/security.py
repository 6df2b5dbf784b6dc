# SPDX-License-Identifier: Apache-2.0
"""Who a peer is, and which TLS contexts are in force.

All or nothing (threat 2.15): a process has a :class:`Security` and speaks TLS everywhere, or has none and never does.
"""

from __future__ import annotations

from typing import Final

from OpenSSL import SSL

from rserpool.asap.authorisation import Principal, Role
from rserpool.identity import IdentityError, LeafIdentity
from rserpool.identity.certificates import proven_by, read_leaf
from rserpool.identity.decisions import anonymous
from rserpool.transport.tls import Credentials, make_context
from rserpool.wire import Ppid

_HANDSHAKE_THREATS: Final = {
    (Ppid.ASAP, True): "2.1",
    (Ppid.ENRP, True): "2.5",
    (Ppid.ENRP, False): "2.5",
}


class Security:
    """A process's credentials, and the pool it belongs to.

    Args:
        trust_domain, namespace, pool: whose certificates are accepted, even of the same authority nobody else's. A user
            who was given nothing but a bundle leaves them empty: whoever it vouches for.
        role: the process's own, which decides what a refused registrar means.
        credentials: to begin with.

    Attributes:
        own_leaf: when the own leaf is valid, in Unix time; ``None``: there is none.
    """

    def __init__(self, *, trust_domain: str, namespace: str, pool: str, role: Role, credentials: Credentials) -> None:
        self._pool = (trust_domain, namespace, pool)
        self._role = role
        self.reload(credentials)

    def reload(self, credentials: Credentials) -> None:
        """Use other credentials for all connections from now on; standing ones go on with theirs while they last.

        Raises:
            SSL.Error: OpenSSL does not like them; the former ones stay in force.
        """
        anyone = make_context(credentials, require_certificate=False)
        proven = make_context(credentials, require_certificate=True)
        self.credentials = credentials
        self.own_leaf = _span(credentials)
        self._contexts = {Ppid.ASAP: anyone, Ppid.ENRP: proven}
        self._client = proven

    def server_context(self, service: Ppid) -> SSL.Context:
        """For connections others open: users need no certificate (RFC 5352 9.2), registrars do (threat 2.5)."""
        if self._role is Role.ELEMENT:  # only registrars call an element (threat 2.6)
            return self._contexts[Ppid.ENRP]
        return self._contexts[service]

    @property
    def client_context(self) -> SSL.Context:
        """For connections we open."""
        return self._client

    def principal(self, certificate: bytes | None, address: str) -> Principal:
        """Who a peer is, by the certificate TLS has verified.

        Raises:
            IdentityError: its certificate is not one of this pool's.
        """
        if certificate is None:
            return anonymous(address)
        leaf = read_leaf(certificate)
        self._check_pool(leaf.identity)
        return proven_by(leaf)

    def _check_pool(self, identity: LeafIdentity) -> None:
        if any(self._pool) and (identity.trust_domain, identity.namespace, identity.pool) != self._pool:
            trust_domain, namespace, pool = self._pool
            own = f"spiffe://{trust_domain}/ns/{namespace}/pool/{pool}"
            raise IdentityError(f"{identity} is not of {own}")

    def threat_of_handshake(self, service: Ppid, *, inbound: bool) -> str:
        """Which threat a failed handshake is counted under."""
        known = _HANDSHAKE_THREATS.get((service, inbound))
        if inbound and self._role is Role.ELEMENT:
            return "2.6"
        if known is not None:
            return known
        return {Role.ELEMENT: "2.6", Role.REGISTRAR: "2.3"}.get(self._role, "2.7")


def _span(credentials: Credentials) -> tuple[float, float] | None:
    if not credentials.chain:
        return None
    leaf = credentials.chain[0]
    return leaf.not_valid_before_utc.timestamp(), leaf.not_valid_after_utc.timestamp()
