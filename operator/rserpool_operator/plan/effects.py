# SPDX-License-Identifier: Apache-2.0
"""What a plan consists of: effects as data. Any prefix of them may be lost, and the next plan still converges."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from rserpool.identity import LeafIdentity
from rserpool_operator.kube.kinds import Object, Ref
from rserpool_operator.reasons import Reason


@dataclass(frozen=True, slots=True)
class Apply:
    """Write an object by server-side apply. If it is there, the manifest carries its uid."""

    manifest: Object


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateAuthority:
    """Make a CA key and its certificate, and keep both in a Secret that does not exist yet.

    Attributes:
        life: how long it is valid, from ``at`` on.
    """

    name: str
    namespace: str
    labels: Mapping[str, str]
    common_name: str
    life: timedelta
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class AddCookieKey:
    """Make a key for the pool's cookies, and keep it in their Secret.

    Attributes:
        number: of the new key.
        kept: all keys that are there afterwards, the newest first.
        dropped: keys that are there no more.
        renew: the user's word on which this is done.
        at: when.
        version: the Secret's resourceVersion; empty: it is not there.
    """

    name: str
    namespace: str
    labels: Mapping[str, str]
    number: int
    kept: tuple[int, ...]
    dropped: tuple[int, ...]
    renew: str
    at: datetime
    version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TryIssuer:
    """Ask an issuer for one certificate, whose key is thrown away.

    Attributes:
        name: of the CertificateRequest.
        issuer_ref: as in a CertificateRequest.
        identity: whom the certificate is for.
        life: how long it is valid.
    """

    name: str
    namespace: str
    labels: Mapping[str, str]
    issuer_ref: Object = field(hash=False)
    identity: LeafIdentity
    life: timedelta


@dataclass(frozen=True, slots=True)
class Delete:
    """Delete an object, if it still has that uid."""

    ref: Ref
    uid: str


@dataclass(frozen=True, slots=True)
class Finalize:
    """Have our finalizer on the ServerPool, or have it no more."""

    present: bool


Effect = Apply | CreateAuthority | AddCookieKey | TryIssuer | Delete | Finalize


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """An Event to be written.

    Attributes:
        about: the object it concerns: apiVersion, kind, namespace, name, uid.
        warning: it needs somebody's attention.
    """

    about: Object = field(hash=False)
    reason: Reason
    message: str
    warning: bool = False


def about_pod(namespace: str, name: str, uid: str) -> Object:
    """A pod, as what a note is about."""
    return {"apiVersion": "v1", "kind": "Pod", "namespace": namespace, "name": name, "uid": uid}


@dataclass(frozen=True, slots=True, kw_only=True)
class Channel:
    """What the pool's processes are told over the control channel.

    Attributes:
        registrar, element: settings by section, see rserpool.pool.settings; an element's may hold keys of cookies.
        bundle: trusted authorities, PEM; empty: there is none yet.
        renew: leaves obtained under another word than this are to be renewed.
        issuer: hash of the key whose leaves are wanted, or of each, separated by blanks: who is seen with another one's
            is to renew; empty: any.
        revoked: UIDs of pods that ``spec.security.revoked`` names, themselves or by their service account.
        serials: serial numbers of leaves that it names, in hexadecimal digits.
    """

    registrar: Object
    element: Object = field(repr=False)
    bundle: str
    renew: str = ""
    issuer: str = ""
    revoked: tuple[str, ...] = ()
    serials: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to do about one pool.

    Attributes:
        effects: in the order in which they are carried out.
        status: to be written; ``None``: it is right already.
        notes: Events.
        channel: what processes are told; ``None``: what they were told last stands.
        look_again: seconds after which to look again, even if nothing seems to happen; ``None``: at the next resync.
    """

    effects: tuple[Effect, ...] = ()
    status: Object | None = None
    notes: tuple[Note, ...] = ()
    channel: Channel | None = None
    look_again: float | None = None
