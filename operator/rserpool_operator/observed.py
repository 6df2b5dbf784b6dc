# SPDX-License-Identifier: Apache-2.0
"""What is there, as one frozen value: all that a plan may know."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from rserpool.pool import ServerPool
from rserpool_operator.kube.kinds import Object, Ref


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A pod that is labelled as a member of the pool and has not ended.

    Attributes:
        version: of its sidecar; empty: it has none.
        started: its sidecar may have run, and so may hold a leaf.
    """

    name: str
    uid: str
    version: str = ""
    service_account: str = ""
    started: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistrarPod:
    """A pod of the pool's StatefulSet.

    Attributes:
        trouble: why its container does not run, in Kubernetes' words; empty: it runs.
        started: its container may have run, and so may hold a leaf.
    """

    name: str
    uid: str
    ready: bool = False
    trouble: str = ""
    started: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a process last said over the control channel.

    Attributes:
        loaded: versions in force in it, by part.
        transports: in use.
        state: as a registrar or a sidecar tells it.
        at: when, UTC.
        issuer: hash of the key of the CA that signed the leaf it was seen with; empty: not known.
    """

    role: str
    loaded: Mapping[str, str]
    transports: tuple[str, ...]
    state: Mapping[str, object]
    at: datetime
    issuer: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthorityState:
    """A pool's CA.

    Attributes:
        available: whoever makes it is installed.
        exists: its Secret is there.
        certificate: PEM; empty: none that can be read yet.
        sound: the key beside it is the certificate's.
        says: what its maker says while there is none.
    """

    available: bool = True
    exists: bool = False
    certificate: bytes = b""
    sound: bool = False
    says: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CookieState:
    """The keys of a pool's cookies.

    Attributes:
        exists: a Secret of their name is there.
        ours: it is this pool's.
        keys: by number.
        order: their numbers, the newest first.
        changed: when the newest was made; ``None``: it does not say.
        renew: the user's word on which that was done.
        version: the Secret's resourceVersion.
    """

    exists: bool = False
    ours: bool = False
    keys: Mapping[int, bytes] = field(default_factory=dict, repr=False)
    order: tuple[int, ...] = ()
    changed: datetime | None = None
    renew: str = ""
    version: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """One pool's world at one moment.

    Attributes:
        now: the moment, UTC.
        raw: the ServerPool as the API server has it.
        pool: the same, read; ``None`` if it has faults, which ``problems`` name.
        objects: those of our objects, and of objects with their names, that are there.
        authority: the CA that signs.
        others: CAs that are being prepared or left, by generation.
        pod_certificates: the cluster knows PodCertificateRequests; not asked of a pool that does without.
        leaving: pods of a former StatefulSet of ours that are not gone yet: a new one's have the same names.
        foreign: our objects outside the pool's namespace, found by its UID.
        user_namespaces: those whose pods may use the pool, its own included.
        reports: by pod UID.
        listening: for how long this operator has led, and so been reported to.
    """

    now: datetime
    raw: Object
    pool: ServerPool | None
    problems: tuple[str, ...] = ()
    objects: Mapping[Ref, Object] = field(default_factory=dict)
    foreign: Mapping[Ref, Object] = field(default_factory=dict)
    authority: AuthorityState = field(default_factory=AuthorityState)
    others: Mapping[int, AuthorityState] = field(default_factory=dict)
    pod_certificates: bool = True
    cookies: CookieState = field(default_factory=CookieState)
    members: tuple[Member, ...] = ()
    registrars: tuple[RegistrarPod, ...] = ()
    leaving: tuple[str, ...] = ()
    user_namespaces: tuple[str, ...] = ()
    reports: Mapping[str, Report] = field(default_factory=dict)
    listening: timedelta = timedelta.max

    @property
    def uid(self) -> str:
        """The ServerPool's UID."""
        return str(self.raw["metadata"]["uid"])

    @property
    def deleting(self) -> bool:
        """Whether the ServerPool is on its way out."""
        return "deletionTimestamp" in self.raw["metadata"]

    @property
    def status(self) -> Object:
        """The status as it was written last."""
        return self.raw.get("status") or {}

    @property
    def annotations(self) -> Mapping[str, str]:
        """The ServerPool's annotations."""
        return self.raw["metadata"].get("annotations") or {}
