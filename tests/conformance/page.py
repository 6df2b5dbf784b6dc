# SPDX-License-Identifier: Apache-2.0
"""docs/conformance.md: the catalogue joined with the markers, so that the page cannot say what no test proves."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from conformance.catalogue import LEVELS, Chapter, Requirement
from conformance.markers import Proof


@dataclass(frozen=True, slots=True)
class Joined:
    """The catalogue with its proofs.

    Attributes:
        chapters: as in the catalogue.
        proofs: of each requirement, by name.
        sections: markers that name a section or a chapter only, by its number.
        faults: what is wrong, in words; empty in a state that may be released.
    """

    chapters: tuple[Chapter, ...]
    proofs: dict[str, list[Proof]]
    sections: dict[str, list[Proof]]
    faults: tuple[str, ...]


def join(chapters: Sequence[Chapter], proofs: Iterable[Proof]) -> Joined:
    """Give each requirement its proofs, and find what has none."""
    required = [r for chapter in chapters for r in chapter.requirements]
    by_name: dict[str, list[Proof]] = {r.name: [] for r in required}
    sections = {r.section: None for r in required}
    by_section: dict[str, list[Proof]] = {}
    faults = []
    for proof in proofs:
        if proof.name in by_name:
            by_name[proof.name].append(proof)
        elif any(_is_in(section, proof.name) for section in sections):
            by_section.setdefault(proof.name, []).append(proof)
        else:
            faults.append(f"{proof.file}::{proof.test}: {proof.name!r} is neither a requirement nor a section of one")
    for requirement in required:
        if not by_name[requirement.name] and not requirement.without:
            faults.append(f"no test is marked {requirement.name!r}, and nothing says why")
        if by_name[requirement.name] and requirement.without:
            faults.append(f"{requirement.name!r} has a test, and a reason why it has none")
    return Joined(tuple(chapters), by_name, by_section, tuple(faults))


def _is_in(section: str, chapter: str) -> bool:
    """Whether a section is that chapter, or part of it."""
    return f"{section}.".startswith(f"{chapter}.")


def page(joined: Joined) -> str:
    """The page's text."""
    required = [r for chapter in joined.chapters for r in chapter.requirements]
    counts = [_counted(joined, [r for r in required if r.level == level]) for level in LEVELS]
    rows = "\n".join(f"| {level} | {a} | {b} | {c} |" for level, (a, b, c) in zip(LEVELS, counts, strict=True))
    further = zip(joined.chapters, _by_chapter(joined), strict=True)
    parts = "\n".join(_chapter(chapter, joined.proofs, sections) for chapter, sections in further)
    return f"""\
# Conformance

<!-- Written by `make docs` from the catalogue in tests/conformance/catalogue and the markers of the tests; do not edit. -->

What RFC 5352 to 5356, RFC 3237 and the threats document require of a registrar, a pool element and a pool user, and
which test proves it. *Project* marks a choice of ours where the RFCs leave one; its number is that of the project's own
checklist. A requirement without a test says why. A test proves a requirement by its marker
(`@pytest.mark.rfc("...")`); `make test` fails when a marker names nothing, when a requirement has neither test nor
reason, and when this page is out of date.

| level | requirements | proved by a test | without |
|---|---|---|---|
{rows}

{parts}"""


def _counted(joined: Joined, required: Sequence[Requirement]) -> tuple[int, int, int]:
    proved = sum(bool(joined.proofs[r.name]) for r in required)
    return len(required), proved, len(required) - proved


def _chapter(chapter: Chapter, proofs: Mapping[str, Sequence[Proof]], further: Mapping[str, Sequence[Proof]]) -> str:
    rows = [_row(r, proofs[r.name]) for r in chapter.requirements]
    lines = [
        f"## {chapter.title}",
        "",
        "| requirement | level | in short | test, or why not |",
        "|---|---|---|---|",
        *rows,
    ]
    if further:
        lines += ["", "Tests of a section as a whole:", "", "| section | tests |", "|---|---|"]
        lines += [f"| {section} | {_tests(tests)} |" for section, tests in further.items()]
    return "\n".join([*lines, ""])


def _by_chapter(joined: Joined) -> Iterator[dict[str, list[Proof]]]:
    """The tests of whole sections, each shown in the first chapter that has to do with it."""
    left = dict(sorted(joined.sections.items()))
    for chapter in joined.chapters:
        here = [name for name in left if any(_is_in(r.section, name) for r in chapter.requirements)]
        yield {name: left.pop(name) for name in here}


def _row(requirement: Requirement, proofs: Sequence[Proof]) -> str:
    shown = _tests(proofs) if proofs else f"*{requirement.without}*"
    return f"| {requirement.section}: {requirement.words} | {requirement.level} | {requirement.text} | {shown} |"


def _tests(proofs: Iterable[Proof]) -> str:
    return "<br>".join(f"[{_stem(p)}::{p.test}](../tests/{p.file})" for p in sorted(set(proofs)))


def _stem(proof: Proof) -> str:
    return proof.file.rpartition("/")[2].removesuffix(".py")
