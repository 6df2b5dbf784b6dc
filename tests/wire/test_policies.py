# SPDX-License-Identifier: Apache-2.0
"""Policy parameters octet by octet (RFC 5356 4 and 5), and rsplib's Priority Least Used with Degradation."""

from __future__ import annotations

import pytest

from rserpool.wire import RFC, PolicyType, UnknownPolicy, policies
from rserpool.wire.policies import Policy, decode_policy, encode_policy
from rserpool.wire.tlv import Decoding, walk

VECTORS: list[tuple[str, Policy]] = [
    ("00080008 00000001", policies.RoundRobin()),
    ("0008000c 00000002 0000000a", policies.WeightedRoundRobin(10)),
    ("00080008 00000003", policies.Random()),
    ("0008000c 00000004 ffffffff", policies.WeightedRandom(0xFFFFFFFF)),
    ("0008000c 00000005 00000007", policies.Priority(7)),
    ("0008000c 40000001 80000000", policies.LeastUsed(0x80000000)),
    ("00080010 40000002 80000000 00000010", policies.LeastUsedDegradation(0x80000000, 0x10)),
    ("00080010 40000003 80000000 00000010", policies.PriorityLeastUsed(0x80000000, 0x10)),
    ("0008000c 40000004 00000000", policies.RandomizedLeastUsed(0)),
    ("00080010 b0001003 00000000 80000000", policies.PriorityLeastUsedDegradation(0, 0x80000000)),  # as rsplib sent it
    ("00080010 b0001001 00000000 00000000", UnknownPolicy(0xB0001001, bytes(8))),
]


@pytest.mark.parametrize(("octets", "policy"), VECTORS, ids=[type(policy).__name__ for _, policy in VECTORS])
def test_each_policy_is_these_octets_both_ways(octets: str, policy: Policy) -> None:
    raw = bytes.fromhex(octets)
    assert encode_policy(policy) == raw
    decoding = Decoding(raw, RFC)
    (tlv,) = walk(decoding, 0, len(raw))
    assert decode_policy(decoding, tlv) == policy


def test_every_policy_that_has_a_number_has_a_class() -> None:
    assert {policy.TYPE for _, policy in VECTORS} - {0xB0001001} == set(PolicyType)
