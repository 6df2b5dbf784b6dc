# SPDX-License-Identifier: Apache-2.0
"""Pools come with their first element, go with their last, and bind what the first one fixed (RFC 5352 3.1)."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest

from rserpool.handlespace import Handlespace, dump
from rserpool.wire import (
    CauseCode,
    OpaqueTransport,
    PoolElement,
    SctpTransport,
    TcpTransport,
    TransportUse,
    UdpTransport,
    decode,
    policies,
)
from support.samples import V4, V6, element


@pytest.fixture
def space() -> Handlespace:
    return Handlespace(Random(1))


@pytest.mark.rfc("RFC 5352 3.1: a new pool takes policy and transport of its first element")
def test_a_pool_comes_with_its_first_element_and_goes_with_its_last(space: Handlespace) -> None:
    space.put(b"echo", element(1))
    space.put(b"echo", element(2))
    assert list(space.pools) == [b"echo"]
    space.remove((b"echo", 1))
    space.remove((b"echo", 2))
    assert list(space.pools) == []
    assert space.remove((b"echo", 2)) is None


def test_putting_an_element_again_replaces_all_its_attributes(space: Handlespace) -> None:
    space.put(b"echo", element(1, home=7, life=30))
    moved = element(1, home=8, life=60, transport=TcpTransport(port=9, address=V6))
    space.put(b"echo", moved)
    assert space.get((b"echo", 1)) == moved
    assert space.owners == [8]


@pytest.mark.parametrize(
    ("newcomer", "cause"),
    [
        (element(2, transport=UdpTransport(port=1, address=V4)), CauseCode.INCONSISTENT_TRANSPORT_TYPE),
        (element(2, policy=policies.Random()), CauseCode.INCONSISTENT_POLICY),
        (
            element(2, transport=UdpTransport(port=1, address=V4), policy=policies.Random()),
            CauseCode.INCONSISTENT_TRANSPORT_TYPE,
        ),
    ],
)
def test_an_element_that_does_not_fit_its_pool_changes_nothing(
    space: Handlespace, newcomer: PoolElement, cause: CauseCode
) -> None:
    space.put(b"echo", element(1))
    before = dump(space)
    mismatch = space.pools[b"echo"].mismatch(newcomer)
    assert mismatch is not None
    assert mismatch.code == cause
    assert mismatch.info
    assert not space.put(b"echo", newcomer)
    assert dump(space) == before


@pytest.mark.rfc("RFC 5352 3.1: another transport use is refused with cause 0x8")
def test_data_and_control_must_agree_for_sctp_only(space: Handlespace) -> None:
    sctp = SctpTransport(port=7, addresses=(V4,))
    space.put(b"echo", element(1, transport=sctp))
    control = element(2, transport=replace(sctp, use=TransportUse.DATA_PLUS_CONTROL))
    mismatch = space.pools[b"echo"].mismatch(control)
    assert mismatch is not None
    assert mismatch.code == CauseCode.INCONSISTENT_DATA_CONTROL
    assert space.pools[b"echo"].mismatch(element(3, transport=sctp)) is None


def test_weights_and_loads_may_differ_within_a_pool(space: Handlespace) -> None:
    assert space.put(b"echo", element(1, policy=policies.LeastUsed(1)))
    assert space.put(b"echo", element(2, policy=policies.LeastUsed(2)))


def test_the_dump_is_the_same_whatever_order_things_came_in(space: Handlespace) -> None:
    other = Handlespace(Random(2))
    elements = [(b"b", element(2, home=1)), (b"a", element(1, home=2)), (b"b", element(1, home=2))]
    for handle, e in elements:
        space.put(handle, e)
    for handle, e in reversed(elements):
        other.put(handle, e)
    space.pools[b"b"].select()
    assert dump(space) == dump(other)
    other.set_home((b"a", 1), 1)
    assert dump(space) != dump(other)


def test_the_dump_is_readable(space: Handlespace) -> None:
    space.put(b"echo", element(1, home=2, reachable=True, policy=policies.WeightedRoundRobin(3)))
    space.put(b"\xff\0", element(1, transport=OpaqueTransport(value=b"\1\2")))
    echo, other = dump(space)["pools"]
    assert echo == {
        "handle": "echo",
        "policy": "WEIGHTED_ROUND_ROBIN",
        "transport": "TCP",
        "elements": [
            {
                "identifier": "0x00000001",
                "home": "0x00000002",
                "life": 300,
                "transport": "tcp:10.1.2.3:7",
                "policy": "WeightedRoundRobin(weight=3)",
                "asap": "sctp:10.1.2.3:34127",
            }
        ],
    }
    assert other["handle"] == "0xff00"
    assert other["elements"][0]["transport"] == "opaque:0102"


@pytest.mark.rfc("RFC 5354 3.12.6: cause 0x5 carries the pool's policy")
def test_the_inconsistent_policy_cause_shows_the_pools_policy(space: Handlespace) -> None:
    from rserpool.wire import ErrorCause, Ppid, asap, encode

    space.put(b"EchoPool", element(1))
    mismatch = space.pools[b"EchoPool"].mismatch(element(2, policy=policies.Random()))
    assert mismatch == ErrorCause(CauseCode.INCONSISTENT_POLICY, bytes.fromhex("0008000800000001"))
    response = asap.RegistrationResponse(pool_handle=b"EchoPool", pe_identifier=2, reject=True, error=(mismatch,))
    assert decode(encode(response), Ppid.ASAP) == response
