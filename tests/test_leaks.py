# SPDX-License-Identifier: Apache-2.0
"""Secrets that a test lets out are found, wherever they are told, and what pytest says then does not tell them again."""

from __future__ import annotations

import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from support.leaks import Known

SAMPLE: Final = Path(__file__).parent / "support" / "leaks" / "sample.py"
PLACES: Final = {
    "key_sec1": "Captured stdout call",
    "stderr": "Captured stderr call",
    "log": "Captured log call",
    "log_trace": "Captured log call",
    "log_below_level": "the log of rserpool.sample, below its level",
    "expected": "an exception that the test expected",
    "exception": "the exception that ended the test",
    "taken": "stdout that the test took",
    "file": "the log daemon.log, line 2",
    "secret_in_file": "the log daemon.log, line 1: the secret in a file element.token",
    "program": "stdout of a program",
    "daemon": "the log elsewhere",
    "signature": "Captured stdout call",
    "event": "an Event of ",
    "status": "status of ",
}
KINDS: Final = ("p256", "rsa", "ed25519")
FORMS: Final = ("base64", "base64_urlsafe", "pem", "pem_escaped", "hex", "decimal", "repr")
CLEAN: Final = ("certificate", "public_key", "short", "assertion")


@dataclass(frozen=True)
class Ran:
    """The sample's tests.

    Attributes:
        failures: what is said, by test; nothing for one that passed.
        said: everything that was written.
        made: its secrets.
    """

    failures: dict[str, str]
    said: str
    made: list[str]


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory, repository: Path) -> Ran:
    folder = tmp_path_factory.mktemp("leaks")
    report, made = folder / "report.xml", folder / "made"
    words = [
        "-p",
        "no:xdist",
        "-p",
        "no:cacheprovider",
        "-vv",
        "-rA",
        f"--junitxml={report}",
        f"--basetemp={folder / 'tmp'}",
    ]
    with (folder / "said").open("wb") as output:
        done = subprocess.run(
            [sys.executable, "-m", "pytest", *words, str(SAMPLE)],
            env={**os.environ, "LEAKS_MADE": str(made), "PYTEST_ADDOPTS": ""},
            cwd=repository,
            stdout=output,
            stderr=subprocess.STDOUT,
            timeout=100,
            check=False,
        )
    said = (folder / "said").read_text() + report.read_text()
    assert done.returncode == 1, said
    return Ran(dict(_failures(report)), said, made.read_text().splitlines())


def _failures(report: Path) -> Iterator[tuple[str, str]]:
    found: dict[str, str] = {}
    for case in ET.parse(report).iter("testcase"):
        told = [part.text or "" for kind in ("failure", "error") for part in case.findall(kind)]
        found[case.attrib["name"]] = found.get(case.attrib["name"], "") + "".join(told)
    yield from found.items()


@pytest.mark.parametrize("name", PLACES)
def test_it_is_found_and_its_place_is_said(ran: Ran, name: str) -> None:
    assert ran.failures[f"test_leak_{name}"].startswith("A secret is told (it is not repeated here):")
    assert PLACES[name] in ran.failures[f"test_leak_{name}"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("form", FORMS)
def test_a_key_is_found_in_every_form(ran: Ran, kind: str, form: str) -> None:
    told = ran.failures[f"test_leak_key[{kind}-{form}]"]
    assert "Captured stdout call, line " in told
    assert "private key" in told


def test_a_warning_is_found_by_the_next_test(ran: Ran) -> None:
    assert any("a warning in " in told for told in ran.failures.values())


@pytest.mark.parametrize("name", CLEAN)
def test_what_is_public_or_short_is_no_secret(ran: Ran, name: str) -> None:
    assert ran.failures[f"test_clean_{name}"] == ""


def test_nothing_that_is_said_then_tells_it_again(ran: Ran) -> None:
    assert len(ran.made) > len(PLACES) + len(KINDS) * len(FORMS)
    for secret in ran.made:
        parts = [part for part in secret.replace("\\n", "\n").split("\n") if len(part) > 16]
        assert not any(part in ran.said for part in parts), "it is told again"


def test_a_word_is_found_in_a_text_of_a_megabyte() -> None:
    known = Known()
    known.octets(bytes(range(40, 72)), "a key")
    text = ("x y" * 33 + "\n") * 10_000 + f"key {bytes(range(40, 72)).hex()}\n"
    assert [(place.line, place.what) for place in known.find(text)] == [(10_001, "a key")]
    assert known.hidden(text).endswith("x y\n(a line with a secret)\n")
