# SPDX-License-Identifier: Apache-2.0
"""Who may have which identity: what is granted, each word of refusal, and that nothing near a grant is one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rserpool.asap.authorisation import Role
from rserpool.pool import ServerPool
from rserpool_operator import names
from rserpool_operator.enrolment.decision import Bearer, Claim, Denied, Granted, PodFacts, PoolFacts, may
from rserpool_operator.observe import read_pool
from support.rig_cluster import raw_pool

POD_UID: Final = "0f8fad5b-d9cb-469f-a165-70867728950e"
SET_UID: Final = "7c9e6679-7425-40de-944b-e07fc1f90ae7"
SOURCE: Final = "10.2.0.1"


def pool(**spec: Any) -> ServerPool:
    found, problems = read_pool(raw_pool(**spec))
    assert found is not None, problems
    return found


STRICT: Final = pool(
    elements={"port": 7007, "serviceAccounts": ["app", "web"], "nodes": {"matchLabels": {"zone": "a"}}},
    registrars={"replicas": 2},
)
ELEMENT_POD: Final = PodFacts(
    namespace="demo",
    name="echo-7d5f",
    uid=POD_UID,
    service_account="app",
    labels={names.POOL_LABEL: "echo"},
    phase="Running",
    addresses=("fd00::1", SOURCE),
    node_labels={"zone": "a"},
    sidecar=True,
)
REGISTRAR_POD: Final = PodFacts(
    namespace="demo",
    name="echo-registrar-1",
    uid=POD_UID,
    service_account="echo-registrar",
    labels={names.OWNER_LABEL: "echo"},
    phase="Pending",
    addresses=(SOURCE,),
    controller_uid=SET_UID,
)


def case(role: Role = Role.ELEMENT) -> dict[str, Any]:
    """A case that is granted."""
    pod = ELEMENT_POD if role is Role.ELEMENT else REGISTRAR_POD
    return {
        "claim": Claim(namespace="demo", pool="echo", role=role),
        "bearer": Bearer(
            namespace="demo", pod_uid=POD_UID, pod_name=pod.name, service_account=f"demo/{pod.service_account}"
        ),
        "pod": pod,
        "facts": PoolFacts(pool=STRICT, stateful_set_uid=SET_UID),
        "trust_domain": "cluster.local",
        "cluster_domain": "example.org",
        "source": SOURCE,
    }


def changed(as_role: Role, part: str, **fields: Any) -> dict[str, Any]:
    """A case that differs from a granted one in one part."""
    found = case(as_role)
    found[part] = replace(found[part], **fields) if fields else None
    return found


def words(verdict: Granted | Denied) -> str:
    return verdict.word if isinstance(verdict, Denied) else "granted"


def test_a_member_is_granted_its_own_identity_and_no_host_names() -> None:
    verdict = may(**case())
    assert isinstance(verdict, Granted)
    assert str(verdict.identity) == f"spiffe://cluster.local/ns/demo/pool/echo/element/{POD_UID}"
    assert verdict.dns_names == ()


@pytest.mark.rfc("RFC 5352 9.2: a registrar's certificate names its host")
def test_a_registrar_is_granted_its_host_names_too_in_their_order() -> None:
    verdict = may(**case(Role.REGISTRAR))
    assert isinstance(verdict, Granted)
    assert str(verdict.identity) == f"spiffe://cluster.local/ns/demo/pool/echo/registrar/{POD_UID}"
    assert verdict.dns_names == (
        "echo-registrar-1.echo-peers.demo.svc",
        "echo-registrar-1.echo-peers.demo.svc.example.org",
        "echo.demo.svc",
        "echo.demo.svc.example.org",
    )


def test_a_leaf_stands_for_its_holder_without_naming_a_service_account() -> None:
    for role in (Role.ELEMENT, Role.REGISTRAR):
        assert words(may(**changed(role, "bearer", service_account="", pod_name=""))) == "granted"


def test_the_source_is_not_looked_at_where_it_is_not_known() -> None:
    assert words(may(**case() | {"source": None})) == "granted"
    assert words(may(**changed(Role.ELEMENT, "pod", addresses=()) | {"source": None})) == "granted"


def test_a_pool_that_names_nobody_takes_every_service_account_and_node() -> None:
    found = changed(Role.ELEMENT, "pod", service_account="any", node_labels={})
    found["bearer"] = replace(found["bearer"], service_account="demo/any")
    found["facts"] = PoolFacts(pool=pool())
    assert words(may(**found)) == "granted"


BOTH: Final = (Role.ELEMENT, Role.REGISTRAR)
DENIALS: Final[list[tuple[str, bool, tuple[Role, ...], str, dict[str, Any]]]] = [
    ("ForeignNamespace", False, BOTH, "bearer", {"namespace": "other"}),
    ("ForeignNamespace", False, BOTH, "claim", {"namespace": "other"}),
    ("PodGone", False, BOTH, "pod", {}),
    ("PodGone", False, BOTH, "pod", {"uid": "another"}),
    ("PodGone", False, BOTH, "bearer", {"pod_uid": "another"}),
    ("ServiceAccount", False, BOTH, "bearer", {"service_account": "demo/another"}),
    ("ServiceAccount", False, BOTH, "bearer", {"service_account": "other/app"}),
    ("PodEnding", False, BOTH, "pod", {"deleting": True}),
    ("PodEnded", False, BOTH, "pod", {"phase": "Succeeded"}),
    ("PodEnded", False, BOTH, "pod", {"phase": "Failed"}),
    ("PodEnded", False, BOTH, "pod", {"phase": "Unknown"}),
    ("HostNetwork", False, BOTH, "pod", {"host_network": True}),
    ("NoAddressYet", True, BOTH, "pod", {"addresses": ()}),
    ("SourceAddress", False, BOTH, "pod", {"addresses": ("10.2.0.11",)}),
    ("PoolNotFound", True, BOTH, "facts", {}),
    ("PoolEnding", True, BOTH, "facts", {"deleting": True}),
    ("PoolInvalid", True, BOTH, "facts", {"pool": None}),
    ("NotARegistrar", False, (Role.REGISTRAR,), "facts", {"stateful_set_uid": ""}),
    ("NotARegistrar", False, (Role.REGISTRAR,), "facts", {"stateful_set_uid": "another"}),
    ("NotARegistrar", False, (Role.REGISTRAR,), "pod", {"controller_uid": ""}),
    ("NotARegistrar", False, (Role.REGISTRAR,), "pod", {"name": "echo-registrar-2"}),
    ("NotARegistrar", False, (Role.REGISTRAR,), "pod", {"name": "echo-registrar-"}),
    ("NotARegistrar", False, (Role.REGISTRAR,), "pod", {"name": "other-registrar-0"}),
    ("NotARegistrar", False, (Role.REGISTRAR,), "pod", {"name": "echo-registrar--1"}),
    ("NotAMember", False, (Role.ELEMENT,), "pod", {"labels": {}}),
    ("NotAMember", False, (Role.ELEMENT,), "pod", {"labels": {names.POOL_LABEL: "another"}}),
    ("NotAMember", False, (Role.ELEMENT,), "pod", {"labels": {names.OWNER_LABEL: "echo"}}),
    ("NotInjected", False, (Role.ELEMENT,), "pod", {"sidecar": False}),
    ("NodeNotAllowed", True, (Role.ELEMENT,), "pod", {"node_labels": {"zone": "b"}}),
    ("NodeNotAllowed", True, (Role.ELEMENT,), "pod", {"node_labels": {}}),
]


@pytest.mark.parametrize(
    ("word", "retry", "role", "part", "fields"),
    [(word, retry, role, part, fields) for word, retry, roles, part, fields in DENIALS for role in roles],
)
def test_one_thing_that_is_wrong_is_refused_by_its_word(
    word: str, retry: bool, role: Role, part: str, fields: dict[str, Any]
) -> None:
    verdict = may(**changed(role, part, **fields))
    assert isinstance(verdict, Denied)
    assert (verdict.word, verdict.retry) == (word, retry)
    assert verdict.message


def test_a_registrar_under_another_service_account_is_refused() -> None:
    found = changed(Role.REGISTRAR, "pod", service_account="default")
    found["bearer"] = replace(found["bearer"], service_account="demo/default")
    assert words(may(**found)) == "ServiceAccount"


def test_an_element_under_a_service_account_that_the_pool_does_not_name_is_refused() -> None:
    found = changed(Role.ELEMENT, "pod", service_account="another")
    found["bearer"] = replace(found["bearer"], service_account="demo/another")
    verdict = may(**found)
    assert isinstance(verdict, Denied)
    assert (verdict.word, verdict.retry) == ("ServiceAccountNotAllowed", True)
    assert "app, web" in verdict.message


def test_nobody_enrols_as_a_user() -> None:
    assert words(may(**changed(Role.ELEMENT, "claim", role=Role.USER))) == "RoleNotOffered"


@pytest.mark.parametrize("role", BOTH)
def test_a_pod_that_the_pool_has_revoked_is_refused_whatever_it_is(role: Role) -> None:
    revoking = pool(security={"revoked": ["another", POD_UID]})
    assert words(may(**changed(role, "facts", pool=revoking))) == "Revoked"
    others = pool(security={"revoked": ["another"]})
    assert words(may(**changed(role, "facts", pool=others))) == "granted"


@pytest.mark.parametrize("role", BOTH)
def test_a_leaf_that_the_pool_has_revoked_is_refused_and_another_one_of_the_same_pod_is_not(role: Role) -> None:
    revoking = pool(security={"revoked": ["serial:0aBc"]})
    found = changed(role, "facts", pool=revoking)
    for serial, word in ((0xABC, "LeafRevoked"), (0xABD, "granted"), (0, "granted")):
        found["bearer"] = replace(found["bearer"], serial=serial)
        assert words(may(**found)) == word


def test_a_member_is_no_registrar_and_a_registrar_no_member() -> None:
    assert words(may(**changed(Role.ELEMENT, "claim", role=Role.REGISTRAR))) == "NotARegistrar"
    assert words(may(**changed(Role.REGISTRAR, "claim", role=Role.ELEMENT))) == "NotAMember"


def test_a_pod_of_another_namespace_learns_nothing_of_the_pool_it_names() -> None:
    for facts in (None, PoolFacts(pool=STRICT), PoolFacts(pool=None)):
        verdict = may(**changed(Role.ELEMENT, "bearer", namespace="other") | {"facts": facts})
        assert isinstance(verdict, Denied)
        assert verdict.word == "ForeignNamespace"
        assert "there is no" not in verdict.message


words_ = st.text(st.sampled_from("aebcho-12."), max_size=12)
_FIELDS: Final[dict[str, dict[str, st.SearchStrategy[Any]]]] = {
    "claim": {"namespace": words_, "pool": words_, "role": st.sampled_from(Role)},
    "bearer": {"namespace": words_, "pod_uid": words_, "service_account": words_.filter(bool)},
    "pod": {
        "uid": words_,
        "service_account": words_,
        "phase": words_,
        "deleting": st.just(True),
        "host_network": st.just(True),
        "addresses": st.lists(words_, max_size=2).map(tuple),
    },
    "facts": {"deleting": st.just(True), "pool": st.none()},
}
_OF_ROLE: Final[dict[Role, dict[str, dict[str, st.SearchStrategy[Any]]]]] = {
    Role.ELEMENT: {
        "pod": {
            "labels": st.dictionaries(st.sampled_from([names.POOL_LABEL, names.OWNER_LABEL]), words_),
            "sidecar": st.just(False),
            "node_labels": st.dictionaries(st.just("zone"), words_.filter(lambda z: z != "a")),
        }
    },
    Role.REGISTRAR: {"pod": {"controller_uid": words_, "name": words_}, "facts": {"stateful_set_uid": words_}},
}


@given(st.sampled_from(BOTH), st.data())
def test_whatever_differs_from_a_granted_case_in_one_field_is_refused(role: Role, data: st.DataObject) -> None:
    fields = [
        (part, name, values)
        for table in (_FIELDS, _OF_ROLE[role])
        for part, named in table.items()
        for name, values in named.items()
    ]
    part, name, values = data.draw(st.sampled_from(fields))
    value = data.draw(values)
    before = getattr(case(role)[part], name)
    if value == before or (name == "phase" and value in {"Pending", "Running"}):
        return
    if name == "addresses" and SOURCE in value:
        return
    assert isinstance(may(**changed(role, part, **{name: value})), Denied), (part, name, value)


@given(st.sampled_from(BOTH), st.text(max_size=20))
def test_an_address_that_is_not_the_pods_is_refused(role: Role, source: str) -> None:
    granted = source in case(role)["pod"].addresses
    assert isinstance(may(**case(role) | {"source": source}), Granted if granted else Denied)


@given(st.sampled_from(BOTH), st.sampled_from(["claim", "bearer", "pod", "facts"]), st.data())
def test_an_identity_that_is_granted_is_the_pods_own_whatever_else_is_said(
    role: Role, part: str, data: st.DataObject
) -> None:
    fields = {n: data.draw(v) for n, v in _FIELDS[part].items() if data.draw(st.booleans())}
    verdict = may(**changed(role, part, **fields)) if fields else may(**case(role))
    if isinstance(verdict, Granted):
        identity = verdict.identity
        assert (identity.namespace, identity.pool, identity.role) == ("demo", "echo", role)
        assert identity.pod_uid == POD_UID
