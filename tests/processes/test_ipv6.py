# SPDX-License-Identifier: Apache-2.0
"""Scopes of IPv6 alone and of both families, in network namespaces of their own (PROTOCOL 9.8)."""

from __future__ import annotations

import sys

import pytest

from support.namespaces import run_inside

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="network namespaces are Linux's")
SCOPES = "support.scopes_of_ipv6"


@pytest.mark.rfc("PROTOCOL 9.8: scopes of IPv6, and of both families")
def test_a_scope_of_ipv6_alone_holds_together_and_survives_its_home() -> None:
    run_inside(SCOPES, "ipv6-alone", timeout=110)


@pytest.mark.rfc("PROTOCOL 9.8: scopes of IPv6, and of both families")
def test_a_scope_of_both_families_is_one_pool_for_elements_and_users_of_each() -> None:
    run_inside(SCOPES, "both-families", timeout=110)


@pytest.mark.rfc("RFC 5352 3.6: a registrar announces itself where multicast is used")
@pytest.mark.rfc("RFC 5352 3.6: registrars come from configuration, names and announcements")
def test_elements_find_registrars_that_announce_themselves_where_the_configured_ones_are_not_there() -> None:
    run_inside(SCOPES, "announced", timeout=110)
