# SPDX-License-Identifier: Apache-2.0
"""What the pages say is so: links lead somewhere, generated parts are fresh, every metric, option and threat is there."""

from __future__ import annotations

import argparse
import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

from rserpool import __version__
from rserpool.daemon.metrics import THREATS
from rserpool_cli.main import build_parser
from rserpool_operator.metrics import OperatorMetrics
from rserpool_operator.reasons import TABLE, Reason

LINK = re.compile(r"\]\(([^)#]+)(?:#[^)]*)?\)")
REPOSITORY = Path(__file__).parent.parent
PAGES = sorted([*REPOSITORY.glob("*.md"), *REPOSITORY.glob("docs/*.md"), *REPOSITORY.glob("*/README.md")])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_every_link_leads_to_a_file_of_this_repository(page: Path) -> None:
    text = re.sub(r"`[^`\n]*`", "", page.read_text())  # code may look like a link
    links = [link for link in LINK.findall(text) if "://" not in link]
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_the_configuration_page_is_what_the_code_says() -> None:
    generate = _module(REPOSITORY / "docs" / "generate.py")
    assert (REPOSITORY / "docs" / "configuration.md").read_text() == generate.configuration()


def test_the_page_of_reasons_is_what_the_code_says() -> None:
    generate = _module(REPOSITORY / "docs" / "generate.py")
    assert (REPOSITORY / "docs" / "reasons.md").read_text() == generate.reasons()
    assert set(TABLE) == set(Reason)


def test_every_reason_on_the_page_is_one_that_the_operator_gives() -> None:
    rooms = (REPOSITORY / "operator").rglob("*.py")
    code = "".join(room.read_text() for room in rooms if room.name != "reasons.py")
    assert [reason.name for reason in Reason if not re.search(rf"Reason\.{reason.name}\b", code)] == []


def test_every_metric_of_the_operator_is_on_the_page() -> None:
    page = (REPOSITORY / "docs" / "metrics.md").read_text()
    names = {metric.name for metric in OperatorMetrics().registry.collect() if metric.name.startswith("rserpool_")}
    assert {name for name in names if f"`{name}" not in page} == set()


def test_every_threat_has_one_row() -> None:
    rows = re.findall(r"^\| (2\.\d+) \|", (REPOSITORY / "docs" / "threats.md").read_text(), re.MULTILINE)
    assert tuple(rows) == THREATS


def test_every_command_and_option_is_on_the_page() -> None:
    page = (REPOSITORY / "docs" / "commands.md").read_text()
    commands = next(a for a in build_parser()._actions if isinstance(a, argparse._SubParsersAction))
    for name, parser in commands.choices.items():
        assert f"`rserpool {name}" in page
        for action in parser._actions:
            longest = max(action.option_strings, key=len, default="")
            assert longest in ("--help", "--output") or longest in page


def _module(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_example_runs_images_of_this_version() -> None:
    tags = set(re.findall(r"rserpool-node:(\S+)", (REPOSITORY / "examples" / "echo" / "application.yaml").read_text()))
    assert tags == {__version__}
