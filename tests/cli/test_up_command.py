# SPDX-License-Identifier: Apache-2.0
"""The command line of `rserpool up`: what it refuses before anything is started, and that nothing is left of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from rserpool_cli.main import main
from support.rig_model import runtime_folder

MANIFEST = """\
apiVersion: rserpool.io/v1alpha1
kind: ServerPool
metadata: {name: NAME, namespace: demo}
spec:
  elements: {port: 7007}
"""


@pytest.fixture(autouse=True)
def _nothing_is_left() -> Iterator[None]:
    with runtime_folder() as folder:
        yield
        assert list(folder.iterdir()) == []


def refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> list[str]:
    """What a command that cannot be done says."""
    assert main(words) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    lines: list[str] = captured.err.splitlines()
    assert all(line.startswith("rserpool up: ") for line in lines)
    return [line.removeprefix("rserpool up: ") for line in lines]


def written(folder: Path, *names: str, text: str = MANIFEST) -> str:
    file = folder / "pool.yaml"
    file.write_text("---\n".join(text.replace("NAME", name) for name in names))
    return str(file)


def test_a_pool_without_a_command_is_told_where_to_write_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    [line] = refused(["up", written(tmp_path, "echo")], capsys)
    assert line == (
        "demo/echo does not say which program to run: give one after --,"
        " or write it into the annotation rserpool.io/up-command"
    )


def test_each_fault_of_a_manifest_is_a_line_with_file_and_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = MANIFEST.replace("{port: 7007}", "{port: 70000}\n  polcy: {}\n  paused: 1")
    file = written(tmp_path, "echo", text=bad)
    assert sorted(refused(["up", file], capsys)) == [
        f"{file}:5: spec.elements.port: 70000: write 65535 or less",
        f"{file}:6: spec.polcy: unknown field; did you mean policy?",
        f"{file}:7: spec.paused: 1: write true or false",
    ]


def test_a_file_that_is_not_there_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert refused(["up", f"{tmp_path}/no.yaml"], capsys) == [
        f"{tmp_path}/no.yaml: cannot be read: no such file or directory"
    ]


def test_a_folder_without_a_pool_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    expected = f"{tmp_path}: there is no ServerPool (apiVersion rserpool.io/v1alpha1)"
    assert refused(["up", str(tmp_path)], capsys) == [expected]


def test_of_several_pools_one_has_to_be_chosen(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = written(tmp_path, "one", "two")
    assert refused(["up", file], capsys) == [
        f"{file}: there are several ServerPools (one, two); choose one with --pool"
    ]
    assert refused(["up", "--pool", "three", file], capsys) == [f"{file}: there is no ServerPool named three"]
    [line] = refused(["up", "--pool", "two", file], capsys)
    assert line.startswith("demo/two does not say which program to run")


def test_what_this_machine_cannot_run_is_said_before_anything_is_started(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = written(tmp_path, "echo", text=MANIFEST + "  transport: {order: [SCTP]}\n")
    [line] = refused(["up", file, "--", "serve"], capsys)
    assert "add TCP" in line


def test_scaling_what_does_not_run_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["scale", "3"]) == 3
    expected = "rserpool scale: no pool runs on this machine; start one with `rserpool up`\n"
    assert capsys.readouterr().err == expected
