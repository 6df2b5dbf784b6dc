# SPDX-License-Identifier: Apache-2.0
"""The chart's admission policies on a cluster: with them registrars' pods are closed, without them `edit` gets in."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import yaml

from charts.rendering import template
from harness import apps
from harness.kubectl import KubectlError, apply, get, kubectl
from harness.waiting import NotYet, wait_for

REGISTRAR = "echo-registrar-0"
EDITOR = ("--as", "editor")
CHOSEN = ("--as", "editor", "--as-group", "break-glass")
CLOSED = "registrars of a ServerPool are closed to"
EPHEMERAL = {
    "name": "look",
    "image": "example.invalid/none",
    "securityContext": {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "runAsNonRoot": True,
        "runAsUser": 65532,
        "seccompProfile": {"type": "RuntimeDefault"},
    },
}


@pytest.fixture(scope="module")
def home(namespace: str) -> str:
    """A namespace with a pool of one registrar and one element, and a user who has `edit` there."""
    apply([apps.pool(replicas=1), apps.echo(replicas=1)], namespace=namespace)
    apps.until_ready(namespace)
    apps.until_pods_ready(namespace, "echo", 1)
    debugs = ("--verb=get,update,patch", "--resource=pods/ephemeralcontainers")
    kubectl("create", "role", "debugs", "-n", namespace, *debugs)
    for name, subject in (("editor", "--user=editor"), ("chosen", "--group=break-glass")):
        kubectl("create", "rolebinding", name, "-n", namespace, "--clusterrole=edit", subject)
        kubectl("create", "rolebinding", f"{name}-debugs", "-n", namespace, "--role=debugs", subject)
    return namespace


@contextmanager
def policies(home: str) -> Iterator[None]:
    """The policies as the chart makes them for this namespace; in force, and gone afterwards."""
    values = {
        "image": {"allowLocal": True},
        "watch": {"namespaces": [home]},
        "validatingAdmissionPolicies": {"enabled": True, "exemptGroups": ["break-glass"]},
    }
    shown = template(values)
    assert shown.returncode == 0, shown.stderr
    made = [m for m in yaml.safe_load_all(shown.stdout) if m and m["kind"].startswith("ValidatingAdmissionPolicy")]
    assert len(made) == 6
    apply(made)
    try:
        wait_for(lambda: _in_force(home), 60, "the policies are in force")
        yield
    finally:
        for m in made:
            kubectl("delete", m["kind"], m["metadata"]["name"], "--ignore-not-found")


def _in_force(home: str) -> bool:
    if refusal(home, "exec", REGISTRAR, "--", "true") is None or token(home, "rserpool.io/enrolment") is None:
        raise NotYet("they are not looked at yet")
    return True


def refusal(home: str, *words: str, who: tuple[str, ...] = EDITOR) -> str | None:
    """Why a command is refused by one of our policies; ``None``: it is not, whatever else comes of it."""
    try:
        kubectl("-n", home, *who, *words)
    except KubectlError as e:
        if "ValidatingAdmissionPolicy" not in e.message:
            return None
        return e.message
    return None


def token(home: str, audience: str) -> str | None:
    """Why the cluster's own administrator gets no token of that audience."""
    return refusal(home, "create", "token", "default", f"--audience={audience}", who=())


def debug(home: str, pod: str, who: tuple[str, ...]) -> None:
    """Put an ephemeral container into a pod; it is not kept."""
    made = get("pod", pod, "-n", home)
    made["spec"]["ephemeralContainers"] = [EPHEMERAL]
    path = f"/api/v1/namespaces/{home}/pods/{pod}/ephemeralcontainers?dryRun=All"
    kubectl(*who, "replace", "--raw", path, "-f", "-", input=json.dumps(made))


def test_without_them_who_has_edit_gets_into_a_registrar_and_to_a_token(home: str) -> None:
    """What SECURITY.md says: the namespace is the pool's boundary."""
    told = kubectl("-n", home, *EDITOR, "exec", REGISTRAR, "-c", "registrar", "--", "rserpool", "version")
    assert told.startswith("rserpool ")
    debug(home, REGISTRAR, EDITOR)
    assert kubectl("-n", home, "create", "token", "default", "--audience=rserpool.io/enrolment").count(".") == 2


def test_with_them_every_door_of_a_registrar_is_closed(home: str) -> None:
    with policies(home):
        for words in (
            ("exec", REGISTRAR, "--", "true"),
            ("attach", REGISTRAR),
            ("port-forward", REGISTRAR, "18080:8080"),
        ):
            told = refusal(home, *words)
            assert told is not None, words
            assert CLOSED in told, words
        with pytest.raises(KubectlError, match=CLOSED):
            debug(home, REGISTRAR, EDITOR)


def test_with_them_other_pods_are_as_open_as_ever_and_the_chosen_group_gets_in(home: str) -> None:
    (pod,) = [p["metadata"]["name"] for p in apps.pods(home, "echo")]
    with policies(home):
        assert kubectl("-n", home, *EDITOR, "exec", pod, "-c", "rserpool-sidecar", "--", "rserpool", "version")
        debug(home, pod, EDITOR)
        assert kubectl("-n", home, *CHOSEN, "exec", REGISTRAR, "--", "rserpool", "version")
        debug(home, REGISTRAR, CHOSEN)


def test_with_them_only_kubelets_get_tokens_for_enrolment_and_members_still_start(home: str) -> None:
    with policies(home):
        assert "are for kubelets only" in str(token(home, "rserpool.io/enrolment"))
        assert token(home, "https://kubernetes.default.svc") is None
        kubectl("-n", home, "rollout", "restart", "deployment/echo")
        kubectl("-n", home, "rollout", "status", "deployment/echo", "--timeout=90s", timeout=100)
    apps.until_members(home, "echo", 1, registrars=1)  # which looks into the registrars
