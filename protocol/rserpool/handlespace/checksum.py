# SPDX-License-Identifier: Apache-2.0
"""The PE checksum: whether two registrars hold the same elements for an owner (RFC 5353 3.6.2, RFC 1071).

Sums are kept unfolded, as plain integers, so that elements can be taken out again: subtracting in folded one's
complement would give "minus zero" for an empty set, and a false mismatch.
"""

from __future__ import annotations


def block_sum(pool_handle: bytes, pe_identifier: int) -> int:
    """What one element adds to the unfolded sum: its pool handle, padded to four octets, and its identifier."""
    padded = pool_handle + b"\0" * (-len(pool_handle) % 4)
    words = sum(int.from_bytes(padded[i : i + 2]) for i in range(0, len(padded), 2))
    return words + (pe_identifier >> 16) + (pe_identifier & 0xFFFF)


def fold(total: int) -> int:
    """The checksum of an unfolded sum; 0xffff for no elements at all."""
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
