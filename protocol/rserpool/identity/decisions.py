# SPDX-License-Identifier: Apache-2.0
"""Who may do what in a scope: the answers to the machines' questions, with the threat each refusal answers."""

from __future__ import annotations

from dataclasses import dataclass

from rserpool.asap.authorisation import Action, Authoriser, Denial, Principal, Role
from rserpool.identity.numbers import pe_identifiers
from rserpool.identity.uri import LeafIdentity

_ABOUT_AN_ELEMENT = frozenset({Action.REGISTER, Action.DEREGISTER, Action.ACKNOWLEDGE})


def principal_of(identity: LeafIdentity) -> Principal:
    """What a verified identity makes of its holder."""
    numbers = pe_identifiers(identity.pod_uid) if identity.role is Role.ELEMENT else ()
    return Principal(role=identity.role, name=str(identity), pe_identifiers=frozenset(numbers))


def anonymous(address: str) -> Principal:
    """Somebody without a certificate, known by an address only."""
    return Principal(role=Role.ANONYMOUS, name=f"anonymous at {address}")


def unverified(address: str) -> Principal:
    """Somebody in a scope without security."""
    return Principal(role=Role.UNVERIFIED, name=address)


@dataclass(frozen=True, slots=True, kw_only=True)
class SecureScope:
    """The rules of a secure scope. That a certificate is of the pool's CA has been verified before anybody asks.

    Attributes:
        pool_handle: the handle configured for the certificates' pool; elements may register it and no other.
        anonymous: users without a certificate may resolve.
        registrar_threat: what it means if somebody else plays the registrar: 2.6 to an element, 2.7 to a user.
    """

    pool_handle: bytes
    anonymous: bool = True
    registrar_threat: str = "2.6"

    def may(
        self, principal: Principal, action: Action, pool_handle: bytes | None = None, pe_identifier: int | None = None
    ) -> Denial | None:
        """Decide (threats 2.1 to 2.7)."""
        if action in _ABOUT_AN_ELEMENT:
            return self._element(principal, action, pool_handle, pe_identifier)
        if action is Action.PEER and principal.role is not Role.REGISTRAR:
            return Denial("2.5", f"a peer of role {principal.role.value} may not take part as a registrar")
        if action is Action.HOME and principal.role is not Role.REGISTRAR:
            return Denial(self.registrar_threat, f"a peer of role {principal.role.value} is no registrar")
        if principal.role is Role.UNVERIFIED:
            return Denial("2.15", f"without TLS nobody may {action.value} here")
        if principal.role is Role.ANONYMOUS and not self.anonymous:
            return Denial("2.7", f"without a certificate nobody may {action.value} here")
        return None

    def _element(
        self, principal: Principal, action: Action, pool_handle: bytes | None, pe_identifier: int | None
    ) -> Denial | None:
        if principal.role is Role.ANONYMOUS:
            return Denial("2.1", f"without a certificate nobody may {action.value}")
        if principal.role is not Role.ELEMENT:
            return Denial("2.2", f"a peer of role {principal.role.value} may not {action.value}")
        if pool_handle != self.pool_handle:
            return Denial("2.4", f"it may not {action.value} in another pool than its own")
        if pe_identifier not in principal.pe_identifiers:
            number = "none" if pe_identifier is None else f"{pe_identifier:#010x}"
            return Denial("2.3", f"PE identifier {number} is not its own")
        return None


@dataclass(frozen=True, slots=True)
class Revoking:
    """The rules of another scope, for all but those whose pods are gone or revoked, and those whose leaf was revoked.

    Attributes:
        authoriser: decides on everybody else.
        names: the identities that may do nothing any more, as principals have them.
        serials: serial numbers of the leaves with which nobody may do anything any more.
    """

    authoriser: Authoriser
    names: frozenset[str]
    serials: frozenset[int] = frozenset()

    def may(
        self, principal: Principal, action: Action, pool_handle: bytes | None = None, pe_identifier: int | None = None
    ) -> Denial | None:
        """Decide; a certificate outlives its pod by hours (threats 2.2, 2.5 and, of a home registrar, 2.6)."""
        threat = {Action.PEER: "2.5", Action.HOME: "2.6"}.get(action, "2.2")
        if principal.name in self.names:
            return Denial(threat, f"its pod is gone or was revoked, and it may not {action.value}")
        if principal.serial and principal.serial in self.serials:
            return Denial(threat, f"its leaf was revoked, and it may not {action.value}")
        return self.authoriser.may(principal, action, pool_handle, pe_identifier)


@dataclass(frozen=True, slots=True)
class InsecureScope:
    """No rules: everybody is believed. For tests and scopes with rsplib; never mixed with security (threat 2.15)."""

    def may(
        self, principal: Principal, action: Action, pool_handle: bytes | None = None, pe_identifier: int | None = None
    ) -> Denial | None:
        """Allow."""
        del principal, action, pool_handle, pe_identifier
        return None
