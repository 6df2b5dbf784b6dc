# SPDX-License-Identifier: Apache-2.0
"""What `edit` in a pool's namespace can do, and what it cannot: the pool is its own, its users' list and its names too.

The pool's processes believe neither of these: whom they reach must prove to be a registrar.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from harness import apps, operators
from harness.cluster import SYSTEM, cluster
from harness.impostor import heard, impostor, introduced
from harness.intruder import IDENTITY, TOKEN, Told, attempt, carry_off, control, dial, enrol, who
from harness.kubectl import KubectlError, Manifest, apply, exec_in, get, kubectl, logs
from harness.manifests import CONTAINER_SECURITY, POD_SECURITY
from harness.namespaces import fresh
from harness.scenes import Watched, holdings
from harness.waiting import NotYet, wait_for

EDITOR = ("--as", "editor")
FORBIDDEN = r"(?i)forbidden"
PAUSE = ("patch", "serverpool", "echo", "--type=merge", "-p")
USERS = "rserpool.echo."
STRANGE = "it is not signed by an authority of this pool"
WRONG_ROLE = "a peer of role element is no registrar"
TENANTS = "look"
"""An ephemeral container."""
ENOUGH = 5
"""Requests of a user who gives up each after his patience: none is over yet when the first registrar is tried."""


@dataclass(frozen=True, kw_only=True)
class Scene(Watched):
    """A pool in a namespace in which `editor` has the role edit, and another one, beside it.

    Attributes:
        friend: a namespace whose pod, also called friend, uses the pool.
    """

    friend: str

    def edit(self, *words: str, text: str | None = None) -> str:
        """What `editor` does in the pool's namespace."""
        return kubectl("-n", self.home, *EDITOR, *words, input=text)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """The operator makes nothing anew meanwhile: `edit` may tell it so."""
        self.edit(*PAUSE, '{"spec":{"paused":true}}')
        try:
            wait_for(self._is_paused, 20, "the pool is paused")
            yield
        finally:
            self.edit(*PAUSE, '{"spec":{"paused":false}}')

    def _is_paused(self) -> bool:
        reasons = {c["reason"] for c in apps.server_pool(self.home)["status"]["conditions"]}
        if "Paused" not in reasons:
            raise NotYet(reasons)
        return True

    @contextmanager
    def friend_is_served(self) -> Iterator[None]:
        """Fails unless all that the friend asked meanwhile was answered by members."""
        since = time.time()
        yield
        asked = apps.asked(self.friend, "friend", since)
        assert asked
        assert apps.failures(asked) == []
        assert "impostor" not in {a.by for a in asked}


@pytest.fixture(scope="module")
def scene(namespace: str) -> Iterator[Scene]:
    users = {"namespaces": {"matchLabels": {"rserpool.io/e2e-friend": "true"}}}
    pools = [apps.pool(replicas=2, users=users), apps.pool("other", replicas=1)]
    apply([*pools, apps.echo(replicas=2)], namespace=namespace)
    kubectl("create", "role", "debugs", "-n", namespace, "--verb=get,update", "--resource=pods/ephemeralcontainers")
    kubectl("create", "rolebinding", "edits", "-n", namespace, "--clusterrole=edit", "--user=editor")
    kubectl("create", "rolebinding", "debugs", "-n", namespace, "--role=debugs", "--user=editor")
    apps.until_ready(namespace)
    apps.until_ready(namespace, "other")
    with fresh("e2e-friend", e2e_friend="true") as friend:
        apply(apps.user("friend", uses=f"echo.{namespace}", environment=apps.PATIENT), namespace=friend)
        apps.until_members(namespace, "echo", 2, registrars=2)
        apps.until_members(namespace, "other", 0, registrars=1)
        apps.until_served(friend, "friend")
        yield Scene(
            home=namespace,
            members=apps.pods(namespace, "echo"),
            pools=("echo", "other"),
            held=holdings(namespace, "echo", "other"),
            friend=friend,
        )


@pytest.fixture
def guests(scene: Scene) -> Iterator[Callable[..., None]]:
    """Makes pods in the pool's namespace that no later test finds there, whatever becomes of this one."""
    made: list[str] = []

    def make(*pods: Manifest) -> None:
        made.extend(pod["metadata"]["name"] for pod in pods)
        apply(list(pods), namespace=scene.home)

    yield make
    kubectl("-n", scene.home, "delete", "pod", *made, "--ignore-not-found", "--wait=false")
    apps.until_members(scene.home, "echo", 2, registrars=2)
    scene.is_unmoved()


def until(condition: Callable[[], Any], timeout: float, what: str) -> float:
    """Wait until something is so; returns how many seconds that took."""
    began = time.monotonic()

    def so() -> bool:
        found = condition()
        if not found:
            raise NotYet(found)
        return True

    wait_for(so, timeout, what)
    return time.monotonic() - began


# -- out of reach


def test_edit_becomes_neither_the_operator_nor_another_namespaces_pool_and_reads_no_cas_key(scene: Scene) -> None:
    uid = apps.server_pool(scene.home)["metadata"]["uid"]
    secret = f"{scene.home}.echo.{uid[:8]}-g1"
    assert get("secret", secret, "-n", SYSTEM)["type"] == "kubernetes.io/tls"
    pod = json.dumps(apps.member("spy"))
    webhook = '[{"op":"replace","path":"/webhooks/0/clientConfig/caBundle","value":"bm9uZQ=="}]'
    forbidden: list[tuple[tuple[str, ...], str | None]] = [
        (("-n", SYSTEM, "get", "secret", secret), None),
        (("-n", SYSTEM, "get", "secret", "rserpool-installation-ca"), None),
        (("-n", SYSTEM, "create", "token", "rserpool-operator"), None),
        (("-n", SYSTEM, "create", "-f", "-"), pod),
        (("-n", SYSTEM, "exec", operators.leader(), "--", "true"), None),
        (("-n", scene.friend, "create", "-f", "-"), pod),
        (("-n", scene.friend, "create", "token", "default", "--audience=rserpool.io/enrolment"), None),
        (("patch", "mutatingwebhookconfiguration", "rserpool-operator", "--type=json", "-p", webhook), None),
        (("-n", scene.home, "create", "-f", "-"), json.dumps(_slice(scene.home))),
    ]
    for command, text in forbidden:
        with pytest.raises(KubectlError, match=FORBIDDEN):
            kubectl(*EDITOR, *command, input=text)
    scene.is_unmoved()


def _slice(home: str) -> Manifest:
    """Addresses for a Service, as only controllers write them."""
    labels = {"kubernetes.io/service-name": "echo-peers"}
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": "mine", "namespace": home, "labels": labels},
        "addressType": "IPv4",
        "endpoints": [{"addresses": ["192.0.2.1"], "hostname": "echo-registrar-0"}],
    }


# -- a pod that was admitted


def serial(scene: Scene, pod: str) -> str:
    program = (
        "from cryptography import x509; from pathlib import Path;"
        f"print(x509.load_pem_x509_certificates(Path({IDENTITY!r}).read_bytes())[0].serial_number)"
    )
    return exec_in(pod, apps.SIDECAR, "python3", "-c", program, namespace=scene.home).strip()


def test_annotations_and_uses_of_a_pod_that_was_admitted_change_nothing_but_what_is_said_of_it(scene: Scene) -> None:
    pod = scene.name()
    spec, leaf = get("pod", pod, "-n", scene.home)["spec"], serial(scene, pod)
    marks = ("rserpool.io/injected=9.9.9", "rserpool.io/drain=0", "rserpool.io/weight=1000", "rserpool.io/handle=other")
    scene.edit("annotate", "--overwrite", "pod", pod, *marks)
    scene.edit("label", "pod", pod, "rserpool.io/uses=other", "rserpool.io/server-pool=other")
    until(
        lambda: apps.server_pool(scene.home)["status"]["elements"]["outdated"] == 1,
        20,
        "status counts a sidecar of another version, as the annotation says",
    )
    assert get("pod", pod, "-n", scene.home)["spec"] == spec
    assert serial(scene, pod) == leaf
    (told,) = scene.as_member(enrol(who(scene.home, "other", scene.uid()), leaf=IDENTITY))
    assert (told.status, told.reason) == (403, "OtherIdentity")
    scene.is_unmoved()
    scene.edit("label", "pod", pod, "rserpool.io/uses-", "rserpool.io/server-pool-")


def test_a_pod_that_is_labelled_for_another_pool_is_out_of_the_first_and_not_in_the_second(
    scene: Scene, record_property: Any
) -> None:
    """Its own leaf is of the first; its token is good for what the label says, and no other namespace's."""
    pod, uid = scene.name(1), scene.uid(1)
    address = get("pod", "other-registrar-0", "-n", scene.home)["status"]["podIP"]
    scene.edit("label", "--overwrite", "pod", pod, "rserpool.io/pool=other")
    try:
        began = time.monotonic()
        apps.until_members(scene.home, "echo", 1, registrars=2, timeout=15)
        record_property("figure", f"a pod labelled for another pool is out after {time.monotonic() - began:.1f} s")
        own = who(scene.home, "echo", uid)
        renewed, asked, there = scene.as_member(
            enrol(own, leaf=IDENTITY), control(), dial(address, uid, handle="other", leaf=IDENTITY), number=1
        )
        assert (renewed.status, renewed.reason) == (403, "NotAMember")
        assert (asked.status, asked.reason) == (403, "Revoked")
        assert there.answer == "", there
        (anew,) = scene.as_member(enrol(who(scene.home, "other", uid), token_file=TOKEN), number=1)
        assert anew.status == 200, anew  # who edits labels here says which pool of this namespace a pod is of
        assert holdings(scene.home, "other")["other-registrar-0"]["pools"] == []
    finally:
        scene.edit("label", "--overwrite", "pod", pod, "rserpool.io/pool=echo")
    apps.until_members(scene.home, "echo", 2, registrars=2, timeout=90)
    scene.is_unmoved()


# -- an ephemeral container


def debug(scene: Scene, pod: str) -> Callable[..., list[Told]]:
    """Put a container into a pod that mounts what only ours mounts; returns how to attempt something from there."""
    mounts = [
        {"name": "rserpool-identity", "mountPath": "/run/rserpool/identity"},
        {"name": "rserpool-token", "mountPath": "/run/rserpool/token"},
    ]
    container = {
        "name": TENANTS,
        "image": cluster().image("node"),
        "command": ["python3", "-c", "import signal; signal.pause()"],
        "securityContext": {**CONTAINER_SECURITY, **POD_SECURITY, "runAsUser": 65532},
        "volumeMounts": mounts,
    }
    made = get("pod", pod, "-n", scene.home)
    made["spec"]["ephemeralContainers"] = [container]
    path = f"/api/v1/namespaces/{scene.home}/pods/{pod}/ephemeralcontainers"
    kubectl(*EDITOR, "replace", "--raw", path, "-f", "-", input=json.dumps(made))

    def runs() -> bool:
        states = [s["state"] for s in get("pod", pod, "-n", scene.home)["status"].get("ephemeralContainerStatuses", [])]
        return any("running" in state for state in states)

    until(runs, 30, f"{TENANTS} runs in {pod}")
    return lambda *attempts: attempt(scene.home, pod, TENANTS, *attempts)


def test_an_ephemeral_container_reaches_the_pods_key_and_token_and_is_that_pod_and_no_other(scene: Scene) -> None:
    """Without the chart's policies, which close registrars to it; a member's pod is its owner's with them too."""
    app = ("exec", scene.name(), "-c", "echo", "--", "ls", "/run/rserpool")
    with pytest.raises(KubectlError, match="No such file"):
        scene.edit(*app)
    within = debug(scene, scene.name())
    own = who(scene.home, "echo", scene.uid())
    renewed, by_token, sibling, role, pool = within(
        enrol(own, leaf=IDENTITY), enrol(own, token_file=TOKEN), enrol(own, csr=who(scene.home, "echo", scene.uid(1))),
        enrol({**own, "role": "registrar"}), enrol({**own, "pool": "other"}),
    )  # fmt: skip
    assert [t.status for t in (renewed, by_token)] == [200, 200], (renewed, by_token)
    assert [t.reason for t in (sibling, role, pool)] == ["BadRequest", "NotARegistrar", "NotAMember"]
    within = debug(scene, "echo-registrar-1")
    there = get("pod", "other-registrar-0", "-n", scene.home)["status"]["podIP"]
    asked, member, at_others = within(
        control("registrar"), enrol({**own, "pool": "other", "role": "registrar"}),
        dial(there, scene.uid(), port=9902, service="ENRP", leaf=IDENTITY),
    )  # fmt: skip
    assert asked.status == 200, asked
    assert (member.reason, at_others.answer) == ("NotARegistrar", "")
    scene.is_unmoved()


# -- what users are told, and where names lead


def test_who_spoils_the_list_of_registrars_deceives_the_users_of_that_namespace_and_nobody_else(
    scene: Scene, guests: Callable[..., None], record_property: Any
) -> None:
    guests(impostor("false", scene.home, "echo", 7))
    address, bundle = introduced(scene.home, "false")
    spoilt = {"data": {"registrars": f"{address}:3864\n", "bundle.pem": bundle}}
    name = f"{USERS}{scene.home}"
    genuine = get("configmap", name, "-n", scene.home)["data"]
    theirs = get("configmap", name, "-n", scene.friend)
    with scene.friend_is_served():
        with scene.paused():
            scene.edit("patch", "configmap", name, "--type=merge", "-p", json.dumps(spoilt))
            guests(apps.user("deceived"), apps.member("late"))
            apps.until_served(scene.home, "deceived")
            assert {a.by for a in apps.asked(scene.home, "deceived") if not a.failed} == {"impostor"}
            apps.until_members(scene.home, "echo", 3, registrars=2)  # a sidecar is told by the operator alone
            with pytest.raises(KubectlError, match=FORBIDDEN):
                kubectl("-n", scene.friend, *EDITOR, "patch", "configmap", name, "--type=merge", "-p", "{}")
            assert get("configmap", name, "-n", scene.friend)["data"] == theirs["data"]
            assert set(heard(scene.home, "false").messages) == {"HandleResolution"}
        took = until(
            lambda: get("configmap", name, "-n", scene.home)["data"] == genuine,
            20,
            "the list is as the operator has it",
        )
        record_property("figure", f"a spoilt list of registrars is mended {took:.1f} s after the pool is not paused")


def addresses(scene: Scene, ordinal: int) -> set[str]:
    """What a registrar's name stands for, as a pod of the namespace is told by whichever DNS server it asks."""
    program = (
        "import socket, sys\n"
        "for _ in range(8):\n"  # there are two, each with a cache of its own
        " try: print(*{a[4][0] for a in socket.getaddrinfo(sys.argv[1], 1)})\n"
        " except OSError: pass"
    )
    host = f"echo-registrar-{ordinal}.echo-peers.{scene.home}.svc.cluster.local"
    return set(apps.run_python(scene.home, scene.name(), "echo", program, host).split())


def _is_beside(address: str, found: set[str]) -> bool:
    return address in found and len(found) == 2


def test_names_that_lead_to_impostors_lead_nowhere(
    scene: Scene, guests: Callable[..., None], record_property: Any
) -> None:
    """One has an authority of its own, the other an element's genuine leaf. They stand in DNS beside the registrars,
    which a label is enough for; then alone, since `edit` may change a Service while the pool is paused."""
    guests(*(impostor(f"false-{n}", scene.home, "echo", n, loot=loot) for n, loot in ((0, ""), (1, scene.name()))))
    kubectl("-n", scene.home, "wait", "--for=condition=Ready", "pod/false-0", "pod/false-1", "--timeout=60s")
    carry_off(scene.home, scene.name(), apps.SIDECAR, "false-1")
    false = [str(get("pod", f"false-{n}", "-n", scene.home)["status"]["podIP"]) for n in (0, 1)]
    with scene.friend_is_served():
        until(lambda: _is_beside(false[0], addresses(scene, 0)), 60, "DNS names an impostor beside the registrar")
        with scene.paused():
            for service in ("echo", "echo-peers"):
                patch = [{"op": "replace", "path": "/spec/selector", "value": {"impostor": "echo"}}]
                scene.edit("patch", "service", service, "--type=json", "-p", json.dumps(patch))
            until(lambda: [addresses(scene, n) for n in (0, 1)] == [{a} for a in false], 60, "DNS names them alone")
            guests(apps.member("behind"), apps.user("lost"))
            tried = _until_tried(scene, "behind", "lost")
            record_property("figure", f"both impostors were tried by a sidecar and a user, and refused: {tried:.1f} s")
            assert not apps.is_ready(get("pod", "behind", "-n", scene.home))
            until(lambda: len(apps.asked(scene.home, "lost")) >= ENOUGH, 20, "the user is told of what it asked")
            asked = apps.asked(scene.home, "lost")
            assert len(apps.failures(asked)) == len(asked), "somebody was believed"
            scene.is_unmoved()
        apps.until_members(scene.home, "echo", 3, registrars=2, timeout=90)
        apps.until_served(scene.home, "lost", timeout=90)
    own, stolen = (heard(scene.home, f"false-{n}") for n in (0, 1))
    assert (own.messages, own.shaken) == ((), frozenset())
    assert set(stolen.messages) <= {"EnrpError"}, (
        "an element was taken for a registrar"
    )  # which is how a peer is refused
    written = logs("behind", apps.SIDECAR, namespace=scene.home)
    assert STRANGE in written
    assert WRONG_ROLE in written


def _until_tried(scene: Scene, *pods: str) -> float:
    """Wait until each impostor was called by each of these pods and found out; returns how long that took."""

    def tried() -> bool:
        missing = []
        for pod in pods:
            address = get("pod", pod, "-n", scene.home)["status"].get("podIP")
            missing += [(pod, n) for n in (0, 1) if (3864, address) not in heard(scene.home, f"false-{n}").callers]
        if missing:
            raise NotYet(missing)
        return True

    began = time.monotonic()
    wait_for(tried, 60, "each has called each impostor")
    return time.monotonic() - began


# -- the registrars' own pods


def test_who_changes_the_registrars_stateful_set_is_in_them_until_it_is_deleted(
    scene: Scene, record_property: Any
) -> None:
    """The pool's administrator by another door, which the chart's policies do not close: the operator keeps a template
    that runs, and what somebody else has put into it. Deleted, the StatefulSet is made anew as it should be."""
    thief = {
        "name": "thief",
        "image": cluster().image("node"),
        "command": ["python3", "-c", "import signal; signal.pause()"],
        "securityContext": {**CONTAINER_SECURITY, "runAsUser": 65532},
        "volumeMounts": [{"name": "rserpool-identity", "mountPath": "/run/rserpool/identity"}],
    }
    patch = {"spec": {"template": {"spec": {"containers": [thief]}}}}
    scene.edit("patch", "statefulset", "echo-registrar", "--type=strategic", "-p", json.dumps(patch))
    until(lambda: _containers(scene) == {"registrar", "thief"}, 60, "a registrar's pod has one container more")
    kubectl("-n", scene.home, "wait", "--for=condition=Ready", "pod/echo-registrar-1", "--timeout=60s")
    (asked,) = attempt(scene.home, "echo-registrar-1", "thief", control("registrar"))
    assert asked.status == 200, asked
    kubectl("-n", scene.home, "delete", "statefulset", "echo-registrar")
    took = until(lambda: _containers(scene) == {"registrar"}, 90, "the registrar's pod is as the operator makes it")
    record_property(
        "figure", f"registrars without a tenant's container {took:.1f} s after their StatefulSet's deletion"
    )
    apps.until_ready(scene.home)
    apps.until_members(scene.home, "echo", 2, registrars=2)
    apps.until_served(scene.friend, "friend")
    assert holdings(scene.home, "other")["other-registrar-0"] == scene.held["other-registrar-0"]


def _containers(scene: Scene) -> set[str]:
    found = get("pod", "echo-registrar-1", "-n", scene.home)  # which may be none: asked again
    return set() if "deletionTimestamp" in found["metadata"] else {c["name"] for c in found["spec"]["containers"]}
