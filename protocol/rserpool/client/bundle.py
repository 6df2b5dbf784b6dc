# SPDX-License-Identifier: Apache-2.0
"""Whom a pool user trusts, as long as it lives: its bundle's file is read again, since a pool's authority is replaced.

Whoever writes that file publishes the new authority beside the former one before it is used (docs/authority.md).
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from pathlib import Path
from typing import Final

from OpenSSL import SSL

from rserpool.transport.security import Security
from rserpool.transport.tls import Credentials

_log: Final = logging.getLogger(__name__)
READ_AGAIN: Final = 10.0
"""Seconds between two looks."""
MOST: Final = 1024 * 1024
"""Octets of a bundle."""


async def follow_bundle(file: Path, security: Security, every: float = READ_AGAIN) -> None:
    """Trust what the file says, for ever, from the next connection on.

    What cannot be read, or is no bundle, changes nothing.

    Args:
        file: PEM.
        security: where it is trusted.
        every: seconds between two looks.
    """
    seen, spoilt = b"", b""
    while True:
        octets = _read(file)
        if octets and octets not in (seen, spoilt):
            try:
                bundle = Credentials.trusting(octets).bundle
                if set(bundle) != set(security.credentials.bundle):
                    security.reload(replace(security.credentials, bundle=bundle))
                    _log.info("the bundle %s has changed, and is trusted from now on", file)
                seen, spoilt = octets, b""
            except (ValueError, SSL.Error) as e:
                spoilt = octets
                _log.warning("the bundle %s cannot be used, the former one stays: %s", file, type(e).__name__)
        await asyncio.sleep(every)


def _read(file: Path) -> bytes:
    """The file's octets; nothing while it cannot be read, as when it is being replaced."""
    try:
        with file.open("rb") as opened:
            octets = opened.read(MOST + 1)
    except OSError:
        return b""
    return octets if len(octets) <= MOST else b""
