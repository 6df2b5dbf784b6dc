# SPDX-License-Identifier: Apache-2.0
"""Who has a registrar, its key, its leaf and its token, is that registrar, and gets no further with them.

Not at enrolment, the control channel, another pool's registrars and elements, nor the API server. What a registrar can
do among its own pool's is bounded by the rules of ownership, which is attacked without a cluster.
"""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from harness import apps, operators
from harness.intruder import IDENTITY, TOKEN, Told, api, attempt, carry_off, control, dial, enrol, stranger, who
from harness.kubectl import KubectlError, Manifest, apply, events, exec_in, get, kubectl, logs
from harness.scenes import Watched, holdings, refused, registrar_refusals
from harness.waiting import wait_for

FIRST, SECOND, VICTIM = "echo-registrar-0", "echo-registrar-1", "other-registrar-0"
CONTROLS = "rserpool_operator_control_requests_total"
REFUSALS = "rserpool_refusals_total"
STRANGE = "it is not signed by an authority of this pool"
LIE = 987_654_321
"""A number of elements that is nowhere else in a line."""


@dataclass(frozen=True, kw_only=True)
class Scene(Watched):
    """Two pools; a registrar of one, echo, is hacked.

    Attributes:
        registrars: UIDs of echo's registrars.
        prey: a member of the other one.
        loot: where a pod of no pool has the registrar's key and leaf.
    """

    registrars: tuple[str, str]
    prey: Manifest
    loot: str

    def own(self, number: int = 0, role: str = "registrar") -> dict[str, str]:
        """What a registrar is by its leaf."""
        return who(self.home, "echo", self.registrars[number], role)

    def hosts(self, number: int = 0) -> list[str]:
        """The host names in its leaf."""
        own, shared = f"echo-registrar-{number}.echo-peers.{self.home}.svc", f"echo.{self.home}.svc"
        return [own, f"{own}.cluster.local", shared, f"{shared}.cluster.local"]

    def as_registrar(self, *attempts: dict[str, object], number: int = 0) -> list[Told]:
        """From within the registrar."""
        return attempt(self.home, f"echo-registrar-{number}", "registrar", *attempts)

    def as_thief(self, *attempts: dict[str, object]) -> list[Told]:
        """From the pod that has the loot."""
        return attempt(self.home, "thief", "main", *attempts)


@pytest.fixture(scope="module")
def scene(namespace: str) -> Scene:
    pools = [apps.pool(replicas=2), apps.pool("other", replicas=1)]
    apply([*pools, apps.echo(replicas=2), apps.echo("prey", pool="other", replicas=1)], namespace=namespace)
    apply([stranger("thief")], namespace=namespace)
    for name, members, registrars in (("echo", 2, 2), ("other", 1, 1)):
        apps.until_ready(namespace, name)
        apps.until_members(namespace, name, members, registrars=registrars)
    kubectl("-n", namespace, "wait", "--for=condition=Ready", "pod/thief", "--timeout=60s")
    first, second = (str(get("pod", name, "-n", namespace)["metadata"]["uid"]) for name in (FIRST, SECOND))
    return Scene(
        home=namespace,
        members=apps.pods(namespace, "echo"),
        pools=("echo", "other"),
        held=holdings(namespace, "echo", "other"),
        registrars=(first, second),
        prey=apps.pods(namespace, "prey")[0],
        loot=carry_off(namespace, FIRST, "registrar", "thief"),
    )


def address_of(namespace: str, pod: str) -> str:
    return str(get("pod", pod, "-n", namespace)["status"]["podIP"])


# -- enrolment


def test_a_registrars_leaf_renews_itself_and_becomes_nothing_else(scene: Scene) -> None:
    own, hosts = scene.own(), scene.hosts()
    with refused(scene, "OtherIdentity", "BadRequest", way="leaf"):
        itself, element, other_pool, other_pod, more_names = scene.as_registrar(
            enrol(own, leaf=IDENTITY, dns=hosts),
            enrol(scene.own(role="element"), leaf=IDENTITY),
            enrol({**own, "pool": "other"}, leaf=IDENTITY, dns=hosts),
            enrol(own, leaf=IDENTITY, csr=scene.own(1), dns=scene.hosts(1)),
            enrol(own, leaf=IDENTITY, dns=[*hosts, f"other.{scene.home}.svc"]),
        )
    assert itself.status == 200, itself  # so it is not for another reason that the others fail
    assert [(t.status, t.reason) for t in (element, other_pool)] == [(403, "OtherIdentity")] * 2
    assert [(t.status, t.reason) for t in (other_pod, more_names)] == [(400, "BadRequest")] * 2


def test_a_registrars_leaf_is_worth_nothing_in_another_namespace(scene: Scene) -> None:
    with refused(scene, "ForeignNamespace", pod=SECOND, way="leaf"):
        (told,) = scene.as_registrar(
            enrol({**scene.own(1), "namespace": "default"}, leaf=IDENTITY, dns=scene.hosts(1)), number=1
        )
    assert (told.status, told.reason) == (403, "ForeignNamespace")


def test_a_registrars_leaf_that_was_carried_off_is_not_renewed_from_elsewhere(scene: Scene) -> None:
    with refused(scene, "SourceAddress", pod=FIRST, way="leaf"):
        (told,) = scene.as_thief(enrol(scene.own(), leaf=scene.loot, dns=scene.hosts()))
    assert (told.status, told.reason) == (403, "SourceAddress")


def test_a_registrars_token_makes_a_registrar_of_its_own_pool_only(scene: Scene) -> None:
    own = scene.own(1)
    with refused(scene, "NotAMember", "NotARegistrar", pod=SECOND):
        element, other_pool = scene.as_registrar(
            enrol(scene.own(1, "element"), token_file=TOKEN),
            enrol({**own, "pool": "other"}, token_file=TOKEN),
            number=1,
        )
    assert (element.status, element.reason) == (403, "NotAMember")
    assert (other_pool.status, other_pool.reason) == (403, "NotARegistrar")
    token = exec_in(SECOND, "registrar", "cat", TOKEN, namespace=scene.home).strip()
    with refused(scene, "SourceAddress", pod=SECOND):
        (replayed,) = scene.as_thief(enrol(own, token=token, dns=scene.hosts(1)))
    assert (replayed.status, replayed.reason) == (403, "SourceAddress")


# -- the control channel


def test_a_registrar_is_told_of_its_own_pool_and_reports_about_itself_whatever_it_says(scene: Scene) -> None:
    """There is no field for it: pool and pod are those of the leaf."""
    other, since = apps.server_pool(scene.home, "other")["status"], operators.now()
    victim = str(get("pod", VICTIM, "-n", scene.home)["metadata"]["uid"])
    claims = {"namespace": scene.home, "pool": "other", "pod_uid": victim, "uid": victim}
    lies = {"elements": LIE, "serving": False, "pool": "other", "pod_uid": victim}
    told = [*scene.as_registrar(control("registrar", **claims, state=lies)), *scene.as_thief(
        control("registrar", leaf=scene.loot, **claims, state=lies)
    )]  # fmt: skip
    assert [t.status for t in told] == [200, 200], told
    for answer in told:
        assert f"echo-peers.{scene.home}.svc" in answer.message
        assert "other" not in answer.message
    for line in operators.lines(since):
        assert str(LIE) not in str(line)
    now = apps.server_pool(scene.home, "other")["status"]
    assert now["elements"] == other["elements"]
    assert now["registrars"] == other["registrars"]
    scene.is_unmoved()


def test_a_registrar_learns_nothing_as_an_element_and_its_nonsense_is_refused(scene: Scene) -> None:
    since, before = operators.now(), operators.everywhere(CONTROLS)
    as_element, nonsense, unnamed = scene.as_registrar(
        control("element"), control("registrar", state=["all", "is", "well"]), control("operator")
    )
    assert (as_element.status, as_element.reason) == (403, "OtherRole")
    assert [(t.status, t.reason) for t in (nonsense, unnamed)] == [(400, "BadRequest")] * 2
    after, logged = operators.everywhere(CONTROLS), {line.get("reason"): line for line in operators.lines(since)}
    for reason in ("OtherRole", "BadRequest"):
        assert operators.total(after, outcome=reason) > operators.total(before, outcome=reason)
        assert "refused a request on the control channel" in logged[reason]["message"]
    assert scene.registrars[0] in logged["OtherRole"]["peer"], "it is not said who it was"

    def told() -> bool:
        assert "ControlRefused" in {e["reason"] for e in events(scene.home, about=FIRST)}
        return True

    wait_for(told, 10, "an Event says it at the registrar's pod")
    scene.is_unmoved()


# -- another pool


@pytest.mark.parametrize(("port", "service"), [(3864, "ASAP"), (9902, "ENRP")])
def test_a_registrar_is_nobody_to_the_registrars_of_another_pool(scene: Scene, port: int, service: str) -> None:
    before = registrar_refusals(scene.home, VICTIM, what="handshake")
    there = dial(
        address_of(scene.home, VICTIM), scene.registrars[0], port=port, service=service, handle="other", leaf=IDENTITY
    )
    told = [*scene.as_registrar(there), *scene.as_thief({**there, "leaf": scene.loot})]
    assert [t.answer for t in told] == ["", ""], told
    assert all(t.fate for t in told), told
    assert registrar_refusals(scene.home, VICTIM, what="handshake") == before + 2
    assert STRANGE in logs(VICTIM, "registrar", namespace=scene.home)
    scene.is_unmoved()


def test_a_registrar_is_nobody_to_an_element_of_another_pool(scene: Scene) -> None:
    """Who could call an element as its registrar could adopt it (RFC 5352 2.2.7)."""
    pod = scene.prey["metadata"]["name"]

    def refusals() -> float:
        text = operators.page(pod, namespace=scene.home, port=8081)
        return operators.total(operators.samples(text, REFUSALS))

    before = refusals()
    (told,) = scene.as_registrar(dial(scene.prey["status"]["podIP"], scene.registrars[0], leaf=IDENTITY))
    assert told.answer == "", told
    assert told.fate, told
    assert refusals() > before
    assert STRANGE in logs(pod, apps.SIDECAR, namespace=scene.home)
    scene.is_unmoved()


def test_a_registrar_registers_no_element_at_its_own_pools_registrars(scene: Scene) -> None:
    before = registrar_refusals(scene.home, SECOND)
    (told,) = scene.as_registrar(dial(address_of(scene.home, SECOND), scene.uid(), leaf=IDENTITY))
    assert told.rejected, told
    assert registrar_refusals(scene.home, SECOND) > before
    scene.is_unmoved()


# -- the API server


def test_a_registrar_has_no_token_for_the_api_server_and_its_account_no_right(scene: Scene) -> None:
    pools, secrets = scene.as_registrar(
        api(f"/apis/rserpool.io/v1alpha1/namespaces/{scene.home}/serverpools"),
        api(f"/api/v1/namespaces/{scene.home}/secrets"),
    )
    assert [t.status for t in (pools, secrets)] == [401, 401]
    with pytest.raises(KubectlError, match="No such file"):
        exec_in(FIRST, "registrar", "ls", "/var/run/secrets/kubernetes.io/serviceaccount", namespace=scene.home)
    account = f"--as=system:serviceaccount:{scene.home}:echo-registrar"
    for verb, what in (
        ("get", "pods"), ("create", "pods"), ("create", "pods/exec"), ("get", "secrets"), ("get", "configmaps"),
        ("patch", "serverpools.rserpool.io"), ("create", "serviceaccounts/token"), ("get", "services"),
    ):  # fmt: skip
        with pytest.raises(KubectlError) as no:
            kubectl(account, "-n", scene.home, "auth", "can-i", verb, what)
        assert no.value.message.splitlines()[-1] in ("no", "exit status 1"), no.value.message
