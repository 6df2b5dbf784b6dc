# SPDX-License-Identifier: Apache-2.0
"""What judges all attacks can judge: it fails when an attack has succeeded, and when nothing was refused."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from attacks.kit import undisturbed as judge
from attacks.kit.system import System, weakened_system
from attacks.kit.undisturbed import undisturbed
from rserpool.wire import Ppid
from support.rig_refusals import asap_line, registration
from support.rogue import Line


@pytest.fixture(scope="module")
def system() -> Iterator[System]:
    """One in which everybody is taken for an element."""
    with weakened_system("element-role", registrars=1, driven=True) as running:
        yield running


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judge, "SETTLED", 0.5)
    monkeypatch.setattr(judge, "COUNTED", 0.5)


def test_it_sees_that_nothing_was_refused(system: System) -> None:
    with pytest.raises(AssertionError, match=r"a refusal under 2\.1"), undisturbed(system, threat="2.1"):
        pass


def test_it_sees_a_false_element_and_that_users_were_told_of_it(system: System) -> None:
    rogue, began = system.stranger(), len(system.operations)

    def attack(line: Line) -> None:
        with undisturbed(system, refused=False):
            line.say(registration(0x0BADE1E3, rogue.source))
            line.hear()

    with asap_line(rogue, system.a.registrars[0]) as line:
        with pytest.raises(AssertionError, match=rogue.source):
            attack(line)
        system.wait(
            "the driver was told of it",
            lambda: any(rogue.source in operation.failure for operation in system.operations[began:]),
        )


def test_it_sees_what_was_counted_under_another_threat(system: System) -> None:
    rogue, target = system.stranger(), system.a.registrars[0]

    def attack() -> None:
        with undisturbed(system, threat="2.1"), rogue.plain(target.address, target.asap_port, Ppid.ASAP) as line:
            line.say(registration(7, rogue.source))
            line.fate()
            with rogue.plain(target.address, target.asap_port, Ppid.ASAP) as other:
                other.shout(rogue.hello()[:5] + bytes(4000))
                other.fate()

    with pytest.raises(AssertionError, match="counted"):
        attack()
