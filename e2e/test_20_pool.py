# SPDX-License-Identifier: Apache-2.0
"""A pool from nothing: one manifest, then members by one label, users by another, and a status that is true."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any, Final

import pytest

from harness import apps
from harness.cluster import SYSTEM, Cluster, cluster
from harness.kubectl import KubectlError, Manifest, apply, conditions, events, exec_in, get, kubectl
from harness.namespaces import fresh
from harness.pools import dumps, elements, registrars, without_homes
from harness.waiting import NotYet, wait_for
from support.goals import TIMES

READY_WITHIN: Final = 60.0
NOTHING_WRONG: Final = {
    "Accepted": ("True", "Valid"),
    "AuthorityReady": ("True", "AuthorityIssued"),
    "RegistrarsReady": ("True", "RegistrarsReady"),
    "TrustCurrent": ("True", "TrustLoaded"),
    "TransportDegraded": ("False", "AsOrdered"),
    "Ready": ("True", "Serving"),
    "Reconciling": ("False", "Settled"),
    "Stalled": ("False", "NothingWrong"),
}
ONE_SIGNER: Final = pytest.mark.parametrize("home", ["CertManager"], indirect=True)
"""For what has nothing to do with who signs."""
_made: dict[str, float] = {}
"""Seconds until a pool was Ready, by namespace."""


@pytest.fixture(scope="module", params=["Embedded", "CertManager"])
def home(request: pytest.FixtureRequest, cluster: Cluster) -> Iterator[str]:
    """A namespace with a pool of three echo servers; the signer is the parameter."""
    del cluster
    with fresh(f"e2e-20-{request.param.lower()}") as name:
        users = {"namespaces": {"matchLabels": {"rserpool.io/friend-of": name}}}
        began = time.monotonic()
        apply([apps.pool(signer=request.param, users=users), apps.echo()], namespace=name)
        apps.until_ready(name)
        _made[name] = time.monotonic() - began
        apps.until_pods_ready(name, "echo", 3)
        yield name


def _signer(namespace: str) -> str:
    return str(apps.server_pool(namespace)["spec"]["security"]["signer"]["type"])


def _of_authority(kind: str, namespace: str) -> list[Manifest]:
    """Objects of a pool's authority in the operator's namespace; of Secrets no contents are asked for."""
    uid = apps.server_pool(namespace)["metadata"]["uid"]
    label = f"rserpool.io/server-pool-uid={uid}"
    if kind != "secrets":
        found: list[Manifest] = get(kind, "-n", SYSTEM, "-l", label)
        return found
    columns = "custom-columns=NAME:.metadata.name,BY:.metadata.annotations.cert-manager\\.io/certificate-name"
    lines = kubectl("get", "secrets", "-n", SYSTEM, "-l", label, "--no-headers", "-o", columns).splitlines()
    return [dict(zip(("name", "certificate"), line.split(), strict=True)) for line in lines]


def _listening(pod: str, namespace: str) -> set[int]:
    """TCP ports on which a registrar listens, as its kernel says it."""
    table = exec_in(pod, "registrar", "cat", "/proc/net/tcp", namespace=namespace).splitlines()[1:]
    rows = [line.split() for line in table]
    return {int(row[1].rpartition(":")[2], 16) for row in rows if row[3] == "0A"}


def test_a_pool_is_ready_within_a_minute_of_its_manifest(home: str, record_property: Any) -> None:
    signer, took = _signer(home), _made[home]
    record_property("figure", f"pool Ready, signer {signer}: {took:.1f} s (goal {READY_WITHIN:.0f} s)")
    assert took <= TIMES * READY_WITHIN


def test_members_have_their_sidecar_and_both_containers_are_ready(home: str) -> None:
    pods = apps.until_pods_ready(home, "echo", 3)
    shown = kubectl("get", "pods", "-n", home, "-l", "app=echo", "--no-headers").splitlines()
    assert [line.split()[1:3] for line in shown] == [["2/2", "Running"]] * 3
    for pod in pods:
        assert [c["name"] for c in pod["spec"]["initContainers"]] == ["rserpool-sidecar"]
        assert pod["metadata"]["annotations"]["rserpool.io/injected"] == cluster().version
    assert {p["status"]["phase"] for p in get("pods", "-n", home)} == {"Running"}
    assert len(registrars(home, "echo")) == 3


def test_all_registrars_hold_the_same_elements_with_the_pods_addresses(home: str) -> None:
    held = apps.until_members(home, "echo", 3)
    addresses = {f"tcp:{pod['status']['podIP']}:{apps.PORT}" for pod in apps.pods(home, "echo")}
    (pool,) = held["pools"]
    assert pool["handle"] == "echo"
    assert {e["transport"] for e in pool["elements"]} == addresses


def test_the_status_counts_what_there_is(home: str) -> None:
    def settled() -> Manifest:
        status = apps.server_pool(home)["status"]
        said = {c["type"]: (c["status"], c["reason"]) for c in status["conditions"]}
        told = (said, status["registrars"], status["elements"])
        if told != (
            NOTHING_WRONG,
            {"replicas": 3, "ready": 3, "transports": ["TCP"]},
            {"matched": 3, "enrolled": 3, "registered": 3, "notInjected": 0, "outdated": 0},
        ):
            raise NotYet(told)
        return dict(status)

    status = wait_for(settled, 60, "the status is as it should be")
    assert status["version"] == cluster().version
    assert status["observedGeneration"] == apps.server_pool(home)["metadata"]["generation"]
    authority = status["authority"]
    assert (authority["generation"], authority["phase"], list(authority["keys"])) == (1, "Active", ["1"])
    assert authority["keys"]["1"].startswith("sha256:")
    assert "missing" not in authority
    assert authority["notAfter"].startswith("20")


def test_kubectl_shows_pools_readably(home: str) -> None:
    header, row = kubectl("get", "serverpools", "-n", home).splitlines()
    assert header.split() == ["NAME", "HANDLE", "POLICY", "REGISTRARS", "WANTED", "ELEMENTS", "MATCHED", "READY", "AGE"]
    assert row.split()[:8] == ["echo", "echo", "RoundRobin", "3", "3", "3", "3", "True"]
    wide_header, wide_row = kubectl("get", "serverpools", "-n", home, "-o", "wide").splitlines()
    for column, value in (("TRANSPORTS", '["TCP"]'), ("REASON", "Serving"), ("VERSION", cluster().version)):
        assert column in wide_header
        assert value in wide_row


def test_each_signer_leaves_its_own_objects_in_the_operators_namespace_and_nobody_elses(home: str) -> None:
    (secret,) = _of_authority("secrets", home)
    made = [_of_authority(kind, home) for kind in ("certificates", "issuers")]
    if _signer(home) == "CertManager":
        assert secret["certificate"] == secret["name"]
        assert all(made)
    else:
        assert secret["certificate"] == "<none>"
        assert not any(made), "an Embedded authority has nothing to do with cert-manager"
    assert not get("secrets", "-n", home)
    assert not get("certificates,issuers,certificaterequests", "-n", home)
    requests = _of_authority("certificaterequests", home)  # cert-manager keeps its own, for the CA's certificate
    left = [r["metadata"]["name"] for r in requests if r["metadata"]["labels"]["app.kubernetes.io/component"] == "leaf"]
    assert not left, "requests for leaves go when they are signed"


def test_registrars_listen_with_tls_only(home: str) -> None:
    for pod in registrars(home, "echo"):
        assert _listening(pod, home) == {3864, 9902, 8080}


def _echoes(namespace: str, name: str) -> None:
    """Wait until a user was answered by all three elements; nothing ever failed."""

    def answered() -> bool:
        asked = apps.asked(namespace, name)
        by = {a.by for a in asked if a.by}
        if len(by) < 3:
            raise NotYet((by, asked[-1:]))
        return not [a for a in asked if a.failed]

    wait_for(answered, 60, f"{name} of {namespace} gets answers of three elements")


@ONE_SIGNER
def test_a_pod_with_one_label_resolves_and_is_echoed_to(home: str) -> None:
    before = without_homes(apps.until_members(home, "echo", 3))
    apply(apps.user("user", environment=apps.PATIENT), namespace=home)
    _echoes(home, "user")
    pod = get("pod", "user", "-n", home)
    assert "initContainers" not in pod["spec"], "a user needs no sidecar"
    told = exec_in("user", "user", "cat", "/var/run/rserpool/registrars", namespace=home).split()
    assert told == [f"echo-registrar-{n}.echo-peers.{home}.svc.cluster.local:3864" for n in range(3)]
    assert without_homes(apps.until_members(home, "echo", 3)) == before, "asking changes nothing"


@ONE_SIGNER
def test_a_namespace_that_the_pool_allows_may_use_it_and_another_one_is_refused_with_the_reason(home: str) -> None:
    with fresh(f"{home}-friend", friend_of=home) as friend:
        wait_for(
            lambda: get("configmap", f"rserpool.echo.{home}", "-n", friend), 30, "the pool's ConfigMap for its friends"
        )
        apply(apps.user("guest", uses=f"echo.{home}", environment=apps.PATIENT), namespace=friend)
        _echoes(friend, "guest")
        kubectl("label", "namespace", friend, "rserpool.io/friend-of-")
        wait_for(
            lambda: not kubectl("get", "configmaps", "-n", friend, "-o", "name", "--field-selector",
                                f"metadata.name=rserpool.echo.{home}"),
            30, "the ConfigMap goes with the permission",
        )  # fmt: skip
        with pytest.raises(KubectlError) as refused:
            apply(apps.user("late", uses=f"echo.{home}"), namespace=friend)
    assert f"namespace {friend} may not use ServerPool {home}/echo" in refused.value.message
    assert "spec.users.namespaces" in refused.value.message
    with fresh(f"{home}-third") as third, pytest.raises(KubectlError) as refused:
        apply(apps.user("stranger", uses=f"echo.{home}"), namespace=third)
    assert f"namespace {third} may not use ServerPool {home}/echo" in refused.value.message
    assert apps.until_members(home, "echo", 3)


@ONE_SIGNER
def test_a_pod_that_already_ran_is_counted_as_not_injected_and_told_to_be_recreated(home: str) -> None:
    apply(apps.echo("plain", pool="", replicas=1), namespace=home)
    (pod,) = apps.until_pods_ready(home, "plain", 1)
    name = pod["metadata"]["name"]
    kubectl("label", "pod", name, "-n", home, "rserpool.io/pool=echo")

    def counted() -> bool:
        said = apps.server_pool(home)["status"]["elements"]
        if (said["matched"], said["registered"], said["notInjected"]) != (4, 3, 1):
            raise NotYet(said)
        return True

    wait_for(counted, 30, "status counts the pod that was not injected")
    (event,) = wait_for(lambda: events(home, about=name) and _events(home, name, "NotInjected"), 30, "its Event")
    assert event["type"] == "Warning"
    assert "recreate" in event["note"]
    assert apps.until_members(home, "echo", 3)
    kubectl("delete", "deployment", "plain", "-n", home, "--wait=false")


def _events(namespace: str, about: str, reason: str) -> list[Manifest]:
    return [e for e in events(namespace, about=about) if e["reason"] == reason]


def test_pods_labelled_for_a_pool_that_does_not_exist_wait_with_an_event_and_join_when_it_appears(
    namespace: str, record_property: Any
) -> None:
    apply([apps.echo("early", pool="later", replicas=2), apps.user("early-user", uses="later")], namespace=namespace)

    def waiting() -> list[Manifest]:
        found = apps.pods(namespace, "early")
        states = [
            (c["ready"], "running" in c["state"], c["restartCount"])
            for pod in found
            for kind in ("initContainerStatuses", "containerStatuses")
            for c in pod["status"].get(kind, [])
        ]
        # the application runs and is ready; only its sidecar is not
        if sorted(states) != [(False, True, 0)] * 2 + [(True, True, 0)] * 2:
            raise NotYet(states)
        return found

    found = wait_for(waiting, 60, "both pods run and wait")
    for pod in found:
        name = pod["metadata"]["name"]
        told = wait_for(lambda name=name: _events(namespace, name, "PoolNotFound"), 30, f"{name} is told")  # type: ignore[misc] # mypy infers no lambda with a default
        assert f"{namespace}/later" in told[0]["note"]
    began = time.monotonic()
    apply(apps.pool("later", poolHandle="echo"), namespace=namespace)
    apps.until_ready(namespace, "later")
    apps.until_pods_ready(namespace, "early", 2)
    apps.until_members(namespace, "later", 2)
    record_property("figure", f"pods that waited for their pool are its members {time.monotonic() - began:.1f} s after")
    assert {p["metadata"]["uid"] for p in apps.pods(namespace, "early")} == {p["metadata"]["uid"] for p in found}
    held = next(iter(dumps(namespace, "later").values()))
    assert len(elements(held)) == 2

    def served() -> bool:
        asked = apps.asked(namespace, "early-user")
        if not asked or asked[-1].failed:
            raise NotYet(asked[-1:])
        return True

    wait_for(served, 150, "the user that waited is served")
    said = conditions(apps.server_pool(namespace, "later"))
    assert said["Ready"]["status"] == "True"
