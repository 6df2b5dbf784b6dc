# SPDX-License-Identifier: Apache-2.0
"""Applications and sidecars that die or hang: out of every registrar in time, and back when they are back.

The limits are three times what the benchmarks hold us to: machines of CI are slow.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from rserpool.daemon.control import control
from support.goals import TIMES
from support.running import ElementProcess, RunningPool, manifest, pool_running, started

KILLED, HUNG, STOPPED = TIMES * 2.0, TIMES * 4.0, TIMES * 3.0
"""Seconds."""
HTTP = "{httpGet: {path: /}}"
SERVER = "python3 -m http.server {port} --bind {address}"


@pytest.fixture(scope="module")
def pool() -> Iterator[RunningPool]:
    with pool_running(manifest(health=HTTP, command=SERVER), "--restart", "3") as running:
        started(running)
        yield running


def others(pool: RunningPool, element: ElementProcess) -> list[str]:
    return [e.transport for e in pool.elements if e.name != element.name]


@pytest.mark.rfc("RFC 3237 2.2: failures of elements are noticed and told")
def test_a_killed_application_is_out_of_every_registrar_and_back_when_it_is_back(pool: RunningPool) -> None:
    victim = pool.elements[0]
    left = others(pool, victim)
    os.kill(victim.pid, signal.SIGKILL)
    pool.settled(left, within=KILLED)
    pool.settled_with_all()
    assert pool.elements[0].pid != victim.pid


@pytest.mark.rfc("RFC 3237 2.2: failures of elements are noticed and told")
def test_a_hung_application_is_out_and_back_when_it_answers_again(pool: RunningPool) -> None:
    victim = pool.elements[1]
    os.kill(victim.pid, signal.SIGSTOP)  # the kernel still accepts its connections
    try:
        pool.settled(others(pool, victim), within=HUNG)
    finally:
        os.kill(victim.pid, signal.SIGCONT)
    pool.settled_with_all()
    assert "timeout" in pool.log("echo-1/sidecar") or "no answer" in pool.log("echo-1/sidecar")


def test_a_killed_sidecar_takes_its_element_with_it_and_brings_it_back(pool: RunningPool) -> None:
    victim = pool.elements[2]
    left = others(pool, victim)
    os.kill(victim.sidecar_pid, signal.SIGKILL)
    pool.settled(left, within=KILLED)
    pool.settled_with_all()
    assert pool.elements[2].sidecar_pid != victim.sidecar_pid


@pytest.mark.rfc("RFC 3237 2.2: failures of elements are noticed and told")
def test_a_stopped_sidecar_whose_kernel_still_acknowledges_is_out_and_back_when_it_goes_on(pool: RunningPool) -> None:
    victim = pool.elements[0]
    os.kill(victim.sidecar_pid, signal.SIGSTOP)
    try:
        pool.settled(others(pool, victim), within=STOPPED)
    finally:
        os.kill(victim.sidecar_pid, signal.SIGCONT)
    pool.settled_with_all()


@pytest.mark.rfc("RFC 3237 2.7: joining and leaving interrupt nobody")
def test_a_sidecar_that_is_told_to_end_deregisters_before_it_is_gone(pool: RunningPool) -> None:
    victim = pool.elements[1]
    left = others(pool, victim)
    os.kill(victim.sidecar_pid, signal.SIGTERM)
    pool.settled(left, within=KILLED)
    assert "has not been acknowledged" not in pool.log("echo-1/sidecar")
    assert any("deregistered" in line for line in pool.log("echo-1/sidecar").splitlines())
    pool.settled_with_all()


@pytest.mark.rfc("RFC 3237 2.7: joining and leaving interrupt nobody")
def test_a_drained_element_leaves_and_stays_out(pool: RunningPool) -> None:
    victim = pool.elements[2]
    left = others(pool, victim)
    status = pool.run(control(Path(victim.socket), "POST", "/drain"))
    assert status["draining"]
    assert not status["registered"]
    pool.settled(left, within=KILLED)
    os.kill(victim.sidecar_pid, signal.SIGKILL)  # its next life knows nothing of that
    pool.settled_with_all()
