# SPDX-License-Identifier: Apache-2.0
"""A pool without bearer tokens: kubelets obtain the leaves of its pods (PodCertificateRequest, Kubernetes 1.37)."""

from __future__ import annotations

import base64
import os
import subprocess
import time
from collections.abc import Iterator
from typing import Any, Final

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from charts.rendering import template
from harness import apps, operators
from harness.intruder import attempt, enrol, stranger, who
from harness.kubectl import KubectlError, Manifest, apply, conditions, events, get, kubectl
from harness.pools import restarts
from harness.waiting import NotYet, wait_for

POOL: Final = "kubelets"
SIGNER: Final = "rserpool.io/pool"
REQUESTS: Final = "podcertificaterequests.certificates.k8s.io"
RENEWALS: Final = "rserpool_leaf_renewals_total"
ENROLMENTS: Final = "rserpool_operator_enrolments_total"
SECURITY: Final = {"signer": {"type": "Embedded"}, "enrolment": "PodCertificate", "leafDuration": "1h"}
ELEMENTS: Final = {"port": apps.PORT, "serviceAccounts": ["default"]}


@pytest.fixture(scope="module")
def home(namespace: str) -> Iterator[str]:
    """The namespace of such a pool, with two members and a user."""
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "later"}}
    apply([account, apps.pool(POOL, replicas=2, security=SECURITY, elements=ELEMENTS)], namespace=namespace)
    apps.until_ready(namespace, POOL, timeout=120)
    apply(
        [apps.echo(pool=POOL, replicas=2), apps.user("asker", uses=POOL, handle=POOL), stranger("bare")],
        namespace=namespace,
    )
    apps.until_members(namespace, POOL, 2, registrars=2, timeout=120)
    yield namespace
    kubectl("-n", namespace, "delete", "serverpool", POOL, "--ignore-not-found")


def requests(home: str, pod: str) -> list[Manifest]:
    """What kubelets have asked for on behalf of a pod."""
    return [r for r in get(REQUESTS, "-n", home) if r["spec"]["podName"] == pod]


def ends(request: Manifest) -> list[tuple[str, str]]:
    """How a request ended, and why."""
    return [(c["type"], c["reason"]) for c in request.get("status", {}).get("conditions", [])]


def renewals(home: str, pod: Manifest) -> float:
    """Of a member's leaf, since its sidecar started."""
    (port,) = (
        p["containerPort"]
        for c in pod["spec"]["initContainers"]
        if c["name"] == apps.SIDECAR
        for p in c["ports"]
        if p["name"] == "rserpool-http"
    )
    page = operators.page(pod["metadata"]["name"], namespace=home, port=port)
    return operators.total(operators.samples(page, RENEWALS))


def test_such_a_pool_is_ready_its_members_register_and_a_user_is_served_over_tls(home: str) -> None:
    apps.until_served(home, "asker")
    assert conditions(apps.server_pool(home, POOL))["Ready"]["status"] == "True"
    for pod in (*apps.pods(home, "echo"), *get("pods", "-n", home, "-l", f"rserpool.io/server-pool={POOL}")):
        made = requests(home, pod["metadata"]["name"])
        assert {r["spec"]["signerName"] for r in made} == {SIGNER}
        assert [("Issued", "Issued")] in [ends(r) for r in made]
        assert {r["spec"]["podUID"] for r in made} == {pod["metadata"]["uid"]}
    counted = operators.everywhere(ENROLMENTS)
    assert operators.total(counted, way="podCertificate", outcome="granted") >= 4


def test_no_pod_of_it_has_a_token_of_any_kind_for_us(home: str) -> None:
    for pod in (*apps.pods(home, "echo"), *get("pods", "-n", home, "-l", f"rserpool.io/server-pool={POOL}")):
        volumes = {v["name"]: v for v in pod["spec"]["volumes"]}
        assert "rserpool-token" not in volumes
        sources = [s for v in volumes.values() for s in v.get("projected", {}).get("sources", [])]
        assert [s for s in sources if "serviceAccountToken" in s] == []
        (ours,) = (s["podCertificate"] for s in sources if "podCertificate" in s)
        assert (ours["signerName"], ours["keyType"]) == (SIGNER, "ECDSAP256")
        containers = [*pod["spec"].get("initContainers", []), *pod["spec"]["containers"]]
        holders = [
            c["name"] for c in containers for m in c.get("volumeMounts", []) if m["name"] == "rserpool-credential"
        ]
        assert holders in ([apps.SIDECAR], ["registrar"])


def test_a_token_that_somebody_mounts_himself_is_no_way_in(home: str) -> None:
    kubectl("-n", home, "wait", "--for=condition=Ready", "pod/bare", "--timeout=60s")
    uid = str(get("pod", "bare", "-n", home)["metadata"]["uid"])
    (told,) = attempt(home, "bare", "main", enrol(who(home, POOL, uid)))
    assert (told.status, told.reason) == (403, "OtherEnrolment")


def test_a_pod_whose_service_account_is_not_listed_waits_and_starts_when_it_is(home: str) -> None:
    apply(apps.echo("late", pool=POOL, replicas=1, serviceAccountName="later"), namespace=home)
    try:

        def told() -> Manifest:
            (pod,) = apps.pods(home, "late")
            notes = [e["note"] for e in events(home, about=pod["metadata"]["name"])]
            assert [n for n in notes if n.startswith("ServiceAccountNotAllowed: ")], notes
            return pod

        pod = wait_for(told, 60, "an Event says that the service account is not listed")
        made = requests(home, pod["metadata"]["name"])
        assert made
        assert [ends(r) for r in made] == [[]] * len(made)
        assert get("pod", pod["metadata"]["name"], "-n", home)["status"]["phase"] == "Pending"
        patch = '{"spec": {"elements": {"serviceAccounts": ["default", "later"]}}}'
        kubectl("-n", home, "patch", "serverpool", POOL, "--type=merge", "-p", patch)
        apps.until_members(home, POOL, 3, registrars=2, timeout=120)
    finally:
        kubectl("-n", home, "delete", "deployment", "late", "--ignore-not-found")
    apps.until_members(home, POOL, 2, registrars=2, timeout=60)


def forged(pod: Manifest, **spec: Any) -> Manifest:
    """A request that no kubelet has made, with a key of our own."""
    key = ec.generate_private_key(ec.SECP256R1())
    made = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
    der = made.public_bytes(serialization.Encoding.DER)
    node = get("node", pod["spec"]["nodeName"])
    return {
        "apiVersion": "certificates.k8s.io/v1",
        "kind": "PodCertificateRequest",
        "metadata": {"name": "forged"},
        "spec": {
            "signerName": SIGNER,
            "podName": pod["metadata"]["name"],
            "podUID": pod["metadata"]["uid"],
            "serviceAccountName": pod["spec"]["serviceAccountName"],
            "serviceAccountUID": "00000000-0000-4000-8000-000000000000",
            "nodeName": node["metadata"]["name"],
            "nodeUID": node["metadata"]["uid"],
            "maxExpirationSeconds": 86400,
            "stubPKCS10Request": base64.b64encode(der).decode(),
            "unverifiedUserAnnotations": {"rserpool.io/pool": POOL, "rserpool.io/role": "element"},
            **spec,
        },
    }


@pytest.mark.parametrize(
    ("reason", "spec"),
    [
        ("PodGone", {"podUID": "00000000-0000-4000-8000-000000000000"}),
        ("PodGone", {"podName": "nobody"}),
        ("ServiceAccount", {"serviceAccountName": "later"}),
        (
            "UnknownAnnotation",
            {"unverifiedUserAnnotations": {"rserpool.io/pool": POOL, "example.com/more": "please"}},
        ),
    ],
    ids=["another UID", "no pod", "another service account", "an annotation"],
)
def test_a_request_that_no_kubelet_has_made_is_denied(home: str, reason: str, spec: dict[str, Any]) -> None:
    apply(forged(apps.pods(home, "echo")[0], **spec), namespace=home)
    try:

        def ended() -> list[tuple[str, str]]:
            found = ends(get(REQUESTS, "forged", "-n", home))
            assert found
            return found

        assert wait_for(ended, 30, "the request is answered") == [("Denied", reason)]
    finally:
        kubectl("-n", home, "delete", REQUESTS, "forged", "--ignore-not-found")


def test_with_the_charts_policy_nobody_but_a_kubelet_can_make_one(home: str) -> None:
    shown = template({"image": {"allowLocal": True}, "validatingAdmissionPolicies": {"enabled": True}})
    name = "rserpool-pod-certificates"
    made = [m for m in yaml.safe_load_all(shown.stdout) if m and m["metadata"]["name"] == name]
    assert {m["kind"] for m in made} == {"ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"}
    request = forged(apps.pods(home, "echo")[0], podName="nobody")
    apply(made)
    try:

        def refused() -> str:
            try:
                apply(request, namespace=home)
            except KubectlError as e:
                return e.message
            kubectl("-n", home, "delete", REQUESTS, "forged")
            raise NotYet("it is not looked at yet")

        assert "are asked for by kubelets only" in wait_for(refused, 60, "the policy is in force")
        kubectl("-n", home, "rollout", "restart", "deployment/echo")
        kubectl("-n", home, "rollout", "status", "deployment/echo", "--timeout=90s", timeout=100)
    finally:
        for m in made:
            kubectl("delete", m["kind"], name, "--ignore-not-found")
    apps.until_members(home, POOL, 2, registrars=2, timeout=60)


def test_who_has_edit_in_the_namespace_can_make_no_such_request(home: str) -> None:
    kubectl("-n", home, "create", "rolebinding", "editor", "--clusterrole=edit", "--user=alice")
    try:
        for verb, what in (("create", REQUESTS), ("patch", f"{REQUESTS}/status"), ("get", REQUESTS)):
            with pytest.raises(KubectlError):
                kubectl("-n", home, "auth", "can-i", verb, what, "--as=alice")
    finally:
        kubectl("-n", home, "delete", "rolebinding", "editor")


def test_a_renewal_that_is_ordered_needs_no_kubelet_and_no_restart(home: str) -> None:
    members = apps.pods(home, "echo")
    before = [renewals(home, pod) for pod in members]
    kubectl("-n", home, "annotate", "--overwrite", "serverpool", POOL, "rserpool.io/renew=now")

    def renewed() -> bool:
        counts = [renewals(home, pod) for pod in members]
        assert all(new > old for new, old in zip(counts, before, strict=True)), counts
        return True

    wait_for(renewed, 3 * 40, "every member has renewed")  # a sidecar asks every 24 to 36 s
    assert sum(restarts(pod) for pod in apps.pods(home, "echo")) == 0
    apps.until_members(home, POOL, 2, registrars=2)


@pytest.mark.timeout(600)
def test_a_kubelet_that_starts_again_obtains_other_leaves_which_are_taken_up(home: str, record_property: Any) -> None:
    """It keeps nothing: all it has asked for it asks for anew, as it does when a leaf is two thirds old."""
    pod = apps.pods(home, "echo")[0]
    name, node = pod["metadata"]["name"], pod["spec"]["nodeName"]
    before, asked = renewals(home, pod), {r["metadata"]["name"] for r in requests(home, name)}
    subprocess.run(["docker", "exec", node, "systemctl", "restart", "kubelet"], check=True, timeout=60)

    def again() -> bool:
        assert [r for r in requests(home, name) if r["metadata"]["name"] not in asked and ends(r)]
        return True

    wait_for(again, 90, "the kubelet has asked anew, and was answered")

    def taken() -> float:
        count = renewals(home, pod)
        assert count > before
        return count

    wait_for(taken, 240, "the member has taken up the leaf that the kubelet obtained")
    record_property("figure", f"renewals of a member: {before:g}, after its kubelet's restart {renewals(home, pod):g}")
    assert restarts(apps.pods(home, "echo")[0]) == 0
    apps.until_members(home, POOL, 2, registrars=2, timeout=120)


@pytest.mark.skipif(not os.environ.get("E2E_ROTATION"), reason="takes five minutes: E2E_ROTATION=1")
def test_the_ca_is_replaced_without_waiting_for_kubelets_and_without_a_restart(home: str, record_property: Any) -> None:
    before = {pod["metadata"]["name"]: pod["metadata"]["uid"] for pod in apps.pods(home, "echo")}
    began = time.monotonic()
    kubectl(
        "-n", home, "patch", "serverpool", POOL, "--type=merge", "-p", '{"spec":{"security":{"ca":{"generation":2}}}}'
    )

    def replaced() -> bool:
        authority = apps.server_pool(home, POOL)["status"]["authority"]
        assert (authority["generation"], authority["phase"]) == (2, "Active"), authority
        return True

    wait_for(replaced, 480, "the CA is replaced")
    record_property(
        "figure", f"the CA of a pool with enrolment PodCertificate is replaced in {time.monotonic() - began:.0f} s"
    )
    assert {pod["metadata"]["name"]: pod["metadata"]["uid"] for pod in apps.pods(home, "echo")} == before
    assert sum(restarts(pod) for pod in apps.pods(home, "echo")) == 0
    apps.until_members(home, POOL, 2, registrars=2)
    apps.until_served(home, "asker")
