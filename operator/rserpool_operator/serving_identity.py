# SPDX-License-Identifier: Apache-2.0
"""This replica's own server certificate: made in memory, certified by the installation's CA, renewed in time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

from rserpool.authority.serving import InstallationAuthority, ServingKeyAndChain

LIFE: Final = timedelta(days=30)
RENEW_AFTER: Final = LIFE * 2 / 3


class ServingIdentity:
    """Gives out the current key and chain.

    Args:
        authority: the installation's.
        names: host names of the Services.
    """

    def __init__(self, authority: InstallationAuthority, names: list[str]) -> None:
        self._authority = authority
        self._names = names
        self._made = datetime.now(UTC)
        self._current = self._issue()

    def _issue(self) -> ServingKeyAndChain:
        return self._authority.issue(self._names, [], self._made, life=LIFE)

    def current(self) -> ServingKeyAndChain:
        """The key and chain to show now."""
        now = datetime.now(UTC)
        if now - self._made > RENEW_AFTER:
            self._made = now
            self._current = self._issue()
        return self._current
