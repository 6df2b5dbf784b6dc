# SPDX-License-Identifier: Apache-2.0
"""What a sidecar's operator sees: log lines and metrics, made of the machine's events."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from prometheus_client import Counter

from rserpool.asap.events import ElementState, ElementStateChanged, Event, HuntChanged
from rserpool.daemon.metrics import DaemonMetrics, Gauges

_log: Final = logging.getLogger("rserpool.sidecar")


class Observer:
    """Counts and logs.

    Attributes:
        ever_registered: the element has been registered at least once.
        reason: why the element is in the state it is in, if that was told.
        on_state: called after each change of the element's state.
    """

    def __init__(self, gauges: Gauges, clock: Callable[[], float]) -> None:
        self.metrics = DaemonMetrics(gauges, _log, clock)
        self.ever_registered = False
        self.reason = ""
        self.on_state: Callable[[], None] = lambda: None
        self._state: ElementState | None = None
        self._waiting: dict[ElementState, asyncio.Event] = {}
        self._states = Counter(
            "rserpool_element_state_changes",
            "Changes of the element's state, by the new one.",
            ["state"],
            registry=self.metrics.registry,
        )
        self._hunts = Counter(
            "rserpool_hunts", "Rounds of server hunt, by outcome.", ["outcome"], registry=self.metrics.registry
        )

    def when(self, state: ElementState) -> asyncio.Event:
        """An event that is set when the element comes into a state."""
        return self._waiting.setdefault(state, asyncio.Event())

    def event(self, event: Event) -> None:
        """One event of the machine."""
        match event:
            case ElementStateChanged():
                self._changed(event)
            case HuntChanged(found=found, registrar=registrar, reason=reason):
                self._hunts.labels("found" if found else "failed").inc()
                if found:
                    _log.info("found a registrar", extra={"registrar": registrar})
                else:
                    _log.warning("found no registrar", extra={"reason": reason})
            case _:
                self.metrics.count(event)

    def _changed(self, event: ElementStateChanged) -> None:
        refreshed = event.state is self._state is ElementState.REGISTERED
        self._state, self.reason = event.state, event.reason
        if event.state is ElementState.REGISTERED:
            self.ever_registered = True
        waiting = self._waiting.pop(event.state, None)
        if waiting is not None:
            waiting.set()
        self._states.labels(event.state.value.replace(" ", "_")).inc()
        bad = event.state in (ElementState.REJECTED, ElementState.NO_HOME) and event.reason
        level = logging.WARNING if bad else logging.DEBUG if refreshed else logging.INFO
        extra = {"reason": event.reason} if event.reason else {}
        _log.log(level, "element %#010x: %s", event.pe_identifier, event.state.value, extra=extra)
        self.on_state()
