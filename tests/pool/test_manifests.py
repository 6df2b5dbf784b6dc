# SPDX-License-Identifier: Apache-2.0
"""Every manifest of the folder: the good ones are read as their first lines say, each bad one is refused where it should.

Good: ``# reads: FIELD = VALUE`` (of the last pool), ``# pools: N``. Bad: ``# field:`` and ``# says:`` are the one fault
and what is said of it, ``# here`` ends its line.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from rserpool.pool import ManifestError, read_manifests
from rserpool.pool.manifest import read_text

FOLDER = Path(__file__).parent / "manifests"
GOOD = sorted((FOLDER / "good").iterdir())
BAD = sorted((FOLDER / "bad").iterdir())


def heading(file: Path, key: str) -> list[str]:
    """What the comments at the top of a file say of this."""
    lines = file.read_text(errors="replace").splitlines()
    return [line.removeprefix(f"# {key}:").strip() for line in lines if line.startswith(f"# {key}:")]


def field(data: Any, path: str) -> Any:
    """A field by its path; a key may have dots in it."""
    if path in data:
        return data[path]
    first, _, rest = path.partition(".")
    return field(data[first], rest)


def test_there_are_manifests_of_both_kinds() -> None:
    assert len(GOOD) > 40
    assert len(BAD) > 150


@pytest.mark.parametrize("file", GOOD, ids=lambda f: f.stem)
def test_a_good_manifest_is_read_as_it_says(file: Path) -> None:
    manifests = read_manifests(file)
    assert len(manifests) == int((heading(file, "pools") or ["1"])[0])
    assert {m.source for m in manifests} == {str(file)}
    read = manifests[-1].pool.model_dump(mode="json", by_alias=True)
    said = [line.partition(" = ") for line in heading(file, "reads")]
    assert said
    for path, _, value in said:
        assert field(read, path) == yaml.safe_load(value), path


@pytest.mark.parametrize("file", GOOD, ids=lambda f: f.stem)
def test_what_was_read_can_be_written_and_read_again(file: Path) -> None:
    for manifest in read_manifests(file):
        [again] = read_text(manifest.pool.model_dump_json(by_alias=True), "again")
        assert again.pool == manifest.pool


@pytest.mark.parametrize("file", BAD, ids=lambda f: f.stem)
def test_a_bad_manifest_is_refused_where_its_fault_is(file: Path) -> None:
    with pytest.raises(ManifestError) as caught:
        read_manifests(file)
    [problem] = caught.value.problems
    assert problem.field == heading(file, "field")[0]
    assert [text for text in heading(file, "says") if text not in problem.message] == []
    here = [n for n, line in enumerate(file.read_bytes().splitlines(), 1) if line.endswith(b"# here")]
    where = f"{file}:{here[0]}" if here else str(file)
    assert list(caught.value.lines()) == [f"{where}: {problem}"]
    assert str(caught.value) == f"{where}: {problem}"
    assert "\n" not in str(problem)
