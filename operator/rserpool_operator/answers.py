# SPDX-License-Identifier: Apache-2.0
"""What the operator's server answers with, and how it knows who asks."""

from __future__ import annotations

import json
import ssl
from typing import Any, Final

from aiohttp import web


def granted(value: Any) -> web.Response:
    """The answer that gives something."""
    return web.json_response(value)


def refused(status: int, reason: str, message: str) -> web.Response:
    """The answer that refuses: ``reason`` is a word for programs, ``message`` a sentence for people."""
    return web.json_response({"reason": reason, "message": message}, status=status)


def certificate_of(request: web.Request) -> bytes | None:
    """The client's leaf, DER, verified by TLS against some pool's authority; ``None`` if it showed none."""
    transport = request.transport
    tls = transport.get_extra_info("ssl_object") if transport is not None else None
    if not isinstance(tls, ssl.SSLObject):
        return None
    return tls.getpeercert(binary_form=True)


MOST: Final = 64 * 1024
"""Octets of a pod's request."""


async def body_of(request: web.Request, most: int = MOST) -> bytes:
    """The request's body, however it comes; of a long one no more is read than it may have.

    Raises:
        ValueError: it is longer than ``most`` octets.
    """
    body = b""
    async for chunk in request.content.iter_any():
        body += chunk
        if len(body) > most:
            raise ValueError(f"a request has at most {most} octets")
    return body


async def json_of(request: web.Request, most: int = MOST) -> dict[str, Any]:
    """The request's body.

    Raises:
        ValueError: it is too long, or no JSON object.
    """
    body = await body_of(request, most)
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise ValueError("the body must be a JSON object")
    return value
