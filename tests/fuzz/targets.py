# SPDX-License-Identifier: Apache-2.0
"""All that reads octets of a stranger."""

from __future__ import annotations

from typing import Final

from fuzz import files, protocol, secure, web
from fuzz.trial import Target

TARGETS: Final[dict[str, Target]] = {
    target.name: target for target in (*protocol.TARGETS, *secure.TARGETS, *web.TARGETS, *files.TARGETS)
}
