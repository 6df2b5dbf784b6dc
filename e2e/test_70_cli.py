# SPDX-License-Identifier: Apache-2.0
"""The command line on a cluster, as a user types it: `rserpool`, and `kubectl rserpool`."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness import apps, nodes
from harness.command import rserpool
from harness.kubectl import Manifest, apply, exec_in, get, kubectl
from harness.waiting import NotYet, wait_for

SIDECAR = "rserpool-sidecar"


@pytest.fixture(scope="module")
def home(namespace: str) -> str:
    """A namespace with a pool of three registrars and three elements."""
    apply([apps.pool(), apps.echo()], namespace=namespace)
    apps.until_ready(namespace)
    apps.until_pods_ready(namespace, "echo", 3)
    apps.until_members(namespace, "echo", 3)
    return namespace


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The program on PATH under the name by which kubectl finds it."""
    program = tmp_path / "kubectl-rserpool"
    program.write_text(f"#!{sys.executable}\nimport sys\nfrom rserpool_cli.main import main\nsys.exit(main())\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")


def test_pools_are_listed_with_what_their_status_says(home: str) -> None:
    def counted() -> list[str]:
        rows = [line.split() for line in rserpool("pools", "-n", home).splitlines()]
        if rows[1][:7] != [home, "echo", "echo", "RoundRobin", "3/3", "3/3", "True"]:
            raise NotYet(rows[1])
        return rows[0]

    head = wait_for(counted, 60, "the pool is listed as it is")
    assert head == ["NAMESPACE", "NAME", "HANDLE", "POLICY", "REGISTRARS", "ELEMENTS", "READY", "AGE"]
    assert any(p["namespace"] == home for p in json.loads(rserpool("pools", "--cluster", "-o", "json")))


def test_elements_have_their_pods_and_all_registrars_agree(home: str) -> None:
    told = json.loads(rserpool("elements", f"{home}/echo", "-o", "json"))
    pods = {p["metadata"]["name"]: p["status"]["podIP"] for p in apps.pods(home, "echo")}
    assert {e["pod"]: e["transport"] for e in told["elements"]} == {
        name: f"tcp:{address}:{apps.PORT}" for name, address in pods.items()
    }
    assert {e["home"] for e in told["elements"]} <= {f"echo-registrar-{n}" for n in range(3)}
    assert all(len(e["heldBy"]) == 3 for e in told["elements"])
    assert (told["differences"], told["notRegistered"]) == ([], [])


def test_a_dump_has_every_registrar_and_one_may_be_named(home: str) -> None:
    names = [f"echo-registrar-{n}" for n in range(3)]
    dumps = json.loads(rserpool("dump", f"{home}/echo"))
    assert list(dumps) == names
    assert all(d["handlespace"] == dumps[names[0]]["handlespace"] for d in dumps.values())
    assert list(json.loads(rserpool("dump", "echo", names[1], "-n", home))) == [names[1]]


def test_in_our_containers_the_command_finds_its_own_socket(home: str) -> None:
    (registrar,) = json.loads(exec_in("echo-registrar-0", "registrar", "rserpool", "dump", namespace=home)).values()
    assert registrar["phase"] == "serving"
    assert "0x" in exec_in("echo-registrar-0", "registrar", "rserpool", "elements", namespace=home)
    pod = apps.pods(home, "echo")[0]["metadata"]["name"]
    (sidecar,) = json.loads(exec_in(pod, SIDECAR, "rserpool", "dump", namespace=home)).values()
    assert sidecar["registered"] is True
    # neither had to be ended because somebody looked: the command runs within the sidecar's memory
    found = get("pod", pod, "-n", home)["status"]["initContainerStatuses"]
    assert [c["restartCount"] for c in found if c["name"] == SIDECAR] == [0]


def test_a_pool_is_resolved(home: str) -> None:
    assert rserpool("resolve", f"{home}/echo").startswith("echo: 3 element(s), policy RoundRobin")
    assert len(json.loads(rserpool("resolve", "echo", "-n", home, "--items", "2", "-o", "json"))["elements"]) == 2


def test_a_pool_that_refuses_strangers_refuses_this_too_and_says_so(namespace: str) -> None:
    apply(apps.pool("closed", replicas=1, users={"anonymous": False}), namespace=namespace)
    apps.until_ready(namespace, "closed")
    assert "rserpool resolve: closed-registrar-0: " in rserpool("resolve", f"{namespace}/closed", status=5)


def test_the_status_of_a_pool_that_is_well_says_so(home: str) -> None:
    text = rserpool("status", f"{home}/echo")
    assert text.startswith(f"{home}/echo: Ready for ")
    assert "Registrars: 3 of 3 ready, speaking TCP" in text
    assert "Authority: generation 1, Active" in text
    assert "not registered" not in text


def test_the_status_of_a_pool_that_cannot_start_says_why_and_what_to_do(namespace: str) -> None:
    apply(apps.pool("broken", replicas=1, version="no-such"), namespace=namespace)

    def told() -> str:
        text = rserpool("status", f"{namespace}/broken", status=1)
        if "ErrImage" not in text and "ImagePull" not in text:
            raise NotYet(text)
        return text

    text = wait_for(told, 90, "the image that cannot be had is named")
    assert text.startswith(f"{namespace}/broken: not Ready for ")
    assert "  do: " in text
    assert "Last Events:" in text


def test_members_that_are_not_registered_are_named_with_the_reason(home: str) -> None:
    apply(apps.echo("plain", pool="", replicas=1), namespace=home)
    (plain,) = apps.until_pods_ready(home, "plain", 1)
    name = plain["metadata"]["name"]
    kubectl("label", "pod", name, "-n", home, "rserpool.io/pool=echo")
    # serves on another port than the pool's: its sidecar knows why it is not in
    deaf = apps.echo("deaf", replicas=1)
    (container,) = deaf["spec"]["template"]["spec"]["containers"]
    container["command"] = ["python3", "-c", "import signal; signal.pause()"]
    apply(deaf, namespace=home)

    def told() -> str:
        text = rserpool("elements", f"{home}/echo")
        if "not registered: deaf-" not in text or "the application is not healthy: " not in text:
            raise NotYet(text)
        return text

    text = wait_for(told, 90, "both pods are named")
    assert f"not registered: {name}: it has no sidecar: recreate the pod" in text
    kubectl("delete", "deployment", "plain", "deaf", "-n", home, "--wait=false")


def test_the_cluster_of_these_tests_has_all_that_pools_need(namespace: str) -> None:
    lines = rserpool("check", "-n", namespace).splitlines()
    assert not [line for line in lines if line.startswith("FAIL")]
    assert [line for line in lines if line.startswith("ok    webhook reached: a member's pod is given ")]
    assert not get("pods", "-n", namespace, "-l", "app.kubernetes.io/name=rserpool-check"), "it was a dry run"


def test_each_worker_is_asked_for_sctp_by_a_pod_that_does_not_stay(namespace: str) -> None:
    lines = rserpool("check", "--nodes", "-n", namespace).splitlines()
    for node in nodes.workers():
        (line,) = [line for line in lines if f"node {node} " in line and "SCTP" in line]
        assert "did not say" not in line

    def gone() -> bool:
        left: list[Manifest] = get("pods", "-n", namespace, "-l", "app.kubernetes.io/name=rserpool-check")
        if left:
            raise NotYet([pod["metadata"]["name"] for pod in left])
        return True

    wait_for(gone, 60, "its pods are gone")


@pytest.fixture
def viewer(namespace: str, tmp_path: Path) -> Iterator[Path]:
    """A kubeconfig of somebody who may look at a namespace, and no more."""
    binding = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": {"name": "viewer"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"},
        "subjects": [{"kind": "ServiceAccount", "name": "viewer", "namespace": namespace}],
    }
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "viewer"}}
    apply([account, binding], namespace=namespace)
    token = kubectl("create", "token", "viewer", "-n", namespace).strip()
    config = json.loads(kubectl("config", "view", "--raw", "--minify", "-o", "json"))
    config["users"] = [{"name": config["users"][0]["name"], "user": {"token": token}}]
    path = tmp_path / "viewer.kubeconfig"
    path.touch(mode=0o600)
    path.write_text(json.dumps(config))
    yield path
    path.unlink()


def test_who_may_only_look_is_told_what_he_may_not(home: str, viewer: Path) -> None:
    who = ("--kubeconfig", str(viewer))
    text = rserpool("status", f"{home}/echo", *who)
    assert text.startswith(f"{home}/echo: Ready for ")
    assert 'cannot create resource "pods/exec"' in text, "why the registrars could not be asked"
    assert "Forbidden" in rserpool("renew", f"{home}/echo", *who, status=1)
    assert "name a namespace with -n" in rserpool("pools", *who, status=1)
    assert "echo" in rserpool("pools", "-n", home, *who)
    lines = rserpool("check", "-n", home, *who).splitlines()
    assert [line for line in lines if line.startswith("warn  right to make pools: you may not create")]
    assert not [line for line in lines if line.startswith("FAIL")]


@pytest.mark.usefixtures("plugin")
def test_kubectl_finds_it_as_its_plugin(home: str) -> None:
    program = ("kubectl", "rserpool")
    assert home in rserpool("pools", "-n", home, program=program)
    assert "usage: kubectl rserpool" in rserpool("--help", program=program)
    said = rserpool("status", f"{home}/nobody", program=program, status=4)
    assert said.startswith(f"kubectl rserpool status: there is no ServerPool {home}/nobody; there are ")
