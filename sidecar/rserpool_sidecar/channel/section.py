# SPDX-License-Identifier: Apache-2.0
"""The section ``[channel]`` of the sidecar's configuration."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass

from rserpool.daemon import parsers as parse
from rserpool.daemon.settings import KeyFaultError, setting
from rserpool.session.cookies import CookieKeys
from rserpool.wire import Address, TcpTransport


def _keys(raw: object) -> CookieKeys | None:
    """Keys as ``ID:KEY``, the current one first. What is raised here holds nothing of them."""
    advice = "write a list of ID:KEY, ID from 0 to 255, KEY 32 octets or more in base64, the current one first"
    keys: dict[int, bytes] = {}
    for entry in parse.texts(raw):
        number, _, key = entry.partition(":")
        try:
            octets = base64.b64decode(key, validate=True)
        except (ValueError, binascii.Error):
            raise ValueError(advice) from None
        if not number.isascii() or not number.isdigit() or int(number) in keys:
            raise ValueError(advice)
        keys[int(number)] = octets
    if not keys:
        return None
    current, *older = keys.items()
    try:
        return CookieKeys(current, dict(older))
    except ValueError:
        raise ValueError(advice) from None


@dataclass(frozen=True, kw_only=True)
class ChannelSection:
    """Control messages and user data on one connection, for pools with spec.controlChannel."""

    enabled: bool = setting(
        parse.boolean, "Pool users connect to this sidecar, which relays to the application.", False
    )
    port: int = setting(parse.port, "Port on which it takes pool users: the one that is registered.", 7008)
    http_address: Address = setting(
        parse.address, "Loopback address on which the application finds its side of the channel.", "127.0.0.1"
    )
    http_port: int = setting(parse.port, "Port of that.", 8082)
    anonymous: bool = setting(parse.boolean, "Whether users without a certificate are served.", True)
    keys: CookieKeys | None = setting(
        _keys, "Keys of the pool's cookies, each as ID:BASE64, the current one first; empty: no cookies.", (),
        secret=True,
    )  # fmt: skip
    max_age: float = setting(parse.positive, "How long a cookie is believed.", "1h")
    connections: int = setting(parse.integer(1, 65536), "Connections of pool users at a time.", 1024)
    connections_per_address: int = setting(parse.integer(1, 65536), "Of them, from one address.", 512)
    idle: float = setting(parse.seconds, "Silence in both directions that ends a connection; 0s: none does.", "1h")
    drain: float = setting(parse.seconds, "At the end: how long connections may go on after deregistration.", "10s")

    def transport(self, address: Address) -> TcpTransport:
        """The User Transport of an element that has this channel (RFC 5354 3.5)."""
        return TcpTransport(port=self.port, address=address)

    def check(self) -> None:
        """Whether only this machine, or this pod, can play the application.

        Raises:
            KeyFaultError: others could, too.
        """
        if not self.http_address.is_loopback:
            raise KeyFaultError("http_address", "is for this machine's application only; write a loopback address")
