# SPDX-License-Identifier: Apache-2.0
"""One replica of the operator, from its login to its end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, TypeVar

from rserpool.authority.serving import InstallationAuthority
from rserpool.daemon import logs
from rserpool.daemon.logs import PeerLog
from rserpool.daemon.process import first_of, until
from rserpool_operator import installation_ca, names
from rserpool_operator.admission.desk import AdmissionDesk
from rserpool_operator.config import OperatorSettings
from rserpool_operator.control.board import Boards
from rserpool_operator.control.desk import ControlDesk
from rserpool_operator.enrolment.desk import EnrolmentDesk
from rserpool_operator.enrolment.pod_certificate_desk import PodCertificateDesk
from rserpool_operator.happenings import Happenings
from rserpool_operator.installation import installation_of, serving_names
from rserpool_operator.installation_ca import InstallationError
from rserpool_operator.kube import Kube, KubeError, connect
from rserpool_operator.kube.kinds import POD
from rserpool_operator.leader import lead, mark_leader
from rserpool_operator.metrics import OperatorMetrics
from rserpool_operator.notes import Notes
from rserpool_operator.observe import has_pod_certificates
from rserpool_operator.plan import Note, about_pod
from rserpool_operator.reasons import Reason
from rserpool_operator.reconcile import Reconciler
from rserpool_operator.server import Handler, health_page, metrics_page, serving
from rserpool_operator.serving_identity import ServingIdentity
from rserpool_operator.trust import Truster
from rserpool_operator.watch import Watcher, own_watcher, pools_watcher, requests_watcher
from rserpool_operator.watchdog import Watchdog
from rserpool_operator.work_queue import Key, WorkQueue

_log: Final = logging.getLogger("rserpool.operator")
T = TypeVar("T")
PAUSE: Final = 3.0
WEBHOOK_INTERVAL: Final = 30.0
REQUESTS_INTERVAL: Final = 30.0
"""Seconds between two looks whether the cluster knows PodCertificateRequests by now."""
SOME_TIME: Final = 1.0
"""Seconds in which reports of a pool's processes are gathered before its status is written."""


async def main(settings: OperatorSettings, stop: asyncio.Event) -> int:
    """Run until told to stop; returns the exit status."""
    logs.set_up(form=settings.log.format, level=settings.log.level)
    for name in ("kopf", "kubernetes", "aiohttp"):
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("kopf._core.reactor.running").setLevel(logging.ERROR)  # signals are ours
    api = await connect()
    try:
        kube = Kube(api)
        namespace = settings.installation.namespace
        authority = await first_of(patiently(lambda: installation_ca.obtain(kube, namespace)), stop)
        if authority is None:
            return 0
        return await Replica(settings, kube, authority).run(stop)
    except InstallationError as e:
        _log.error("%s; restore it, or delete it and restart all pods of all pools", e)
        return 1
    finally:
        await api.close()


async def patiently(attempt: Callable[[], Awaitable[T]]) -> T:
    """Try until the API server answers."""
    while True:
        try:
            return await attempt()
        except KubeError as e:
            _log.warning("%s; trying again in %g s", e, PAUSE)
        await asyncio.sleep(PAUSE)


async def until_there(ask: Callable[[], Awaitable[bool]], pause: float = REQUESTS_INTERVAL) -> None:
    """Ask, with pauses of some seconds, until there is something: a cluster may learn a kind while we run."""
    while True:
        if await patiently(ask):
            return
        await asyncio.sleep(pause)


class Replica:
    """One replica."""

    def __init__(self, settings: OperatorSettings, kube: Kube, authority: InstallationAuthority) -> None:
        loop = asyncio.get_running_loop()
        self._settings = settings
        self._kube = kube
        self._bundle = authority.bundle
        self._leading = False
        self.metrics = OperatorMetrics()
        kube.on_answer = self._answered
        installation = installation_of(settings, authority.bundle)
        identity = ServingIdentity(authority, serving_names(settings))
        self._notes = Notes(kube, settings.installation.pod, loop.time)
        self._truster = Truster(kube, installation, identity.current)
        self._boards = Boards()
        reconciler = Reconciler(kube, installation, self._boards, self._notes, self.metrics)
        self._queue = WorkQueue(reconciler.reconcile)
        self._boards.on_report = lambda key: self._look_at(key, SOME_TIME)
        self._happenings = Happenings(self._boards, self._truster, self._look_at, self._left)
        self._peer_log = PeerLog(_log)
        self._tasks: set[asyncio.Task[None]] = set()
        self._watchers: list[Watcher] = []
        self._watchdog = Watchdog(
            kube,
            installation.watch,
            lambda: all(w.alive for w in self._watchers),
            lambda: self._queue.beat if self._leading else None,
        )
        self._control = ControlDesk(
            self._boards,
            self._truster,
            self._notes,
            self.metrics,
            loop.time,
            lambda: self._leading,
            self._is_member,
        )
        self._enrolment = EnrolmentDesk(
            kube,
            installation,
            self._truster,
            self._notes,
            self.metrics,
            check_source=settings.enrolment.check_source,
            per_second=settings.enrolment.per_second,
            clock=loop.time,
        )
        self._requests = PodCertificateDesk(
            kube,
            installation,
            self._notes,
            self.metrics,
            per_second=settings.enrolment.per_second,
            clock=loop.time,
        )
        self._requested = WorkQueue(self._requests.look)
        self._admission = AdmissionDesk(kube, installation, self.metrics, loop.time)

    def _routes(self) -> dict[str, Handler]:
        return {
            "/v1/enrol": self._enrolment.enrol,
            "/v1/renew": self._enrolment.renew,
            "/v1/bundle": self._enrolment.bundle,
            "/v1/control": self._control.control,
            "/admission/pods": self._admission.pods,
        }

    async def run(self, stop: asyncio.Event) -> int:
        """Serve, watch, and reconcile while this replica leads."""
        settings = self._settings
        ready = await first_of(patiently(self._prepare), stop)
        if ready is None:
            return 0
        pages = {
            "/livez": health_page(self._watchdog.trouble),
            "/readyz": health_page(lambda: ""),
            "/metrics": metrics_page(self.metrics.registry),
        }
        newest = lambda: self._truster.context  # noqa: E731 - read anew for each connection
        try:
            async with serving(settings.server, self._routes(), self._truster.context, newest, pages, self._refused):
                self._watch()
                own = settings.installation
                background = [
                    self._truster.run(),
                    self._watchdog.run(),
                    self._complete_webhook(),
                    self._watch_requests(),
                    lead(self._kube, settings.lease, own.namespace, own.pod, self._begin),
                ]
                return await until(stop, background)
        except OSError as e:
            _log.error("cannot listen: %s", e)
            return 1
        finally:
            for watcher in self._watchers:
                watcher.stop()

    async def _prepare(self) -> bool:
        """What must be known before anybody is answered."""
        await self._truster.refresh()
        return True

    def _watch(self) -> None:
        loop = asyncio.get_running_loop()
        own = self._settings.installation
        self._watchers = [
            pools_watcher(own.watch, self._seen, loop),
            own_watcher(own.namespace, self._seen, loop),
        ]
        for watcher in self._watchers:
            watcher.start()

    def _seen(self, plural: str, kind: str, body: Mapping[str, Any]) -> None:
        self._watchdog.heard(plural, kind, body)
        self._happenings.seen(plural, kind, body)

    async def _watch_requests(self) -> None:
        """Watch PodCertificateRequests as soon as there is such a kind, for ever."""
        own, loop = self._settings.installation, asyncio.get_running_loop()
        await until_there(lambda: has_pod_certificates(self._kube, (own.watch or (own.namespace,))[0]))
        watcher = requests_watcher(own.watch, self._asked, loop)
        watcher.start()
        self._watchers.append(watcher)
        await asyncio.Event().wait()

    def _asked(self, _plural: str, kind: str, request: Mapping[str, Any]) -> None:
        key = self._requests.seen(kind, request)
        if key is not None and self._leading:
            self._requested.add(key)

    async def _begin(self) -> None:
        """Lead: what was seen so far has to be looked at, and what is new from now on."""
        own = self._settings.installation
        await patiently(lambda: mark_leader(self._kube, own.namespace, own.pod))
        self._leading = True
        self.metrics.leading.set(1)
        for key in self._happenings.pools:
            self._queue.add(key)
        for key in self._requests.open:
            self._requested.add(key)
        await asyncio.gather(self._queue.run(), self._requested.run())

    async def _is_member(self, key: Key, uid: str) -> bool:
        """Whether a pod is a member: as the watch has told, or, if it has not told of it, as it is."""
        known = self._happenings.member(uid)
        if known is not None:
            return known == key
        name = await self._truster.find_pod(key.namespace, uid)
        pod = await self._kube.get(POD, key.namespace, name) if name else None
        if pod is None or pod["metadata"]["uid"] != uid:
            return False
        return bool((pod["metadata"].get("labels") or {}).get(names.POOL_LABEL) == key.name)

    def _look_at(self, key: Key, after: float | None = None) -> None:
        if self._leading:
            if after is None:
                self._queue.add(key)
            else:
                self._queue.add(key, after)

    def _left(self, key: Key, pod: Mapping[str, Any]) -> None:
        """A member is none any more: gone, or its label was changed while it runs."""
        if self._leading:
            task = asyncio.get_running_loop().create_task(self._tell_if_it_runs(key, pod["metadata"]))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _tell_if_it_runs(self, key: Key, metadata: Mapping[str, Any]) -> None:
        try:
            pod = await self._kube.get(POD, metadata["namespace"], metadata["name"])
        except KubeError:
            return
        if pod is None or pod["metadata"]["uid"] != metadata["uid"] or "deletionTimestamp" in pod["metadata"]:
            return
        about = about_pod(metadata["namespace"], metadata["name"], metadata["uid"])
        message = f"the pod is no member of ServerPool {key} any more: its element is removed, its identity refused"
        await self._notes.write(Note(about=about, reason=Reason.IDENTITY_REVOKED, message=message, warning=True))

    async def _complete_webhook(self) -> None:
        """Keep the webhook's caBundle right, for ever."""
        name = self._settings.installation.webhook
        while name:
            try:
                if await installation_ca.complete_webhook(self._kube, name, self._bundle):
                    _log.info("told the API server by whom the webhook %s is certified", name)
            except KubeError as e:
                if e.status != 409:
                    _log.warning("the webhook cannot be completed: %s", e)
            await asyncio.sleep(WEBHOOK_INTERVAL)
        await asyncio.Event().wait()

    def _refused(self, reason: str) -> None:
        """A TLS handshake has failed: somebody with a certificate that no pool's authority signed, or no TLS at all."""
        self.metrics.handshakes.labels(reason[:80]).inc()
        now = asyncio.get_running_loop().time()
        self._peer_log.write(logging.WARNING, reason, "handshake", f"refused a TLS handshake: {reason}", {}, now)

    def _answered(self, verb: str, plural: str, status: int) -> None:
        self.metrics.api.labels(verb, plural, f"{status // 100}xx" if status else "none").inc()
