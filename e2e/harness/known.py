# SPDX-License-Identifier: Apache-2.0
"""The secrets of this run of the tests that somebody has come across."""

from __future__ import annotations

from typing import Final

from support.leaks import Known

KNOWN: Final = Known()
