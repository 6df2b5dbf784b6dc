# SPDX-License-Identifier: Apache-2.0
"""Whose leaves the operator believes: those of each pool's own CA, for that pool only.

TLS lets in who has a leaf of *some* pool's authority; :meth:`Truster.verified` then looks whether it is signed by that
of the pool which the leaf names. One pool's CA vouches for no other pool.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from rserpool.authority.serving import ServingKeyAndChain
from rserpool.identity import IdentityError
from rserpool.identity.certificates import Leaf, leaf_of
from rserpool.identity.parsing import certificate_from_der, certificates_from_pem
from rserpool_operator import names
from rserpool_operator.authorities import AuthorityError, authorities_of
from rserpool_operator.installation import Installation
from rserpool_operator.kube import Kube, KubeError, Object
from rserpool_operator.kube.kinds import POD, SECRET, SERVER_POOL, Kind
from rserpool_operator.observe import read_pool
from rserpool_operator.plan.certificates import issued_by, key_hash_of
from rserpool_operator.plan.signers import is_ours
from rserpool_operator.server_tls import server_context
from rserpool_operator.work_queue import Key

_log: Final = logging.getLogger(__name__)
CERTIFICATE: Final = "tls.crt"
PATIENCE: Final = 20.0
"""Seconds for which bundles are believed before all are read again."""
SHARE: Final = 0.02
"""Of the time, for reading all of them: where that takes long, it is done less often."""
LEAST: Final = 2.0
"""Seconds between two readings that somebody's unknown leaf can cause, and until a reading that failed is repeated."""
GATHER: Final = 0.2
"""Seconds in which changes are gathered: one change is several events."""
FEW: Final = 16
"""Pools that are read one by one; of more all are read, by two lists."""
MOST_PODS: Final = 50_000
"""Names remembered by UID."""


class TrustError(Exception):
    """A leaf that is not believed; the text may be told to its holder."""


@dataclass(frozen=True, slots=True)
class _Claim:
    """CAs that one pool trusts, of one signer.

    Attributes:
        rank: those that we made come before those that users brought, even where a pool moves from one to the other;
            those of older pools before those of younger ones.
        pool: whose.
    """

    rank: tuple[bool, str]
    pool: Key
    certificates: tuple[x509.Certificate, ...]


class _Authorities(Kube):
    """The API server, but for the pools' CAs, which were read together: hundreds, one by one, would take all time."""

    def __init__(self, kube: Kube, certificates: Mapping[str, Object]) -> None:
        self._kube = kube
        self._certificates = certificates

    @classmethod
    async def read(cls, kube: Kube, namespace: str) -> _Authorities:
        """Read them; their keys are not kept.

        Raises:
            KubeError: they cannot be read.
        """
        labels = ",".join(f"{key}={value}" for key, value in names.MANAGED_BY.items())
        found = await kube.list(SECRET, namespace, labels)
        return cls(kube, {secret["metadata"]["name"]: _without_key(secret) for secret in found})

    async def get(self, kind: Kind, namespace: str, name: str) -> Object | None:
        """Of a Secret its certificate; one that is not known as ours is asked for."""
        known = self._certificates.get(name) if kind == SECRET else None
        return known if known is not None else await self._kube.get(kind, namespace, name)


def _without_key(secret: Object) -> Object:
    data = {key: value for key, value in (secret.get("data") or {}).items() if key == CERTIFICATE}
    return {"metadata": secret["metadata"], "data": data}


class Truster:
    """Keeps the bundles of all pools, and the server's TLS context that goes with them.

    Args:
        kube: where they are.
        installation: whose pools.
        serving: what we show ourselves.
    """

    def __init__(self, kube: Kube, installation: Installation, serving: Callable[[], ServingKeyAndChain]) -> None:
        self._kube = kube
        self._installation = installation
        self._serving = serving
        self._shown = serving()
        self._claims: dict[Key, list[_Claim]] = {}
        self._bundles: dict[Key, tuple[x509.Certificate, ...]] = {}
        self._trusted: frozenset[bytes] = frozenset()
        self._disbelieved: frozenset[Key] = frozenset()
        self._reading = asyncio.Lock()  # or who reads all puts back what he read of a pool before somebody else did
        self._stale: set[Key] = set()
        self._changed = asyncio.Event()
        self._pods: dict[str, str] = {}
        self._asked = float("-inf")
        self.context: ssl.SSLContext = server_context(self._shown, ())

    def believes(self, key: Key) -> bool:
        """Whether leaves of some CA of that pool are believed."""
        return key in self._bundles

    def pod_name(self, uid: str) -> str:
        """The name of a pod whose leaf was looked at before; empty if it is not known."""
        return self._pods.get(uid, "")

    def look_again(self, key: Key) -> None:
        """Something about a pool or its CA has changed."""
        self._stale.add(key)
        self._changed.set()

    async def run(self) -> None:
        """Keep the bundles current, for ever: a pool's when it has changed, all of them now and then."""
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            self._changed.clear()
            began = loop.time()
            try:
                if began >= due or len(self._stale) > FEW:
                    await self.refresh()
                    due = loop.time() + max(PATIENCE, (loop.time() - began) / SHARE)
                else:
                    await self._read(self._stale)
            except KubeError as e:
                _log.warning("the pools' authorities cannot be read: %s", e)
                due = loop.time() + LEAST
            try:
                async with asyncio.timeout_at(due):
                    await self._changed.wait()
                await asyncio.sleep(GATHER)
            except TimeoutError:
                continue

    async def refresh(self) -> None:
        """Read the bundles of all pools.

        Raises:
            KubeError: they cannot be read; the former ones stay.
        """
        async with self._reading:
            self._stale.clear()  # before: they may change again meanwhile
            spaces = self._installation.watch or (None,)
            pools = [raw for namespace in spaces for raw in await self._kube.list(SERVER_POOL, namespace)]
            authorities = await _Authorities.read(self._kube, self._installation.namespace)
            self._claims = {Key.of(raw): await self._claims_of(authorities, raw) for raw in pools}
            self._believe()

    async def _read(self, keys: Iterable[Key]) -> None:
        """Read the bundles of some pools; of one that is gone nothing is left.

        Raises:
            KubeError: one cannot be read; the former ones stay.
        """
        async with self._reading:
            for key in tuple(keys):
                self._stale.discard(key)  # before: it may change again meanwhile
                try:
                    raw = await self._kube.get(SERVER_POOL, key.namespace, key.name)
                    claims = await self._claims_of(self._kube, raw) if raw is not None else []
                except KubeError:
                    self._stale.add(key)
                    raise
                self._claims.pop(key, None)
                if claims:
                    self._claims[key] = claims
            self._believe()

    def _believe(self) -> None:
        """Work out whom to believe, of all that pools trust."""
        bundles: dict[Key, tuple[x509.Certificate, ...]] = {}
        by_subject: dict[x509.Name, x509.Certificate] = {}
        disbelieved = set()
        claims = [claim for found in self._claims.values() for claim in found]
        for claim in sorted(claims, key=lambda c: c.rank):
            own = {c.subject: c for c in claim.certificates}
            if any(by_subject.get(c.subject, own[c.subject]) != c for c in claim.certificates):
                # OpenSSL finds an issuer by its name: two with one name would get into each other's way
                disbelieved.add(claim.pool)
                continue
            by_subject |= own
            bundles[claim.pool] = (*bundles.get(claim.pool, ()), *claim.certificates)
        for key in sorted(disbelieved - self._disbelieved):
            _log.warning("%s: its authority has the name of another one and is not believed", key)
        self._bundles, self._disbelieved = bundles, frozenset(disbelieved)
        trusted = frozenset(c.public_bytes(Encoding.DER) for certificates in bundles.values() for c in certificates)
        serving = self._serving()
        if trusted != self._trusted or serving is not self._shown:
            self._trusted, self._shown = trusted, serving
            self.context = server_context(serving, sorted(trusted))

    async def _claims_of(self, authorities: Kube, raw: Object) -> list[_Claim]:
        pool, _ = read_pool(raw)
        if pool is None:
            return []
        since = raw["metadata"].get("creationTimestamp") or ""
        claims = []
        try:
            for signer, pem in await authorities_of(authorities, raw, pool, self._installation.namespace):
                claims.append(_Claim((not is_ours(signer), since), Key.of(raw), certificates_from_pem(pem)))
        except (AuthorityError, ValueError):
            pass
        return claims

    async def verified(self, der: bytes) -> tuple[Leaf, str]:
        """A leaf that TLS has verified, if it is of a CA of the pool it names; and the hash of that CA's key.

        Raises:
            TrustError: it is not.
            KubeError: that cannot be found out now.
        """
        try:
            certificate = certificate_from_der(der)
            leaf = leaf_of(certificate)
        except (ValueError, IdentityError) as e:
            raise TrustError(f"the certificate is no leaf of ours: {e}") from None
        identity = leaf.identity
        if identity.trust_domain != self._installation.trust_domain:
            raise TrustError(f"{identity} is of another trust domain")
        key = Key(identity.namespace, identity.pool)
        now = asyncio.get_running_loop().time()
        if key not in self._bundles and self._installation.serves(key.namespace) and now - self._asked > LEAST:
            self._asked = now
            await self._read((key,))  # nobody has told us of it yet
        issuer = next((a for a in self._bundles.get(key, ()) if issued_by(certificate, a)), None)
        if issuer is None:
            raise TrustError(f"the certificate of {identity} is not of that pool's authority")
        if leaf.not_after <= datetime.now(UTC):
            raise TrustError(f"the certificate of {identity} has expired")
        return leaf, key_hash_of(issuer)

    async def find_pod(self, namespace: str, uid: str) -> str:
        """The name of the pod with that UID; empty if it is gone.

        Raises:
            KubeError: pods cannot be read.
        """
        known = self._pods.get(uid)
        if known is not None:
            return known
        selectors = (names.POOL_LABEL, f"{names.OWNER_LABEL},app.kubernetes.io/component=registrar")
        for labels in selectors:
            for pod in await self._kube.list(POD, namespace, labels):
                self.remember_pod(pod["metadata"]["uid"], pod["metadata"]["name"])
        return self._pods.get(uid, "")

    def remember_pod(self, uid: str, name: str) -> None:
        """A pod of that UID was seen; the oldest are forgotten."""
        self._pods.pop(uid, None)
        self._pods[uid] = name
        while len(self._pods) > MOST_PODS:
            del self._pods[next(iter(self._pods))]
