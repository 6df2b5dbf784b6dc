# SPDX-License-Identifier: Apache-2.0
"""The operator's servers: HTTPS for pods and the API server, HTTP for health and metrics."""

from __future__ import annotations

import logging
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Final

from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest

from rserpool_operator.config import ServerSection
from rserpool_operator.server_tls import following

_log: Final = logging.getLogger(__name__)
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
IDLE: Final = 30.0
LINGER: Final = 1.0
"""Seconds for answers that are on their way when a replica ends; whoever waits for news asks the next leader."""


@asynccontextmanager
async def serving(
    section: ServerSection,
    routes: Mapping[str, Handler],
    door: ssl.SSLContext,
    newest: Callable[[], ssl.SSLContext],
    pages: Mapping[str, Handler],
    refused: Callable[[str], None],
) -> AsyncIterator[None]:
    """Serve as long as the block runs.

    Args:
        section: where.
        routes: handlers of POST requests over HTTPS.
        door: the context the server begins with.
        newest: gives the context that each connection gets.
        pages: handlers of GET requests over HTTP.
        refused: called with the reason when a TLS handshake fails.

    Raises:
        OSError: a port cannot be listened on.
    """
    secure = web.Application()
    for path, handler in routes.items():
        secure.router.add_post(path, handler)
    plain = web.Application()
    for path, handler in pages.items():
        plain.router.add_get(path, handler)
    runners = [
        web.AppRunner(
            app,
            access_log=None,
            handle_signals=False,
            keepalive_timeout=IDLE,
            lingering_time=LINGER,
            shutdown_timeout=LINGER,
        )
        for app in (secure, plain)
    ]
    try:
        for runner in runners:
            await runner.setup()
        host = str(section.address)
        sites = [
            web.TCPSite(runners[0], host, section.https_port, ssl_context=following(door, newest, refused)),
            web.TCPSite(runners[1], host, section.http_port),
        ]
        for site in sites:
            await site.start()
        _log.info("serving on ports %d (HTTPS) and %d (HTTP)", section.https_port, section.http_port)
        yield
    finally:
        for runner in runners:
            await runner.cleanup()


def metrics_page(registry: CollectorRegistry) -> Handler:
    """``GET /metrics``."""

    async def page(_: web.Request) -> web.Response:
        return web.Response(body=generate_latest(registry), headers={"content-type": "text/plain; version=0.0.4"})

    return page


def health_page(trouble: Callable[[], str]) -> Handler:
    """A page that says what is wrong, with status 503, or ok."""

    async def page(_: web.Request) -> web.Response:
        text = trouble()
        return web.Response(text=f"{text or 'ok'}\n", status=503 if text else 200)

    return page
