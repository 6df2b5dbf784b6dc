# SPDX-License-Identifier: Apache-2.0
"""What a registrar's operator sees: log lines and metrics, made of the machine's events."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

from prometheus_client import Counter

from rserpool.asap.events import Change, ElementChanged, Event, PeerChanged, PeerState, Serving
from rserpool.daemon.metrics import DaemonMetrics, Gauges
from rserpool.wire import readable_handle

_log: Final = logging.getLogger("rserpool.registrar")


class Observer:
    """Counts and logs.

    Attributes:
        on_serving: called when the registrar begins to serve.
        on_elements: called when elements have come, gone or moved.
    """

    def __init__(self, gauges: Gauges, clock: Callable[[], float]) -> None:
        self.metrics = DaemonMetrics(gauges, _log, clock)
        self.on_serving: Callable[[], None] = lambda: None
        self.on_elements: Callable[[], None] = lambda: None
        self._changes = Counter(
            "rserpool_element_changes",
            "Changes of the handlespace, by kind.",
            ["change"],
            registry=self.metrics.registry,
        )
        self._takeovers = Counter(
            "rserpool_peer_changes", "Changes of how peers are regarded.", ["state"], registry=self.metrics.registry
        )

    def event(self, event: Event) -> None:
        """One event of the machine."""
        match event:
            case ElementChanged():
                self._element(event)
            case PeerChanged(server_id=server_id, state=state, name=name, reason=reason):
                self._takeovers.labels(state.value.replace(" ", "_")).inc()
                level = logging.INFO if state in (PeerState.ACTIVE, PeerState.PROBING) else logging.WARNING
                _log.log(level, "registrar %#010x is %s", server_id, state.value, extra=_extra(reason, peer=name))
            case Serving(mentor=mentor):
                origin = f"with the handlespace of {mentor:#010x}" if mentor else "with an empty handlespace"
                _log.info("serving, %s", origin)
                self.on_serving()
            case _:
                self.metrics.count(event)

    def _element(self, event: ElementChanged) -> None:
        self._changes.labels(event.change.value).inc()
        level = logging.DEBUG if event.change is Change.UPDATED else logging.INFO
        _log.log(
            level,
            "element %#010x of pool %s %s, home %#010x",
            event.element.identifier,
            readable_handle(event.pool_handle),
            event.change.value,
            event.element.home,
            extra=_extra(event.reason),
        )
        if event.change is not Change.UPDATED:
            self.on_elements()


def _extra(reason: str, **more: str) -> dict[str, str]:
    return {**more, "reason": reason} if reason else more
