# SPDX-License-Identifier: Apache-2.0
"""What a PodCertificateRequest is answered: a leaf, patience, or a refusal for ever, and the last only where it must be."""

from __future__ import annotations

import base64
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from hypothesis import given
from hypothesis import strategies as st

from rserpool.asap.authorisation import Role
from rserpool.authority import EmbeddedAuthority, SigningError
from rserpool.identity.certificates import leaf_of
from rserpool.identity.parsing import certificates_from_pem
from rserpool.pool import ServerPool
from rserpool.pool.model import Enrolment
from rserpool_operator import names
from rserpool_operator.authorities import AuthorityError
from rserpool_operator.authorities.pod_certificates import SHORTEST, validity
from rserpool_operator.enrolment.decision import Denied, Granted, PodFacts, PoolFacts
from rserpool_operator.enrolment.facts import facts_of
from rserpool_operator.enrolment.pod_certificates import Asked, denied, is_ours, is_over, judge, read
from rserpool_operator.observe import read_pool
from support.rig_cluster import member, raw_pool
from support.rig_identity import identity
from support.rig_pod_certificates import CLAIM, faults, request

UID: Final = "0f8fad5b-d9cb-469f-a165-70867728950e"
SET_UID: Final = "7c9e6679-7425-40de-944b-e07fc1f90ae7"
KEY: Final = ec.generate_private_key(ec.SECP256R1())
NOW: Final = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)
WAY: Final = {"enrolment": "PodCertificate", "signer": {"type": "Embedded"}}


def pool(security: dict[str, Any] | None = None, **spec: Any) -> ServerPool:
    found, problems = read_pool(raw_pool(security=WAY if security is None else security, **spec))
    assert found is not None, problems
    return found


def pod_of(**spec: Any) -> dict[str, Any]:
    made = member("app-1", "echo")
    made["metadata"]["uid"] = UID
    made["spec"] |= spec
    return made


def asked(**spec: Any) -> Asked:
    found = read(request(pod_of(), KEY, **spec))
    assert isinstance(found, Asked)
    return found


def verdict(
    of: Asked | None = None, pod: PodFacts | None = None, facts: PoolFacts | None = None, **changed: Any
) -> Granted | Denied:
    """Judge a request that is granted, but for what is given."""
    of, pod = of or asked(), replace(pod or facts_of(pod_of(), {}), **changed)
    facts = facts or PoolFacts(pool=pool(), stateful_set_uid=SET_UID)
    return judge(of, pod, facts, trust_domain="cluster.local", cluster_domain="cluster.local")


def refusal(found: Granted | Denied) -> tuple[str, str]:
    """The word, and whether it is for ever."""
    assert isinstance(found, Denied)
    return found.word, "never" if found.never else "waits"


def test_a_member_whose_kubelet_asks_is_given_the_identity_that_a_token_would_give_it() -> None:
    assert verdict() == Granted(identity=identity(uid=UID))


def test_a_registrar_is_given_its_host_names_too() -> None:
    claim = {names.CLAIMED_POOL: "echo", names.CLAIMED_ROLE: "registrar"}
    of = read(request(pod_of(serviceAccountName="echo-registrar"), KEY, claim))
    assert isinstance(of, Asked)
    found = verdict(
        of, name="echo-registrar-1", service_account="echo-registrar", controller_uid=SET_UID, labels={}, sidecar=False
    )
    assert isinstance(found, Granted)
    assert found.identity.role is Role.REGISTRAR
    assert found.dns_names[0] == "echo-registrar-1.echo-peers.demo.svc"


NEVER: Final[dict[str, tuple[str, dict[str, Any]]]] = {
    "a pod of that name with another UID": ("PodGone", {"uid": SET_UID}),
    "a pod that is being deleted": ("PodEnding", {"deleting": True}),
    "a pod that has ended": ("PodEnded", {"phase": "Succeeded"}),
    "a pod on its node's network": ("HostNetwork", {"host_network": True}),
    "a pod with another service account": ("ServiceAccount", {"service_account": "somebody"}),
    "a pod without our sidecar": ("NotInjected", {"sidecar": False}),
}


@pytest.mark.parametrize(("word", "changed"), NEVER.values(), ids=NEVER)
def test_what_of_a_pod_cannot_change_is_refused_for_ever(word: str, changed: dict[str, Any]) -> None:
    assert refusal(verdict(**changed)) == (word, "never")


@pytest.mark.rfc("threats 2.1: registrations of elements that do not exist change nothing")
def test_the_request_of_a_pod_that_is_gone_is_refused_for_ever() -> None:
    found = judge(asked(), None, PoolFacts(pool=pool()), trust_domain="cluster.local", cluster_domain="cluster.local")
    assert refusal(found) == ("PodGone", "never")


STRICT: Final = {"port": 7007, "serviceAccounts": ["app"]}
CHOSEN: Final = {"port": 7007, "nodes": {"matchLabels": {"zone": "a"}}}
WAITS: Final[dict[str, tuple[str, PoolFacts | None, dict[str, Any]]]] = {
    "a pool with faults": ("PoolInvalid", PoolFacts(pool=None), {}),
    "a pool that is being deleted": ("PoolEnding", PoolFacts(pool=pool(), deleting=True), {}),
    "a pool that enrols by token": ("OtherEnrolment", PoolFacts(pool=pool({})), {}),
    "a service account that is not listed": ("ServiceAccountNotAllowed", PoolFacts(pool=pool(elements=STRICT)), {}),
    "a node that is not selected": ("NodeNotAllowed", PoolFacts(pool=pool(elements=CHOSEN)), {}),
    "a pod whose label was taken away": ("NotAMember", None, {"labels": {}}),
    "a pod that was labelled for another pool": ("NotAMember", None, {"labels": {names.POOL_LABEL: "other"}}),
    "a pod that is revoked": ("Revoked", PoolFacts(pool=pool({**WAY, "revoked": [UID]})), {}),
}


@pytest.mark.parametrize(("word", "facts", "changed"), WAITS.values(), ids=WAITS)
def test_what_somebody_can_put_right_waits(word: str, facts: PoolFacts | None, changed: dict[str, Any]) -> None:
    assert refusal(verdict(facts=facts, **changed)) == (word, "waits")


def test_a_pool_that_does_not_exist_yet_is_waited_for() -> None:
    found = judge(asked(), facts_of(pod_of(), {}), None, trust_domain="cluster.local", cluster_domain="cluster.local")
    assert refusal(found) == ("PoolNotFound", "waits")


def test_a_registrar_of_an_ordinal_that_is_not_wanted_now_waits_and_a_user_never_comes_in() -> None:
    registrar = {names.CLAIMED_POOL: "echo", names.CLAIMED_ROLE: "registrar"}
    assert refusal(verdict(asked(unverifiedUserAnnotations=registrar))) == ("NotARegistrar", "waits")
    user = {names.CLAIMED_POOL: "echo", names.CLAIMED_ROLE: "user"}
    assert refusal(verdict(asked(unverifiedUserAnnotations=user))) == ("RoleNotOffered", "never")


@pytest.mark.rfc("threats 2.4: nobody registers in a pool that is not his")
def test_whoever_says_it_is_of_another_pool_is_judged_by_its_pods_label() -> None:
    other = asked(unverifiedUserAnnotations={**CLAIM, names.CLAIMED_POOL: "other"})
    raw = raw_pool("other", security=WAY)
    found, _ = read_pool(raw)
    assert refusal(verdict(other, facts=PoolFacts(pool=found))) == ("NotAMember", "waits")


def test_a_token_is_no_way_into_a_pool_that_enrols_by_the_kubelet() -> None:
    of = asked()
    by_token = replace(of, bearer=replace(of.bearer, way=Enrolment.TOKEN))
    assert refusal(verdict(by_token)) == ("OtherEnrolment", "waits")
    assert isinstance(verdict(by_token, facts=PoolFacts(pool=pool({}))), Granted)


MALFORMED: Final[dict[str, tuple[str, dict[str, Any]]]] = {
    "no annotations": ("BadRequest", {"unverifiedUserAnnotations": {}}),
    "no role": ("BadRequest", {"unverifiedUserAnnotations": {names.CLAIMED_POOL: "echo"}}),
    "a path as pool": ("BadRequest", {"unverifiedUserAnnotations": {**CLAIM, names.CLAIMED_POOL: "../x"}}),
    "an annotation nobody knows": ("UnknownAnnotation", {"unverifiedUserAnnotations": {**CLAIM, "a.b/c": "d"}}),
    "no PKCS #10": ("BadRequest", {"stubPKCS10Request": ""}),
    "no base64": ("BadRequest", {"stubPKCS10Request": "%"}),
    "other octets": ("BadRequest", {"stubPKCS10Request": base64.b64encode(b"\x30\x03\x02\x01\x00").decode()}),
}


@pytest.mark.parametrize(("word", "spec"), MALFORMED.values(), ids=MALFORMED)
def test_a_request_that_cannot_be_read_is_refused_for_ever(word: str, spec: dict[str, Any]) -> None:
    found = read(request(pod_of(), KEY, **spec))
    assert isinstance(found, Denied)
    assert (found.word, found.never) == (word, True)


@pytest.mark.parametrize(
    "key",
    [
        rsa.generate_private_key(public_exponent=65537, key_size=2048),
        ed25519.Ed25519PrivateKey.generate(),
        ec.generate_private_key(ec.SECP521R1()),
    ],
    ids=["RSA", "ED25519", "ECDSAP521"],
)
def test_a_key_of_another_kind_is_refused_with_the_words_that_the_api_prescribes(key: Any) -> None:
    of = request(pod_of(), key)
    found = read(of)
    assert isinstance(found, Denied)
    assert (found.word, found.message) == ("UnsupportedKeyType", "ECDSAP256")
    assert faults(of, denied(of, found, NOW)["status"], NOW) == []


@given(st.binary(max_size=200))
def test_no_octets_make_reading_fail(octets: bytes) -> None:
    found = read(request(pod_of(), KEY, stubPKCS10Request=base64.b64encode(octets).decode()))
    assert isinstance(found, Denied)
    assert found.never


def test_requests_for_other_signers_and_answered_ones_are_left_alone() -> None:
    of = request(pod_of(), KEY)
    assert is_ours(of)
    assert not is_over(of)
    assert not is_ours(request(pod_of(), KEY, signerName="example.com/other"))
    assert is_over({**of, "status": denied(of, Denied(word="PodGone", message="", never=True), NOW)["status"]})


def ca(life: timedelta, begun: datetime = NOW - timedelta(days=1)) -> EmbeddedAuthority:
    return EmbeddedAuthority.create("pool", begun, life=life, leaf_life=timedelta(hours=1))


lives = st.integers(3600, 91 * 86_400).map(lambda seconds: timedelta(seconds=seconds))


@given(lives, lives, st.timedeltas(min_value=timedelta(days=1), max_value=timedelta(days=200)))
def test_every_leaf_is_valid_as_the_api_server_demands_or_is_not_made(
    life: timedelta, longest: timedelta, of_the_ca: timedelta
) -> None:
    authority = AUTHORITY
    end = authority.not_valid_after_utc
    now = end - of_the_ca + timedelta(days=1)
    try:
        first, last = validity(now, life, longest, authority)
    except AuthorityError:
        assert end - now < SHORTEST
        return
    assert abs(now - first) < timedelta(minutes=5)
    assert SHORTEST <= last - first <= longest
    assert last <= min(now + life, end)
    assert first.microsecond == last.microsecond == 0


AUTHORITY: Final = ca(timedelta(days=365)).certificate


def test_a_leaf_of_a_bare_key_is_one_that_everybody_believes_and_other_keys_get_none() -> None:
    authority, whose = ca(timedelta(days=30)), identity(uid=UID)
    chain = authority.certify(whose, KEY.public_key(), NOW, NOW + timedelta(hours=1))
    (leaf,) = certificates_from_pem(chain)
    assert leaf_of(leaf).identity == whose
    assert leaf.public_key() == KEY.public_key()
    leaf.verify_directly_issued_by(authority.certificate)
    with pytest.raises(SigningError, match="P-256"):
        authority.certify(whose, ec.generate_private_key(ec.SECP521R1()).public_key(), NOW, NOW + timedelta(hours=1))
    with pytest.raises(SigningError, match="names no hosts"):
        authority.certify(whose, KEY.public_key(), NOW, NOW + timedelta(hours=1), ("a.example",))
