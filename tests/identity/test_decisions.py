# SPDX-License-Identifier: Apache-2.0
"""Who may do what: every role, every action, one's own element and others' (threats 2.1 to 2.7, 2.15)."""

from __future__ import annotations

from itertools import product

import pytest

from rserpool.asap.authorisation import Action, Principal, Role
from rserpool.identity import InsecureScope, LeafIdentity, SecureScope, pe_identifiers, principal_of
from rserpool.identity.decisions import anonymous, unverified

OWN, OTHER = b"echo", b"other"
UID, OTHER_UID = "00000001-0000-4000-8000-000000000001", "00000002-0000-4000-8000-000000000002"
MINE, THEIRS = pe_identifiers(UID)[0], pe_identifiers(OTHER_UID)[0]
SCOPE = SecureScope(pool_handle=OWN)
ABOUT_AN_ELEMENT = (Action.REGISTER, Action.DEREGISTER, Action.ACKNOWLEDGE)
ANYBODYS = (Action.RESOLVE, Action.REPORT)


def identity(role: Role) -> LeafIdentity:
    return LeafIdentity(trust_domain="cluster.local", namespace="demo", pool="echo", role=role, pod_uid=UID)


PRINCIPALS: dict[Role, Principal] = {
    Role.REGISTRAR: principal_of(identity(Role.REGISTRAR)),
    Role.ELEMENT: principal_of(identity(Role.ELEMENT)),
    Role.USER: principal_of(identity(Role.USER)),
    Role.ANONYMOUS: anonymous("10.0.0.9"),
    Role.UNVERIFIED: unverified("10.0.0.9"),
}
OTHERS_THAN = {role: [r for r in Role if r is not role] for role in Role}

Case = tuple[Role, Action, bytes | None, int | None, str | None]

# Who does not prove to be an element may do nothing in its name, whatever handle and identifier it gives.
_NO_ELEMENT = {Role.REGISTRAR: "2.2", Role.USER: "2.2", Role.UNVERIFIED: "2.2", Role.ANONYMOUS: "2.1"}
CASES: list[Case] = [
    *(
        (role, action, handle, identifier, _NO_ELEMENT[role])
        for role, action, handle, identifier in product(
            OTHERS_THAN[Role.ELEMENT], ABOUT_AN_ELEMENT, (OWN, OTHER), (MINE, THEIRS)
        )
    ),
    *(
        (Role.ELEMENT, action, handle, identifier, threat)
        for action in ABOUT_AN_ELEMENT
        for handle, identifier, threat in (
            (OWN, MINE, None),
            (OWN, THEIRS, "2.3"),
            (OWN, 0, "2.3"),
            (OWN, None, "2.3"),
            (OTHER, MINE, "2.4"),
            (OTHER, THEIRS, "2.4"),
            (None, MINE, "2.4"),
            (b"", MINE, "2.4"),
            (b"ECHO", MINE, "2.4"),
            (b"echo\0", MINE, "2.4"),
            (b"ech", MINE, "2.4"),
        )
    ),
    *((role, Action.PEER, None, None, None if role is Role.REGISTRAR else "2.5") for role in Role),
    *((role, Action.HOME, None, None, None if role is Role.REGISTRAR else "2.6") for role in Role),
    *(
        (role, action, handle, identifier, None)
        for role, action, handle, identifier in product(
            OTHERS_THAN[Role.UNVERIFIED], ANYBODYS, (OWN, OTHER, None), (MINE, THEIRS, None)
        )
    ),
]


def named(case: Case) -> str:
    role, action, handle, identifier, threat = case
    which = {MINE: "mine", THEIRS: "theirs", None: "none", 0: "0"}[identifier]
    return f"{role.name}-{action.name}-{handle!r}-{which}-{threat}"


@pytest.mark.rfc("threats 2.4: nobody registers in a pool that is not his")
@pytest.mark.parametrize("case", CASES, ids=named)
def test_everybody_may_do_what_his_role_and_name_allow_and_no_more(case: Case) -> None:
    role, action, handle, identifier, threat = case
    denial = SCOPE.may(PRINCIPALS[role], action, handle, identifier)
    assert (denial.threat if denial else None) == threat
    assert denial is None or denial.reason


def test_the_table_covers_every_role_and_action() -> None:
    covered = {(role, action) for role, action, *_ in CASES}
    left = set(product(Role, Action)) - covered
    assert left == set(product([Role.UNVERIFIED], ANYBODYS))


@pytest.mark.rfc("threats 2.15: a scope is secure as a whole or not at all")
@pytest.mark.parametrize("action", Action, ids=lambda a: a.name)
@pytest.mark.parametrize("anonymous_users", [True, False])
def test_in_a_secure_scope_nobody_unverified_gets_anything(action: Action, anonymous_users: bool) -> None:
    """Threat 2.15: all is secure, or nothing (PROTOCOL 13.1)."""
    scope = SecureScope(pool_handle=OWN, anonymous=anonymous_users)
    assert scope.may(PRINCIPALS[Role.UNVERIFIED], action, OWN, MINE) is not None


@pytest.mark.parametrize("number", range(8))
@pytest.mark.parametrize("action", ABOUT_AN_ELEMENT, ids=lambda a: a.name)
def test_an_element_may_use_each_of_its_eight_identifiers(action: Action, number: int) -> None:
    assert SCOPE.may(PRINCIPALS[Role.ELEMENT], action, OWN, pe_identifiers(UID)[number]) is None
    denial = SCOPE.may(PRINCIPALS[Role.ELEMENT], action, OWN, pe_identifiers(OTHER_UID)[number])
    assert denial is not None
    assert denial.threat == "2.3"


@pytest.mark.parametrize("role", Role, ids=lambda r: r.name)
@pytest.mark.parametrize("action", ANYBODYS, ids=lambda a: a.name)
def test_where_anonymous_users_are_not_wanted_only_they_are_refused(role: Role, action: Action) -> None:
    if role is Role.UNVERIFIED:
        return
    denial = SecureScope(pool_handle=OWN, anonymous=False).may(PRINCIPALS[role], action, OWN, MINE)
    assert (denial is not None) == (role is Role.ANONYMOUS)


@pytest.mark.parametrize("threat", ["2.6", "2.7"])
def test_who_plays_the_registrar_is_a_threat_to_elements_or_to_users(threat: str) -> None:
    scope = SecureScope(pool_handle=OWN, registrar_threat=threat)
    for role in OTHERS_THAN[Role.REGISTRAR]:
        denial = scope.may(PRINCIPALS[role], Action.HOME)
        assert denial is not None
        assert denial.threat == threat
        assert role.value in denial.reason
    assert scope.may(PRINCIPALS[Role.REGISTRAR], Action.HOME) is None


def test_a_principal_without_identifiers_may_use_none() -> None:
    nobody = Principal(role=Role.ELEMENT, name="spiffe://x")
    for identifier in (0, 1, MINE, None):
        assert SCOPE.may(nobody, Action.REGISTER, OWN, identifier) is not None


def test_a_registrar_has_no_identifiers_even_if_somebody_gave_it_some() -> None:
    odd = Principal(role=Role.REGISTRAR, name="spiffe://x", pe_identifiers=frozenset({MINE}))
    denial = SCOPE.may(odd, Action.REGISTER, OWN, MINE)
    assert denial is not None
    assert denial.threat == "2.2"


def test_a_refusal_says_what_was_wrong() -> None:
    denial = SCOPE.may(PRINCIPALS[Role.ELEMENT], Action.DEREGISTER, OWN, 0xAB)
    assert denial is not None
    assert denial.reason == "PE identifier 0x000000ab is not its own"
    denial = SCOPE.may(PRINCIPALS[Role.ELEMENT], Action.DEREGISTER, OWN, None)
    assert denial is not None
    assert "none" in denial.reason
    denial = SCOPE.may(PRINCIPALS[Role.USER], Action.REGISTER, OWN, MINE)
    assert denial is not None
    assert denial.reason == "a peer of role user may not register"


@pytest.mark.parametrize(
    ("role", "action", "handle", "identifier"),
    [(r, a, h, i) for r, a, h, i in product(Role, Action, (OWN, OTHER, None), (MINE, THEIRS, None))],
)
def test_without_security_everybody_may_do_everything(
    role: Role, action: Action, handle: bytes | None, identifier: int | None
) -> None:
    assert InsecureScope().may(PRINCIPALS[role], action, handle, identifier) is None


@pytest.mark.parametrize("role", [Role.REGISTRAR, Role.ELEMENT, Role.USER], ids=lambda r: r.name)
def test_a_certificate_makes_its_holder_what_it_says(role: Role) -> None:
    principal = principal_of(identity(role))
    assert principal.role is role
    assert principal.name == str(principal) == str(identity(role))
    assert principal.pe_identifiers == (frozenset(pe_identifiers(UID)) if role is Role.ELEMENT else frozenset())


def test_who_has_no_certificate_is_known_by_his_address() -> None:
    assert (anonymous("10.0.0.9").role, anonymous("10.0.0.9").name) == (Role.ANONYMOUS, "anonymous at 10.0.0.9")
    assert (unverified("10.0.0.9").role, unverified("10.0.0.9").name) == (Role.UNVERIFIED, "10.0.0.9")
    assert anonymous("10.0.0.9") != anonymous("10.0.0.8")
    assert anonymous("10.0.0.9").pe_identifiers == unverified("10.0.0.9").pe_identifiers == frozenset()
