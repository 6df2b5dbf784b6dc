# SPDX-License-Identifier: Apache-2.0
"""What somebody has to show who plays a registrar and is none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from attacks.kit.attackers import expired, of_impostor, self_signed
from attacks.kit.system import System
from rserpool.asap.authorisation import Role
from support.rogue import Leaf

Maker = Callable[[System], Leaf | None]
"""``None``: nothing at all."""
FALSE_LEAVES: Final[dict[str, Maker]] = {
    "self-signed": lambda s: self_signed(s.a.identity(Role.REGISTRAR)),
    "an authority of the same name": lambda s: of_impostor(s.a.identity(Role.REGISTRAR), s.a.authority.bundle),
    "a registrar of another pool": lambda s: s.b.leaf(Role.REGISTRAR) if s.b else None,
    "expired": lambda s: expired(s.a.identity(Role.REGISTRAR), s.a.authority),
}
"""With these nobody finishes a handshake."""
