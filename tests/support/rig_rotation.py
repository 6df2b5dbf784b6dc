# SPDX-License-Identifier: Apache-2.0
"""A pool whose CA is replaced: its processes and a user of it, on the cluster of :mod:`support.rig_cluster`.

The processes ask the operator's own board and are signed for by the operator's own hand; only TLS and the clock are
played. What must never be is looked for after each act: one process that would refuse another's certificate.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from cryptography import x509

from rserpool.asap.authorisation import Role
from rserpool.authority import EmbeddedAuthority, make_request
from rserpool.identity import LeafIdentity
from rserpool.pool.model import SignerType
from rserpool_operator import names
from rserpool_operator.authorities import AuthorityError, bundle_of, sign, whole_bundle
from rserpool_operator.generations import generations_of
from rserpool_operator.kube import KubeError, Object, Ref, ref_of
from rserpool_operator.kube.kinds import CERTIFICATE, CERTIFICATE_REQUEST, CONFIG_MAP, ISSUER, POD, SECRET
from rserpool_operator.metrics import OperatorMetrics
from rserpool_operator.notes import Notes
from rserpool_operator.observe import read_pool
from rserpool_operator.observed import Report
from rserpool_operator.plan.certificates import key_hash, key_hash_of
from rserpool_operator.plan.trial import NOBODY
from rserpool_operator.reconcile import Reconciler
from support.rig_cluster import SYSTEM, Cluster, ca_secret, installation, member, raw_pool

MOUNT: Final = timedelta(seconds=100)
"""A user's mount is as old as this at most, the user's own reading of it included."""


@dataclass
class Process:
    """A sidecar or a registrar.

    Attributes:
        silent: it runs, and its peers reach it, but the operator does not.
    """

    uid: str
    name: str
    role: Role
    issuer: str = ""
    bundle: frozenset[str] = frozenset()
    loaded: dict[str, str] = field(default_factory=dict)
    silent: bool = False
    restored: bool = False


class Rotating(Cluster):
    """A cluster with one pool, whose time a test makes go by.

    Args:
        signer: its type, or the whole of it.
        signs: leaves are really signed, which is for times near the present only.
        issuers: a user's: with which CA each signs, by its name; one that is not among them never answers.
        returns: a CA that signed once may do so again: the pool is moved back.
        security: of the ServerPool.
    """

    def __init__(
        self,
        signer: str | Object = "Embedded",
        *,
        signs: bool = True,
        issuers: Mapping[str, EmbeddedAuthority] | None = None,
        returns: bool = False,
        **security: Any,
    ) -> None:
        self.now = datetime.now(UTC).replace(microsecond=0)
        self._signs = signs
        self.issuers = dict(issuers or {})
        self._returns = returns
        self.processes: dict[str, Process] = {}
        self.faults: list[str] = []
        self._signed: list[str] = []
        self._mounts: list[tuple[datetime, frozenset[str]]] = []
        super().__init__()
        signer = {"type": signer} if isinstance(signer, str) else signer
        self.key = self.create(raw_pool(security={"signer": signer, **security}))
        for name in ("app-1", "app-2"):
            self.world.put(member(name, "echo"))
        assert self.settle(self.key)
        self.go_by(5)

    def restart(self, operator: Any = None) -> None:
        super().restart(operator or installation())
        notes = Notes(self.world.kube, "operator-0", lambda: self._clock)
        metrics = self.metrics = OperatorMetrics()
        self.reconciler = Reconciler(self.world.kube, self.operator, self.boards, notes, metrics, lambda: self.now)

    def time(self) -> datetime:
        return self.now

    def step(self) -> bool:
        """And cert-manager answers who tries an issuer of the user's."""
        moved = super().step()
        for manifest in self.world.of(CERTIFICATE_REQUEST) if self.world.cert_manager else ():
            theirs = self.issuers.get(manifest["spec"]["issuerRef"]["name"])
            if manifest.get("status") or theirs is None:
                continue
            whose = LeafIdentity(
                trust_domain="cluster.local", namespace="demo", pool="echo", role=Role.ELEMENT, pod_uid=NOBODY
            )
            chain = theirs.sign(whose, base64.b64decode(manifest["spec"]["request"]), self.now)
            status = {"certificate": base64.b64encode(chain).decode()}
            self.world.change(ref_of(manifest), lambda live, s=status: live.update(status=s))  # type: ignore[misc] # mypy infers no lambda with a default
            moved = True
        return moved

    @property
    def authority(self) -> Object:
        found: Object = self.status(self.key).get("authority", {})
        return found

    def ask_for(self, generation: int) -> None:
        """What `rserpool rotate-ca` does."""
        self.change(self.key, lambda raw: raw["spec"]["security"].setdefault("ca", {}).update(generation=generation))

    def move_to(self, signer: Object) -> None:
        """The user writes another signer."""
        self.change(self.key, lambda raw: raw["spec"]["security"].update(signer=signer))

    def annotate(self, name: str, value: str) -> None:
        self.change(self.key, lambda raw: raw["metadata"].setdefault("annotations", {}).update({name: value}))

    def secret(self, generation: int) -> Ref:
        return Ref(SECRET, SYSTEM, names.authority("demo", "echo", self.raw(self.key)["metadata"]["uid"], generation))

    def go_by(self, seconds: float, *, crash_after: int | None = None) -> bool:
        """So much time goes by: everybody asks, then the operator looks; returns whether it was quiet."""
        self.now += timedelta(seconds=seconds)
        self._births_and_deaths()
        for process in list(self.processes.values()):
            self.asks(process)
        quiet = self.settle(self.key, crash_after=crash_after)
        self._births_and_deaths()
        self._look()
        return quiet

    def until(self, phase: str, *, most: int = 60) -> None:
        """Until the replacement is there."""
        for _ in range(most):
            if self.authority.get("phase") == phase:
                return
            self.go_by(15)
        raise AssertionError(self.authority)

    def asks(self, process: Process) -> None:
        """One exchange over the control channel, with what follows from it."""
        if process.silent:
            return
        if process.issuer not in self._believed():  # TLS fails: it enrols by token
            self._enrol(process)
            return
        report = Report(
            role=process.role.value,
            loaded=dict(process.loaded),
            transports=("TCP",),
            state={},
            at=self.now,
            issuer=process.issuer,
        )
        self.boards.report(self.key, process.uid, report)
        news = self.boards.news(self.key, process.role, process.loaded, process.issuer)
        for part, told in (news or {}).items():
            if part == "bundle":
                process.bundle = _keys(told["pem"].encode())
            obeys = part == "renew" and (process.loaded.get("renew") or process.restored)
            if obeys and not self._enrol(process):
                continue
            process.loaded[part] = told["version"]
        self._look()

    def _enrol(self, process: Process) -> bool:
        raw = self.raw(self.key)
        pool, _ = read_pool(raw)
        assert pool is not None
        whose = LeafIdentity(
            trust_domain="cluster.local", namespace="demo", pool="echo", role=process.role, pod_uid=process.uid
        )
        made = make_request(whose)
        record = generations_of(raw, pool)
        signer = record.signers[record.generation]
        try:
            if self._signs and signer.type is SignerType.EMBEDDED:
                chain, bundle = asyncio.run(sign(self.world.kube, raw, pool, SYSTEM, whose, made.request, ()))
                leaf = x509.load_pem_x509_certificate(chain)
                authorities = x509.load_pem_x509_certificates(bundle)
                issuer = next(key_hash_of(a) for a in authorities if leaf.issuer == a.subject)
            else:  # there is no cert-manager to sign, or no time that it could be done at
                bundle = asyncio.run(whole_bundle(self.world.kube, raw, pool, SYSTEM))
                issuer = record.keys[record.generation]
                if signer.issuer_ref is not None:
                    theirs = self.issuers.get(signer.issuer_ref.name)
                    issuer = key_hash(theirs.bundle) if theirs is not None else ""
                if issuer not in record.keys[record.generation].split():
                    return False  # of no authority of its bundle: the operator gives nobody such a leaf
        except (AuthorityError, KubeError):
            return False
        self.signed(issuer)
        process.issuer = issuer
        if process.bundle != _keys(bundle):
            process.bundle = _keys(bundle)
            process.loaded.pop("bundle", None)
        return True

    def signed(self, issuer: str) -> None:
        """A leaf was signed: whoever has signed no more once never signs again."""
        if not self._returns and issuer in self._signed[:-1] and issuer != self._signed[-1]:
            self.faults.append(f"{issuer} signs again")
        if not self._signed or self._signed[-1] != issuer:
            self._signed.append(issuer)

    def _believed(self) -> frozenset[str]:
        raw = self.raw(self.key)
        pool, _ = read_pool(raw)
        assert pool is not None
        try:
            return _keys(asyncio.run(bundle_of(self.world.kube, raw, pool, SYSTEM)))
        except AuthorityError:
            return frozenset()

    def _births_and_deaths(self) -> None:
        pods = {p["metadata"]["uid"]: p for p in self.world.of(POD) if p["status"]["phase"] == "Running"}
        for uid in set(self.processes) - set(pods):
            del self.processes[uid]
        for uid, pod in pods.items():
            if uid not in self.processes:
                name = pod["metadata"]["name"]
                role = Role.REGISTRAR if "-registrar-" in name else Role.ELEMENT
                process = Process(uid, name, role)
                if self._enrol(process):
                    self.processes[uid] = process

    def _look(self) -> None:
        """Does everybody trust everybody's certificate?"""
        for process in self.processes.values():
            strangers = {p.name for p in self.processes.values() if p.issuer not in process.bundle}
            if strangers:
                self.faults.append(f"{self.now}: {process.name} refuses {sorted(strangers)}")
        self._look_as_user()

    def _look_as_user(self) -> None:
        live = self.world.objects.get(Ref(CONFIG_MAP, "demo", names.users_config_map("echo", "demo")))
        if live is None:
            return
        published = _keys(live["data"]["bundle.pem"].encode())
        if not self._mounts or self._mounts[-1][1] != published:
            self._mounts.append((self.now, published))
        mounted = [keys for when, keys in self._mounts if when <= self.now - MOUNT] or [self._mounts[0][1]]
        for process in self.processes.values():
            if process.issuer not in mounted[-1] and self._mounts[0][0] < self.now - MOUNT:
                self.faults.append(f"{self.now}: a user refuses {process.name}")


def _keys(pem: bytes) -> frozenset[str]:
    return frozenset(_each(pem))


def _each(pem: bytes) -> Iterator[str]:
    for certificate in x509.load_pem_x509_certificates(pem):
        yield key_hash_of(certificate)


def ca_of(cluster: Rotating, generation: int) -> str:
    """The hash of a generation's key, as it lies in its Secret; empty: there is none."""
    live = cluster.world.objects.get(cluster.secret(generation))
    return key_hash(base64.b64decode(live["data"]["tls.crt"])) if live is not None else ""


def settled_on(cluster: Rotating, generation: int) -> None:
    """That the pool has this CA, all its processes have, and nothing is left of another."""
    for _ in range(3):  # what was loaded last is reported
        cluster.go_by(5)
    authority, key = cluster.authority, ca_of(cluster, generation)
    assert (authority["generation"], authority["phase"]) == (generation, "Active")
    assert authority["keys"] == {str(generation): key}
    assert not {"next", "former", "since", "missing"} & set(authority), authority
    assert {p.issuer for p in cluster.processes.values()} == {key}
    assert {p.bundle for p in cluster.processes.values()} == {frozenset({key})}
    left = {o["metadata"]["name"] for kind in (SECRET, CERTIFICATE, ISSUER) for o in cluster.world.of(kind)}
    assert {name.removesuffix("-root") for name in left} == {cluster.secret(generation).name}
    assert cluster.condition(cluster.key, "AuthorityReady") == ("True", "AuthorityIssued")
    assert cluster.ready(cluster.key)
    assert cluster.writes_of_another_pass(cluster.key) == []


def message(cluster: Rotating) -> str:
    """What the condition AuthorityReady says."""
    return str(next(c["message"] for c in cluster.status(cluster.key)["conditions"] if c["type"] == "AuthorityReady"))


def remove_secret(cluster: Rotating, generation: int) -> None:
    """The Secret of a generation is gone."""
    cluster.world.remove(cluster.secret(generation))


def another_key(cluster: Rotating, generation: int) -> None:
    """It holds another CA."""
    ref = cluster.secret(generation)
    data = ca_secret(ref.name, ref.namespace, {})["data"]
    cluster.world.change(ref, lambda live: live.update(data=data))


def other_private_key(cluster: Rotating, generation: int) -> None:
    """Its key is not its certificate's."""
    ref = cluster.secret(generation)
    data = {"tls.key": ca_secret(ref.name, ref.namespace, {})["data"]["tls.key"]}
    cluster.world.change(ref, lambda live: live["data"].update(data))


DAMAGES: Final = (remove_secret, another_key, other_private_key)
"""What may happen to the Secret of a generation."""
