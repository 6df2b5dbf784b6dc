# SPDX-License-Identifier: Apache-2.0
"""The page of conformance says what the tests say, and nothing that no test proves."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from conformance.catalogue import Requirement, chapters
from conformance.markers import MarkerError, Proof, all_proofs, proofs_of
from conformance.page import join, page

MARK = "@pytest.mark." + "rfc"  # in one piece it would count as a marker of this file
CHAPTERS = chapters()


@pytest.fixture(scope="module")
def proofs() -> tuple[Proof, ...]:
    return all_proofs()


def test_every_marker_names_a_requirement_and_every_requirement_has_a_test_or_a_reason(
    proofs: tuple[Proof, ...],
) -> None:
    assert join(CHAPTERS, proofs).faults == ()


def test_the_page_is_what_catalogue_and_markers_say(proofs: tuple[Proof, ...], repository: Path) -> None:
    text = page(join(CHAPTERS, proofs))
    assert (repository / "docs" / "conformance.md").read_text() == text, "run `make docs`"
    assert all(requirement.name in text for chapter in CHAPTERS for requirement in chapter.requirements)


def test_a_page_from_which_a_marker_is_missing_is_another_one(proofs: tuple[Proof, ...]) -> None:
    whole = page(join(CHAPTERS, proofs))
    for index in range(0, len(proofs), 25):
        assert page(join(CHAPTERS, proofs[:index] + proofs[index + 1 :])) != whole


def test_a_requirement_that_loses_its_only_test_is_a_fault(proofs: tuple[Proof, ...]) -> None:
    names = [proof.name for proof in proofs]
    (lonely, *_) = (r for chapter in CHAPTERS for r in chapter.requirements if names.count(r.name) == 1)
    left = [proof for proof in proofs if proof.name != lonely.name]
    assert join(CHAPTERS, left).faults == (f"no test is marked {lonely.name!r}, and nothing says why",)


def test_a_marker_that_names_nothing_is_a_fault() -> None:
    for name in ("RFC 5352 99.9", "RFC 535", "RFC 5352 3.1: something else", "RFC 5352 3.1.9"):
        faults = join(CHAPTERS, [Proof("asap/test_x.py", "test_y", name)]).faults
        assert any("test_y" in fault and repr(name) in fault for fault in faults)


def test_a_test_of_what_is_said_to_have_none_is_a_fault() -> None:
    (without, *_) = (r for chapter in CHAPTERS for r in chapter.requirements if r.without)
    proof = Proof("asap/test_x.py", "test_y", without.name)
    assert f"{without.name!r} has a test, and a reason why it has none" in join(CHAPTERS, [proof]).faults


@pytest.mark.parametrize("section", [CHAPTERS[0].requirements[0].section, "RFC 5356 4", "RFC 5356 5.1"])
def test_a_section_or_a_chapter_alone_is_shown_as_such(section: str) -> None:
    joined = join(CHAPTERS, [Proof("asap/test_x.py", "test_y", section)])
    assert not any("test_y" in fault for fault in joined.faults)
    assert f"| {section} | [test_x::test_y](../tests/asap/test_x.py) |" in page(joined)


def test_markers_are_read_from_functions_methods_and_coroutines() -> None:
    source = f"""
{MARK}("RFC 1: a")
{MARK}("RFC 1: b")
@pytest.mark.parametrize("x", [1, 2])
def test_one(x: int) -> None: ...

{MARK}("RFC 2: c", "RFC 2: e")
async def test_two() -> None: ...

class TestThree:
    {MARK}("RFC 3: d")
    def test_four(self) -> None: ...
"""
    assert [(p.test, p.name) for p in proofs_of(source, "x.py")] == [
        ("test_one", "RFC 1: a"),
        ("test_one", "RFC 1: b"),
        ("test_two", "RFC 2: c"),
        ("test_two", "RFC 2: e"),
        ("test_four", "RFC 3: d"),
    ]


@pytest.mark.parametrize(
    ("source", "why"),
    [
        (f'{MARK}("a")\ndef helper(): ...', "is no test"),
        (f'{MARK}("a")\n@pytest.mark.skip(reason="later")\ndef test_x(): ...', "proves nothing"),
        (f'{MARK}("a")\n@pytest.mark.xfail\ndef test_x(): ...', "proves nothing"),
        (f"{MARK}(NAME)\ndef test_x(): ...", "plain text"),
        (f'{MARK}("a", NAME)\ndef test_x(): ...', "plain text"),
        (f"{MARK}\ndef test_x(): ...", "plain text"),
        (f'BOTH = {MARK.removeprefix("@")}("a")\n@BOTH\ndef test_x(): ...', "1 markers are mentioned and 0"),
        (f'def test_x():\n    {MARK}("a")\n    def test_y(): ...', "1 markers are mentioned and 0"),
    ],
)
def test_a_marker_that_proves_nothing_or_cannot_be_read_is_an_error(source: str, why: str) -> None:
    with pytest.raises(MarkerError, match=re.escape(why)):
        proofs_of(source, "x.py")


def test_a_file_without_markers_is_not_even_parsed() -> None:
    assert proofs_of("this is no Python", "x.py") == ()


def test_names_have_a_section_and_words() -> None:
    requirement = Requirement(name="RFC 5353 3.5.1: the target: alive", level="MUST", text="It is.")
    assert (requirement.section, requirement.words) == ("RFC 5353 3.5.1", "the target: alive")
