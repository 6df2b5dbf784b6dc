# SPDX-License-Identifier: Apache-2.0
"""Whoever asks for what he may not have is refused, counted, logged and told of, and changes nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from harness import apps, operators
from harness.cluster import SYSTEM
from harness.intruder import (
    IDENTITY,
    TOKEN,
    TOKENS,
    attempt,
    control,
    dial,
    enrol,
    stranger,
    who,
)
from harness.kubectl import KubectlError, Manifest, apply, events, exec_in, get, kubectl, logs
from harness.namespaces import fresh
from harness.scenes import Watched, holdings, refused, registrar_refusals
from harness.waiting import NotYet, wait_for

ENROLMENTS = "rserpool_operator_enrolments_total"
ADMISSIONS = "rserpool_operator_admissions_total"
HANDSHAKES = "rserpool_operator_refused_handshakes_total"
FORBIDDEN = r"(?i)forbidden"


@dataclass(frozen=True, kw_only=True)
class Scene(Watched):
    """Two pools of one namespace, and a namespace that may not use them."""

    away: str


@pytest.fixture(scope="module")
def scene(namespace: str) -> Iterator[Scene]:
    with fresh("e2e-away") as away:
        strict = apps.pool("strict", replicas=1, elements={
            "port": apps.PORT, "serviceAccounts": ["trusted"], "nodes": {"matchLabels": {"no-such": "node"}},
        })  # fmt: skip
        trusted = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "trusted"}}
        apply(
            [trusted, apps.pool(signer="CertManager", replicas=2), strict, apps.echo(replicas=2)], namespace=namespace
        )
        strangers = [stranger("bare"), stranger("labelled", rserpool_io__uses="echo"), stranger("doomed")]
        apply([*strangers, apps.echo("untrusted", pool="strict", replicas=1)], namespace=namespace)
        apply([apps.echo("misplaced", pool="strict", replicas=1, serviceAccountName="trusted")], namespace=namespace)
        apply([stranger("foreign")], namespace=away)
        apps.until_ready(namespace)
        apps.until_ready(namespace, "strict")
        apps.until_members(namespace, "echo", 2, registrars=2)
        for name in ("bare", "labelled", "doomed"):
            kubectl("-n", namespace, "wait", "--for=condition=Ready", f"pod/{name}", "--timeout=60s")
        kubectl("-n", away, "wait", "--for=condition=Ready", "pod/foreign", "--timeout=60s")
        yield Scene(
            home=namespace,
            away=away,
            members=apps.pods(namespace, "echo"),
            pools=("echo", "strict"),
            held=holdings(namespace, "echo", "strict"),
        )


# -- who asks for a certificate


def test_a_pod_without_the_label_gets_no_certificate(scene: Scene) -> None:
    uid = str(get("pod", "bare", "-n", scene.home)["metadata"]["uid"])
    with refused(scene, "NotAMember", "NotARegistrar", pod="bare"):
        as_element, as_registrar = attempt(
            scene.home, "bare", "main",
            enrol(who(scene.home, "echo", uid)), enrol(who(scene.home, "echo", uid, "registrar")),
        )  # fmt: skip
    assert (as_element.status, as_element.reason) == (403, "NotAMember")
    assert "has no label rserpool.io/pool" in as_element.message
    assert (as_registrar.status, as_registrar.reason) == (403, "NotARegistrar")


def test_a_pod_with_a_registrars_labels_is_no_registrar(scene: Scene) -> None:
    labels = {"rserpool.io/server-pool": "echo", "app.kubernetes.io/component": "registrar"}
    marks = [f"{key}={value}" for key, value in labels.items()]
    kubectl("-n", scene.home, "label", "pod", "labelled", *marks)
    uid = str(get("pod", "labelled", "-n", scene.home)["metadata"]["uid"])
    with refused(scene, "NotARegistrar", pod="labelled"):
        (told,) = attempt(scene.home, "labelled", "main", enrol(who(scene.home, "echo", uid, "registrar")))
    assert told.message == "pod labelled is not controlled by StatefulSet echo-registrar"
    assert apps.server_pool(scene.home)["status"]["registrars"]["replicas"] == 2


@pytest.mark.parametrize(
    ("app", "reason"), [("untrusted", "ServiceAccountNotAllowed"), ("misplaced", "NodeNotAllowed")]
)
def test_a_member_of_a_service_account_or_on_a_node_that_is_not_allowed_waits_outside(
    scene: Scene, app: str, reason: str
) -> None:
    (pod,) = apps.pods(scene.home, app)
    name = pod["metadata"]["name"]

    def told() -> bool:
        notes = [e["note"] for e in events(scene.home, about=name)]
        assert [note for note in notes if note.startswith(f"{reason}: ")], f"no Event says {reason}, only {notes}"
        return True

    wait_for(told, 30, f"{name} is told {reason}")
    assert operators.total(operators.everywhere(ENROLMENTS), outcome=reason) > 0
    assert "enrolment was refused" in logs(name, apps.SIDECAR, namespace=scene.home)
    assert not apps.is_ready(pod)
    apps.until_members(scene.home, "strict", 0, registrars=1)


def test_a_token_is_good_for_its_audience_its_pod_and_its_address_alone(scene: Scene) -> None:
    uid = scene.uid()
    claim = who(scene.home, "echo", uid)
    theirs = exec_in(scene.name(), apps.SIDECAR, "cat", TOKEN, namespace=scene.home).strip()
    with refused(scene, "Unauthorized"):
        doomed = exec_in("doomed", "main", "cat", f"{TOKENS}/token", namespace=scene.home).strip()
        kubectl("-n", scene.home, "delete", "pod", "doomed", "--grace-period=0", "--force")
        other, dead = attempt(
            scene.home, "labelled", "main",
            enrol(claim, token_file=f"{TOKENS}/other"), enrol(claim, token=doomed),
        )  # fmt: skip
    assert (other.status, other.reason) == (dead.status, dead.reason) == (401, "Unauthorized")
    with refused(scene, "SourceAddress", pod=scene.name()):
        (stolen,) = attempt(scene.home, "labelled", "main", enrol(claim, token=theirs))
    assert (stolen.status, stolen.reason) == (403, "SourceAddress")


def test_a_pod_of_another_namespace_gets_nothing_and_learns_nothing(scene: Scene) -> None:
    uid = str(get("pod", "foreign", "-n", scene.away)["metadata"]["uid"])
    with refused(scene, "ForeignNamespace", pod="foreign", namespace=scene.away):
        real, unreal = attempt(
            scene.away, "foreign", "main",
            enrol(who(scene.home, "echo", uid)), enrol(who(scene.home, "no-such-pool", uid)),
        )  # fmt: skip
    assert (real.status, real.reason) == (403, "ForeignNamespace")
    assert (real.status, real.reason, real.message.replace("echo", "no-such-pool")) == (
        unreal.status, unreal.reason, unreal.message,
    )  # fmt: skip


def test_a_request_for_another_name_than_the_pods_own_is_not_signed(scene: Scene) -> None:
    """Its own pool, role and UID are claimed, and something else is written into the request."""
    own = who(scene.home, "echo", scene.uid())
    wrong = [{**own, "pool": "strict"}, {**own, "role": "registrar"}, {**own, "uid": scene.uid(1)}]
    attempts = [*(enrol(own, csr=csr) for csr in wrong), enrol(own, dns=["echo." + scene.home + ".svc"])]
    with refused(scene, "BadRequest", pod=scene.name()):
        told = scene.as_member(*attempts)
    assert [(t.status, t.reason) for t in told] == [(400, "BadRequest")] * 4
    assert all("asks for other names" in t.message or "other names" in t.message for t in told), told


def test_a_member_claims_no_other_pool_and_no_other_role(scene: Scene) -> None:
    uid = scene.uid(1)
    with refused(scene, "NotAMember", "NotARegistrar", "RoleNotOffered", pod=scene.name(1)):
        told = scene.as_member(
            enrol(who(scene.home, "strict", uid)),
            enrol(who(scene.home, "echo", uid, "registrar")),
            enrol(who(scene.home, "echo", uid, "user")),
            number=1,
        )
    assert [(t.status, t.reason) for t in told] == [
        (403, "NotAMember"), (403, "NotARegistrar"), (403, "RoleNotOffered"),
    ]  # fmt: skip


def test_a_leaf_renews_itself_alone_and_is_told_of_its_own_role_alone(scene: Scene) -> None:
    uid = scene.uid(1)
    with refused(scene, "OtherIdentity", way="leaf"):
        renewed, asked = scene.as_member(
            enrol(who(scene.home, "echo", uid, "registrar"), leaf=IDENTITY), control("registrar"), number=1
        )
    assert (renewed.status, renewed.reason) == (403, "OtherIdentity")
    assert (asked.status, asked.reason) == (403, "OtherRole")


# -- who has a certificate, or none


def test_an_element_is_nobody_to_registrars_of_another_pool(scene: Scene) -> None:
    before = registrar_refusals(scene.home, "strict-registrar-0", what="handshake")
    address = get("pod", "strict-registrar-0", "-n", scene.home)["status"]["podIP"]
    told = scene.as_member(
        dial(address, scene.uid(), handle="strict", leaf=IDENTITY),
        dial(address, scene.uid(), port=9902, service="ENRP", leaf=IDENTITY),
    )
    assert [t.answer for t in told] == ["", ""], told
    assert registrar_refusals(scene.home, "strict-registrar-0", what="handshake") == before + 2
    assert "it is not signed by an authority of this pool" in logs(
        "strict-registrar-0", "registrar", namespace=scene.home
    )
    scene.is_unmoved()


def test_an_element_is_no_registrar_and_no_other_element_at_home(scene: Scene) -> None:
    address = get("pod", "echo-registrar-0", "-n", scene.home)["status"]["podIP"]
    before = registrar_refusals(scene.home, "echo-registrar-0")
    sibling, peer = scene.as_member(
        dial(address, scene.uid(1), leaf=IDENTITY), dial(address, scene.uid(), port=9902, service="ENRP", leaf=IDENTITY)
    )
    assert sibling.rejected, sibling
    assert peer.answer in ("", "EnrpError"), peer
    assert registrar_refusals(scene.home, "echo-registrar-0") >= before + 2
    scene.is_unmoved()


def test_an_authority_of_ones_own_and_plain_tcp_get_nowhere(scene: Scene) -> None:
    address = get("pod", "echo-registrar-1", "-n", scene.home)["status"]["podIP"]
    before = {w: registrar_refusals(scene.home, "echo-registrar-1", what=w) for w in ("handshake", "TLS record")}
    element, registrar = who(scene.home, "echo", scene.uid()), who(scene.home, "echo", scene.uid(), "registrar")
    told = attempt(
        scene.home, "labelled", "main",
        dial(address, scene.uid(), leaf=element),
        dial(address, scene.uid(), port=9902, service="ENRP", leaf=registrar),
        dial(address, scene.uid(), tls=False),
        dial(address, scene.uid(), port=9902, service="ENRP", tls=False),
    )  # fmt: skip
    since = operators.now(ago=61)  # one line a minute says it, and members of pools that are gone are refused as well
    at_the_door = operators.total(operators.everywhere(HANDSHAKES))
    told += attempt(scene.home, "labelled", "main", control(leaf=element), enrol(element, leaf=element))
    assert [t.answer for t in told] == [""] * 6, told
    assert [t.status for t in told] == [0] * 6, told
    assert all(t.fate for t in told), told
    after = {w: registrar_refusals(scene.home, "echo-registrar-1", what=w) for w in before}
    assert sum(after.values()) == sum(before.values()) + 4, f"{before} -> {after}"
    assert operators.total(operators.everywhere(HANDSHAKES)) >= at_the_door + 2
    assert any("refused a TLS handshake" in line["message"] for line in operators.lines(since))
    written = logs("echo-registrar-1", "registrar", namespace=scene.home)
    assert "it is not signed by an authority of this pool" in written
    scene.is_unmoved()


def test_a_user_without_a_certificate_registers_nothing(scene: Scene) -> None:
    address = get("pod", "echo-registrar-0", "-n", scene.home)["status"]["podIP"]
    before = registrar_refusals(scene.home, "echo-registrar-0", threat="2.1", what="ASAP_REGISTRATION")
    asap, enrp = attempt(
        scene.home, "labelled", "main",
        dial(address, scene.uid()), dial(address, scene.uid(), port=9902, service="ENRP"),
    )  # fmt: skip
    assert asap.rejected, asap
    assert enrp.fate, enrp
    assert registrar_refusals(scene.home, "echo-registrar-0", threat="2.1", what="ASAP_REGISTRATION") == before + 1
    scene.is_unmoved()


# -- the tenant


def test_a_tenant_with_the_role_edit_reaches_neither_keys_nor_other_namespaces(scene: Scene) -> None:
    tenant = {"kind": "ServiceAccount", "name": "tenant", "namespace": scene.away}
    apply(
        [
            {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "tenant"}},
            {
                "apiVersion": "rbac.authorization.k8s.io/v1",
                "kind": "RoleBinding",
                "metadata": {"name": "tenant"},
                "subjects": [tenant],
                "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "edit"},
            },
        ],
        namespace=scene.away,
    )
    me = f"--as=system:serviceaccount:{scene.away}:tenant"
    uid = apps.server_pool(scene.home)["metadata"]["uid"]
    secret = f"{scene.home}.echo.{uid[:8]}-g1"
    assert get("secret", secret, "-n", SYSTEM)["type"] == "kubernetes.io/tls"
    request = _text(
        {
            "apiVersion": "cert-manager.io/v1",
            "kind": "CertificateRequest",
            "metadata": {"name": "mine"},
            "spec": {"request": "", "issuerRef": {"name": secret}},
        }
    )
    forbidden: list[tuple[tuple[str, ...], str | None]] = [
        (("-n", SYSTEM, "get", "secret", secret), None),
        (("-n", SYSTEM, "get", "secret", "rserpool-installation-ca"), None),
        (("-n", SYSTEM, "get", "secrets"), None),
        (("-n", SYSTEM, "get", "certificaterequests.cert-manager.io"), None),
        (("-n", SYSTEM, "create", "-f", "-"), request),
        (("-n", SYSTEM, "delete", "issuer.cert-manager.io", secret), None),
        (("-n", scene.home, "get", "serverpool", "echo"), None),
        (("-n", scene.home, "patch", "serverpool", "echo", "--type=merge", "-p", '{"spec":{"paused":true}}'), None),
        (("-n", scene.home, "delete", "serverpool", "echo"), None),
        (("-n", scene.home, "exec", "echo-registrar-0", "--", "true"), None),
    ]
    for command, text in forbidden:
        with pytest.raises(KubectlError, match=FORBIDDEN):
            kubectl(me, *command, input=text)
    # in its own namespace it may have pools, but their status is the operator's word
    kubectl(me, "-n", scene.away, "apply", "-f", "-", input=_text(apps.pool("mine", replicas=1)))
    status = ("--subresource=status", "--type=merge", "-p", '{"status":{"authority":{"keys":{"1":"sha256:00"}}}}')
    with pytest.raises(KubectlError, match=FORBIDDEN):
        kubectl(me, "-n", scene.away, "patch", "serverpool", "mine", *status)
    scene.is_unmoved()


def test_a_tenants_pods_neither_use_nor_join_another_namespaces_pool(scene: Scene) -> None:
    me = f"--as=system:serviceaccount:{scene.away}:tenant"
    user = apps.idle("user", rserpool_io__uses=f"echo.{scene.home}")
    before = operators.total(operators.everywhere(ADMISSIONS), outcome="refused")
    with pytest.raises(KubectlError, match=f"namespace {scene.away} may not use ServerPool {scene.home}/echo"):
        kubectl(me, "-n", scene.away, "create", "-f", "-", input=_text(user))
    assert operators.total(operators.everywhere(ADMISSIONS), outcome="refused") == before + 1
    # the label names a pool of the pod's own namespace, and there is none of that name
    kubectl(me, "-n", scene.away, "create", "-f", "-", input=_text(apps.idle("member", rserpool_io__pool="echo")))

    def waits() -> bool:
        reasons = {e["reason"] for e in events(scene.away, about="member")}
        if "PoolNotFound" not in reasons:
            raise NotYet(reasons)
        return True

    wait_for(waits, 40, "the pod is told that there is no such pool")
    scene.is_unmoved()


def _text(manifest: Manifest) -> str:
    return json.dumps(manifest)
