# SPDX-License-Identifier: Apache-2.0
"""Who gives the processes of a pool on this machine their identities: the pool's CA, and the server they enrol at."""

from __future__ import annotations

import hmac
import secrets
from datetime import UTC, datetime, timedelta

from rserpool.authority import EmbeddedAuthority, SigningError
from rserpool.authority.serving import InstallationAuthority
from rserpool.daemon.enrolment import ENROL, RENEW, Enrolled, EnrolmentRequest, answer, refusal
from rserpool.identity import IdentityError, LeafIdentity
from rserpool.identity.certificates import read_leaf
from rserpool.pool import ServerPool
from rserpool.transport.http import HttpServer, Request, Response
from rserpool.transport.tls import Credentials, make_context
from rserpool_cli.up.loopback import Place

YEAR = timedelta(days=365)


class Enroller:
    """The pool's authority in this process; its keys exist nowhere else, and end with it."""

    def __init__(self, pool: ServerPool) -> None:
        now = datetime.now(UTC)
        security = pool.spec.security
        self._authority = EmbeddedAuthority.create(
            f"rserpool {pool.full_name}"[:64], now, life=security.ca.duration, leaf_life=security.leaf_duration
        )
        self._installation = InstallationAuthority.create("rserpool up", now, life=YEAR)
        self._tokens: dict[str, LeafIdentity] = {}
        self._server = HttpServer({("POST", ENROL): self._enrol, ("POST", RENEW): self._renew})

    @property
    def bundle(self) -> bytes:
        """The pool's CA, PEM."""
        return self._authority.bundle

    @property
    def installation(self) -> bytes:
        """Who signs this server, PEM."""
        return self._installation.bundle

    def token_for(self, identity: LeafIdentity) -> str:
        """A token with which a process may enrol as that identity."""
        token = secrets.token_urlsafe(32)
        self._tokens[token] = identity
        return token

    def forget(self, identity: LeafIdentity) -> None:
        """Give that identity no more certificates."""
        self._tokens = {token: known for token, known in self._tokens.items() if known != identity}

    async def listen(self, place: Place) -> None:
        """Serve enrolment there."""
        addresses = [place.address, *place.also]
        served = self._installation.issue([], addresses, datetime.now(UTC), life=YEAR)
        credentials = Credentials.from_pem(served.chain, self._authority.bundle, served.key)
        context = make_context(credentials, require_certificate=False)
        for address in addresses:
            await self._server.listen(address, place.ports["https"], lambda: context)

    async def close(self) -> None:
        """Serve no more."""
        await self._server.close()

    async def _enrol(self, request: Request) -> Response:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        identity = self._identity_of(token) if scheme == "Bearer" else None
        if identity is None:
            return refusal(401, "Unauthorized", "the token is not one of this pool's")
        return self._sign(identity, request)

    def _identity_of(self, token: str) -> LeafIdentity | None:
        known = (i for t, i in self._tokens.items() if hmac.compare_digest(t.encode(), token.encode()))
        return next(known, None)

    async def _renew(self, request: Request) -> Response:
        if request.certificate is None:
            return refusal(401, "Unauthorized", "renewal takes the current certificate")
        try:
            identity = read_leaf(request.certificate).identity
        except IdentityError as e:
            return refusal(403, "Forbidden", str(e))
        if identity not in self._tokens.values():
            return refusal(403, "Forbidden", "nobody of this pool")
        return self._sign(identity, request)

    def _sign(self, identity: LeafIdentity, request: Request) -> Response:
        try:
            wanted = EnrolmentRequest.from_json(request.body)
            asked = (wanted.namespace, wanted.pool, wanted.role)
            if asked != (identity.namespace, identity.pool, identity.role):
                return refusal(403, "Forbidden", "the token is for another pool or role")
            chain = self._authority.sign(identity, wanted.request, datetime.now(UTC))
        except (SigningError, ValueError) as e:
            return refusal(400, "BadRequest", str(e))
        return answer(Enrolled(chain=chain, bundle=self._authority.bundle))
