# SPDX-License-Identifier: Apache-2.0
"""The operator's configuration."""

from __future__ import annotations

import json
from dataclasses import dataclass

from rserpool.daemon import parsers as parse
from rserpool.daemon.sections import LogSection
from rserpool.daemon.settings import KeyFaultError, section, setting
from rserpool.wire import Address


def _json_object(raw: object) -> str:
    """A JSON object, as text."""
    try:
        value = json.loads(raw) if isinstance(raw, str) else None
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise ValueError('write a JSON object, such as {"limits": {"memory": "64Mi"}}')
    return json.dumps(value)


@dataclass(frozen=True, kw_only=True)
class InstallationSection:
    """Where this operator is, and for whom it works."""

    namespace: str = setting(parse.nonempty, "The operator's own namespace.", example='"rserpool-system"')
    pod: str = setting(parse.nonempty, "Name of this pod.", example='"rserpool-operator-0"')
    service: str = setting(parse.nonempty, "Its Service: enrolment and admission, any replica.", "rserpool-operator")
    leader_service: str = setting(parse.nonempty, "The leader's Service: control.", "rserpool-operator-leader")
    webhook: str = setting(
        parse.text, "Its MutatingWebhookConfiguration; empty: none to complete.", "rserpool-operator"
    )
    watch: tuple[str, ...] = setting(parse.texts, "Namespaces whose pools it serves; empty: all.", ())
    cluster_domain: str = setting(parse.nonempty, "DNS domain of the cluster.", "cluster.local")
    trust_domain: str = setting(parse.nonempty, "Trust domain of all identities.", "cluster.local")


@dataclass(frozen=True, kw_only=True)
class NodeSection:
    """What registrars and sidecars run."""

    image: str = setting(parse.nonempty, "Image without its tag.", example='"registry.example/rserpool-node"')
    version: str = setting(parse.nonempty, "Tag of new pools and sidecars.", example='"0.3.0"')
    pull_policy: str = setting(parse.one_of("Always", "IfNotPresent", "Never"), "imagePullPolicy.", "IfNotPresent")
    pull_secrets: tuple[str, ...] = setting(parse.texts, "imagePullSecrets of registrars, in their namespaces.", ())
    registrar_resources: str = setting(
        _json_object,
        "Resources of registrars that say nothing of their own, JSON.",
        '{"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"memory": "256Mi"}}',
    )
    sidecar_resources: str = setting(
        _json_object,
        "Resources of sidecars, JSON.",
        '{"requests": {"cpu": "10m", "memory": "42Mi"}, "limits": {"memory": "96Mi"}}',
    )


@dataclass(frozen=True, kw_only=True)
class ServerSection:
    """Where pods and the API server reach it."""

    address: Address = setting(parse.address, "Address to listen on.", "0.0.0.0")  # noqa: S104 - a pod's own
    https_port: int = setting(parse.port, "Enrolment, control and admission.", 8443)
    http_port: int = setting(parse.port, "/livez, /readyz and /metrics.", 8080)


@dataclass(frozen=True, kw_only=True)
class EnrolmentSection:
    """How strictly pods are looked at."""

    check_source: bool = setting(
        parse.boolean, "Refuse tokens from other addresses than the pod's; off only behind NAT.", True
    )
    per_second: float = setting(parse.number(0.1, 10_000), "Enrolments of a namespace a second.", 20.0)


@dataclass(frozen=True, kw_only=True)
class LeaseSection:
    """How the leader is found."""

    name: str = setting(parse.nonempty, "Name of the Lease.", "rserpool-operator")
    duration: float = setting(parse.positive, "Silence after which a leader is replaced.", "10s")
    renew: float = setting(parse.positive, "A leader that cannot renew for so long gives up.", "7s")
    retry: float = setting(parse.positive, "Between two attempts.", "2s")

    def check(self) -> None:
        """Whether they fit together.

        Raises:
            KeyFaultError: they contradict each other.
        """
        if self.duration < 1 or self.duration % 1:
            raise KeyFaultError("duration", "write whole seconds")
        if self.renew >= self.duration:
            raise KeyFaultError("renew", f"write less than duration, which is {self.duration:g}s")
        if self.retry < 1 or self.renew <= 1.2 * self.retry:
            raise KeyFaultError("retry", "write 1s or more, and less than 5/6 of renew")


@dataclass(frozen=True, kw_only=True)
class OperatorSettings:
    """The whole configuration."""

    installation: InstallationSection = section(InstallationSection)
    node: NodeSection = section(NodeSection)
    server: ServerSection = section(ServerSection)
    enrolment: EnrolmentSection = section(EnrolmentSection)
    lease: LeaseSection = section(LeaseSection)
    log: LogSection = section(LogSection)
