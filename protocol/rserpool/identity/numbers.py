# SPDX-License-Identifier: Apache-2.0
"""PE identifiers that follow from a pod's UID, so that the certificate says which element speaks (threat 2.3)."""

from __future__ import annotations

import hashlib
from typing import Final

CANDIDATES: Final = 8
"""32 bits collide in large pools: an element whose identifier is taken uses the next one (cause 0x4)."""


def pe_identifiers(pod_uid: str) -> tuple[int, ...]:
    """The identifiers a pod's element may use, in the order in which it tries them; none of them is 0."""
    digests = (hashlib.sha256(b"rserpool-pe" + bytes([k]) + pod_uid.encode()).digest() for k in range(CANDIDATES))
    numbers = (int.from_bytes(digest[:4]) for digest in digests)
    return tuple(dict.fromkeys(number for number in numbers if number))
