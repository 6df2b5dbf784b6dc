# SPDX-License-Identifier: Apache-2.0
"""The CPU time of the application, as far as a sidecar can see it.

A container sees its own control group and its own processes, and nothing of the containers beside it. So the
application's CPU time is known where somebody shows it:

* a file with the application's process ID: that process and all it has started (`rserpool up` writes it);
* a folder of its control group, version 1 or 2: where no container hides it;
* the pod's control group above our own, where the container runtime lets us see it;
* a pod with ``shareProcessNamespace: true``: all processes that are not in our own control group.

Anything else would be a guess, and is refused. What a sidecar uses itself never counts.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rserpool_sidecar.load.asking import Measure, UnmeasuredError
from rserpool_sidecar.load.section import LoadSection

PROC, CGROUPS = Path("/proc"), Path("/sys/fs/cgroup")
MOST_PROCESSES: Final = 10_000
_TICK: Final = 1 / os.sysconf("SC_CLK_TCK")
_POD: Final = re.compile(r"(kubepods[-a-z]*-)?pod[-_0-9a-f]{32,}(\.slice)?")
UNSEEN: Final = (
    "a sidecar cannot see the CPU time of the other containers of its pod; write shareProcessNamespace: true into the"
    " pod, or let the application tell its load: source http or prometheus"
)


@dataclass(frozen=True, slots=True)
class Usage:
    """CPU time so far.

    Attributes:
        seconds: of all that counts.
        cpus: how many of those seconds there can be in one; 0: unknown.
        whose: two of another owner have nothing to do with each other.
    """

    seconds: float
    cpus: float
    whose: str


Reader = Callable[[], Usage]


def cpu(section: LoadSection, clock: Callable[[], float], proc: Path = PROC, cgroups: Path = CGROUPS) -> Measure:
    """Measure the part of the CPUs that the application has used since the last time.

    Args:
        section: whose CPU time, and how many CPUs.
        clock: seconds, never going backwards.
        proc: where the kernel shows processes.
        cgroups: where it shows control groups.
    """
    if section.process_file:
        read = of_process(Path(section.process_file), proc)
    elif section.cgroup:
        read = of_cgroup(Path(section.cgroup))
    else:
        read = of_pod(proc, cgroups)
    before: tuple[Usage, float] | None = None

    async def measure() -> float | None:
        nonlocal before
        try:
            now, usage = clock(), read()
        except OSError as e:
            before = None
            raise UnmeasuredError(f"{e.filename}: {e.strerror}") from None
        except (ValueError, IndexError, KeyError):
            before = None
            raise UnmeasuredError("the kernel tells CPU time in a way that is not known here") from None
        last, before = before, (usage, now)
        if last is None or last[0].whose != usage.whose or usage.seconds < last[0].seconds or now <= last[1]:
            return None
        cpus = section.cpus or usage.cpus or len(os.sched_getaffinity(0))
        return (usage.seconds - last[0].seconds) / (now - last[1]) / cpus

    return measure


def of_process(file: Path, proc: Path = PROC) -> Reader:
    """The CPU time of a process and of all it has started, those that have ended and were waited for included."""

    def read() -> Usage:
        try:
            leader = int(file.read_text())
        except (OSError, ValueError):
            raise UnmeasuredError("the application does not run: nobody has written down its process ID") from None
        try:
            began = _stat(proc / str(leader))[19]
        except FileNotFoundError:
            raise UnmeasuredError("the application does not run") from None
        seconds = sum(_cpu_time(proc / str(pid)) for pid in _family(leader, proc))
        try:
            cpus = len(os.sched_getaffinity(leader)) if proc == PROC else 0
        except OSError:
            cpus = 0
        return Usage(seconds, cpus, f"{leader} {began}")

    return read


def of_cgroup(folder: Path) -> Reader:
    """The CPU time of a control group, version 1 or 2."""
    return lambda: Usage(_group_time(folder), _group_cpus(folder), str(folder))


def of_pod(proc: Path = PROC, cgroups: Path = CGROUPS) -> Reader:
    """The CPU time of the other containers of the pod, where that can be seen."""

    def read() -> Usage:
        own = (proc / "self/cgroup").read_text()
        for folder in _own_groups(own, cgroups):
            pod = folder.parent
            if _POD.fullmatch(pod.name) and _has_time(pod) and _has_time(folder):
                return Usage(_group_time(pod) - _group_time(folder), _group_cpus(pod), str(pod))
        if _name(proc / "1") != "pause":
            raise UnmeasuredError(UNSEEN)
        others = [pid for pid in _processes(proc) if _group_of(proc / str(pid)) not in ("", own)]
        return Usage(sum(_cpu_time(proc / str(pid)) for pid in others), 0, "pod")

    return read


# -- processes


def _processes(proc: Path) -> list[int]:
    found = [int(name) for name in os.listdir(proc) if name.isdigit()]  # noqa: PTH208 - names, not paths: it is often asked
    if len(found) > MOST_PROCESSES:
        raise UnmeasuredError(f"there are more than {MOST_PROCESSES} processes")
    return found


def _family(leader: int, proc: Path) -> Iterator[int]:
    waiting, seen = [leader], 0
    while waiting:
        pid = waiting.pop()
        seen += 1
        if seen > MOST_PROCESSES:
            raise UnmeasuredError(f"the application has more than {MOST_PROCESSES} processes")
        yield pid
        try:
            threads = os.listdir(proc / str(pid) / "task")  # noqa: PTH208 - names alone, of every process, each second
        except OSError:
            continue
        for thread in threads:
            try:
                waiting += map(int, (proc / str(pid) / "task" / thread / "children").read_text().split())
            except OSError:  # it has just ended
                continue


def _stat(process: Path) -> list[str]:
    """The fields of a process's state after its name, which may contain anything."""
    return (process / "stat").read_text(errors="replace").rpartition(")")[2].split()


def _cpu_time(process: Path) -> float:
    """User and system time of a process and of its children that it has waited for; nothing once it is gone."""
    try:
        return sum(map(int, _stat(process)[11:15])) * _TICK
    except OSError:
        return 0.0


def _name(process: Path) -> str:
    try:
        return (process / "comm").read_text(errors="replace").strip()
    except OSError:
        return ""


def _group_of(process: Path) -> str:
    try:
        return (process / "cgroup").read_text()
    except OSError:
        return ""


# -- control groups


def _own_groups(listing: str, cgroups: Path) -> Iterator[Path]:
    """Where our own control groups that count CPU time are, if they can be seen: version 2, then 1."""
    for line in sorted(listing.splitlines()):
        number, controllers, path = line.split(":", 2)
        if number == "0" and not controllers:
            yield cgroups / path.strip("/")
        elif "cpuacct" in controllers.split(","):
            yield cgroups / controllers / path.strip("/")
            yield cgroups / "cpuacct" / path.strip("/")


def _has_time(folder: Path) -> bool:
    return (folder / "cpu.stat").exists() or (folder / "cpuacct.usage").exists()


def _group_time(folder: Path) -> float:
    if (folder / "cpuacct.usage").exists():
        return int((folder / "cpuacct.usage").read_text()) / 1e9
    words = (folder / "cpu.stat").read_text().split()
    return int(words[words.index("usage_usec") + 1]) / 1e6


def _group_cpus(folder: Path) -> float:
    """How many CPUs a group may use by its quota; 0: as many as there are."""
    if (folder / "cpu.max").exists():
        quota, period = (folder / "cpu.max").read_text().split()
        return 0.0 if quota == "max" else int(quota) / int(period)
    if (folder / "cpu.cfs_quota_us").exists():
        quota, period = ((folder / name).read_text() for name in ("cpu.cfs_quota_us", "cpu.cfs_period_us"))
        return max(0.0, int(quota) / int(period))
    return 0.0
