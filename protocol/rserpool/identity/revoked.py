# SPDX-License-Identifier: Apache-2.0
"""What an entry of ``spec.security.revoked`` takes back: a leaf, a pod's identity, or those of a service account."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

MOST_REVOKED: Final = 256
"""Entries of one pool."""
REVOKED_PATTERN: Final = r"^(serial:[0-9A-Fa-f]{1,40}|[a-z0-9]([-.a-z0-9]*[a-z0-9])?)$"
"""No name in Kubernetes holds a colon, so that no serial number is taken for one; it has 20 octets at most."""
LEAF_REVOKED: Final = "LeafRevoked"
"""The word with which the operator refuses a leaf that was revoked by its serial number: its pod may have another."""
POD_UID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_SERIAL: Final = re.compile(r"serial:([0-9A-Fa-f]{1,40})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Revoked:
    """The entries, by what they are.

    Attributes:
        serials: serial numbers of leaves.
        pod_uids: UIDs of pods.
        names: names of service accounts in the pool's namespace; a pod's UID, too, could be one.
    """

    serials: frozenset[int]
    pod_uids: frozenset[str]
    names: frozenset[str]

    @classmethod
    def of(cls, entries: Iterable[str]) -> Revoked:
        """Read the entries of a list; what is none of the three is left out."""
        listed = frozenset(entries)
        found = {entry: _SERIAL.fullmatch(entry) for entry in listed}
        return cls(
            serials=frozenset(int(match[1], 16) for match in found.values() if match),
            pod_uids=frozenset(entry for entry in listed if POD_UID.fullmatch(entry)),
            names=frozenset(entry for entry, match in found.items() if not match),
        )

    def pod(self, uid: str, service_account: str) -> bool:
        """Whether a pod's identity is taken back, by itself or by its service account."""
        return uid in self.pod_uids or (bool(service_account) and service_account in self.names)


def serial_text(serial: int) -> str:
    """A serial number as it is written: the digits that ``openssl x509 -serial`` prints, in lower case."""
    digits = f"{serial:x}"
    return digits if len(digits) % 2 == 0 else "0" + digits
