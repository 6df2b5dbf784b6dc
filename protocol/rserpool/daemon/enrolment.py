# SPDX-License-Identifier: Apache-2.0
"""Enrolment: how a pod asks for its certificate.

``POST /v1/enrol`` with a bearer token, once; ``POST /v1/renew`` with the current leaf over mutual TLS, ever after.
The body is JSON with the request; the answer holds the chain and the trust bundle. The key never leaves this process.
Who has its first leaf from the kubelet asks with it, by ``POST /v1/bundle``, whom to trust.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from rserpool.asap.authorisation import Role
from rserpool.transport.http import HttpError, Response, Target, ask
from rserpool.transport.tls import Credentials, make_context
from rserpool.wire import Address

ENROL: Final = "/v1/enrol"
RENEW: Final = "/v1/renew"
BUNDLE: Final = "/v1/bundle"


class EnrolmentError(Exception):
    """No certificate was given.

    Attributes:
        final: asking again will not help as long as nothing changes.
    """

    def __init__(self, message: str, *, final: bool = False) -> None:
        super().__init__(message)
        self.final = final


@dataclass(frozen=True, slots=True, kw_only=True)
class Enrolled:
    """What was given: a chain and a trust bundle, PEM."""

    chain: bytes
    bundle: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class EnrolmentRequest:
    """What is asked for, as it goes over the wire."""

    namespace: str
    pool: str
    role: Role
    request: bytes

    def to_json(self) -> bytes:
        """The body of the request."""
        return json.dumps(
            {
                "namespace": self.namespace,
                "pool": self.pool,
                "role": self.role.value,
                "request": self.request.decode(),
            }
        ).encode()

    @classmethod
    def from_json(cls, body: bytes) -> EnrolmentRequest:
        """Read a request's body.

        Raises:
            ValueError: it is not one; the text may be told to the client.
        """
        try:
            fields = json.loads(body)
            return cls(
                namespace=str(fields["namespace"]),
                pool=str(fields["pool"]),
                role=Role(fields["role"]),
                request=str(fields["request"]).encode(),
            )
        except (ValueError, KeyError, TypeError, RecursionError):
            raise ValueError("the body must be JSON with namespace, pool, role and request") from None


def is_token(text: str) -> bool:
    """Whether a text can be sent as a bearer token."""
    return bool(text) and text.isascii() and text.isprintable() and " " not in text


def answer(enrolled: Enrolled) -> Response:
    """The answer that grants."""
    body = json.dumps({"chain": enrolled.chain.decode(), "bundle": enrolled.bundle.decode()}).encode()
    return Response(body=body, content_type="application/json")


def refusal(status: int, reason: str, message: str) -> Response:
    """The answer that refuses: ``reason`` is a word for programs, ``message`` a sentence for people."""
    body = json.dumps({"reason": reason, "message": message}).encode()
    return Response(status=status, body=body, content_type="application/json")


def https_place(url: str) -> tuple[str, int]:
    """Host and port of an HTTPS server.

    Raises:
        ValueError: that is no URL of one.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port or 443
    except ValueError:
        parts, host, port = None, None, 0
    if parts is None or parts.scheme != "https" or not host:
        raise ValueError(f"{url!r} is no place to enrol or to ask; write https://HOST:PORT")
    return host, port


class EnrolmentClient:
    """Asks one enrolment server.

    Args:
        url: ``https://host:port``.
        authority: certificate of who signs the server's, PEM: first contact is pinned to it.
        local: address to ask from.

    Raises:
        ValueError: the URL is not https, or the authority is not a certificate.
    """

    def __init__(self, url: str, authority: bytes, local: Address | None) -> None:
        self._host, self._port = https_place(url)
        self._local = local
        self._pinned = Credentials.trusting(authority)

    async def enrol(self, request: EnrolmentRequest, token: str) -> Enrolled:
        """Ask with a token.

        Raises:
            EnrolmentError: it was not given.
        """
        if not is_token(token):
            raise EnrolmentError("there is no token, or one that cannot be sent: write one line of ASCII")
        context = make_context(self._pinned, require_certificate=True)
        target = Target(host=self._host, port=self._port, context=context, local=self._local)
        return await self._ask(target, ENROL, request, {"authorization": f"Bearer {token}"})

    async def renew(self, request: EnrolmentRequest, current: Credentials) -> Enrolled:
        """Ask with the current leaf.

        Raises:
            EnrolmentError: it was not given.
        """
        return await self._ask(self._shown(current), RENEW, request, {})

    async def bundle(self, current: Credentials) -> bytes:
        """Ask with the current leaf whom to trust, PEM; the bundle of ``current`` is not looked at.

        Raises:
            EnrolmentError: it was not told.
        """
        fields = await self._fields(self._shown(current), BUNDLE, b"{}", {})
        try:
            return bytes(fields["bundle"].encode())
        except (KeyError, TypeError, AttributeError):
            raise EnrolmentError("the enrolment server named no bundle") from None

    def _shown(self, current: Credentials) -> Target:
        """The server, to which a leaf is shown."""
        credentials = Credentials(chain=current.chain, bundle=self._pinned.bundle, key=current.key)
        context = make_context(credentials, require_certificate=True)
        return Target(host=self._host, port=self._port, context=context, local=self._local)

    async def _ask(self, target: Target, path: str, request: EnrolmentRequest, headers: dict[str, str]) -> Enrolled:
        fields = await self._fields(target, path, request.to_json(), headers)
        try:
            return Enrolled(chain=fields["chain"].encode(), bundle=fields["bundle"].encode())
        except (KeyError, TypeError, AttributeError):
            raise EnrolmentError("the enrolment server answered 200, not as it should") from None

    async def _fields(self, target: Target, path: str, body: bytes, headers: dict[str, str]) -> dict[str, Any]:
        """The fields of an answer that grants."""
        headers = {"content-type": "application/json", **headers}
        try:
            response = await ask(target, "POST", path, body=body, headers=headers)
        except HttpError as e:
            raise EnrolmentError(f"the enrolment server at {self._host}:{self._port} cannot be asked: {e}") from None
        try:
            fields: Any = json.loads(response.body)
            if response.status == 200 and isinstance(fields, dict):
                return fields
            message = str(fields["message"])
        except (ValueError, KeyError, TypeError, RecursionError):
            raise EnrolmentError(f"the enrolment server answered {response.status}, not as it should") from None
        raise EnrolmentError(f"enrolment was refused: {message}", final=400 <= response.status < 429)
