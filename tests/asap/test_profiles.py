# SPDX-License-Identifier: Apache-2.0
"""The two profiles hold the RFCs' numbers and those of PROTOCOL 8, and the rules between them."""

from __future__ import annotations

import pytest

from rserpool.asap.profiles import FAST, PROFILES, RFC, Profile

REGISTRAR = [
    ("heartbeat", 0.4, 30.0),
    ("last_heard", 0.9, 61.0),
    ("no_response", 0.4, 5.0),
    ("takeover", 0.4, 5.0),
    ("takeover_rate", 500, 100),
    ("keep_alive", 1.0, 30.0),
    ("keep_alive_timeout", 0.4, 5.0),
    ("keep_alive_tries", 3, 3),
    ("keep_alive_min_interval", 0.5, 1.0),
    ("keep_alive_burst", 4, 3),
    ("connect", 1.0, 5.0),
    ("mentor_discovery", 3.0, 15.0),
    ("retry_after_reject", 0.2, 2.0),
    ("max_life", 86400, 86400),
]
ENDPOINT = [
    ("t1", 0.5, 15.0),
    ("t2", 1.0, 30.0),
    ("t3", 1.0, 30.0),
    ("t4", 10.0, 600.0),
    ("t5", 1.0, 10.0),
    ("retran_max", 4.0, 60.0),
    ("connect", 1.0, 5.0),
    ("hunt_stagger", 0.2, 0.2),
    ("silent_home", 3.0, 0.0),
    ("life", 30, 300),
    ("max_attempts", 2, 2),
    ("settle", (1.0, 5.0), (1.0, 5.0)),
]
BOTH = pytest.mark.parametrize("profile", PROFILES.values(), ids=lambda p: p.name)


@pytest.mark.rfc("PROTOCOL 8: both timer profiles hold the numbers of the table")
@pytest.mark.rfc("RFC 5353 4.2: the thresholds of ENRP")
@pytest.mark.parametrize(("name", "fast", "rfc"), REGISTRAR)
def test_a_registrars_timers_are_those_of_the_table(name: str, fast: float, rfc: float) -> None:
    assert (getattr(FAST.registrar, name), getattr(RFC.registrar, name)) == (fast, rfc)


@pytest.mark.rfc("PROTOCOL 8: both timer profiles hold the numbers of the table")
@pytest.mark.rfc("RFC 5352 7.1: the timers of ASAP")
@pytest.mark.parametrize(("name", "fast", "rfc"), ENDPOINT)
def test_an_endpoints_timers_are_those_of_the_table(name: str, fast: object, rfc: object) -> None:
    assert (getattr(FAST.endpoint, name), getattr(RFC.endpoint, name)) == (fast, rfc)


def test_profiles_are_found_by_the_names_a_manifest_gives_them() -> None:
    assert {"Fast": FAST, "RFC": RFC} == PROFILES


@pytest.mark.rfc("PROTOCOL 8: MAX-TIME-LAST-HEARD is more than twice the heartbeat")
@BOTH
def test_a_peer_may_miss_one_heartbeat(profile: Profile) -> None:
    """PROTOCOL 8: the rule to keep."""
    assert profile.registrar.last_heard > 2 * profile.registrar.heartbeat


@pytest.mark.rfc("RFC 5352 7.1: T4 is well before the end of the life")
@BOTH
def test_a_registration_may_be_refreshed_once_more_before_its_life_ends(profile: Profile) -> None:
    endpoint = profile.endpoint
    t4 = endpoint.reregistration(endpoint.life)
    assert t4 + (endpoint.max_attempts + 1) * min(endpoint.t2, 5) < endpoint.life


def test_a_silent_home_is_left_only_after_two_of_its_longest_intervals() -> None:
    assert FAST.endpoint.silent_home >= 2 * 1.5 * FAST.registrar.keep_alive


def test_an_element_that_is_gone_is_noticed_within_three_seconds() -> None:
    """The promise of the fast profile: the longest interval, and all tries."""
    timers = FAST.registrar
    assert 1.5 * timers.keep_alive + timers.keep_alive_tries * timers.keep_alive_timeout <= 3.0
    assert timers.last_heard + timers.no_response + timers.keep_alive_tries * timers.keep_alive_timeout <= 3.0


@pytest.mark.rfc("RFC 5352 3.1: T4 renews a registration before its life ends, under the same identifier")
@pytest.mark.rfc("RFC 5352 7.1: T4 is well before the end of the life")
@pytest.mark.parametrize(
    ("profile", "life", "t4"),
    [
        (RFC, 300, 280),
        (RFC, 60, 40),
        (RFC, 59, 59 / 3),
        (RFC, 20, 20 / 3),
        (RFC, 1, 1 / 3),
        (RFC, 620, 600),
        (RFC, 621, 600),
        (RFC, 86400, 600),
        (FAST, 30, 10),
        (FAST, 300, 10),
        (FAST, 15, 5),
    ],
)
def test_t4_comes_well_before_the_life_ends(profile: Profile, life: float, t4: float) -> None:
    """RFC 5352 7.1; a third of a short life, where life - 20 s would be too late or never."""
    assert profile.endpoint.reregistration(life) == pytest.approx(t4)
