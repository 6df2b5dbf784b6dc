# SPDX-License-Identifier: Apache-2.0
"""Credentials whose first leaf the kubelet obtains, with a key that it makes (enrolment PodCertificate).

The kubelet keeps key and leaf in one file that it replaces whole: a newer leaf is taken up as soon as it is there. Whom
to trust the operator tells whoever shows such a leaf, over TLS pinned to the installation's authority. A new leaf that
is wanted sooner than the kubelet brings one, since the operator has ordered it or the kubelet is late, is asked for
with the current leaf and a key of our own, as by any other process.
"""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from rserpool.daemon.credentials import POLL, CredentialsError, certified
from rserpool.daemon.enrolment import Enrolled, EnrolmentClient, EnrolmentError, EnrolmentRequest
from rserpool.daemon.vault import Vault
from rserpool.identity import IdentityError, LeafIdentity
from rserpool.identity.certificates import leaf_of
from rserpool.identity.parsing import certificates_from_pem
from rserpool.transport.tls import Credentials

_log: Final = logging.getLogger(__name__)
MOST: Final = 256 * 1024
"""Octets of the file."""
ALREADY_UNDER_WAY: Final = timedelta(minutes=10)
"""A leaf of another authority than the current one's must be newer by this: what was signed shortly before the pool's
authority was replaced may reach its file only after this process has obtained a leaf of the new one."""
LATE: Final = 1.25
"""Of the time until a leaf is due: then the kubelet, which begins at two thirds of its life, is not waited for."""


class PodCertificateSource:
    """Credentials from the kubelet, renewed between its own renewals where that is needed.

    Args:
        client: the operator's enrolment server.
        file: the private key and the chain, PEM.
        identity: who we are: another's leaf is not used.
        dns_names: host names of a registrar.
        vault: where they survive a restart of the container while the operator is away; ``None``: nowhere.
    """

    def __init__(
        self,
        client: EnrolmentClient,
        file: Path,
        identity: LeafIdentity,
        dns_names: tuple[str, ...],
        vault: Vault | None = None,
    ) -> None:
        self._client = client
        self._file = file
        self._identity = identity
        self._dns_names = dns_names
        self._vault = vault
        self._seen: tuple[int, int] | None = None

    async def obtain(self, current: Credentials | None) -> Credentials:
        """Take what the kubelet has brought; if that is nothing new, renew."""
        seen = self._stamp()
        try:
            held = self._read()
        except CredentialsError:
            if current is None:
                raise
            held = None
        news, self._seen = seen != self._seen, seen
        try:
            if held is not None and (current is None or (news and _is_newer(held, current))):
                return Credentials(chain=held.chain, bundle=await self._bundle(held, current), key=held.key)
            leaves = [c for c in (current, held) if c is not None]
            return await certified(self._identity, self._dns_names, lambda request: self._renewed(request, leaves))
        except (EnrolmentError, IdentityError, ValueError) as e:
            if current is None:
                self._seen = None
            raise CredentialsError(str(e)) from None

    async def _bundle(self, held: Credentials, current: Credentials | None) -> tuple[x509.Certificate, ...]:
        """Whom to trust from now on: as the operator says, or, if it does not answer, as before."""
        try:
            return Credentials.trusting(await self._client.bundle(held)).bundle
        except EnrolmentError:
            if current is None or not _issued_by(held, current):
                raise
            return current.bundle

    async def _renewed(self, request: EnrolmentRequest, leaves: list[Credentials]) -> Enrolled:
        """By the first of some leaves that is good for it."""
        problem = EnrolmentError(f"no leaf is left, and the kubelet has brought no other: {self._file}")
        for leaf in leaves:
            if leaf_of(leaf.chain[0]).not_after <= datetime.now(UTC):
                continue
            try:
                return await self._client.renew(request, leaf)
            except EnrolmentError as e:
                problem = e
        raise problem

    def _read(self) -> Credentials:
        """What the kubelet holds ready, with no bundle.

        Raises:
            CredentialsError: nothing that this process could use.
        """
        try:
            with self._file.open("rb") as file:
                octets = file.read(MOST)
            key = serialization.load_pem_private_key(octets, password=None)
            if not isinstance(key, ec.EllipticCurvePrivateKey):
                raise CredentialsError(f"the key in {self._file} is not an elliptic curve key")
            chain = certificates_from_pem(octets)
            leaf = leaf_of(chain[0])
            if chain[0].public_key() != key.public_key():
                raise CredentialsError(f"the key in {self._file} is not that of the leaf beside it")
        except OSError as e:
            raise CredentialsError(f"{self._file} cannot be read: {e.strerror}") from None
        except (ValueError, TypeError, UnsupportedAlgorithm, IdentityError) as e:
            # what a parser says may quote what it read
            raise CredentialsError(f"{self._file} holds no key and leaf of ours ({type(e).__name__})") from None
        if leaf.identity != self._identity:
            raise CredentialsError(f"the leaf in {self._file} is of {leaf.identity}, not of {self._identity}")
        if leaf.not_after <= datetime.now(UTC):
            raise CredentialsError(f"the leaf in {self._file} has expired at {leaf.not_after.isoformat()}")
        return Credentials(chain=chain, bundle=(), key=key)

    def _stamp(self) -> tuple[int, int] | None:
        """Which file it is: the kubelet never writes into one that is there."""
        try:
            found = self._file.stat()
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns

    async def changed(self, current: Credentials, renew_after: float) -> None:
        """Wait until the kubelet has brought a newer leaf, or is late."""
        loop = asyncio.get_running_loop()
        late = loop.time() + LATE * renew_after
        while loop.time() < late:
            await asyncio.sleep(POLL)
            stamp = self._stamp()
            if stamp is None or stamp == self._seen:
                continue
            try:
                if _is_newer(self._read(), current):
                    return
            except CredentialsError as e:
                _log.warning("the kubelet has brought a leaf that is not used: %s", e)
            self._seen = stamp

    def restore(self) -> Credentials | None:
        """What is in the vault."""
        return self._vault.restore(self._identity) if self._vault is not None else None

    def keep(self, credentials: Credentials) -> None:
        """Put them into the vault."""
        if self._vault is not None:
            self._vault.keep(credentials)


def _is_newer(held: Credentials, current: Credentials) -> bool:
    ahead = leaf_of(held.chain[0]).not_before - leaf_of(current.chain[0]).not_before
    least = timedelta(0) if _issuer(held) == _issuer(current) else ALREADY_UNDER_WAY
    return ahead > least


def _issuer(credentials: Credentials) -> bytes | None:
    """How a leaf names the key that signed it; ``None``: it does not."""
    try:
        extension = credentials.chain[0].extensions.get_extension_for_class(x509.AuthorityKeyIdentifier)
    except x509.ExtensionNotFound:
        return None
    return extension.value.key_identifier


def _issued_by(held: Credentials, current: Credentials) -> bool:
    """Whether a leaf is of an authority that is trusted already."""
    for authority in current.bundle:
        try:
            held.chain[0].verify_directly_issued_by(authority)
        except (ValueError, TypeError, InvalidSignature):
            continue
        return True
    return False
