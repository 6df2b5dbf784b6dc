# SPDX-License-Identifier: Apache-2.0
"""Processes under supervision: started, started again, ended with all they started, and never left behind."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Awaitable, Callable, Iterator
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from rserpool_cli.up import supervisor
from rserpool_cli.up.loopback import Place
from rserpool_cli.up.plan import ProcessPlan
from rserpool_cli.up.supervisor import Supervised, end_all
from support.rig_model import eventually

MARK = "RSERPOOL_TEST_SUPERVISOR"
OURS = os.environ.get(MARK) or str(uuid.uuid4())
SLEEP = "sleep 600"
IGNORES = "trap '' TERM; echo here; while :; do sleep 600; done"


class Process(Supervised):
    """One that remembers what it was told."""

    def __init__(
        self,
        *command: str,
        restart: float = 0.0,
        log: Path | None = None,
        folder: Path | None = None,
        process_file: Path | None = None,
        **environment: str,
    ) -> None:
        place = Place(IPv4Address("127.0.0.1"), {})
        plan = ProcessPlan(
            name="p",
            kind="application",
            command=command,
            environment={**environment, MARK: OURS},
            place=place,
            folder=folder,
            process_file=process_file,
        )
        super().__init__(plan, log, restart)
        self.lines: list[str] = []
        self.statuses: list[int] = []
        self.pids: list[int] = []
        self.on_line = lambda _, line: self.lines.append(line)
        self.on_exit = lambda _, status: self.statuses.append(status)
        self.on_start = lambda p: self.pids.append(p.pid or 0)

    async def until(self, condition: Callable[[], object]) -> None:
        async def met() -> bool:
            return bool(condition())

        await eventually(met, "it is so")

    async def without(self, pid: int) -> None:
        """Wait until that process is gone: soon, since it was told to go."""
        async with asyncio.timeout(3):
            await self.until(lambda: not lives(pid))

    async def says(self, count: int) -> None:
        await self.until(lambda: len(self.lines) >= count)


def shell(script: str, **options: float) -> Process:
    return Process("/bin/sh", "-c", script, restart=options.get("restart", 0.0))


def lives(pid: int) -> bool:
    """Whether a process is there, and not only its status."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


@pytest.fixture(autouse=True)
def _what_a_failed_test_leaves_is_ended() -> Iterator[None]:
    """Only what bears this run's own mark in its environment: other people's processes are none of our business."""
    yield
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if f"{MARK}={OURS}".encode() in (folder / "environ").read_bytes().split(b"\0"):
                os.kill(int(folder.name), signal.SIGKILL)


def run(body: Callable[[], Awaitable[None]]) -> None:
    async def main() -> None:
        async with asyncio.timeout(30):
            await body()

    asyncio.run(main())


def test_lines_environment_and_folder(tmp_path: Path) -> None:
    async def body() -> None:
        script = "echo $WHO; pwd; printf 'no end \\377' >&2"
        process = Process("/bin/sh", "-c", script, folder=tmp_path, WHO="me")
        process.start()
        await process.until(lambda: process.statuses)
        assert process.lines == ["me", str(tmp_path), "no end \ufffd"]
        assert (process.statuses, process.lives, process.pid) == ([0], 1, None)

    run(body)


def test_what_it_says_goes_into_its_log_if_it_has_one_after_what_is_there(tmp_path: Path) -> None:
    async def body() -> None:
        log = tmp_path / "p.log"
        log.write_text("before\n")
        process = Process("/bin/sh", "-c", "echo out; echo err >&2; exit 3", log=log)
        process.start()
        await process.until(lambda: process.statuses)
        assert (log.read_text(), process.lines, process.statuses) == ("before\nout\nerr\n", [], [3])

    run(body)


def test_a_line_without_end_is_left_out_and_the_next_one_told() -> None:
    async def body() -> None:
        process = Process(sys.executable, "-c", "print('x' * 300_000); print('after')")
        process.start()
        await process.until(lambda: process.statuses)
        assert process.lines[-1] == "after"

    run(body)


def test_a_program_that_is_not_there_is_named(tmp_path: Path) -> None:
    async def body() -> None:
        for command, reason in (("no-such-program", "No such file or directory"), (str(tmp_path), "Permission denied")):
            process = Process(command)
            process.start()
            await process.says(1)
            assert process.lines == [f"cannot be started: {command}: {reason}"]
            assert (process.statuses, process.lives, process.pid) == ([], 0, None)

    run(body)


def test_what_dies_is_started_again_and_told_each_time() -> None:
    async def body() -> None:
        process = shell("echo $$; exit 7", restart=0.01)
        process.start()
        await process.until(lambda: process.lives >= 3)
        await process.end()
        assert process.statuses[:2] == [7, 7]
        assert [str(pid) for pid in process.pids[:2]] == process.lines[:2]
        assert len(set(process.pids)) == len(process.pids)

    run(body)


def test_what_was_killed_is_told_with_the_signal() -> None:
    async def body() -> None:
        process = shell("kill -9 $$")
        process.start()
        await process.until(lambda: process.statuses)
        assert process.statuses == [-9]

    run(body)


def test_what_keeps_dying_is_started_less_and_less_often(monkeypatch: pytest.MonkeyPatch) -> None:
    async def body() -> None:
        pauses: list[float] = []
        sleep = asyncio.sleep

        async def counted(seconds: float) -> None:
            pauses.append(seconds)
            await sleep(0)

        monkeypatch.setattr(asyncio, "sleep", counted)
        process = shell("exit 1", restart=3)
        process.start()
        while len(pauses) < 6:
            await sleep(0.01)
        monkeypatch.undo()
        await process.end()
        assert pauses[:6] == [3, 6, 12, 24, 30, 30]

    run(body)


def test_ending_between_two_lives_is_final() -> None:
    async def body() -> None:
        process = shell("exit 1", restart=600)
        process.start()
        await process.until(lambda: process.statuses)
        await process.end()
        assert (process.lives, process.statuses) == (1, [1])

    run(body)


@pytest.mark.parametrize("turns", [0, 1, 2, 3, 5])
def test_ending_at_any_moment_of_the_start_leaves_nothing(turns: int) -> None:
    async def body() -> None:
        process = shell(SLEEP)
        process.start()
        for _ in range(turns):
            await asyncio.sleep(0)
        async with asyncio.timeout(5):
            await process.end()
        assert process.statuses == []
        assert not any(lives(pid) for pid in process.pids)

    run(body)


def test_an_end_that_was_asked_for_is_no_death_and_ends_children_too() -> None:
    async def body() -> None:
        process = shell(f"{SLEEP} & echo $!; wait", restart=0.01)
        process.start()
        await process.says(1)
        await process.end()
        await process.without(int(process.lines[0]))
        assert (process.statuses, process.lives) == ([], 1)

    run(body)


def test_what_ignores_the_request_is_made_to_end_with_its_children(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "PATIENCE", 0.2)

    async def body() -> None:
        process = shell(f"({IGNORES}) & echo $!; {IGNORES}")
        process.start()
        await process.says(3)
        await process.end()
        await process.without(process.pids[0])
        await process.without(next(int(line) for line in process.lines if line.isdigit()))

    run(body)


@pytest.mark.parametrize("output", ["", ">/dev/null 2>&1"], ids=["holds its output", "holds nothing"])
def test_a_child_that_ignores_the_request_does_not_outlive_a_parent_that_obeys(
    output: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "PATIENCE", 0.2)

    async def body() -> None:
        process = shell(
            f"trap '' TERM; (while :; do {SLEEP}; done) {output} & child=$!; trap - TERM; echo $child; wait"
        )
        process.start()
        await process.says(1)
        await process.end()
        await process.without(int(process.lines[0]))

    run(body)


@pytest.mark.parametrize("output", ["", ">/dev/null 2>&1"], ids=["holds its output", "holds nothing"])
def test_what_dies_takes_its_children_with_it_before_it_is_started_again(output: str) -> None:
    async def body() -> None:
        process = shell(f"{SLEEP} {output} & echo $!; exit 1", restart=0.01)
        process.start()
        async with asyncio.timeout(5):
            await process.until(lambda: process.lives >= 2)
        await process.without(int(process.lines[0]))
        await process.end()

    run(body)


def test_all_are_ended_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "PATIENCE", 0.5)

    async def body() -> None:
        processes = [shell(IGNORES) for _ in range(4)]
        for process in processes:
            process.start()
        for process in processes:
            await process.says(1)
        began = asyncio.get_running_loop().time()
        await end_all(processes)
        assert asyncio.get_running_loop().time() - began < 4 * 0.5
        assert not any(lives(pid) for p in processes for pid in p.pids)

    run(body)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child of its parent's death")
def test_what_is_supervised_does_not_outlive_a_supervisor_that_was_killed() -> None:
    script = (
        "import asyncio; from cli.test_up_supervisor import Process\n"
        "async def main():\n"
        "    process = Process('/bin/sleep', '600'); process.start()\n"
        "    await process.until(lambda: process.pids); print(process.pids[0], flush=True)\n"
        "    await asyncio.sleep(600)\n"
        "asyncio.run(main())"
    )
    path = os.pathsep.join(["tests", *sys.path])
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, text=True,
        cwd=Path(__file__).parent.parent.parent, env={**os.environ, "PYTHONPATH": path, MARK: OURS},
    ) as parent:  # fmt: skip
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert lives(child)
        parent.kill()
    run(lambda: eventually(lambda: asyncio.to_thread(lambda: not lives(child)), "it is gone"))


def test_the_process_of_each_life_is_written_down_and_none_between_them(tmp_path: Path) -> None:
    async def scenario() -> None:
        file = tmp_path / "a0.pid"
        process = Process("sh", "-c", SLEEP, restart=0.2, process_file=file)
        process.start()
        await process.until(lambda: process.pids)
        assert file.read_text() == f"{process.pids[0]}\n"
        os.kill(process.pids[0], signal.SIGKILL)
        await process.until(lambda: process.statuses)
        assert file.read_text() == ""
        await process.until(lambda: len(process.pids) == 2)
        assert file.read_text() == f"{process.pids[1]}\n"
        await process.end()
        assert file.read_text() == ""

    asyncio.run(scenario())
