# SPDX-License-Identifier: Apache-2.0
"""The figures a user feels, each printed at the end of the run and held to three times its goal: CI's machines are slow.

benchmarks/run.py judges the goals themselves, over several runs.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from functools import partial

import pytest

from support import rig_figures as figures
from support.goals import TIMES
from support.running import RunningPool, manifest, pool_running, started


@pytest.fixture(scope="module")
def pool() -> Iterator[RunningPool]:
    web = manifest(health=figures.HEALTH, command=figures.WEB)
    later = str(1 + TIMES * figures.KILLED_APPLICATION)  # what is there again too soon was never out
    with pool_running(web, "--restart", later) as running:
        started(running)
        yield running


@pytest.fixture(autouse=True)
def _whole(pool: RunningPool) -> None:
    pool.settled_with_all()


Judge = Callable[[str, float, str, float], None]


@pytest.fixture
def judged(record_property: Callable[[str, object], None]) -> Judge:
    """Have a figure shown at the end of the run, and hold it to three times its goal."""
    return partial(_judged, record_property)


def _judged(record: Callable[[str, object], None], what: str, value: float, unit: str, goal: float) -> None:
    record("figure", f"{what}: {value:.2f} {unit}, goal {goal:g}, load average {os.getloadavg()[0]:.2f}")
    assert value <= TIMES * goal, f"{what}: {value:.2f} {unit}, more than {TIMES} times the goal of {goal:g}"


def test_a_sidecar_is_registered_soon_after_it_was_started(pool: RunningPool, judged: Judge) -> None:
    judged("sidecar start to registered", figures.in_after_start(pool, 4), "s", figures.SIDECAR_START)


def test_a_sidecar_is_small(pool: RunningPool, judged: Judge) -> None:
    most = max(figures.resident(e.sidecar_pid) for e in pool.elements)
    judged("sidecar resident", most, "MiB", figures.SIDECAR_RESIDENT)


def test_a_killed_application_is_out_soon(pool: RunningPool, judged: Judge) -> None:
    victim = pool.elements[0]
    seconds = figures.out_after(pool, victim, victim.pid, signal.SIGKILL)
    judged("killed application", seconds, "s", figures.KILLED_APPLICATION)


def test_a_hung_application_is_out_soon(pool: RunningPool, judged: Judge) -> None:
    victim = pool.elements[1]
    try:
        seconds = figures.out_after(pool, victim, victim.pid, signal.SIGSTOP)
    finally:
        os.kill(victim.pid, signal.SIGCONT)
    judged("hung application", seconds, "s", figures.HUNG_APPLICATION)


def test_a_stopped_sidecar_is_out_soon(pool: RunningPool, judged: Judge) -> None:
    victim = pool.elements[2]
    try:
        seconds = figures.out_after(pool, victim, victim.sidecar_pid, signal.SIGSTOP)
    finally:
        os.kill(victim.sidecar_pid, signal.SIGCONT)
    judged("stopped sidecar", seconds, "s", figures.STOPPED_SIDECAR)


def test_elements_of_a_killed_registrar_answer_elsewhere_soon(pool: RunningPool, judged: Judge) -> None:
    victim = pool.home_of(pool.elements[0])
    seconds = figures.rehomed_after_kill(pool, victim)
    judged("killed registrar of three", seconds, "s", figures.KILLED_REGISTRAR)
