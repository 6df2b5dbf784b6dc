# SPDX-License-Identifier: Apache-2.0
"""The list of branches that nothing takes says what is the case, or the check fails."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from simulation import branches
from simulation.branches import Branch

SOURCE = "def f(x):\n    if x:\n        return 1\n    return 2\n"
BRANCH = Branch("a.py", "if x:", "return 1")
ENTRY = '[[branch]]\nfile = "a.py"\nline = "if x:"\nto = "return 1"\nreason = "x is never true"\n'


def report(missing: list[list[int]], covered: int = 99) -> dict[str, object]:
    summary = {"num_branches": 100, "covered_branches": covered}
    return {"files": {"protocol/rserpool/a.py": {"missing_branches": missing, "summary": summary}}, "totals": summary}


@pytest.fixture
def sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "protocol/rserpool").mkdir(parents=True)
    (tmp_path / "protocol/rserpool/a.py").write_text(SOURCE)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_branch_is_named_by_what_its_lines_say(sources: Path) -> None:
    assert list(branches.missing(report([[2, 3], [2, -1]]), sources)) == [BRANCH, Branch("a.py", "if x:", "return")]


def test_the_list_must_be_the_case() -> None:
    listed = branches.listed(ENTRY)
    assert branches.differences({BRANCH}, listed) == []
    assert branches.differences({BRANCH}, {}) == ["not taken, and not listed: a.py: if x: -> return 1"]
    assert branches.differences(set(), listed) == ["listed, but taken or gone: a.py: if x: -> return 1"]
    assert branches.differences({BRANCH}, {BRANCH: ""}) == ["listed without a reason: a.py: if x:"]


@pytest.mark.parametrize(("covered", "fails"), [(96, 0), (94, 1)])
def test_less_than_95_percent_fail(
    sources: Path, covered: int, fails: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(branches, "LIST", sources / "list.toml")
    (sources / "list.toml").write_text(ENTRY)
    (sources / "report").write_text(json.dumps(report([[2, 3]], covered)))
    assert branches.main("report") == fails
    assert f"{covered}.00 %" in capsys.readouterr().out


def test_every_excuse_of_ours_has_its_reason_and_a_line_that_is_there() -> None:
    listed = branches.listed(branches.LIST.read_text())
    assert listed
    protocol = Path(__file__).parents[2] / "protocol/rserpool"
    for branch, reason in listed.items():
        lines = {line.strip() for line in (protocol / branch.file).read_text().splitlines()}
        assert branch.line in lines, branch
        assert branch.to in lines | {"return"}, branch
        assert len(reason) > 20
