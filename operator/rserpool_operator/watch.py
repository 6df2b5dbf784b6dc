# SPDX-License-Identifier: Apache-2.0
"""kopf watches; it does not decide. Its handlers say what has happened, and nothing else.

Embedded kopf operators, since handlers are scoped to a process: one for pools and what belongs to them in all (or the
chosen) namespaces, one for the operator's own namespace, so that no right on Secrets is needed anywhere else, and one
for PodCertificateRequests, once the cluster knows them. Each has a thread and an event loop of its own; what they see
is handed over to the main one.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Mapping
from typing import Any, Final

import kopf

from rserpool_operator import names

_log: Final = logging.getLogger(__name__)
Seen = Callable[[str, str, Mapping[str, Any]], None]
"""Called in the main loop: the plural, the kind of event (ADDED, MODIFIED, DELETED, or empty for what is there), the
object."""
CHUNK: Final = 100
"""Objects of a kind asked for at once at the start: 5,000 pods in one answer take 300 MiB."""
IDLE: Final = 0.5
"""Seconds for which what was seen last of an object is kept in case more comes of it; kopf's 5 are many objects."""


class Watcher:
    """One embedded kopf operator in its thread.

    Args:
        name: for logs.
        registry: its handlers.
        settings: its settings.
        namespaces: which; empty: all.
    """

    def __init__(
        self,
        name: str,
        registry: kopf.OperatorRegistry,
        settings: kopf.OperatorSettings,
        namespaces: tuple[str, ...],
    ) -> None:
        self._registry = registry
        self._settings = settings
        self._namespaces = namespaces
        self._ready = threading.Event()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"kopf-{name}", daemon=True)

    @property
    def alive(self) -> bool:
        """Whether its thread runs."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Begin to watch."""
        self._thread.start()

    def stop(self) -> None:
        """End, without waiting."""
        self._stop.set()

    def _run(self) -> None:
        try:
            asyncio.run(
                kopf.operator(
                    registry=self._registry,
                    settings=self._settings,
                    standalone=True,
                    clusterwide=not self._namespaces,
                    namespaces=self._namespaces,
                    ready_flag=self._ready,
                    stop_flag=self._stop,
                )
            )
        except Exception:  # noqa: BLE001 - in a thread nobody else would hear of it; `alive` tells the watchdog
            _log.exception("%s ended", self._thread.name)


def pools_watcher(namespaces: tuple[str, ...], seen: Seen, loop: asyncio.AbstractEventLoop) -> Watcher:
    """Watches ServerPools, members and our objects."""
    registry, settings = _registry(), _settings()
    ours = ",".join(f"{key}={value}" for key, value in names.MANAGED_BY.items())
    settings.watching.label_selectors["", "v1", "pods"] = names.POOL_LABEL
    for group, plural in (
        ("apps", "statefulsets"),
        ("policy", "poddisruptionbudgets"),
        ("networking.k8s.io", "networkpolicies"),
    ):
        settings.watching.label_selectors[group, "v1", plural] = ours
    for plural in ("services", "configmaps", "serviceaccounts"):
        settings.watching.label_selectors["", "v1", plural] = ours
    _on_event(registry, "rserpool.io", "v1alpha1", "serverpools", seen, loop)
    for plural in ("pods", "services", "configmaps", "serviceaccounts"):
        _on_event(registry, "", "v1", plural, seen, loop)
    _on_event(registry, "apps", "v1", "statefulsets", seen, loop)
    _on_event(registry, "policy", "v1", "poddisruptionbudgets", seen, loop)
    _on_event(registry, "networking.k8s.io", "v1", "networkpolicies", seen, loop)
    if not namespaces:
        _on_event(registry, "", "v1", "namespaces", seen, loop)
    return Watcher("pools", registry, settings, namespaces)


def requests_watcher(namespaces: tuple[str, ...], seen: Seen, loop: asyncio.AbstractEventLoop) -> Watcher:
    """Watches PodCertificateRequests, on clusters that have them."""
    registry, settings = _registry(), _settings()
    _on_event(registry, "certificates.k8s.io", "v1", "podcertificaterequests", seen, loop)
    return Watcher("requests", registry, settings, namespaces)


def own_watcher(namespace: str, seen: Seen, loop: asyncio.AbstractEventLoop) -> Watcher:
    """Watches the pools' authorities in the operator's own namespace.

    Their Secrets only: cert-manager's own kinds may come and go with it, and a Secret is what it is all about.
    """
    registry, settings = _registry(), _settings()
    ours = ",".join(f"{key}={value}" for key, value in names.MANAGED_BY.items())
    settings.watching.label_selectors["", "v1", "secrets"] = ours
    _on_event(registry, "", "v1", "secrets", seen, loop)
    return Watcher("own", registry, settings, (namespace,))


def _registry() -> kopf.OperatorRegistry:
    """Handlers of one embedded operator, which logs in as the pod, or as kubectl would outside a cluster."""
    registry = kopf.OperatorRegistry()

    async def login(**arguments: Any) -> Any:
        return kopf.login_with_service_account(**arguments) or kopf.login_with_kubeconfig(**arguments)

    kopf.on.login(registry=registry, id="login")(login)
    return registry


def _settings() -> kopf.OperatorSettings:
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False  # Events are ours
    settings.scanning.disabled = True  # no right to list CRDs and namespaces is needed
    settings.watching.inactivity_timeout = 70
    settings.watching.chunk_size = CHUNK
    settings.queueing.idle_timeout = IDLE
    settings.networking.request_timeout = 30
    return settings


def _on_event(
    registry: kopf.OperatorRegistry, group: str, version: str, plural: str, seen: Seen, loop: asyncio.AbstractEventLoop
) -> None:
    async def handler(event: Any, body: Any, **_: Any) -> None:
        found = dict(body)
        kind = event.get("type") or ""
        loop.call_soon_threadsafe(seen, plural, kind, found)

    kopf.on.event(group, version, plural, registry=registry, id=f"seen-{plural}")(handler)
