# SPDX-License-Identifier: Apache-2.0
"""What is known of every target: its seeds are taken, what was a fault once is none any more, and a fault is noticed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from fuzz.targets import TARGETS
from fuzz.trial import CORPUS, REGRESSIONS, FaultError, Target, always, attempt, keep

ALL = pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
MUTATIONS = 250
pytestmark = pytest.mark.filterwarnings("ignore::cryptography.utils.CryptographyDeprecationWarning")


def mutated(octets: bytes, rng: Random, longest: int) -> bytes:
    """A few changes of the kind that break parsers."""
    for _ in range(rng.randrange(1, 5)):
        at = rng.randrange(len(octets) + 1)
        match rng.randrange(5):
            case 0:
                octets = octets[:at] + rng.randbytes(1) + octets[at + 1 :]
            case 1:
                octets = octets[:at]
            case 2:
                octets = octets[:at] + rng.choice([b"\0", b"\xff", b"\xff\xff", b"[", b"\0" * 64]) + octets[at:]
            case 3:
                octets = octets[:at] + octets[at + rng.randrange(1, 9) :]
            case _:
                octets += octets[at:]
    return octets[:longest]


@pytest.mark.rfc("PROTOCOL 2.3: any octets whatever are read or refused")
@ALL
def test_a_target_takes_its_seeds_for_little_memory(target: Target) -> None:
    seeds = list(target.seeds())
    assert seeds
    with target.open() as read:
        taken = [attempt(target, read, seed, weigh=False) for seed in seeds]  # what is loaded once is not counted
        assert any(taken)
        for seed in seeds[:5]:
            attempt(target, read, seed, weigh=True)


@pytest.mark.rfc("PROTOCOL 2.3: any octets whatever are read or refused")
@ALL
def test_what_was_found_once_and_changed_seeds_are_no_fault(target: Target) -> None:
    rng, known = Random(target.name), list(target.inputs())
    with target.open() as read:
        for octets in known:
            attempt(target, read, octets, weigh=False)
        for _ in range(MUTATIONS):
            attempt(target, read, mutated(rng.choice(known), rng, target.longest), weigh=False)


def test_every_kept_input_belongs_to_a_target_and_is_small() -> None:
    kept = [path for folder in (CORPUS, REGRESSIONS) for path in folder.glob("*/*")]
    assert {path.parent.name for path in kept} <= set(TARGETS)
    assert sum(path.stat().st_size for path in kept) < 512 * 1024


def small(read: object, **changes: object) -> Target:
    return Target(name="small", open=always(read), seeds=list, **changes)  # type: ignore[arg-type] # what is good is the target to judge


def burns(octets: bytes) -> None:
    begun = time.process_time()
    while octets and time.process_time() - begun < 2.2:
        pass


def grows(octets: bytes) -> None:
    assert len(b"x" * (len(octets) * 1024 * 1024)) % 1024 == 0


def breaks(octets: bytes) -> None:
    if octets:
        raise KeyError(octets)


@pytest.mark.parametrize(("reader", "why"), [(burns, "processor"), (grows, "memory"), (breaks, "KeyError")])
def test_an_input_that_burns_or_grows_or_breaks_is_a_fault(reader: object, why: str) -> None:
    target = small(reader)
    with target.open() as read:
        assert attempt(target, read, b"", weigh=True)
        with pytest.raises(FaultError, match=why):
            attempt(target, read, b"abc", weigh=reader is grows)


def test_what_a_reader_documents_is_no_fault() -> None:
    target = small(breaks, refuses=(KeyError,))
    with target.open() as read:
        assert not attempt(target, read, b"abc", weigh=False)


def test_an_input_is_kept_once_under_the_name_of_its_contents(tmp_path: Path) -> None:
    assert keep(b"abc", tmp_path / "t") == keep(b"abc", tmp_path / "t")
    assert [path.read_bytes() for path in (tmp_path / "t").iterdir()] == [b"abc"]


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Refused inputs are logged, as they should be; here nobody reads it."""
    with caplog.at_level("CRITICAL"):
        yield
