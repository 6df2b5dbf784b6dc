# SPDX-License-Identifier: Apache-2.0
"""A process's credentials over its whole life: obtained, renewed at two thirds of the leaf's life, reloaded.

New associations use the new leaf; who opened those that stand replaces them.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Protocol

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from OpenSSL import SSL

from rserpool.asap.authorisation import Role
from rserpool.authority import make_request
from rserpool.daemon.enrolment import Enrolled, EnrolmentClient, EnrolmentError, EnrolmentRequest, is_token
from rserpool.daemon.process import first_of
from rserpool.daemon.vault import Vault
from rserpool.identity import IdentityError, LeafIdentity
from rserpool.identity.certificates import Leaf, leaf_of
from rserpool.transport.security import Security
from rserpool.transport.tls import Credentials

_log: Final = logging.getLogger(__name__)
RENEW_AT: Final = 2 / 3
JITTER: Final = 0.05
"""Of the leaf's life: pods that started together do not renew together."""
FIRST_PAUSE: Final = 0.5
LONGEST_PAUSE: Final = 30.0
REPLACED_WITHIN: Final = 60.0
"""Seconds, at most, in which all associations are replaced after a renewal..."""
PART: Final = 0.5
"""...and of what is left of the former leaf's life: it is still good then, and not everybody comes at once."""
POLL: Final = 2.0
"""Seconds between two looks at credential files."""


class CredentialsError(Exception):
    """No credentials now; the text says why. Trying again may help."""


class Source(Protocol):
    """Where credentials come from."""

    async def obtain(self, current: Credentials | None) -> Credentials:
        """Get new ones.

        Raises:
            CredentialsError: there are none now.
        """

    async def changed(self, current: Credentials, renew_after: float) -> None:
        """Return when it is time to get new ones."""

    def restore(self) -> Credentials | None:
        """Those this process had before its container was started again, if they are still good."""

    def keep(self, credentials: Credentials) -> None:
        """Keep those in use for such a restart."""


async def certified(
    identity: LeafIdentity, dns_names: tuple[str, ...], ask: Callable[[EnrolmentRequest], Awaitable[Enrolled]]
) -> Credentials:
    """Make a key, and have it certified.

    Args:
        identity: who we are: another's leaf is not used.
        dns_names: host names of a registrar.
        ask: asks the server.

    Raises:
        CredentialsError: it was not given, or not what was asked for.
    """
    made = make_request(identity, dns_names)
    request = EnrolmentRequest(
        namespace=identity.namespace, pool=identity.pool, role=identity.role, request=made.request
    )
    try:
        enrolled = await ask(request)
        credentials = Credentials.from_pem(enrolled.chain, enrolled.bundle, made.key)
        given = leaf_of(credentials.chain[0]).identity
    except (EnrolmentError, IdentityError, ValueError) as e:
        raise CredentialsError(str(e)) from None
    if given != identity:
        raise CredentialsError(f"was given a certificate for {given}, not for {identity}")
    return credentials


class EnrolmentSource:
    """Credentials from an enrolment server: by token once, by the current leaf from then on, as long as that is good.

    Args:
        client: the server.
        token_file: holds the token; read each time, since it is rotated.
        identity: who we are.
        dns_names: host names of a registrar.
        vault: where they survive a restart of the container; ``None``: nowhere.
    """

    def __init__(
        self,
        client: EnrolmentClient,
        token_file: Path,
        identity: LeafIdentity,
        dns_names: tuple[str, ...],
        vault: Vault | None = None,
    ) -> None:
        self._client = client
        self._token_file = token_file
        self._identity = identity
        self._dns_names = dns_names
        self._vault = vault

    async def obtain(self, current: Credentials | None) -> Credentials:
        """By the token, or by the current leaf."""
        return await certified(self._identity, self._dns_names, lambda request: self._enrolled(request, current))

    async def _enrolled(self, request: EnrolmentRequest, current: Credentials | None) -> Enrolled:
        """By the leaf, as long as it is good; one of an authority that is trusted no more is good for nothing.

        So if renewal fails the token is shown once more: the pool may have been made anew, with another authority. Who
        decides looks at the pod as it is either way.
        """
        if current is None or leaf_of(current.chain[0]).not_after <= datetime.now(UTC):
            return await self._client.enrol(request, self._token())
        try:
            return await self._client.renew(request, current)
        except EnrolmentError as e:
            try:
                return await self._client.enrol(request, self._token())
            except (EnrolmentError, CredentialsError):
                raise e from None

    def _token(self) -> str:
        try:
            token = self._token_file.read_text("ascii").strip()
        except OSError as e:
            raise CredentialsError(f"the token file {self._token_file} cannot be read: {e.strerror}") from None
        except UnicodeDecodeError:
            token = ""
        if not is_token(token):
            raise CredentialsError(f"the token file {self._token_file} holds no token: one line of ASCII")
        return token

    async def changed(self, current: Credentials, renew_after: float) -> None:
        """Wait until the leaf is due."""
        del current
        await asyncio.sleep(renew_after)

    def restore(self) -> Credentials | None:
        """What is in the vault."""
        return self._vault.restore(self._identity) if self._vault is not None else None

    def keep(self, credentials: Credentials) -> None:
        """Put them into the vault."""
        if self._vault is not None:
            self._vault.keep(credentials)


class FilesSource:
    """Credentials from files that somebody else keeps fresh.

    Args:
        chain, key, bundle: PEM files; chain and key may be one file.
        whose: trust domain, namespace, pool and role the leaf must be of; ``None``: anybody's.
    """

    def __init__(self, chain: Path, key: Path, bundle: Path, whose: tuple[str, str, str, Role] | None = None) -> None:
        self._whose = whose
        self._files = (chain, key, bundle)
        self._seen: tuple[bytes, ...] = ()

    async def obtain(self, current: Credentials | None) -> Credentials:
        """Read the files."""
        del current
        try:
            chain, key_pem, bundle = self._seen = self._read()
            key = serialization.load_pem_private_key(key_pem, password=None)
            if not isinstance(key, ec.EllipticCurvePrivateKey):
                raise CredentialsError(f"the key in {self._files[1]} is not an elliptic curve key")
            credentials = Credentials.from_pem(chain, bundle, key)
            self._check(leaf_of(credentials.chain[0]))
        except OSError as e:
            raise CredentialsError(f"{e.filename} cannot be read: {e.strerror}") from None
        except (ValueError, TypeError, UnsupportedAlgorithm) as e:  # the text of a parser never holds the key itself
            raise CredentialsError(f"the files {', '.join(str(f) for f in self._files)} do not fit: {e}") from None
        return credentials

    def _check(self, leaf: Leaf) -> None:
        """Nobody would believe who shows a leaf that is over, or somebody else's."""
        chain, i = self._files[0], leaf.identity
        if leaf.not_after <= datetime.now(UTC):
            raise CredentialsError(f"the leaf in {chain} has expired at {leaf.not_after.isoformat()}")
        if self._whose is not None and (i.trust_domain, i.namespace, i.pool, i.role) != self._whose:
            domain, namespace, pool, role = self._whose
            own = f"spiffe://{domain}/ns/{namespace}/pool/{pool}/{role.value}"
            raise CredentialsError(f"the leaf in {chain} is of {i}, not of {own}")

    def _read(self) -> tuple[bytes, ...]:
        return tuple(file.read_bytes() for file in self._files)

    async def changed(self, current: Credentials, renew_after: float) -> None:
        """Wait until a file has other contents."""
        del current, renew_after
        while True:
            await asyncio.sleep(POLL)
            try:
                if self._read() != self._seen:
                    return
            except OSError:  # being replaced; the next look sees it whole
                continue

    def restore(self) -> Credentials | None:
        """The files are there anyway."""
        return None

    def keep(self, credentials: Credentials) -> None:
        """The files are somebody else's."""


class Keeper:
    """Keeps credentials fresh, and what is built on them.

    Args:
        source: where they come from.
        make: builds a :class:`Security` on the first ones; later ones are reloaded into it.

    Attributes:
        leaf: the leaf in use, ``None`` before there is one.
        restored: it was taken up again after a restart of the container, not obtained by this process.
        problem: why the last attempt to obtain one failed; empty after one that did not.
        on_renewed: called after each renewal.
        replaced_within: seconds in which associations should be replaced that were opened with the leaf before.
        on_other_bundle: called when a renewal has brought another trust bundle than the one in use.
        renewals, failures: counted since the start.
    """

    def __init__(self, source: Source, make: Callable[[Credentials], Security]) -> None:
        self._source = source
        self._make = make
        self._security: Security | None = None
        self._current: Credentials | None = None
        self._asked: list[Callable[[], None]] = []
        self._due = asyncio.Event()
        self.leaf: Leaf | None = None
        self.restored = False
        self.problem = ""
        self.on_renewed: Callable[[], None] = lambda: None
        self.replaced_within = 0.0
        self.on_other_bundle: Callable[[], None] = lambda: None
        self.renewals = 0
        self.failures = 0

    @property
    def current(self) -> Credentials:
        """The credentials in use; there must be some."""
        assert self._current is not None
        return self._current

    async def first(self) -> Security:
        """Take up what is left of before, or obtain the first credentials, trying until some can be used."""
        if self._restore() and self._security is not None:
            return self._security
        while True:
            credentials = await self._obtain()
            try:
                self._security = self._make(credentials)
            except SSL.Error as e:
                await self._unusable(e)
                continue
            self._use(credentials)
            self._source.keep(credentials)
            return self._security

    def _restore(self) -> bool:
        credentials = self._source.restore()
        if credentials is None:
            return False
        try:
            self._security = self._make(credentials)
        except SSL.Error as e:
            _log.warning("the identity that was kept cannot be used, another one is asked for: %s", e)
            return False
        leaf = self._use(credentials)
        self.restored = True
        _log.info("the identity of before is taken up again; it is valid until %s", leaf.not_after.isoformat())
        return True

    def trust(self, bundle: bytes) -> None:
        """Trust these authorities from now on, with the same leaf and key; the former ones stay if that cannot be.

        Raises:
            ValueError: that is no trust bundle.
        """
        assert self._security is not None
        credentials = replace(self.current, bundle=Credentials.trusting(bundle).bundle)
        try:
            self._security.reload(credentials)
        except SSL.Error as e:
            raise ValueError(f"the trust bundle cannot be used: {e}") from None
        self._current = credentials
        self._source.keep(credentials)

    def renew_now(self, done: Callable[[], None]) -> None:
        """Obtain a new leaf without waiting until it is due; ``done`` is called when it is in use."""
        self._asked.append(done)
        self._due.set()

    async def _obtain(self) -> Credentials:
        pause = FIRST_PAUSE
        while True:
            try:
                credentials = await self._source.obtain(self._current)
            except CredentialsError as e:
                self.failures += 1
                self.problem = str(e)
                _log.warning("no credentials: %s; trying again in %.1f s", e, pause)
                await asyncio.sleep(pause * random.uniform(0.8, 1.2))  # noqa: S311 - only spreads load
                pause = min(pause * 2, LONGEST_PAUSE)
                continue
            self.problem = ""
            return credentials

    def _use(self, credentials: Credentials) -> Leaf:
        self._current = credentials
        self.leaf = leaf_of(credentials.chain[0])
        return self.leaf

    async def _unusable(self, error: SSL.Error) -> None:
        self.failures += 1
        _log.error("the new credentials cannot be used, the former stay in use: %s", error)
        await asyncio.sleep(LONGEST_PAUSE)

    async def run(self) -> None:
        """Renew for ever."""
        assert self._security is not None
        while True:
            assert self.leaf is not None
            await first_of(self._source.changed(self.current, self._renew_after(self.leaf)), self._due)
            asked, self._asked = self._asked, []
            self._due.clear()
            credentials = await self._obtain()
            try:
                self._security.reload(credentials)
            except SSL.Error as e:
                self._asked += asked
                await self._unusable(e)
                continue
            trusted, left = self.current.bundle, _left(self.leaf)
            self.replaced_within = min(REPLACED_WITHIN, PART * max(0.0, left))
            leaf = self._use(credentials)
            self._source.keep(credentials)
            self.restored = False
            self.renewals += 1
            _log.info("the leaf was renewed; it is valid until %s", leaf.not_after.isoformat())
            if set(trusted) != set(credentials.bundle):
                self.on_other_bundle()
            for done in asked:
                done()
            self.on_renewed()

    def gauges(self) -> dict[str, tuple[str, float]]:
        """What metrics show."""
        not_after = self.leaf.not_after.timestamp() if self.leaf is not None else 0.0
        return {
            "rserpool_leaf_not_after_timestamp_seconds": ("When the leaf in use expires; 0: there is none.", not_after),
            "rserpool_leaf_renewals_total": ("Renewals of the leaf since the start.", self.renewals),
            "rserpool_leaf_failures_total": ("Attempts to obtain a leaf that failed, since the start.", self.failures),
        }

    def _renew_after(self, leaf: Leaf) -> float:
        """Seconds until two thirds of what is left of a fresh leaf's life are over, a little earlier at random."""
        left = _left(leaf)
        part = RENEW_AT - random.uniform(0, JITTER)  # noqa: S311 - only spreads load
        if self.restored:  # part of its life is over already
            left -= (1 - part) * (leaf.not_after - leaf.not_before).total_seconds()
            return max(1.0, left)
        return max(1.0, left * part)


def _left(leaf: Leaf) -> float:
    """Seconds of its life."""
    return (leaf.not_after - datetime.now(UTC)).total_seconds()
