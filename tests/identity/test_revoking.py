# SPDX-License-Identifier: Apache-2.0
"""Pods that are gone or revoked may do nothing, whatever their certificate still says."""

from __future__ import annotations

from dataclasses import replace

import pytest

from rserpool.asap.authorisation import Action, Role
from rserpool.daemon.identity import names_of
from rserpool.daemon.sections import PoolSection
from rserpool.identity import Revoking, SecureScope, pe_identifiers, principal_of
from rserpool.identity.decisions import anonymous
from rserpool.identity.revoked import Revoked, serial_text
from support.rig_identity import UID, identity

OTHER = UID.replace("0f8f", "1f8f")
SCOPE = SecureScope(pool_handle=b"echo")
REVOKING = Revoking(SCOPE, names_of(PoolSection(namespace="demo", name="echo"), [UID]))
NUMBER, OTHER_NUMBER = pe_identifiers(UID)[0], pe_identifiers(OTHER)[0]


@pytest.mark.parametrize("role", [Role.REGISTRAR, Role.ELEMENT, Role.USER])
@pytest.mark.parametrize("action", Action)
def test_nothing_is_left_to_one_that_ended(role: Role, action: Action) -> None:
    denial = REVOKING.may(principal_of(identity(role)), action, b"echo", NUMBER)
    assert denial is not None
    assert denial.threat == {Action.PEER: "2.5", Action.HOME: "2.6"}.get(action, "2.2")
    assert denial.reason == f"its pod is gone or was revoked, and it may not {action.value}"


@pytest.mark.parametrize("role", [Role.REGISTRAR, Role.ELEMENT, Role.USER])
@pytest.mark.parametrize("action", Action)
def test_all_others_are_judged_as_before(role: Role, action: Action) -> None:
    principal = principal_of(identity(role, OTHER))
    assert REVOKING.may(principal, action, b"echo", OTHER_NUMBER) == SCOPE.may(principal, action, b"echo", OTHER_NUMBER)


@pytest.mark.rfc("PROTOCOL 13.3: what was revoked counts nowhere any more")
@pytest.mark.parametrize("role", [Role.REGISTRAR, Role.ELEMENT, Role.USER])
@pytest.mark.parametrize("action", Action)
def test_nothing_is_left_to_who_shows_a_leaf_that_was_revoked_and_all_to_who_has_another_one(
    role: Role, action: Action
) -> None:
    rules = Revoking(SCOPE, frozenset(), frozenset({0xABC}))
    with_it, with_another = (replace(principal_of(identity(role)), serial=n) for n in (0xABC, 0xABD))
    denial = rules.may(with_it, action, b"echo", NUMBER)
    assert denial is not None
    assert denial.threat == {Action.PEER: "2.5", Action.HOME: "2.6"}.get(action, "2.2")
    assert denial.reason == f"its leaf was revoked, and it may not {action.value}"
    assert rules.may(with_another, action, b"echo", NUMBER) == SCOPE.may(with_another, action, b"echo", NUMBER)


def test_who_has_no_leaf_is_nobody_whose_leaf_could_be_revoked() -> None:
    rules = Revoking(SCOPE, frozenset(), frozenset({0}))
    assert rules.may(anonymous("10.0.0.1"), Action.RESOLVE, b"echo") is None


def test_the_same_holder_with_another_leaf_is_the_same_holder() -> None:
    before = principal_of(identity())
    assert replace(before, serial=7, not_before=1.0, not_after=2.0) == before


# -- what is written


@pytest.mark.parametrize("text", ["serial:0abc", "serial:0ABC", "serial:abc", "serial:000abc"])
def test_a_serial_number_is_written_in_hexadecimal_digits_of_any_case(text: str) -> None:
    assert Revoked.of([text]) == Revoked(serials=frozenset({0xABC}), pod_uids=frozenset(), names=frozenset())


def test_a_number_is_written_as_openssl_writes_it() -> None:
    assert [serial_text(n) for n in (0xABC, 0xAB, 1)] == ["0abc", "ab", "01"]
    assert Revoked.of([f"serial:{serial_text(2**159)}"]).serials == {2**159}


def test_what_looks_like_a_number_and_does_not_say_so_is_a_service_account() -> None:
    found = Revoked.of(["abc", "0123", UID])
    assert found.serials == frozenset()
    assert found.pod("another", "abc")
    assert found.pod("another", "0123")
    assert found.pod(UID, "")
    assert not found.pod("another", "")
    assert not found.pod("another", "default")


@pytest.mark.parametrize("text", ["serial:", "serial:xyz", "serial:0x1", "serial:" + "a" * 41, "serial: 1", "Serial:1"])
def test_what_is_no_serial_number_revokes_no_leaf(text: str) -> None:
    assert Revoked.of([text]).serials == frozenset()
