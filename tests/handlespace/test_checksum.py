# SPDX-License-Identifier: Apache-2.0
"""The PE checksum against RFC 5353 3.6.2 by hand, and against rsplib's own code."""

from __future__ import annotations

import json
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rserpool.handlespace import Handlespace
from rserpool.handlespace.checksum import block_sum, fold
from support.samples import element
from support.wiredata import DATA

RSPLIB = json.loads((DATA / "rsplib-checksums.json").read_text())["vectors"]


@pytest.mark.rfc("RFC 5353 3.6.2: the checksum is the Internet checksum of handles and identifiers")
@pytest.mark.parametrize("vector", RSPLIB, ids=lambda v: f"{len(v['pes'])} elements")
def test_the_checksum_is_rsplibs(vector: dict[str, Any]) -> None:
    total = sum(block_sum(bytes.fromhex(pe["pool_handle_hex"]), pe["pe_identifier"]) for pe in vector["pes"])
    assert f"{fold(total):04x}" == vector["pe_checksum_parameter_bytes"]


def test_there_are_twenty_vectors() -> None:
    assert len(RSPLIB) == 20


@pytest.mark.rfc("RFC 5353 3.6.2: the checksum is the Internet checksum of handles and identifiers")
@pytest.mark.parametrize(
    ("elements", "checksum"),
    [
        ([], 0xFFFF),
        ([(b"Pool1", 1)], 0x0F23),
        ([(b"Pool1", 1), (b"Pool1", 2)], 0x1E45),
        ([(b"EchoPool", 0x11223344)], 0x4DEB),
        ([(b"EchoPool", 0x11223344), (b"Pool1", 1)], 0x5D0E),
        ([(b"CalcAppPool", 0x5562E917)], 0x8490),
        ([(b"CalcAppPool", 0x3775A3BD)], 0xE7D7),
        ([(b"A", 0xFFFFFFFF)], 0xBEFF),
    ],
)
def test_the_checksum_covers_handles_and_identifiers_only(elements: list[tuple[bytes, int]], checksum: int) -> None:
    space = Handlespace(Random(0))
    for handle, identifier in elements:
        space.put(handle, element(identifier, home=7))
    assert space.checksum(7) == checksum
    assert space.checksum(8) == 0xFFFF


keys = st.tuples(st.sampled_from([b"a", b"bb", b"ccc", b"\xff" * 5]), st.integers(0, 3))
steps = st.lists(st.tuples(keys, st.sampled_from(["put", "move", "remove"]), st.integers(1, 3)), max_size=60)


@pytest.mark.rfc("RFC 5353 3.6.2: the checksum is the Internet checksum of handles and identifiers")
@given(steps=steps)
def test_the_checksum_kept_up_to_date_is_that_of_a_fresh_count(steps: list[tuple[tuple[bytes, int], str, int]]) -> None:
    space = Handlespace(Random(0))
    model: dict[tuple[bytes, int], int] = {}
    for key, what, home in steps:
        if what == "put":
            assert space.put(key[0], element(key[1], home=home))
            model[key] = home
        elif what == "remove":
            assert (space.remove(key) is not None) == (model.pop(key, None) is not None)
        elif key in model:
            space.set_home(key, home)
            model[key] = home
    for home in (1, 2, 3):
        mine = {key for key, owner in model.items() if owner == home}
        assert set(space.owned_by(home)) == mine
        assert space.count_owned_by(home) == len(mine)
        assert space.checksum(home) == fold(sum(block_sum(*key) for key in mine))
    assert len(space) == len(model)
    assert {(handle, e.identifier): e.home for handle, e in space} == model
