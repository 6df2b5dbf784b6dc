# SPDX-License-Identifier: Apache-2.0
"""The sections of configuration that registrar and sidecar have in common."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rserpool.asap.announce import Multicast
from rserpool.daemon import parsers as parse
from rserpool.daemon.settings import setting
from rserpool.wire import DIALECTS, Address, Dialect


def _dialect(raw: object) -> Dialect:
    return DIALECTS[parse.one_of(*DIALECTS)(raw)]


@dataclass(frozen=True, kw_only=True)
class PoolSection:
    """Which pool this process belongs to."""

    namespace: str = setting(parse.nonempty, "Namespace of the ServerPool.", example='"demo"')
    name: str = setting(parse.nonempty, "Name of the ServerPool.", example='"echo"')
    handle: str = setting(parse.text, "Pool handle; empty: the pool's name.", "")
    trust_domain: str = setting(parse.nonempty, "Trust domain of its certificates.", "cluster.local")
    dialect: Dialect = setting(_dialect, "rfc, or rsplib to speak with the reference implementation.", "rfc")

    @property
    def full_name(self) -> str:
        """The pool's name, different from that of every other pool."""
        return f"{self.trust_domain}/{self.namespace}/{self.name}"

    @property
    def pool_handle(self) -> bytes:
        """The pool handle's octets."""
        return (self.handle or self.name).encode()


@dataclass(frozen=True, kw_only=True)
class SecuritySection:
    """Identity and trust. All or nothing: Insecure has no TLS anywhere."""

    mode: str = setting(parse.one_of("Secure", "Insecure"), "Secure or Insecure.", "Secure")
    source: str = setting(
        parse.one_of("enrolment", "files", "pod-certificate"),
        "Where the identity comes from: enrolment, files, or pod-certificate (the kubelet, Kubernetes 1.37).",
        "enrolment",
    )
    pod_uid: str = setting(parse.text, "UID of the pod this process runs in.", "")
    dns_names: tuple[str, ...] = setting(parse.texts, "Host names in a registrar's certificate.", ())
    url: str = setting(parse.text, "enrolment, pod-certificate: where to enrol, https://HOST:PORT.", "")
    token_file: Path | None = setting(parse.optional(parse.path), "enrolment: file with the bearer token.", "")
    authority_file: Path | None = setting(
        parse.optional(parse.path), "enrolment: file with the certificate of who signs the enrolment server.", ""
    )
    authority: str = setting(parse.text, "enrolment: that certificate itself, PEM, instead of its file.", "")
    directory: Path | None = setting(
        parse.optional(parse.path),
        "enrolment: memory-backed folder in which the identity survives a restart of the container; empty: none.",
        "",
    )
    credential_file: Path | None = setting(
        parse.optional(parse.path), "pod-certificate: file in which the kubelet keeps key and chain, PEM.", ""
    )
    chain_file: Path | None = setting(parse.optional(parse.path), "files: certificate chain, leaf first, PEM.", "")
    key_file: Path | None = setting(parse.optional(parse.path), "files: private key, PEM.", "")
    bundle_file: Path | None = setting(parse.optional(parse.path), "files: trusted authorities, PEM.", "")
    revoked: tuple[str, ...] = setting(
        parse.revoked, "Registrars: what counts no longer, leaves as serial:HEX and pods by their UID.", ()
    )

    @property
    def secure(self) -> bool:
        """Whether there is TLS."""
        return self.mode == "Secure"


@dataclass(frozen=True, kw_only=True)
class OperatorSection:
    """The control channel, by which an operator says what the pool shall be."""

    url: str = setting(
        parse.text, "The operator's leader, https://HOST:PORT; empty: none, everything is said here.", ""
    )


@dataclass(frozen=True, kw_only=True)
class DiscoverySection:
    """Announcements of registrars by IP multicast (RFC 5352 3.6): a hint beside those that are configured."""

    multicast: bool = setting(parse.boolean, "A registrar announces itself, a sidecar listens.", False)
    groups: tuple[Address, ...] = setting(
        parse.groups, "Where to; one of each family is used.", ("224.0.1.185", "ff02::133")
    )
    port: int = setting(parse.port, "UDP port.", 3863)
    hops: int = setting(parse.integer(1, 255), "How far announcements go; 1: the link.", 1)

    @property
    def where(self) -> Multicast:
        """The groups."""
        return Multicast(self.groups, self.port, self.hops)


@dataclass(frozen=True, kw_only=True)
class LogSection:
    """What is written to standard error."""

    format: str = setting(parse.one_of("text", "json"), "text or json.", "text")
    level: str = setting(parse.one_of("debug", "info", "warning", "error"), "The least that is written.", "info")


@dataclass(frozen=True, kw_only=True)
class ControlSection:
    """The Unix socket for dump, elements, peers and drain; only its owner can use it."""

    socket: Path | None = setting(parse.optional(parse.path), "Path of the socket; empty: none.", "")
