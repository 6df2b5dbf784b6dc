# SPDX-License-Identifier: Apache-2.0
"""The TLS context of the operator's server. A client certificate is welcome, and needed where the desk says so."""

from __future__ import annotations

import logging
import os
import ssl
from collections.abc import Callable, Iterable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from cryptography.hazmat.primitives import serialization

from rserpool.authority.serving import ServingKeyAndChain

_log: Final = logging.getLogger(__name__)


def server_context(serving: ServingKeyAndChain, trusted: Iterable[bytes]) -> ssl.SSLContext:
    """Make one.

    Args:
        serving: what we show.
        trusted: authorities of client certificates, DER.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_TICKET | ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    context.num_tickets = 0  # nothing is resumed: resumption would skip the look at the certificate
    context.set_ciphers("ECDHE+AESGCM:ECDHE+CHACHA20:!aNULL:!eNULL")
    context.verify_mode = ssl.CERT_OPTIONAL
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    _load(context, serving)
    for authority in trusted:
        try:
            context.load_verify_locations(cadata=authority)
        except ssl.SSLError as e:  # one that only OpenSSL does not like is that pool's trouble, nobody else's
            _log.warning("an authority cannot be used: %s", e.reason)
    return context


def _load(context: ssl.SSLContext, serving: ServingKeyAndChain) -> None:
    """Give the context its key: Python takes it from a file only, so it is one that nobody else can open."""
    key = serving.key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    with TemporaryDirectory(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None) as folder:  # noqa: S108 - it is memory, and the folder is ours alone
        path = Path(folder) / "serving.pem"
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(key + serving.chain)
        context.load_cert_chain(path)


def following(
    current: ssl.SSLContext, newest: Callable[[], ssl.SSLContext], refused: Callable[[str], None]
) -> ssl.SSLContext:
    """A context that is only ever the door: each connection gets the newest one.

    Args:
        current: the door.
        newest: gives the context for a connection.
        refused: called with the reason when a handshake fails; asyncio itself does not say.
    """

    class Watched(ssl.SSLObject):
        """A connection whose failed handshake is told."""

        def do_handshake(self) -> None:
            try:
                super().do_handshake()
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                raise
            except ssl.SSLError as e:
                refused(str(getattr(e, "verify_message", "") or e.reason or "failed"))
                raise

    def swap(connection: ssl.SSLObject | ssl.SSLSocket, _name: str | None, _context: ssl.SSLContext) -> None:
        connection.context = newest()

    current.sni_callback = swap
    current.sslobject_class = Watched
    return current
