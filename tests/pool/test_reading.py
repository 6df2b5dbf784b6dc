# SPDX-License-Identifier: Apache-2.0
"""Files and folders of manifests, and YAML that was written to do harm."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from rserpool.pool import ManifestError, read_manifests
from rserpool.pool.manifest import MOST_OCTETS, read_text


def manifest(*lines: str, name: str = "echo", port: str = "7007") -> str:
    """A pool with further lines of its spec."""
    head = f"apiVersion: rserpool.io/v1alpha1\nkind: ServerPool\nmetadata: {{name: {name}}}\n"
    return "\n".join((f"{head}spec:\n  elements: {{port: {port}}}", *lines, ""))


def refusal(text: str) -> ManifestError:
    with pytest.raises(ManifestError) as caught:
        read_text(text, "f.yaml")
    return caught.value


def test_a_folder_is_all_its_manifests_in_order_of_their_names(tmp_path: Path) -> None:
    for file in ("b.yaml", "a.yml", "c.json", "d.txt", "README.md"):
        (tmp_path / file).write_text(manifest(name=file[0]))
    found = read_manifests(tmp_path)
    assert [(m.pool.full_name, m.source) for m in found] == [
        (f"default/{name[0]}", str(tmp_path / name)) for name in ("a.yml", "b.yaml", "c.json")
    ]


def test_a_fault_in_a_folder_names_the_file_it_is_in(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(manifest())
    (tmp_path / "b.yaml").write_text(manifest(port="0"))
    with pytest.raises(ManifestError, match=r"b\.yaml:5: spec\.elements\.port: 0: write 1 or more"):
        read_manifests(tmp_path)


def test_what_is_no_file_is_said_with_its_name(tmp_path: Path) -> None:
    with pytest.raises(ManifestError) as caught:
        read_manifests(tmp_path / "nowhere.yaml")
    assert str(caught.value) == f"{tmp_path}/nowhere.yaml: cannot be read: no such file or directory"


@pytest.mark.parametrize(
    "text", ["", "---\n---\n", "just text", "- a\n- b\n", "kind: Service\n", "kind: [ServerPool]\n"]
)
def test_what_is_no_server_pool_is_passed_over(text: str) -> None:
    assert read_text(text, "file.yaml") == []


def test_all_faults_of_a_file_are_told_at_once_each_with_its_line() -> None:
    second = manifest("  security: {leafDuration: 1m}", "  controlChannel: true", port="7, protocol: SCTP")
    text = "---\n".join((manifest("  polcy: {}", "  timers:", "    heartbeatCycle: 5"), manifest(port="70000"), second))
    assert {line.partition(": ")[0] for line in refusal(text).lines()} == {f"f.yaml:{n}" for n in (6, 8, 14, 21, 22)}
    assert {p.field for p in refusal(text).problems} == {
        "spec.polcy", "spec.timers.heartbeatCycle", "spec.elements.port", "spec.security.leafDuration", "spec.controlChannel",
    }  # fmt: skip


def test_a_value_that_is_long_is_cut_short_on_one_line() -> None:
    [line] = refusal(manifest(f"  version: [{'1, ' * 500}2]")).lines()
    assert len(line) < 150
    assert "..." in line


def test_a_file_that_is_no_manifest_by_its_size_is_not_parsed() -> None:
    assert str(refusal("#" * (MOST_OCTETS + 1))) == f"f.yaml: is longer than {MOST_OCTETS} characters"
    assert read_text("#" * MOST_OCTETS, "file.yaml") == []


@pytest.mark.parametrize(
    "text",
    [
        manifest("  security: {revoked: &a [*a]}"),
        manifest("  registrars: &a {resources: {a: *a}}"),
        manifest(f"  registrars: {{resources: {{a: {'[' * 3000}{']' * 3000}}}}}"),
        manifest("  ? [a, b]", "  : 1"),
        manifest("  ? {a: b}", "  : 1"),
        manifest('  version: "\x00"'),
        manifest("  limits: {registrationsPerSecond: !!float ''}"),
        manifest(f"  elements2: 0x{'1' * 5000}"),
    ],
    ids=["list in itself", "mapping in itself", "deep", "list as name", "mapping as name", "NUL", "no float", "huge"],
)
def test_strange_yaml_is_refused_on_one_line_in_words_of_manifests(text: str) -> None:
    [line] = refusal(text).lines()
    assert "\n" not in line
    assert "Node(" not in line


def test_a_few_lines_that_stand_for_a_billion_are_refused() -> None:
    names = "abcdef"
    lines = [f"      {b}: &{b} [{', '.join([f'*{a}'] * 10)}]" for a, b in pairwise(names)]
    text = manifest("  registrars:", "    resources:", "      a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]", *lines)
    assert "alias" in str(refusal(text))
