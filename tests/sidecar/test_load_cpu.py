# SPDX-License-Identifier: Apache-2.0
"""CPU time: of real processes, of this machine's own control groups where there are some, and of pods as they look."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from rserpool_sidecar.load.asking import UnmeasuredError
from rserpool_sidecar.load.cpu import PROC, UNSEEN, cpu, of_cgroup, of_pod, of_process
from rserpool_sidecar.load.section import LoadSection

SPIN = "import time\nend = time.process_time() + {0}\nwhile time.process_time() < end: pass\n"
POD = "kubepods-burstable-pod0123456789abcdef0123456789abcdef.slice"


def once(measure: Callable[[], Awaitable[float | None]]) -> float | None:
    async def measuring() -> float | None:
        return await measure()

    return asyncio.run(measuring())


@contextmanager
def process(*command: str) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as started:
        try:
            yield started
        finally:
            started.kill()


def shell(text: str) -> tuple[str, ...]:
    return ("sh", "-c", text)


def test_the_cpu_time_of_a_process_is_that_of_its_children_too_also_of_those_that_have_ended(tmp_path: Path) -> None:
    file = tmp_path / "pid"
    script = f"{sys.executable} -c '{SPIN.format(0.3)}'; echo done; read _"  # the child has been waited for
    with process(*shell(script)) as started:
        file.write_text(f"{started.pid}\n")
        assert started.stdout is not None
        assert started.stdout.readline() == "done\n"
        usage = of_process(file)()
    assert 0.25 < usage.seconds < 2
    assert usage.cpus == len(os.sched_getaffinity(0))
    assert usage.whose.startswith(f"{started.pid} ")


def test_children_that_live_are_counted(tmp_path: Path) -> None:
    file = tmp_path / "pid"
    child = f"{sys.executable} -c '{SPIN.format(0.3)}print(1, flush=True); input()'"
    with process(*shell(f"{child}; true")) as started:  # a shell above the one that works
        file.write_text(str(started.pid))
        assert started.stdout is not None
        assert started.stdout.readline() == "1\n"
        assert 0.25 < of_process(file)().seconds < 2


def test_a_process_that_is_gone_or_not_written_down_is_no_measurement(tmp_path: Path) -> None:
    file = tmp_path / "pid"
    read = of_process(file)
    with pytest.raises(UnmeasuredError, match="does not run"):
        read()
    for text in ("", "x", "0"):
        file.write_text(text)
        with pytest.raises(UnmeasuredError, match="does not run"):
            read()
    with process("true") as ended:
        ended.wait()
        file.write_text(str(ended.pid))
        with pytest.raises(UnmeasuredError, match="does not run"):
            read()


def group(folder: Path, seconds: float, quota: str = "max 100000") -> Path:
    """A control group of version 2."""
    folder.mkdir(parents=True, exist_ok=True)
    usage = round(seconds * 1e6)
    (folder / "cpu.stat").write_text(f"usage_usec {usage}\nuser_usec {usage}\nsystem_usec 0\nnr_periods 0\n")
    (folder / "cpu.max").write_text(f"{quota}\n")
    return folder


def old_group(folder: Path, seconds: float, quota: int = -1) -> Path:
    """One of version 1."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "cpuacct.usage").write_text(f"{round(seconds * 1e9)}\n")
    (folder / "cpu.cfs_quota_us").write_text(f"{quota}\n")
    (folder / "cpu.cfs_period_us").write_text("100000\n")
    return folder


def test_the_load_is_the_part_of_the_cpus_that_was_used_since_the_last_time(tmp_path: Path) -> None:
    clock = [10.0]
    makers: list[tuple[str, Callable[[Path, float], Path], Callable[[Path, float], Path]]] = [
        ("2", group, lambda folder, seconds: group(folder, seconds, "50000 100000")),
        ("1", old_group, lambda folder, seconds: old_group(folder, seconds, 50000)),
    ]
    for version, make, half in makers:
        folder = tmp_path / version
        make(folder, 5.0)
        measure = cpu(LoadSection(source="cpu", cgroup=str(folder)), lambda: clock[0])
        assert once(measure) is None  # there is nothing to compare it with
        clock[0] += 2
        make(folder, 5.5)
        assert once(measure) == pytest.approx(0.25 / len(os.sched_getaffinity(0)))
        clock[0] += 2
        half(folder, 6.0)
        assert once(measure) == pytest.approx(0.5)  # of half a CPU
        clock[0] += 2
        make(folder, 1.0)  # the container has started again
        assert once(measure) is None
        clock[0] += 2
        make(folder, 2.0)
        assert once(measure) == pytest.approx(0.5 / len(os.sched_getaffinity(0)))
        fixed = cpu(LoadSection(source="cpu", cgroup=str(folder), cpus=4), lambda: clock[0])
        assert once(fixed) is None
        clock[0] += 1
        make(folder, 3.0)
        assert once(fixed) == pytest.approx(0.25)


def test_a_control_group_that_is_not_there_or_speaks_otherwise_is_no_measurement(tmp_path: Path) -> None:
    measure = cpu(LoadSection(source="cpu", cgroup=str(tmp_path)), time.monotonic)
    with pytest.raises(UnmeasuredError, match="No such file"):
        once(measure)
    (tmp_path / "cpu.stat").write_text("nonsense\n")
    with pytest.raises(UnmeasuredError, match="not known here"):
        once(measure)


def test_the_control_groups_of_this_machine_can_be_read() -> None:
    found = [f for f in (Path("/sys/fs/cgroup/cpuacct"), Path("/sys/fs/cgroup/cpu,cpuacct"), Path("/sys/fs/cgroup"))
             if (f / "cpuacct.usage").exists() or (f / "cpu.stat").exists()]  # fmt: skip
    if not found:
        pytest.skip("this machine shows no control group that counts CPU time")
    read = of_cgroup(found[0])
    before = read()
    end = time.process_time() + 0.05
    while time.process_time() < end:
        pass
    assert read().seconds >= before.seconds + 0.04


class Proc:
    """A /proc as the processes of a pod see it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.own(f"0::/../{POD}/own")

    def own(self, text: str) -> None:
        (self.folder / "self").mkdir(parents=True, exist_ok=True)
        (self.folder / "self" / "cgroup").write_text(text + "\n")

    def process(self, pid: int, name: str, group: str, seconds: float) -> None:
        folder = self.folder / str(pid)
        folder.mkdir(exist_ok=True)
        ticks = round(seconds * os.sysconf("SC_CLK_TCK"))
        (folder / "comm").write_text(name + "\n")
        (folder / "cgroup").write_text(group + "\n")
        (folder / "stat").write_text(f"{pid} (a (b) c) S 1 1 1 0 -1 0 0 0 0 0 {ticks} {ticks} 0 0 20 0 1 0 77 0\n")


def test_a_container_alone_in_its_process_namespace_cannot_see_the_application(tmp_path: Path) -> None:
    proc = Proc(tmp_path)
    proc.own("0::/")
    proc.process(1, "python", "0::/", 3.0)
    with pytest.raises(UnmeasuredError) as refused:
        of_pod(tmp_path, tmp_path / "none")()
    assert str(refused.value) == UNSEEN


def test_with_a_shared_process_namespace_all_but_the_sidecars_own_processes_count(tmp_path: Path) -> None:
    proc = Proc(tmp_path)
    proc.own("0::/")
    proc.process(1, "pause", "0::/../sandbox", 0.0)
    proc.process(7, "rserpool-sidecar", "0::/", 50.0)
    proc.process(20, "app", "0::/../app", 1.0)
    proc.process(31, "worker", "0::/../app", 2.0)
    assert of_pod(tmp_path, tmp_path / "none")().seconds == pytest.approx(6.0)  # user and system time


def test_the_hosts_own_processes_are_nobodys_application(tmp_path: Path) -> None:
    proc = Proc(tmp_path)
    proc.process(1, "systemd", "0::/init.scope", 100.0)
    with pytest.raises(UnmeasuredError):
        of_pod(tmp_path, tmp_path / "none")()


def test_where_the_pods_control_group_can_be_seen_it_counts_without_the_sidecars(tmp_path: Path) -> None:
    pods: list[tuple[str, str, Callable[[Path, float], Path], str]] = [
        ("2", f"0::/kubepods.slice/{POD}/own", group, "kubepods.slice"),
        ("1", f"3:cpu,cpuacct:/kubepods/{POD}/own\n1:name=systemd:/", old_group, "cpu,cpuacct/kubepods"),
    ]
    for version, own, make, above in pods:
        proc, cgroups = Proc(tmp_path / f"proc-{version}"), tmp_path / f"cgroups-{version}"
        proc.own(own)
        make(cgroups / above / POD, 12.0)
        make(cgroups / above / POD / "own", 2.0)
        assert of_pod(proc.folder, cgroups)().seconds == pytest.approx(10.0)


def test_here_a_sidecar_outside_a_pod_refuses_to_guess() -> None:
    if (PROC / "1/comm").read_text().strip() == "pause":
        pytest.skip("this is a pod with a shared process namespace")
    with pytest.raises(UnmeasuredError, match="cannot see"):
        of_pod()()
