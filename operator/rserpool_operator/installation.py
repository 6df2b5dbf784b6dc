# SPDX-License-Identifier: Apache-2.0
"""What is the same for all pools of this operator."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from rserpool_operator.config import OperatorSettings
from rserpool_operator.kube.kinds import Object


@dataclass(frozen=True, slots=True, kw_only=True)
class Installation:
    """One installed operator.

    Attributes:
        namespace: its own; the pools' authorities are here.
        enrolment_url, control_url: where pods find it.
        authority: certificate of the installation CA, PEM: what pods trust it by.
        image: of registrars and sidecars, without tag.
        version: tag of new pools and sidecars.
    """

    namespace: str
    enrolment_url: str
    control_url: str
    authority: str
    cluster_domain: str
    trust_domain: str
    image: str
    version: str
    pull_policy: str = "IfNotPresent"
    pull_secrets: tuple[str, ...] = ()
    registrar_resources: Object = field(default_factory=dict)
    sidecar_resources: Object = field(default_factory=dict)
    watch: tuple[str, ...] = ()
    log_format: str = "text"

    def serves(self, namespace: str) -> bool:
        """Whether pools of that namespace are this operator's."""
        return not self.watch or namespace in self.watch

    def image_of(self, version: str) -> str:
        """The node image of a version."""
        return f"{self.image}:{version or self.version}"


def installation_of(settings: OperatorSettings, authority: bytes) -> Installation:
    """From the configuration and the installation CA's certificate."""
    own, node, port = settings.installation, settings.node, settings.server.https_port
    return Installation(
        namespace=own.namespace,
        enrolment_url=f"https://{own.service}.{own.namespace}.svc:{port}",
        control_url=f"https://{own.leader_service}.{own.namespace}.svc:{port}",
        authority=authority.decode(),
        cluster_domain=own.cluster_domain,
        trust_domain=own.trust_domain,
        image=node.image,
        version=node.version,
        pull_policy=node.pull_policy,
        pull_secrets=node.pull_secrets,
        registrar_resources=json.loads(node.registrar_resources),
        sidecar_resources=json.loads(node.sidecar_resources),
        watch=own.watch,
        log_format=settings.log.format,
    )


def serving_names(settings: OperatorSettings) -> list[str]:
    """Host names under which the operator serves."""
    own = settings.installation
    services = (own.service, own.leader_service)
    suffixes = ("", f".{own.namespace}", f".{own.namespace}.svc", f".{own.namespace}.svc.{own.cluster_domain}")
    return [service + suffix for service in services for suffix in suffixes]
