# SPDX-License-Identifier: Apache-2.0
"""What goes into a report, piece by piece. It only reads; what may not be read is noted, and the rest goes on."""

from __future__ import annotations

import contextlib
import io
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final

from rserpool import __version__
from rserpool_cli.cluster.kubectl import Kubectl, Manifest, read_json
from rserpool_cli.cluster.members import AT_ONCE, REGISTRAR, is_injected
from rserpool_cli.cluster.pools import KIND, Pool
from rserpool_cli.cluster.report.archive import MOST_OF_FILE, Archive
from rserpool_cli.cluster.report.certificates import SHOW_LEAF, decode
from rserpool_cli.cluster.report.redaction import plain, stranger
from rserpool_cli.cluster.status import run_status
from rserpool_cli.errors import CommandError
from rserpool_operator import names

OPERATOR: Final = "rserpool-operator"
_CONTAINER: Final = "operator"
_MADE: Final = (
    "statefulsets.apps",
    "services",
    "configmaps",
    "serviceaccounts",
    "poddisruptionbudgets.policy",
    "networkpolicies.networking.k8s.io",
)
_AUTHORITIES: Final = ("certificates.cert-manager.io", "issuers.cert-manager.io")
_URL: Final = re.compile(r"https://[^./]+\.([a-z0-9-]+)\.svc\b")
_PORTS: Final = {REGISTRAR: "http", names.SIDECAR: "rserpool-http", _CONTAINER: "http"}
"""The port on which each of our containers has its metrics."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """How much is gathered.

    Attributes:
        lines: of each log.
        sidecars: whose logs, metrics and dumps are taken; those in trouble first.
    """

    lines: int = 5000
    sidecars: int = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Ours:
    """One container of ours."""

    namespace: str
    pod: Manifest
    container: str

    @property
    def name(self) -> str:
        """Of the pod."""
        return str(self.pod["metadata"]["name"])


class Gathering:
    """One report.

    Args:
        kubectl: the cluster.
        pool: of which it tells.
        archive: where everything goes.
        bounds: how much of it.
    """

    def __init__(self, kubectl: Kubectl, pool: Pool, archive: Archive, bounds: Bounds) -> None:
        self._kubectl = kubectl
        self._pool = pool
        self._archive = archive
        self._bounds = bounds

    def run(self) -> None:
        """Gather everything."""
        pool, namespace = self._pool, self._pool.namespace
        self._take("serverpool.json", lambda: plain(self._kubectl.get(KIND, pool.name, namespace=namespace)))
        self._take("status.txt", self._status)
        made = self._selected("objects", ",".join(_MADE), f"{names.OWNER_LABEL}={pool.name}", namespace)
        registrars = self._pods(f"{names.OWNER_LABEL}={pool.name},app.kubernetes.io/component=registrar", "registrars")
        members = self._pods(f"{names.POOL_LABEL}={pool.name}", "members")
        self._archive.data("pods/registrars.json", [plain(pod) for pod in registrars])
        self._archive.data("pods/members.json", [stranger(pod, names.SIDECAR) for pod in members])
        self._archive.data("pods/versions.json", self._versions(registrars, members))
        self._certificates(made, registrars)
        with_sidecar = sorted((pod for pod in members if is_injected(pod)), key=_is_well)[: self._bounds.sidecars]
        left_out = sum(map(is_injected, members)) - len(with_sidecar)
        if left_out:
            self._archive.not_read("sidecars", f"{left_out} more sidecars were left out; see --sidecars")
        ours = [
            *(Ours(namespace=namespace, pod=pod, container=REGISTRAR) for pod in registrars),
            *(Ours(namespace=namespace, pod=pod, container=names.SIDECAR) for pod in with_sidecar),
        ]
        operator = self._operator([*registrars, *with_sidecar])
        self._processes([*ours, *operator])
        about = {pool.name, *(str(o["metadata"]["name"]) for o in [*made, *registrars, *members])}
        self._take("events.json", lambda: self._events(namespace, about))

    # -- pieces

    def _take(self, name: str, work: Callable[[], Any]) -> Any:
        """Put what comes of some work into the archive; if it fails, why."""
        try:
            found = work()
        except CommandError as e:
            self._archive.not_read(name, str(e))
            return None
        if isinstance(found, str):
            self._archive.text(name, found)
        else:
            self._archive.data(name, found)
        return found

    def _status(self) -> str:
        told = io.StringIO()
        with contextlib.redirect_stdout(told):
            run_status(self._kubectl, self._pool.full)
        return told.getvalue()

    def _selected(self, name: str, kinds: str, selector: str, namespace: str) -> list[Manifest]:
        def work() -> list[Manifest]:
            return [plain(o) for o in self._kubectl.get(kinds, "-l", selector, namespace=namespace)]

        return self._take(f"{name}.json", work) or []

    def _pods(self, selector: str, what: str) -> list[Manifest]:
        try:
            found: list[Manifest] = self._kubectl.get("pods", "-l", selector, namespace=self._pool.namespace)
        except CommandError as e:
            self._archive.not_read(f"pods/{what}.json", str(e))
            return []
        return sorted(found, key=lambda pod: str(pod["metadata"]["name"]))

    def _events(self, namespace: str, about: Iterable[str]) -> list[Manifest]:
        known = set(about)
        found = [plain(e) for e in self._kubectl.get("events", namespace=namespace)]
        return [e for e in found if (e.get("involvedObject") or {}).get("name") in known]

    def _versions(self, registrars: Sequence[Manifest], members: Sequence[Manifest]) -> dict[str, Any]:
        told: dict[str, Any] = {"rserpool": __version__, "pool": self._pool.status.get("version")}
        try:
            told |= read_json(self._kubectl.run("version", "-o", "json"))
        except CommandError as e:
            self._archive.not_read("pods/versions.json: cluster", str(e))
        for word, pods in (("registrars", registrars), ("sidecars", members)):
            told[word] = sorted({image for pod in pods for image in _images(pod)})
        return told

    def _certificates(self, made: Sequence[Manifest], registrars: Sequence[Manifest]) -> None:
        """Those by which the pool and the operator are known; never a key."""
        maps = [o for o in made if o.get("kind") == "ConfigMap"]
        bundles = {o["metadata"]["name"]: str((o.get("data") or {}).get("bundle.pem", "")) for o in maps}
        for name, bundle in bundles.items():
            if bundle:
                self._archive.data(f"certificates/bundle.{name}.json", decode(bundle))
        pinned = {value for pod in registrars for value in _values(pod, "RSERPOOL_SECURITY_AUTHORITY")}
        if pinned:
            self._archive.data("certificates/installation.json", decode("\n".join(sorted(pinned))))

    def _operator(self, pods: Sequence[Manifest]) -> list[Ours]:
        """The operator's part; its pods."""
        namespace = self._operators_namespace(pods)
        if namespace is None:
            self._archive.not_read("operator", "its namespace is not known: you may not list Deployments")
            return []
        of_pool = f"{names.OWNER_LABEL}={self._pool.name},{names.OWNER_NAMESPACE_LABEL}={self._pool.namespace}"
        selector = f"app.kubernetes.io/name={OPERATOR}"
        found = self._selected("operator/objects", "deployments.apps,pods", selector, namespace)
        self._take("operator/lease.json", lambda: plain(self._kubectl.get("leases", OPERATOR, namespace=namespace)))
        self._selected("operator/authorities", ",".join(_AUTHORITIES), of_pool, namespace)
        # a table is what the API server makes of it: the contents of Secrets never come here
        self._take(
            "operator/secrets.txt", lambda: self._kubectl.run("get", "secrets", "-l", of_pool, namespace=namespace)
        )
        pods = [o for o in found if o.get("kind") == "Pod" and _has(o, _CONTAINER)]
        about = {OPERATOR, *(str(pod["metadata"]["name"]) for pod in pods)}
        self._take("operator/events.json", lambda: self._events(namespace, about))
        return [Ours(namespace=namespace, pod=pod, container=_CONTAINER) for pod in pods]

    def _operators_namespace(self, pods: Sequence[Manifest]) -> str | None:
        with contextlib.suppress(CommandError):
            for found in self._kubectl.get("deployments.apps", "-A", "-l", f"app.kubernetes.io/name={OPERATOR}"):
                return str(found["metadata"]["namespace"])
        urls = (value for pod in pods for value in _values(pod, "RSERPOOL_SECURITY_URL"))
        return next((match[1] for url in urls if (match := _URL.match(url))), None)

    def _processes(self, ours: Sequence[Ours]) -> None:
        """Logs, metrics, dumps and leaves of our containers, several at once."""
        jobs = [(name, job) for one in ours for name, job in self._jobs(one)]

        def attempt(job: Callable[[], Any]) -> Any:
            try:
                return job()
            except CommandError as e:
                return e

        with ThreadPoolExecutor(AT_ONCE) as threads:
            for (name, _), found in zip(jobs, threads.map(attempt, [job for _, job in jobs]), strict=True):
                if isinstance(found, CommandError):
                    self._archive.not_read(name, str(found))
                elif isinstance(found, str):
                    self._archive.text(name, found)
                else:
                    self._archive.data(name, found)

    def _jobs(self, one: Ours) -> Iterable[tuple[str, Callable[[], Any]]]:
        kubectl, place = self._kubectl, f"{one.container}/{one.name}"

        def log(*more: str) -> str:
            bounds = (f"--tail={self._bounds.lines}", f"--limit-bytes={MOST_OF_FILE}", "--timestamps")
            return kubectl.run("logs", one.name, "-c", one.container, *bounds, *more, namespace=one.namespace)

        def metrics() -> str:
            path = f"/api/v1/namespaces/{one.namespace}/pods/{one.name}:{_port(one)}/proxy/metrics"
            return kubectl.run("get", "--raw", path)

        def dump() -> Any:
            return json.loads(kubectl.exec(one.namespace, one.name, one.container, "rserpool", "dump"))

        def leaf() -> Any:
            return decode(kubectl.exec(one.namespace, one.name, one.container, "python3", "-SEc", SHOW_LEAF))

        yield f"logs/{place}.log", log
        if _restarted(one):
            yield f"logs/{place}.previous.log", lambda: log("--previous")
        if not _runs(one):
            self._archive.not_read(place, "it does not run")
            return
        yield f"metrics/{place}.txt", metrics
        if one.container != _CONTAINER:
            yield f"dumps/{place}.json", lambda: _parsed(dump)
            if self._pool.secure:
                yield f"certificates/leaf.{one.container}.{one.name}.json", leaf


def _parsed(work: Callable[[], Any]) -> Any:
    try:
        return work()
    except ValueError:
        raise CommandError("it gave an answer that cannot be read") from None


def _containers(pod: Manifest) -> list[Manifest]:
    spec = pod.get("spec") or {}
    return [*(spec.get("initContainers") or []), *(spec.get("containers") or [])]


def _container(pod: Manifest, name: str) -> Manifest:
    return next((c for c in _containers(pod) if c.get("name") == name), {})


def _has(pod: Manifest, container: str) -> bool:
    return bool(_container(pod, container))


def _images(pod: Manifest) -> Iterable[str]:
    return (c["image"] for c in _containers(pod) if c.get("name") in _PORTS and "image" in c)


def _values(pod: Manifest, variable: str) -> list[str]:
    """Of an environment variable in our containers."""
    ours = [c for c in _containers(pod) if c.get("name") in _PORTS]
    return [str(e["value"]) for c in ours for e in c.get("env") or [] if e.get("name") == variable and e.get("value")]


def _port(one: Ours) -> int:
    wanted = _PORTS[one.container]
    ports = {p.get("name"): p.get("containerPort") for p in _container(one.pod, one.container).get("ports") or []}
    return int(ports.get(wanted) or names.REGISTRAR_HTTP)


def _state(one: Ours) -> Mapping[str, Any]:
    status = one.pod.get("status") or {}
    states = [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]
    return next((s for s in states if s.get("name") == one.container), {})


def _runs(one: Ours) -> bool:
    return "running" in (_state(one).get("state") or {})


def _restarted(one: Ours) -> bool:
    return int(_state(one).get("restartCount", 0)) > 0


def _is_well(pod: Manifest) -> bool:
    conditions = (pod.get("status") or {}).get("conditions") or []
    return any(c.get("type") == "Ready" and c.get("status") == "True" for c in conditions)
