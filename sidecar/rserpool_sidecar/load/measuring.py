# SPDX-License-Identifier: Apache-2.0
"""Keeps an element's load: measures it time and again, one measurement at a time, and says when to register it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final

from rserpool_sidecar.config import SidecarSettings
from rserpool_sidecar.load.governor import Governor
from rserpool_sidecar.load.section import CPU, TOLD

if TYPE_CHECKING:
    from rserpool_sidecar.load.asking import Measure

_log: Final = logging.getLogger("rserpool.sidecar")
QUIET: Final = 60.0
"""Seconds in which no more than one failure is logged, however often measurements fail and succeed."""


class Loading:
    """One element's load over its life.

    Args:
        settings: the pool's policy, and where the load comes from.

    Attributes:
        on_change: called with each load that is to be registered.
        reason: why the load is not measured; empty while it is, or nobody wants it to be.
    """

    def __init__(self, settings: SidecarSettings) -> None:
        self._clock = asyncio.get_running_loop().time
        self._changed = asyncio.Event()
        self._measure: Measure | None = None
        self._outcomes = {"measured": 0, "failed": 0}
        self._said = False
        self._quiet_until = 0.0
        self._settings = settings
        self.reason = ""
        self.on_change: Callable[[float], None] = lambda _load: None
        self._governor = Governor(settings.load, self._clock(), measured=self._wanted)
        self._measure = self._way()

    @property
    def _wanted(self) -> bool:
        """Whether anybody goes by a measured load."""
        return self._settings.policy.adaptive and self._settings.load.source != TOLD

    @property
    def load(self) -> float:
        """As it is now, from 0 to 1."""
        return self._governor.load(self._clock())

    @property
    def registered(self) -> float:
        """As the registrars know it, or are about to."""
        return self._governor.registered

    def tell(self, load: float | None) -> None:
        """Take the application's word for its load; ``None``: measure it again."""
        self._governor.tell(load)
        self._changed.set()

    def reconfigure(self, settings: SidecarSettings) -> None:
        """Other settings are in force."""
        before, self._settings = self._settings, settings
        self._governor.reconfigure(settings.load, measured=self._wanted)
        if _looks_at(before) != _looks_at(settings):
            self.reason = ""
            self._measure = self._way()
        self._changed.set()

    def _way(self) -> Measure | None:
        """How to measure. What few sidecars need is loaded only here."""
        if not self._wanted:
            return None
        section = self._settings.load
        if section.source == CPU:
            from rserpool_sidecar.load.cpu import cpu  # noqa: PLC0415 - few sidecars need it

            return cpu(section, self._clock)
        from rserpool_sidecar.load.asking import asked  # noqa: PLC0415 - few sidecars need it

        port = section.port or self._settings.application.port
        return asked(self._settings.application_addresses, port, section)

    async def run(self) -> None:
        """Measure and tell for ever."""
        next_measurement = self._clock()
        while True:
            self._changed.clear()
            if self._measure is not None and self._clock() >= next_measurement:
                next_measurement = self._clock() + self._settings.load.interval
                await self._once(self._measure)
            load = self._governor.due(self._clock())
            if load is not None:
                self.on_change(load)
            times = [next_measurement] if self._measure is not None else []
            due = self._governor.next_due(self._clock())
            await self._pause_until(min([*times, *([due] if due is not None else [])], default=None))

    async def _pause_until(self, when: float | None) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(when):
                await self._changed.wait()

    async def _once(self, measure: Measure) -> None:
        from rserpool_sidecar.load.asking import UnmeasuredError  # noqa: PLC0415 - few sidecars need it

        try:
            load = await measure()
        except UnmeasuredError as e:
            self._outcomes["failed"] += 1
            if measure is self._measure:
                self._failed(str(e))
            return
        if load is None or measure is not self._measure:
            return
        self._outcomes["measured"] += 1
        if self._said:
            _log.info("the load is measured again")
        self._said, self.reason = False, ""
        self._governor.measure(load, self._clock())

    def _failed(self, reason: str) -> None:
        """Said once, until there is a measurement again, and not every time if that comes and goes."""
        now = self._clock()
        if not self.reason and now >= self._quiet_until:
            keep = self._settings.load.keep
            self._said, self._quiet_until = True, now + QUIET
            _log.warning("the load is not measured; after %g s without it counts as 1", keep, extra={"reason": reason})
        self.reason = reason

    def status(self) -> dict[str, object]:
        """For the control socket."""
        told: dict[str, object] = {"load": self.load, "load_registered": self.registered}
        if self._wanted:
            told["load_source"] = self._settings.load.source
            told["load_known"] = self._governor.known(self._clock())
        return told | ({"load_reason": self.reason} if self.reason else {})

    def gauges(self) -> Mapping[str, tuple[str, float]]:
        """For the metrics."""
        text = "Measurements of the load, by outcome."
        return {
            "rserpool_element_load": ("The load as it is, from 0 to 1.", self.load),
            "rserpool_element_load_registered": ("The load as it is registered, from 0 to 1.", self.registered),
            **{
                f"rserpool_load_measurements_total|outcome={outcome}": (text, float(count))
                for outcome, count in self._outcomes.items()
            },
        }


def _looks_at(settings: SidecarSettings) -> object:
    return settings.policy.adaptive, settings.load, settings.application, settings.application_addresses
