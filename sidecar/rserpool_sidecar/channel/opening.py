# SPDX-License-Identifier: Apache-2.0
"""Opens the channel of a sidecar: what its relay needs, out of the sidecar's settings."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from rserpool.asap.events import Event
from rserpool.transport.security import Security
from rserpool_sidecar.channel.cards import CardMaker, elements_of_pool
from rserpool_sidecar.channel.relay import ChannelRelay
from rserpool_sidecar.config import SidecarSettings


async def open_channel(
    settings: Callable[[], SidecarSettings], security: Security | None, tell: Callable[[Event], None]
) -> ChannelRelay:
    """Take pool users from now on.

    Args:
        settings: those in force.
        security: of the sidecar; ``None``: a pool without.
        tell: told of refusals, and of what was malformed or without effect.

    Raises:
        OSError: a port cannot be had.
    """
    now = settings()
    relay = ChannelRelay(
        now.channel,
        now.network.address,
        security,
        pool=now.pool.full_name.encode(),
        application=(now.application_addresses, now.application.port),
        cards=CardMaker(
            now.pool.pool_handle, lambda: elements_of_pool(settings(), security), asyncio.get_running_loop().time
        ),
        tell=tell,
    )
    await relay.start()
    return relay
