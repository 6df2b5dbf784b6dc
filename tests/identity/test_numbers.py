# SPDX-License-Identifier: Apache-2.0
"""PE identifiers follow from the pod's UID by the definition of PROTOCOL 14.32, and by nothing else."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rserpool.identity import pe_identifiers

UID = "0f8fad5b-d9cb-469f-a165-70867728950e"
GOLDEN = ["ed1ce670", "a3b539a7", "f96b574a", "71ecd102", "66bdfd2c", "35718bce", "a6bab9cd", "a3bb4ab5"]
uids = st.uuids().map(str)


def by_definition(uid: str, k: int) -> int:
    """The first four octets of SHA-256("rserpool-pe" + one octet k + pod UID)."""
    digest = hashlib.sha256()
    digest.update(b"rserpool-pe")
    digest.update(k.to_bytes(1, "big"))
    digest.update(uid.encode("ascii"))
    return int(digest.hexdigest()[:8], 16)


def test_the_identifiers_of_one_pod_are_these_for_ever() -> None:
    """A change of these numbers makes registrars and elements of two versions refuse each other."""
    assert [f"{number:08x}" for number in pe_identifiers(UID)] == GOLDEN


@pytest.mark.rfc("PROTOCOL 14.32: a PE identifier follows from the certificate")
def test_the_golden_values_follow_from_the_definition() -> None:
    assert [f"{by_definition(UID, k):08x}" for k in range(8)] == GOLDEN


@pytest.mark.rfc("PROTOCOL 14.32: a PE identifier follows from the certificate")
@given(uid=uids)
def test_there_are_eight_by_the_definition_in_order(uid: str) -> None:
    assert pe_identifiers(uid) == tuple(by_definition(uid, k) for k in range(8))


@given(uid=uids)
def test_they_are_distinct_and_fit_the_wire_and_are_never_zero(uid: str) -> None:
    numbers = pe_identifiers(uid)
    assert len(set(numbers)) == len(numbers) == 8
    assert all(0 < number <= 0xFFFFFFFF for number in numbers)


@given(one=uids, other=uids)
def test_another_pod_has_others(one: str, other: str) -> None:
    assert (one == other) == bool(set(pe_identifiers(one)) & set(pe_identifiers(other)))


@pytest.mark.rfc("PROTOCOL 14.32: a PE identifier follows from the certificate")
def test_the_same_pod_has_the_same_at_every_start() -> None:
    assert pe_identifiers(UID) == pe_identifiers(UID)
