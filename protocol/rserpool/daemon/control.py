# SPDX-License-Identifier: Apache-2.0
"""The control socket: HTTP on a Unix socket only its owner can use.

Of a registrar: ``GET /dump``, ``/pools``, ``/elements``, ``/peers``, ``/status``; of a sidecar: ``GET /dump`` or
``/status``, ``POST /drain``, ``/load``; of `rserpool up`: ``POST /scale``. It is what `rserpool dump` reads and what a
pod's preStop hook speaks to; no port offers any of it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rserpool.transport.http import Handler, HttpError, Request, Response, Target, ask


class ControlError(Exception):
    """A control socket that gave no answer; the text says why."""


def shows(view: Callable[[], Any]) -> Handler:
    """A handler that answers with a view as JSON."""

    async def handle(_: Request) -> Response:
        return json_response(view())

    return handle


def json_response(value: Any, status: int = 200) -> Response:
    """An answer in JSON, for people too."""
    body = json.dumps(value, indent=2, ensure_ascii=False) + "\n"
    return Response(status=status, body=body.encode(), content_type="application/json")


async def control(
    socket: Path,
    method: str,
    path: str,
    body: Any = None,
    *,
    timeout: float = 5.0,  # noqa: ASYNC109 - of the request, as for a socket
) -> Any:
    """Ask a daemon through its socket; ``body`` is sent as JSON.

    Raises:
        ControlError: nobody answers there, or the answer is a refusal.
    """
    octets = b"" if body is None else json.dumps(body).encode()
    try:
        response = await ask(Target(unix=socket), method, path, body=octets, timeout=timeout)
    except HttpError as e:
        raise ControlError(f"{socket}: {e}") from None
    if response.status != 200:
        raise ControlError(f"{socket}: {response.status} {response.body.decode(errors='replace').strip()}")
    try:
        return json.loads(response.body)
    except ValueError:
        raise ControlError(f"{socket}: the answer is not JSON; that is no daemon of ours") from None
