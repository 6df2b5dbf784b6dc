# SPDX-License-Identifier: Apache-2.0
"""How tests hold us to what a user feels in seconds."""

from __future__ import annotations

from typing import Final

TIMES: Final = 3
"""The machines of tests are busy: such a goal is printed or written down, and asserted so many times over."""
