# SPDX-License-Identifier: Apache-2.0
"""The ServerPool resource, field by field, with its defaults (rserpool.io/v1alpha1).

Field names are camelCase in manifests, snake_case here. Every field's description is what users read in the CRD.
"""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from pydantic.alias_generators import to_camel

from rserpool.identity.revoked import MOST_REVOKED
from rserpool.pool.values import I32, U32, Duration, Label, PoolName, Port, RevokedEntry, Unique, Whole

API_VERSION = "rserpool.io/v1alpha1"
KIND = "ServerPool"
UP_COMMAND = "rserpool.io/up-command"
"""Annotation: what `rserpool up` runs as the application when the command line names nothing."""


class Model(BaseModel):
    """What all parts have in common: strict types, no unknown fields, nothing changes once it is read."""

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, extra="forbid", frozen=True, strict=True, use_enum_values=False
    )


class PolicyType(StrEnum):
    """RFC 5356's policies by the names of its sections, and one that rsplib has besides."""

    ROUND_ROBIN = "RoundRobin"
    WEIGHTED_ROUND_ROBIN = "WeightedRoundRobin"
    RANDOM = "Random"
    WEIGHTED_RANDOM = "WeightedRandom"
    PRIORITY = "Priority"
    LEAST_USED = "LeastUsed"
    LEAST_USED_DEGRADATION = "LeastUsedDegradation"
    PRIORITY_LEAST_USED = "PriorityLeastUsed"
    RANDOMIZED_LEAST_USED = "RandomizedLeastUsed"
    PRIORITY_LEAST_USED_DEGRADATION = "PriorityLeastUsedDegradation"

    @property
    def adaptive(self) -> bool:
        """Whether it goes by the elements' load."""
        return "LeastUsed" in self.value


class Protocol(StrEnum):
    """What pool users speak to the application."""

    TCP = "TCP"
    SCTP = "SCTP"
    UDP = "UDP"


class TransportName(StrEnum):
    """What carries ASAP and ENRP."""

    SCTP = "SCTP"
    TCP = "TCP"


class Policy(Model):
    """How elements are chosen."""

    type: PolicyType = Field(PolicyType.ROUND_ROBIN, description="Pool member selection policy (RFC 5356).")


class PodDisruptionBudget(Model):
    """Bound on voluntary disruptions of registrars."""

    max_unavailable: Annotated[int, Field(ge=0, le=9), Whole] = Field(
        1, description="Registrars that may be disrupted at once."
    )


class Registrars(Model):
    """The pool's registrars (ENRP servers)."""

    replicas: Annotated[int, Field(ge=1, le=9), Whole] = Field(3, description="How many registrars.")
    resources: dict[str, Any] = Field(default_factory=dict, description="Container resources, as in a pod.")
    node_selector: dict[str, str] = Field(default_factory=dict, description="Nodes they may run on, as in a pod.")
    tolerations: list[dict[str, Any]] = Field(default_factory=list, description="Taints they bear, as in a pod.")
    topology_spread_constraints: list[dict[str, Any]] = Field(
        default_factory=list, description="How they are spread, as in a pod."
    )
    pod_disruption_budget: PodDisruptionBudget = Field(default_factory=PodDisruptionBudget)


class TcpSocket(Model):
    """Healthy while the port accepts a connection."""

    port: Port | None = Field(None, description="Default: the element's port.")


class HttpHeader(Model):
    """A header of a probe's request."""

    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9!#$%&'*+.^_`|~-]+$")] = Field(
        description="The header's name."
    )
    value: Annotated[str, StringConstraints(pattern=r"^[\t\x20-\x7e]*$")] = Field(
        description="Its value, in printable ASCII."
    )


class HttpGet(Model):
    """Healthy while a GET is answered with a status from 200 to 399."""

    path: Annotated[str, StringConstraints(pattern=r"^/[!-~]*$")] = Field("/", description="Path, and query if any.")
    port: Port | None = Field(None, description="Default: the element's port.")
    scheme: Literal["HTTP"] = Field("HTTP", description="Probes stay inside the pod: HTTP.")
    http_headers: list[HttpHeader] = Field(default_factory=list, description="Headers of the request.")


class Health(Model):
    """When an element is healthy, in the syntax of Kubernetes probes. Exactly one of tcpSocket and httpGet."""

    tcp_socket: TcpSocket | None = Field(None, description="Healthy while the port accepts a connection.")
    http_get: HttpGet | None = Field(None, description="Healthy while a GET is answered with a status from 200 to 399.")
    exec: dict[str, Any] | None = Field(
        None, description="Refused: a sidecar cannot run programs of another container."
    )
    initial_delay_seconds: Annotated[int, Field(ge=0, le=I32), Whole] = Field(
        0, description="Seconds from the sidecar's start to the first probe."
    )
    period_seconds: Annotated[int, Field(ge=1, le=I32), Whole] = Field(1, description="Seconds between two probes.")
    timeout_seconds: Annotated[int, Field(ge=1, le=I32), Whole] = Field(
        1, description="Seconds after which a probe without an answer has failed."
    )
    failure_threshold: Annotated[int, Field(ge=1, le=1000), Whole] = Field(
        2, description="Failed probes in a row after which the element leaves the pool."
    )
    success_threshold: Annotated[int, Field(ge=1, le=1000), Whole] = Field(
        1, description="Successful probes in a row after which it joins it."
    )


class LoadSource(StrEnum):
    """Where the load of the load-adaptive policies comes from."""

    CPU = "cpu"
    HTTP = "http"
    PROMETHEUS = "prometheus"


class Load(Model):
    """The element's load, for the load-adaptive policies."""

    source: LoadSource = Field(
        LoadSource.CPU,
        description="Where the load comes from. cpu: the application's CPU time, seen only in pods with"
        " shareProcessNamespace and by `rserpool up`; http: a number from 0 to 1; prometheus: a metric.",
    )
    path: Annotated[str, StringConstraints(pattern=r"^(/[!-~]*)?$")] = Field(
        "", description="http, prometheus: path to ask for; default: /load, /metrics."
    )
    port: Port | None = Field(None, description="http, prometheus: default: the element's port.")
    metric: Annotated[str, StringConstraints(max_length=256)] = Field(
        "", description="prometheus: the metric, from 0 to 1, with labels if need be."
    )
    smoothing: Duration = Field(
        timedelta(seconds=3), description="Time constant of the moving average of what is measured; 0s: none."
    )
    minimum_interval: Duration = Field(
        timedelta(seconds=1), description="Least time between two registrations with a new load."
    )
    minimum_change: Annotated[float, Field(ge=0, le=1)] = Field(
        1 / 64, description="Least change of the load that is registered, from 0 to 1; twice that where it turns back."
    )


class Selector(Model):
    """A label selector."""

    match_labels: dict[str, str] = Field(default_factory=dict, description="Labels with these values, all of them.")
    match_expressions: list[dict[str, Any]] = Field(
        default_factory=list, description="Requirements of labels, all of them, as in a Kubernetes label selector."
    )


class Elements(Model):
    """The pool's elements: the pods of this namespace labelled rserpool.io/pool: NAME."""

    port: Port = Field(
        description="Where the application serves pool users; with controlChannel only the sidecar connects to it."
    )
    protocol: Protocol = Field(Protocol.TCP, description="What pool users speak to the application.")
    weight: U32 = Field(1, description="WeightedRoundRobin, WeightedRandom: share of the work; 0 for none.")
    priority: U32 = Field(0, description="Priority: the larger number comes first.")
    load_degradation: Annotated[float, Field(ge=0, le=1)] = Field(
        0.0, description="LeastUsedDegradation, PriorityLeastUsed: what one more user adds to the load, from 0 to 1."
    )
    health: Health | None = Field(None, description="Default: the port accepts a connection. Required for UDP.")
    load: Load = Field(default_factory=Load, description="The element's load, for the load-adaptive policies.")
    drain: Duration = Field(timedelta(seconds=10), description="Time between deregistration and the application's end.")
    service_accounts: Annotated[list[Label], Unique, Field(max_length=100)] = Field(
        default_factory=list, description="Who may be an element; empty: every service account of the namespace."
    )
    nodes: Selector = Field(default_factory=Selector, description="On which nodes; empty: on all.")


class Users(Model):
    """Who may use the pool."""

    anonymous: bool = Field(True, description="Users without a certificate may resolve, and nothing else.")
    namespaces: Selector = Field(default_factory=Selector, description="Namespaces whose pods may use the pool.")
    service_accounts: Annotated[list[Label], Unique, Field(max_length=100)] = Field(
        default_factory=list, description="Whose pods may use the pool; empty: every service account's."
    )


class ProfileName(StrEnum):
    """A set of timers."""

    FAST = "Fast"
    RFC = "RFC"


class Timers(Model):
    """How fast failures are noticed. All registrars of the pool use the same."""

    profile: ProfileName = Field(
        ProfileName.FAST, description="What the others are unless set: Fast notices failures within seconds."
    )
    heartbeat_cycle: Duration | None = Field(None, description="PEER-HEARTBEAT-CYCLE (RFC 5353 4.2).")
    max_time_last_heard: Duration | None = Field(None, description="MAX-TIME-LAST-HEARD; above twice the heartbeat.")
    max_time_no_response: Duration | None = Field(None, description="MAX-TIME-NO-RESPONSE (RFC 5353 4.2).")
    takeover_timeout: Duration | None = Field(None, description="Wait for acknowledgements of a takeover.")
    keep_alive_interval: Duration | None = Field(None, description="Between keep-alives to an element.")
    keep_alive_timeout: Duration | None = Field(None, description="Wait for an element's acknowledgement of one.")
    registration_life: Duration | None = Field(None, description="Registration Life of elements, whole seconds.")


class Transport(Model):
    """How registrars and elements speak to each other."""

    order: Annotated[list[TransportName], Unique, Field(min_length=1, max_length=2)] = Field(
        default_factory=lambda: [TransportName.SCTP, TransportName.TCP],
        description="Which transports are tried, in this order.",
    )


class SignerType(StrEnum):
    """Who signs the pool's certificates."""

    CERT_MANAGER = "CertManager"
    EMBEDDED = "Embedded"
    ISSUER_REF = "IssuerRef"


class IssuerReference(Model):
    """A cert-manager issuer of the user's, dedicated to this pool."""

    name: Label = Field(description="The issuer's name.")
    kind: Literal["Issuer", "ClusterIssuer"] = Field("Issuer", description="Its kind.")
    group: str = Field("cert-manager.io", description="Its API group.")


class Signer(Model):
    """Who signs the pool's certificates."""

    type: SignerType = Field(
        SignerType.CERT_MANAGER,
        description="CertManager and Embedded: a CA made for this pool. IssuerRef: a cert-manager issuer of yours.",
    )
    issuer_ref: IssuerReference | None = Field(None, description="IssuerRef: which issuer.")
    ca_bundle: Annotated[str, StringConstraints(max_length=65536)] | None = Field(
        None, description="IssuerRef: what to trust, PEM in base64."
    )


class CertificateAuthority(Model):
    """The pool's own certificate authority."""

    duration: Duration = Field(
        timedelta(hours=8760),
        description="How long a CA certificate is valid; at two thirds of that the CA's key is replaced by itself.",
    )
    generation: Annotated[int, Field(ge=1, le=I32), Whole] = Field(
        1, description="Raise it above status.authority.generation to replace the CA's key now (`rserpool rotate-ca`)."
    )


class Mode(StrEnum):
    """All or nothing."""

    SECURE = "Secure"
    INSECURE = "Insecure"


class Enrolment(StrEnum):
    """How pods obtain their identity."""

    TOKEN = "Token"  # noqa: S105 - the name of a way, not a token
    POD_CERTIFICATE = "PodCertificate"


class Security(Model):
    """Identity and trust."""

    mode: Mode = Field(Mode.SECURE, description="Secure: TLS and certificates everywhere. Insecure: neither, anywhere.")
    signer: Signer = Field(default_factory=Signer, description="Who signs the pool's certificates.")
    enrolment: Enrolment = Field(
        Enrolment.TOKEN,
        description="How pods obtain their identity: by their service account's token, or from the kubelet (1.37).",
    )
    leaf_duration: Duration = Field(timedelta(hours=24), description="How long a pod's certificate is valid.")
    ca: CertificateAuthority = Field(
        default_factory=CertificateAuthority, description="The pool's own certificate authority."
    )
    revoked: Annotated[list[RevokedEntry], Unique, Field(max_length=MOST_REVOKED)] = Field(
        default_factory=list,
        description="What counts no longer: a leaf as serial:HEX, a pod by its UID, or pods by their service account.",
    )


PerSecond = Annotated[float, Field(ge=0.01, le=1_000_000, allow_inf_nan=False)]


class Limits(Model):
    """What one identity may cost a registrar."""

    endpoint_unreachable_per_second: PerSecond = Field(5.0, description="Reports of unreachable elements a second.")
    registrations_per_second: PerSecond = Field(50.0, description="Registrations and deregistrations a second.")
    resolutions_per_second: PerSecond = Field(1000.0, description="Handle resolutions a second.")
    elements: Annotated[int, Field(ge=1, le=1_000_000), Whole] = Field(
        50_000, description="Elements a registrar holds."
    )


class Dialect(StrEnum):
    """Whose reading of the RFCs is spoken."""

    RFC = "RFC"
    RSPLIB = "RSPLIB"


class ServerPoolSpec(Model):
    """What a pool shall be."""

    pool_handle: Annotated[str, StringConstraints(max_length=255)] = Field(
        "", description="Pool handle; default: the object's name."
    )
    policy: Policy = Field(default_factory=Policy, description="How elements are chosen.")
    registrars: Registrars = Field(default_factory=Registrars, description="The pool's registrars (ENRP servers).")
    elements: Elements = Field(
        description="The pool's elements: the pods of this namespace labelled rserpool.io/pool: NAME."
    )
    users: Users = Field(default_factory=Users, description="Who may use the pool.")
    timers: Timers = Field(
        default_factory=Timers,
        description="How fast failures are noticed. All registrars of the pool use the same.",
    )
    transport: Transport = Field(
        default_factory=Transport, description="How registrars and elements speak to each other."
    )
    security: Security = Field(default_factory=Security, description="Identity and trust.")
    limits: Limits = Field(default_factory=Limits, description="What one identity may cost a registrar.")
    control_channel: bool = Field(
        False,
        description="Pool users connect to the sidecar, which relays to the application: cookies and business cards"
        " come with the data, in frames, over TLS. For TCP elements. Users find the port by resolving the pool handle.",
    )
    dialect: Dialect = Field(
        Dialect.RFC, description="Whose reading of the RFCs is spoken; RSPLIB needs mode Insecure and order [SCTP]."
    )
    network_policy: bool = Field(False, description="Make a NetworkPolicy for the registrars, never for elements.")
    version: str = Field(
        "", description="Image version of registrars and new sidecars; empty: the one the pool was created with."
    )
    paused: bool = Field(False, description="The operator leaves this pool's objects as they are.")


class Metadata(Model):
    """The parts of an object's metadata that mean something here; others are Kubernetes' business."""

    model_config = ConfigDict(extra="ignore")
    name: PoolName
    namespace: Label = "default"
    annotations: dict[str, str] = Field(default_factory=dict)
    labels: dict[str, str] = Field(default_factory=dict)


class ServerPool(Model):
    """A pool: its name and what it shall be."""

    api_version: Literal["rserpool.io/v1alpha1"]
    kind: Literal["ServerPool"]
    metadata: Metadata
    spec: ServerPoolSpec
    status: dict[str, Any] | None = Field(None, description="Written by the operator; ignored when a manifest is read.")

    @property
    def handle(self) -> bytes:
        """The pool handle's octets."""
        return (self.spec.pool_handle or self.metadata.name).encode()

    @property
    def full_name(self) -> str:
        """``namespace/name``."""
        return f"{self.metadata.namespace}/{self.metadata.name}"
