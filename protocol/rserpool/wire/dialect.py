# SPDX-License-Identifier: Apache-2.0
"""Two readings of the RFCs on the wire: ours, and that of rsplib, the reference implementation."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """How a message is laid out where implementations differ. All nodes of an operational scope use the same one.

    Attributes:
        name: ``rfc`` or ``rsplib``, as the command line and the ServerPool spell it.
        count_last_padding: Message Length covers the padding after the last parameter. RFC 5354 4 leaves it out; both
            are accepted on receipt.
        life_in_milliseconds: Registration Life is unsigned milliseconds. RFC 5354 3.10: signed seconds, -1 for ever.
        tcp_profile: a TCP Transport may stand where RFC 5354 wants an SCTP Transport (ASAP Transport, Server
            Information): the product's documented TCP profile.
        tcp_transport_use: the reserved field of a TCP Transport holds a Transport Use (RFC 5354 3.5: reserved).
        takeover_suggested: flag 0x01 of ENRP_HANDLE_UPDATE means "takeover suggested" (RFC 5353 2.4: no flags).
    """

    name: str
    count_last_padding: bool
    life_in_milliseconds: bool
    tcp_profile: bool
    tcp_transport_use: bool
    takeover_suggested: bool


RFC: Final = Dialect(
    name="rfc",
    count_last_padding=False,
    life_in_milliseconds=False,
    tcp_profile=True,
    tcp_transport_use=False,
    takeover_suggested=False,
)
RFC_SCTP_ONLY: Final = replace(RFC, tcp_profile=False)
"""The RFCs to the letter: peers that know no TCP profile."""

RSPLIB: Final = Dialect(
    name="rsplib",
    count_last_padding=True,
    life_in_milliseconds=True,
    tcp_profile=False,
    tcp_transport_use=True,
    takeover_suggested=True,
)
DIALECTS: Final = {d.name: d for d in (RFC, RSPLIB)}
