# SPDX-License-Identifier: Apache-2.0
"""Pods that are gone or revoked may do nothing, whatever their certificate still says."""

from __future__ import annotations

import pytest

from rserpool.asap.authorisation import Action, Role
from rserpool.daemon.identity import names_of
from rserpool.daemon.sections import PoolSection
from rserpool.identity import Revoking, SecureScope, pe_identifiers, principal_of
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
    assert denial.threat == ("2.5" if action is Action.PEER else "2.2")
    assert denial.reason == f"its pod is gone or was revoked, and it may not {action.value}"


@pytest.mark.parametrize("role", [Role.REGISTRAR, Role.ELEMENT, Role.USER])
@pytest.mark.parametrize("action", Action)
def test_all_others_are_judged_as_before(role: Role, action: Action) -> None:
    principal = principal_of(identity(role, OTHER))
    assert REVOKING.may(principal, action, b"echo", OTHER_NUMBER) == SCOPE.may(principal, action, b"echo", OTHER_NUMBER)
