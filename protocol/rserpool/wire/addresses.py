# SPDX-License-Identifier: Apache-2.0
"""IPv4 and IPv6 Address parameters (RFC 5354 3.1, 3.2)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from rserpool.wire.codes import ParameterType
from rserpool.wire.tlv import Decoding, Tlv, pack

Address = IPv4Address | IPv6Address
ADDRESS_TYPES: Final = frozenset({ParameterType.IPV4_ADDRESS, ParameterType.IPV6_ADDRESS})


@lru_cache(maxsize=4096)
def _ipv4(packed: bytes) -> IPv4Address:
    return IPv4Address(packed)


@lru_cache(maxsize=4096)
def _ipv6(packed: bytes) -> IPv6Address:
    return IPv6Address(packed)


def decode_addresses(decoding: Decoding, tlvs: Sequence[Tlv]) -> tuple[Address, ...]:
    """Read address parameters; their types have been checked by the caller."""
    addresses: list[Address] = []
    for tlv in tlvs:
        if tlv.type == ParameterType.IPV4_ADDRESS:
            at = decoding.expect_body(tlv, 4, "IPv4 Address")
            addresses.append(_ipv4(decoding.data[at : at + 4]))
        else:
            at = decoding.expect_body(tlv, 16, "IPv6 Address")
            addresses.append(canonical_address(_ipv6(decoding.data[at : at + 16])))
    return tuple(addresses)


def encode_addresses(addresses: Iterable[Address]) -> list[bytes]:
    """Write addresses, IPv4-mapped IPv6 ones as IPv4."""
    parts = []
    for address in addresses:
        plain = canonical_address(address)
        kind = ParameterType.IPV4_ADDRESS if plain.version == 4 else ParameterType.IPV6_ADDRESS
        parts.append(pack(kind, plain.packed))
    return parts


def canonical_address(address: Address) -> Address:
    """The one form in which an address is compared and sent: an IPv4-mapped IPv6 address is its IPv4 address."""
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address
