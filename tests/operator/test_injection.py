# SPDX-License-Identifier: Apache-2.0
"""What becomes of a pod when it is created: its sidecar, its drain, its pool; and who may use which pool."""

from __future__ import annotations

import copy
import json
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from charts.schemas import kubernetes_faults
from rserpool.pool import ServerPool
from rserpool_operator import names
from rserpool_operator.admission.desk import patch
from rserpool_operator.admission.injection import DRAIN, AdmissionError, inject
from rserpool_operator.admission.usage import Used, may_use, mount, used_pool
from rserpool_operator.kube import Object
from rserpool_operator.observe import read_pool
from support.rig_cluster import raw_pool
from support.rig_pods import INSTALLATION, TEAM_A, patched, pod, sidecar

VERSIONS: Final = ("1.30", "1.33", "1.37")


def pool(**spec: Any) -> ServerPool:
    found, problems = read_pool(raw_pool(**spec))
    assert found is not None, problems
    return found


def injected(before: Object, of: ServerPool | None = None) -> Object:
    return inject(before, "echo", of, "1.0.0", INSTALLATION)


def environment(container: Object) -> dict[str, str]:
    return {e["name"]: e.get("value") or e["valueFrom"]["fieldRef"]["fieldPath"] for e in container["env"]}


HOOKS = st.sampled_from(({}, {"postStart": {"exec": {"command": ["x"]}}}, {"preStop": {"exec": {"command": ["x"]}}}))
PORTS = st.lists(st.sampled_from((3864, 3863, 8081, 13864, 18081, 7008, 8082, 17008, 80)), max_size=4, unique=True)
CONTAINERS = st.lists(
    st.fixed_dictionaries(
        {"image": st.just("app:1")},
        optional={
            "lifecycle": HOOKS,
            "ports": PORTS.map(lambda ports: [{"containerPort": p} for p in ports]),
            "volumeMounts": st.sampled_from(
                (
                    [{"name": "data", "mountPath": "/data"}],
                    [{"name": "data", "mountPath": names.MOUNTED}],
                )
            ),
        },
    ),
    min_size=1,
    max_size=3,
)


@st.composite
def pods(draw: st.DrawFn) -> Object:
    containers = [{"name": f"c{i}", **c} for i, c in enumerate(draw(CONTAINERS))]
    found = pod(*containers, volumes=[{"name": "data", "emptyDir": {}}])
    if draw(st.booleans()):
        found["spec"]["initContainers"] = [{"name": f"init-{i}", "image": "init:1"} for i in range(2)]
    grace = draw(st.sampled_from((None, 0, 5, 300)))
    if grace is not None:
        found["spec"]["terminationGracePeriodSeconds"] = grace
    if draw(st.booleans()):
        found["metadata"]["annotations"] = {"theirs": "1"}
    if draw(st.booleans()):
        del found["metadata"]
    return found


drains = st.sampled_from((None, "0s", "3s", "10s"))


@given(pods(), drains)
@settings(max_examples=60)
def test_injecting_twice_is_injecting_once_and_the_pod_that_came_is_not_touched(before: Object, drain: Any) -> None:
    of = None if drain is None else pool(elements={"port": 7007, "drain": drain})
    kept = copy.deepcopy(before)
    once = injected(before, of)
    assert before == kept
    assert injected(once, of) == once
    assert once["spec"]["initContainers"][0]["name"] == names.SIDECAR
    assert patch(once, injected(once, of)) == []


@given(pods(), drains, st.booleans())
@settings(max_examples=60)
def test_the_patch_makes_of_the_pod_that_came_the_pod_that_is_meant(before: Object, drain: Any, uses: bool) -> None:
    of = None if drain is None else pool(elements={"port": 7007, "drain": drain})
    after = injected(before, of)
    if uses:
        after = mount(after, Used("demo", "echo"))
    assert patched(before, json.loads(json.dumps(patch(before, after)))) == after


@given(pods(), drains)
@settings(max_examples=15)
def test_an_injected_pod_is_one_that_kubernetes_takes(before: Object, drain: Any) -> None:
    of = None if drain is None else pool(elements={"port": 7007, "drain": drain})
    after = mount(injected(before, of), Used("demo", "echo"))
    for version in VERSIONS:
        assert kubernetes_faults(after, version) == []


@given(pods(), drains)
@settings(max_examples=60)
def test_who_has_no_pre_stop_sleeps_through_the_drain_and_the_grace_period_is_longer_by_it(
    before: Object, drain: Any
) -> None:
    of = None if drain is None else pool(elements={"port": 7007, "drain": drain})
    seconds = DRAIN if drain is None else int(drain[:-1])
    after = injected(before, of)
    slept = False
    for was, now in zip(before["spec"]["containers"], after["spec"]["containers"], strict=True):
        own = was.get("lifecycle", {}).get("preStop")
        if own or not seconds:
            assert now.get("lifecycle") == was.get("lifecycle")
        else:
            slept = True
            assert now["lifecycle"] == {**was.get("lifecycle", {}), "preStop": {"sleep": {"seconds": seconds}}}
    grace = before["spec"].get("terminationGracePeriodSeconds")
    wanted = (30 if grace is None else grace) + seconds if slept else grace
    assert after["spec"].get("terminationGracePeriodSeconds") == wanted


PORT_VARIABLES: Final = (
    "RSERPOOL_NETWORK_ASAP_PORT", "RSERPOOL_NETWORK_HTTP_PORT", "RSERPOOL_CHANNEL_PORT", "RSERPOOL_CHANNEL_HTTP_PORT",
)  # fmt: skip


@given(pods(), st.sampled_from((None, True, False)), st.sampled_from((7007, 3864, 7008, 8081, 8082)))
@settings(max_examples=60)
def test_the_sidecars_ports_are_nobody_elses(before: Object, channel: bool | None, port: int) -> None:
    of = pool(controlChannel=channel, elements={"port": port}) if channel is not None else None
    after = injected(before, of)
    taken = [p["containerPort"] for c in before["spec"]["containers"] for p in c.get("ports", [])]
    values = environment(sidecar(after))
    ports = [int(values[name]) for name in PORT_VARIABLES if name in values]
    assert len(set(ports)) == len(ports) == (2 if channel is False else 4)
    assert not set(ports) & set(taken)
    assert of is None or port not in ports
    offered = [p["containerPort"] for p in sidecar(after)["ports"]]
    assert offered == ports[:3], "what only the application uses is offered to nobody"
    asap, http = ports[:2]
    excluded = after["metadata"]["annotations"]["traffic.sidecar.istio.io/excludeInboundPorts"]
    assert excluded == ",".join(str(p) for p in (asap, *offered[2:])), "the mesh would put its identity for ours"
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert sidecar(after)[probe]["httpGet"]["port"] == http


def test_the_sidecar_starts_first_and_ends_last_and_answers_before_it_registers() -> None:
    own = [{"name": "migrate", "image": "m"}, {"name": "warm-up", "image": "w"}]
    after = injected(pod(initContainers=own))
    assert [c["name"] for c in after["spec"]["initContainers"]] == [names.SIDECAR, "migrate", "warm-up"]
    container = sidecar(after)
    assert container["restartPolicy"] == "Always"
    assert container["startupProbe"]["httpGet"]["path"] == container["livenessProbe"]["httpGet"]["path"] == "/healthz"
    assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"
    assert container["lifecycle"]["preStop"]["exec"]["command"] == ["rserpool-sidecar", "drain"]


def test_the_sidecar_fits_the_restricted_pod_security_standard_and_states_its_resources() -> None:
    container = sidecar(injected(pod()))
    context = container["securityContext"]
    assert context["allowPrivilegeEscalation"] is False
    assert context["runAsNonRoot"] is True
    assert context["readOnlyRootFilesystem"] is True
    assert context["capabilities"] == {"drop": ["ALL"]}
    assert context["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["resources"] == INSTALLATION.sidecar_resources


def test_what_the_sidecar_must_know_before_it_can_ask_is_in_its_environment() -> None:
    values = environment(sidecar(injected(pod())))
    assert values["RSERPOOL_POOL_NAME"] == "echo"
    assert values["RSERPOOL_POOL_NAMESPACE"] == "metadata.namespace"
    assert values["RSERPOOL_NETWORK_ADDRESS"] == "status.podIP"
    assert values["RSERPOOL_SECURITY_POD_UID"] == "metadata.uid"
    assert values["RSERPOOL_SECURITY_URL"] == INSTALLATION.enrolment_url
    assert values["RSERPOOL_SECURITY_AUTHORITY"] == INSTALLATION.authority
    assert values["RSERPOOL_OPERATOR_URL"] == INSTALLATION.control_url


def test_its_key_is_in_memory_and_its_token_good_for_enrolment_only() -> None:
    after = injected(pod())
    volumes = {v["name"]: v for v in after["spec"]["volumes"]}
    mounts = {m["mountPath"]: m for m in sidecar(after)["volumeMounts"]}
    assert volumes[mounts[names.IDENTITY]["name"]]["emptyDir"]["medium"] == "Memory"
    (source,) = volumes[mounts[names.TOKEN]["name"]]["projected"]["sources"]
    assert source["serviceAccountToken"]["audience"] == names.AUDIENCE
    assert mounts[names.TOKEN]["readOnly"] is True


@pytest.mark.parametrize("field", ["containers", "initContainers"])
@pytest.mark.parametrize("volume", ["rserpool-identity", "rserpool-token", "rserpool-credential"])
def test_nobody_but_the_sidecar_may_mount_its_key_or_its_token(volume: str, field: str) -> None:
    before = pod(initContainers=[{"name": "init", "image": "i"}])
    before["spec"][field][0]["volumeMounts"] = [{"name": volume, "mountPath": "/stolen"}]
    with pytest.raises(AdmissionError, match=volume):
        injected(before)


KUBELETS: Final = {"enrolment": "PodCertificate", "signer": {"type": "Embedded"}}


def test_a_pool_that_enrols_by_the_kubelet_gives_its_members_no_token() -> None:
    before = pod(volumes=[{"name": "rserpool-token", "emptyDir": {}}])
    after = injected(before, pool(security=KUBELETS))
    volumes = {v["name"]: v for v in after["spec"]["volumes"]}
    mounts = {m["mountPath"]: m for m in sidecar(after)["volumeMounts"]}
    assert set(volumes) == {"rserpool-identity", "rserpool-credential"}
    (source,) = volumes[mounts[names.CREDENTIAL]["name"]]["projected"]["sources"]
    asked = source["podCertificate"]
    assert (asked["signerName"], asked["keyType"]) == ("rserpool.io/pool", "ECDSAP256")
    assert asked["userAnnotations"] == {"rserpool.io/pool": "echo", "rserpool.io/role": "element"}
    values = environment(sidecar(after))
    assert values["RSERPOOL_SECURITY_SOURCE"] == "pod-certificate"
    file = f"{names.CREDENTIAL}/{asked['credentialBundlePath']}"
    assert values["RSERPOOL_SECURITY_CREDENTIAL_FILE"] == file
    assert "RSERPOOL_SECURITY_TOKEN_FILE" not in values
    assert kubernetes_faults(after, "1.37") == []
    assert injected(after, pool(security=KUBELETS)) == after


def test_a_sidecar_of_the_pods_own_making_is_replaced_by_ours() -> None:
    forged = {"name": names.SIDECAR, "image": "theirs", "restartPolicy": "Always"}
    after = injected(pod(initContainers=[{"name": "first", "image": "f"}, forged], volumes=[
        {"name": "rserpool-identity", "hostPath": {"path": "/"}},
    ]))  # fmt: skip
    assert [c["name"] for c in after["spec"]["initContainers"]] == [names.SIDECAR, "first"]
    assert sidecar(after)["image"] == "registry.example/rserpool-node:1.0.0"
    assert [v for v in after["spec"]["volumes"] if "hostPath" in v] == []


def test_a_container_added_between_two_calls_gets_its_drain_and_the_grace_period_grows_once() -> None:
    once = injected(pod())
    assert once["spec"]["terminationGracePeriodSeconds"] == 40
    once["spec"]["containers"].append({"name": "proxy", "image": "p"})
    twice = injected(once)
    assert all(c["lifecycle"]["preStop"] for c in twice["spec"]["containers"])
    assert twice["spec"]["terminationGracePeriodSeconds"] == 40


def test_a_pod_on_its_nodes_network_is_refused_with_what_to_do() -> None:
    with pytest.raises(AdmissionError, match=r"remove spec\.hostNetwork, or the label rserpool\.io/pool"):
        injected(pod(hostNetwork=True))


@pytest.mark.parametrize(
    ("label", "used"),
    [
        ("echo", Used("demo", "echo")),
        ("echo.other", Used("other", "echo")),
        ("a-1.b-2", Used("b-2", "a-1")),
        *((bad, None) for bad in ("", ".", "echo.", ".demo", "a.b.c", "Echo", "a_b", "-a", "a-", "a/b", "a.b.", "ä")),
    ],
)
def test_the_label_names_a_pool_or_a_pool_and_its_namespace(label: str, used: Used | None) -> None:
    if used is None:
        with pytest.raises(AdmissionError, match=r"write POOL or POOL\.NAMESPACE"):
            used_pool(label, "demo")
    else:
        assert used_pool(label, "demo") == used


ONLY_WEB: Final = {"serviceAccounts": ["web"]}


@pytest.mark.parametrize(
    ("users", "namespace", "labels", "account", "why"),
    [
        ({}, "demo", {}, "any", ""),
        ({}, "other", {"team": "a"}, "any", "namespace other may not use ServerPool demo/echo"),
        (TEAM_A, "demo", {}, "any", ""),
        (TEAM_A, "other", {"team": "a"}, "any", ""),
        (TEAM_A, "other", {"team": "b"}, "any", r"spec\.users\.namespaces"),
        (TEAM_A, "other", {}, "any", r"spec\.users\.namespaces"),
        (ONLY_WEB, "demo", {}, "web", ""),
        (ONLY_WEB, "demo", {}, "any", r"spec\.users\.serviceAccounts"),
        (TEAM_A | ONLY_WEB, "other", {"team": "a"}, "web", ""),
        (TEAM_A | ONLY_WEB, "other", {"team": "a"}, "any", r"spec\.users\.serviceAccounts"),
        (TEAM_A | ONLY_WEB, "other", {"team": "b"}, "web", r"spec\.users\.namespaces"),
        (None, "demo", {}, "any", ""),
        (None, "other", {"team": "a"}, "any", "there is no ServerPool demo/echo that namespace other may use"),
    ],
)
def test_who_may_use_a_pool(users: Any, namespace: str, labels: dict[str, str], account: str, why: str) -> None:
    of = None if users is None else pool(users=users)
    if why:
        with pytest.raises(AdmissionError, match=why):
            may_use(Used("demo", "echo"), namespace, of, labels, account)
    else:
        may_use(Used("demo", "echo"), namespace, of, labels, account)


@given(pods())
@settings(max_examples=40)
def test_every_container_but_the_sidecar_finds_the_pool_where_nothing_else_is(before: Object) -> None:
    both = mount(injected(before), Used("other", "echo"))
    assert mount(both, Used("other", "echo")) == both
    for container in [*both["spec"]["initContainers"], *both["spec"]["containers"]]:
        there = [m for m in container.get("volumeMounts", []) if m["mountPath"] == names.MOUNTED]
        assert len(there) == (container["name"] != names.SIDECAR)
    (volume,) = [v for v in both["spec"]["volumes"] if "configMap" in v]
    assert volume["configMap"]["name"] == "rserpool.echo.other"


@pytest.mark.parametrize(
    ("limits", "cpus"),
    [
        (["500m"], "0.5"),
        ([2], "2"),
        (["1.5", "250m"], "1.75"),
        ([None], None),
        (["1", None], None),
        (["1k"], None),
        (["0"], None),
    ],
)
def test_a_sidecar_that_measures_is_told_how_many_cpus_its_application_may_use(
    limits: list[str | int | None], cpus: str | None
) -> None:
    before = pod()
    before["spec"]["containers"] = [
        {"name": f"c{i}", "image": "app:1"} | ({"resources": {"limits": {"cpu": limit}}} if limit is not None else {})
        for i, limit in enumerate(limits)
    ]
    for of in (pool(policy={"type": "LeastUsed"}), None):
        assert environment(sidecar(injected(before, of))).get("RSERPOOL_LOAD_CPUS") == cpus
    assert "RSERPOOL_LOAD_CPUS" not in environment(sidecar(injected(before, pool())))
