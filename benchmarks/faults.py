# SPDX-License-Identifier: Apache-2.0
"""How soon a sidecar is in the pool, and how soon what fails is out of every registrar, under `rserpool up`."""

from __future__ import annotations

import os
import signal
from typing import Final

from figures import Figure, Figures, Options, quiet, say
from support import rig_figures as rig
from support.running import RunningPool, manifest, pool_running, started

FIRST: Final = 3
LOOKS: Final = "all three registrars' dumps, looked at every 10 ms; Fast timers"


def run(options: Options) -> Figures:
    busy = quiet(options)
    how = "from the start of its process until all three registrars hold it; its application starts beside it"
    yield _figure("sidecar start to registered", _starts(options), rig.SIDECAR_START, how, busy)
    busy = quiet(options)
    killed, stopped, ended = _killed_and_stopped(options)
    how = "out of all registrars after SIGKILL of the sidecar, whose kernel closes its connections"
    yield _figure("killed sidecar", ended, rig.KILLED_SIDECAR, how, busy)
    how = "out of all registrars after SIGKILL; health {tcpSocket: {}}"
    yield _figure("killed application", killed, rig.KILLED_APPLICATION, how, busy)
    how = "out of all registrars after SIGSTOP; its kernel goes on acknowledging"
    yield _figure("stopped sidecar", stopped, rig.STOPPED_SIDECAR, how, busy)
    busy = quiet(options)
    how = "out of all registrars after SIGSTOP; health {httpGet: {path: /}}, its kernel goes on accepting"
    yield _figure("hung application", _hung(options), rig.HUNG_APPLICATION, how, busy)


def _figure(name: str, values: list[float], goal: float, how: str, busy: dict[str, str]) -> Figure:
    return Figure(name=name, unit="s", values=tuple(values), goal=goal, notes={"what": how, "seen by": LOOKS, **busy})


def _starts(options: Options) -> list[float]:
    values = []
    with pool_running(manifest()) as pool:
        started(pool)
        for run_ in range(options.runs):
            values.append(rig.in_after_start(pool, FIRST + 1 + run_))
            pool.settled_with_all()
            say(f"sidecar start {values[-1]:.2f} s")
    return values


def _killed_and_stopped(options: Options) -> tuple[list[float], list[float], list[float]]:
    """Each application is killed once: what dies soon after its start waits longer for the next one."""
    killed, stopped, ended = [], [], []
    elements = str(max(FIRST, options.runs))
    with pool_running(manifest(), "--elements", elements, "--restart", "6") as pool:
        started(pool)
        for index in range(options.runs):
            victim = pool.elements[index]
            killed.append(rig.out_after(pool, victim, victim.pid, signal.SIGKILL))
            pool.settled_with_all()
            victim = pool.elements[index]
            stopped.append(_stop(pool, index, victim.sidecar_pid))
            victim = pool.elements[index]
            assert victim.sidecar_pid is not None
            ended.append(rig.out_after(pool, victim, victim.sidecar_pid, signal.SIGKILL))
            pool.settled_with_all()
            said = f"stopped sidecar {stopped[-1]:.2f} s, killed sidecar {ended[-1]:.2f} s"
            say(f"killed application {killed[-1]:.2f} s, {said}")
    return killed, stopped, ended


def _hung(options: Options) -> list[float]:
    values = []
    with pool_running(manifest(health=rig.HEALTH, command=rig.WEB)) as pool:
        started(pool)
        for run_ in range(options.runs):
            index = run_ % FIRST
            values.append(_stop(pool, index, pool.elements[index].pid))
            say(f"hung application {values[-1]:.2f} s")
    return values


def _stop(pool: RunningPool, index: int, pid: int) -> float:
    try:
        return rig.out_after(pool, pool.elements[index], pid, signal.SIGSTOP)
    finally:
        os.kill(pid, signal.SIGCONT)
        pool.settled_with_all()
