# SPDX-License-Identifier: Apache-2.0
"""What the application is offered on a loopback address: who a user is, cookies, business cards.

A connection's name is the port from which the sidecar has connected to the application. Nothing here is for anybody
else: whoever can connect to the address plays the application, so it is that of the pod or of this machine alone.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Awaitable, Callable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Final

from rserpool.asap.authorisation import Role
from rserpool.daemon.control import json_response
from rserpool.session.cookies import MAX_PAYLOAD, CookieError
from rserpool.session.element import NO_KEYS
from rserpool.transport.http import Handler, Request, Response
from rserpool_sidecar.channel.cards import CardError, order_of
from rserpool_sidecar.channel.connection import BusyError, UserConnection

if TYPE_CHECKING:
    from rserpool_sidecar.channel.relay import ChannelRelay

MOST_CONNECTIONS: Final = 256
"""Of the application, at a time."""
_CONNECTION: Final = re.compile(r"/v1/connections/([0-9]{1,5})(/cookie|/business-card|)", re.ASCII)
_NOBODY: Final = "no pool user's connection has that port\n"
ForOne = Callable[[UserConnection, Request], Awaitable[Response]]


class LocalPaths(Mapping[tuple[str, str], Handler]):
    """The paths and what answers them."""

    def __init__(self, relay: ChannelRelay) -> None:
        self._relay = relay
        self._of_one: dict[tuple[str, str], ForOne] = {
            ("GET", ""): self._show,
            ("POST", "/cookie"): self._cookie,
            ("POST", "/business-card"): self._card,
        }

    def __getitem__(self, key: tuple[str, str]) -> Handler:
        method, path = key
        if key == ("POST", "/v1/business-card"):
            return _not_for_browsers(self._card_for_all)
        found = _CONNECTION.fullmatch(path)
        handler = self._of_one.get((method, found[2])) if found is not None else None
        if found is None or handler is None:
            raise KeyError(key)
        return _not_for_browsers(partial(self._for_one, int(found[1]), handler))

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return iter([("POST", "/v1/business-card")])

    def __len__(self) -> int:
        return 1

    async def _for_one(self, port: int, handler: ForOne, request: Request) -> Response:
        connection = self._relay.ports.get(port)
        return await handler(connection, request) if connection is not None else _text(404, _NOBODY)

    async def _show(self, connection: UserConnection, _: Request) -> Response:
        principal, session = connection.principal, connection.session
        shown: dict[str, object] = {
            "peer": principal.name if principal.role in (Role.USER, Role.ELEMENT) else "anonymous",
            "address": connection.address,
        }
        if session.cookie is not None:
            shown["cookie"] = base64.b64encode(session.cookie.payload).decode()
            shown["cookie_age"] = round(session.cookie.age, 3)
        if session.cookie_refused:
            shown["cookie_refused"] = session.cookie_refused
        return json_response(shown)

    async def _cookie(self, connection: UserConnection, request: Request) -> Response:
        try:
            connection.seal(request.body)
        except CookieError as e:
            status = 503 if e.reason == NO_KEYS else 413 if len(request.body) > MAX_PAYLOAD else 400
            return _text(status, f"{e.reason}\n")
        except BusyError as e:
            return _text(503, f"{e}\n")
        self._relay.count("sealed")
        return json_response({"sent": True})

    async def _card(self, connection: UserConnection, request: Request) -> Response:
        try:
            card, missing = await self._relay.cards.make(order_of(request.body))
            connection.recommend(card)
        except CardError as e:
            return _text(e.status, f"{e}\n")
        except BusyError as e:
            return _text(503, f"{e}\n")
        return json_response({"sent": len(card.elements), "unknown": [f"{number:#010x}" for number in missing]})

    async def _card_for_all(self, request: Request) -> Response:
        try:
            card, missing = await self._relay.recommend(order_of(request.body))
        except CardError as e:
            return _text(e.status, f"{e}\n")
        return json_response({"sent": len(card.elements), "unknown": [f"{number:#010x}" for number in missing]})


def _not_for_browsers(handler: Handler) -> Handler:
    """A page of the web, in a browser of this machine, is not the application."""

    async def handle(request: Request) -> Response:
        if "origin" in request.headers:
            return _text(403, "this is for the application, not for pages of the web\n")
        return await handler(request)

    return handle


def _text(status: int, text: str) -> Response:
    return Response(status=status, body=text.encode())
