# SPDX-License-Identifier: Apache-2.0
"""`rserpool check`: has a cluster what pools need, and does the operator work?"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from rserpool_cli.cluster.check_nodes import clocks, sctp_in_use, sctp_on_nodes
from rserpool_cli.cluster.check_webhook import Dry, reaches, registered
from rserpool_cli.cluster.findings import Finding, Level, fail, ok, warn
from rserpool_cli.cluster.kubectl import Kubectl, KubectlError, Manifest
from rserpool_cli.cluster.members import is_ready
from rserpool_cli.cluster.pools import Pool, all_pools, moment
from rserpool_cli.errors import CommandError
from rserpool_operator import names

OLDEST: Final = (1, 30)
INSTALL: Final = "install the chart: helm install rserpool charts/rserpool -n rserpool-system --create-namespace"
API: Final = f"/apis/{names.GROUP}/v1alpha1"
OPERATOR: Final = "rserpool-operator"
LEASE_MARGIN: Final = 30.0
"""Seconds by which clocks may differ before a Lease is called old."""
_RIGHTS: Final = (
    ("create", "serverpools.rserpool.io", "", "make pools"),
    ("get", "pods", "", "see a pool's pods"),
    ("create", "pods", "exec", "ask registrars what they hold"),
)


def run_check(kubectl: Kubectl, *, nodes: bool) -> int:
    """Look at everything; the exit status is 1 if pools will not work."""
    failed = False
    for finding in findings(kubectl, nodes=nodes):
        print(finding, flush=True)
        failed = failed or finding.level is Level.FAIL
    return 1 if failed else 0


def findings(kubectl: Kubectl, *, nodes: bool) -> Iterable[Finding]:
    """One after the other, as they come; if the cluster does not answer, no more than that."""
    version = _version(kubectl)
    yield version
    if version.level is Level.FAIL and "cannot be reached" in version.seen:
        return
    yield _definition(kubectl)
    operator, where = _operator(kubectl)
    yield operator
    if where:
        yield _guarded("leader", lambda: _leader(kubectl, where), "leases and pods of the operator's namespace")
    hooks, configuration = registered(kubectl)
    yield hooks
    dry = reaches(kubectl, configuration)
    yield dry.finding
    pools = _pools(kubectl)
    yield _guarded("cert-manager", lambda: _cert_manager(kubectl, pools), "the API")
    for verb, resource, sub, use in _RIGHTS:
        yield _right(kubectl, verb, resource, sub, use)
    yield sctp_in_use(pools)
    if nodes:
        yield from _nodes(kubectl, dry)
    yield from clocks(kubectl, datetime.now(UTC))


def _nodes(kubectl: Kubectl, dry: Dry) -> Iterable[Finding]:
    if not dry.image:
        yield warn(
            "SCTP", "nodes were not looked at", "the webhook names the image to do it with, and it was not reached"
        )
        return
    yield from sctp_on_nodes(kubectl, dry)


def _guarded(what: str, look: Callable[[], Finding], read: str) -> Finding:
    """A finding; where the user may not look, that."""
    try:
        return look()
    except KubectlError as e:
        if e.reason == "Forbidden":
            return warn(what, "not looked at", f"you may not read {read}; ask an administrator to run this")
        return warn(what, "not looked at", str(e))


def _version(kubectl: Kubectl) -> Finding:
    what = "cluster"
    try:
        told = kubectl.raw("/version")
    except CommandError as e:
        return fail(
            what, f"it cannot be reached: {e}", "see `kubectl config current-context` and `kubectl cluster-info`"
        )
    version = str(told.get("gitVersion", "?"))
    number = re.match(r"v?(\d+)\.(\d+)", version)
    if number is None:
        return warn(what, f"it is of version {version}", "1.30 or newer is needed")
    if (int(number[1]), int(number[2])) < OLDEST:
        return fail(
            what, f"it is Kubernetes {version}", "1.30 or newer is needed, for native sidecars and preStop sleep"
        )
    return ok(what, f"Kubernetes {version}")


def _definition(kubectl: Kubectl) -> Finding:
    what = "ServerPools"
    try:
        served = kubectl.raw(API)
    except KubectlError as e:
        if e.reason == "NotFound":
            return fail(what, "the cluster does not know them", INSTALL)
        return warn(what, "not looked at", str(e))
    if not any(r.get("name") == "serverpools" for r in served.get("resources") or []):
        return fail(what, "the cluster knows their group, and not them", INSTALL)
    return ok(what, "served as rserpool.io/v1alpha1")


def _operator(kubectl: Kubectl) -> tuple[Finding, str]:
    """How the Deployment is, and the namespace it is in."""
    found: list[Manifest] = []

    def look() -> Finding:
        found.extend(kubectl.get("deployments.apps", "-A", "-l", f"app.kubernetes.io/name={OPERATOR}"))
        return _deployment(found)

    return _guarded("operator", look, "Deployments of all namespaces"), _namespace(found)


def _namespace(found: Sequence[Manifest]) -> str:
    return str(found[0]["metadata"]["namespace"]) if len(found) == 1 else ""


def _deployment(found: Sequence[Manifest]) -> Finding:
    what = "operator"
    if not found:
        return fail(what, "there is none", INSTALL)
    if len(found) > 1:
        places = ", ".join(f"{d['metadata']['namespace']}/{d['metadata']['name']}" for d in found)
        return fail(what, f"there are several: {places}", "uninstall all but one: they would undo each other's work")
    (deployment,) = found
    namespace, name = deployment["metadata"]["namespace"], deployment["metadata"]["name"]
    wanted = int((deployment.get("spec") or {}).get("replicas", 1))
    ready = int((deployment.get("status") or {}).get("readyReplicas", 0))
    seen = f"{namespace}/{name}, {ready} of {wanted} ready"
    remedy = f"kubectl -n {namespace} describe pods; kubectl -n {namespace} logs deploy/{name}"
    if ready == 0:
        return fail(what, seen, remedy)
    return ok(what, seen) if ready >= wanted else warn(what, seen, remedy)


def _leader(kubectl: Kubectl, namespace: str) -> Finding:
    what, remedy = "leader", f"kubectl -n {namespace} logs -l app.kubernetes.io/name={OPERATOR} --tail=50"
    spec: dict[str, Any] = kubectl.get("leases.coordination.k8s.io", OPERATOR, namespace=namespace).get("spec") or {}
    holder = str(spec.get("holderIdentity") or "")
    if not holder:
        return fail(what, "no replica of the operator leads", remedy)
    try:
        age = (datetime.now(UTC) - moment(spec["renewTime"])).total_seconds()
    except (KeyError, ValueError, TypeError):
        age = 0.0
    if age > float(spec.get("leaseDurationSeconds", 15)) + LEASE_MARGIN:
        return fail(what, f"{holder} has not renewed its Lease for {age:.0f} s", remedy)
    pods = kubectl.get("pods", "-l", f"{names.LEADER_LABEL}=true", namespace=namespace)
    if not any(is_ready(pod) for pod in pods):
        return warn(what, f"{holder} leads, and no ready pod has the label {names.LEADER_LABEL}", remedy)
    return ok(what, holder)


def _pools(kubectl: Kubectl) -> list[Pool]:
    try:
        return all_pools(kubectl, everywhere=True)
    except CommandError:
        pass
    try:
        return all_pools(kubectl)
    except CommandError:
        return []


def _cert_manager(kubectl: Kubectl, pools: Sequence[Pool]) -> Finding:
    what = "cert-manager"
    using = [p.full for p in pools if p.secure and p.signer in ("CertManager", "IssuerRef")]
    needed = f"; {', '.join(using[:3])} need{'s' if len(using) == 1 else ''} it" if using else ""
    install = "install it as https://cert-manager.io/docs/installation/ says, or write `security.signer.type: Embedded`"
    try:
        kubectl.raw("/apis/cert-manager.io/v1")
    except KubectlError as e:
        if e.reason != "NotFound":
            raise
        missing = fail if using else warn
        return missing(what, f"there is none{needed}", install)
    try:
        found = kubectl.get("deployments.apps", "-A", "-l", "app.kubernetes.io/name=cert-manager")
    except KubectlError:
        found = []
    for deployment in found:
        if not (deployment.get("status") or {}).get("readyReplicas"):
            place = deployment["metadata"]["namespace"]
            name = deployment["metadata"]["name"]
            return (fail if using else warn)(
                what, f"{place}/{name} is not ready{needed}", f"kubectl -n {place} describe deployment {name}"
            )
    return ok(what, "cert-manager.io/v1 is served")


def _right(kubectl: Kubectl, verb: str, resource: str, sub: str, use: str) -> Finding:
    what = f"right to {use}"
    named = f"{resource}/{sub}" if sub else resource
    where = f"in namespace {kubectl.namespace}" if kubectl.namespace else "in the namespace of kubectl's context"
    try:
        answer = kubectl.run("auth", "can-i", verb, resource, *([f"--subresource={sub}"] if sub else []))
    except KubectlError as e:
        # with the answer "no" kubectl ends with status 1, and says nothing else
        if not str(e).endswith("no"):
            return warn(what, "not known", str(e))
        answer = "no"
    if answer.strip().startswith("yes"):
        return ok(what, f"you may {verb} {named} {where}")
    return warn(
        what, f"you may not {verb} {named} {where}", "ask for the role edit there; the chart adds ServerPools to it"
    )
