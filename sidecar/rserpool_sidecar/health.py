# SPDX-License-Identifier: Apache-2.0
"""Whether the application is healthy: Kubernetes' tcpSocket and httpGet probes, from inside the pod."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from rserpool.transport.http import HttpError, Target, ask
from rserpool.transport.stream import describe
from rserpool.wire import Address
from rserpool_sidecar.config import HealthSection

Probe = Callable[[], Awaitable[str]]
"""Asks the application once; returns why it is not healthy, or nothing."""

SOONER: Final = 0.5
"""After a failed probe the next one comes after this part of the period: what is dead is out sooner."""


def tcp_socket(address: Address, port: int, timeout: float) -> Probe:
    """Healthy while the port accepts a connection."""

    async def probe() -> str:
        try:
            async with asyncio.timeout(timeout):
                _, writer = await asyncio.open_connection(str(address), port, local_addr=(str(address), 0))
        except TimeoutError:
            return f"port {port} accepts no connection within {timeout:g} s"
        except OSError as e:
            return f"port {port}: {describe(e)}"
        writer.transport.abort()
        return ""

    return probe


def http_get(address: Address, port: int, section: HealthSection) -> Probe:
    """Healthy while a GET is answered with a status from 200 to 399."""
    headers = {
        name.strip().lower(): value.strip() for name, _, value in (header.partition(":") for header in section.headers)
    }
    target = Target(host=str(address), port=port, local=address)

    async def probe() -> str:
        try:
            response = await ask(target, "GET", section.path, headers=headers, timeout=section.timeout)
        except HttpError as e:
            return f"GET {section.path} on port {port}: {e}"
        return "" if 200 <= response.status < 400 else f"GET {section.path} on port {port} answered {response.status}"

    return probe


def anywhere(probes: Sequence[Probe], timeout: float) -> Probe:
    """Healthy while one of these ways finds the application; where nobody listens costs no time.

    Args:
        probes: in the order in which they are tried.
        timeout: of each: where one took that long the application is there, and does not answer.
    """

    async def probe() -> str:
        loop, first = asyncio.get_running_loop(), ""
        for way in probes:
            began = loop.time()
            failure = await way()
            if not failure:
                return ""
            first = first or failure
            if loop.time() - began > timeout / 2:
                break
        return first

    return probe


class Prober:
    """Probes for ever, and tells when the application becomes healthy or stops being so.

    Args:
        probe: how to ask.
        section: how often, and how many times make a verdict.

    Attributes:
        healthy: ``None`` before the first verdict.
        on_change: called with each verdict and the reason.
    """

    def __init__(self, probe: Probe, section: HealthSection) -> None:
        self._probe = probe
        self._section = section
        self._in_a_row = 0
        self._last_failure = ""
        self._replaced = asyncio.Event()
        self.healthy: bool | None = None
        self.reason = "not probed yet"
        self.on_change: Callable[[bool, str], None] = lambda _healthy, _reason: None

    async def run(self) -> None:
        """Probe for ever."""
        self._replaced.clear()  # what was replaced before the first probe changes nothing about it
        await self._pause(self._section.initial_delay)
        loop = asyncio.get_running_loop()
        while True:
            began, probe = loop.time(), self._probe
            self._replaced.clear()
            failure = await probe()
            if probe is self._probe:
                self.judge(failure)
            pause = self._section.period * (SOONER if failure else 1.0)
            await self._pause(max(0.0, began + pause - loop.time()))

    def replace(self, probe: Probe, section: HealthSection) -> None:
        """Probe in another way from now on; the verdict stands until the new way has come to one."""
        self._probe, self._section = probe, section
        self._in_a_row = 0
        self._replaced.set()

    async def _pause(self, seconds: float) -> None:
        """Wait, but not for the next probe of a way that is no more."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._replaced.wait()

    def judge(self, failure: str) -> None:
        """Take one probe's outcome into account."""
        self._in_a_row = self._in_a_row + 1 if bool(failure) == bool(self._last_failure) else 1
        self._last_failure = failure
        threshold = self._section.failure_threshold if failure else self._section.success_threshold
        verdict = not failure
        if verdict is not self.healthy and self._in_a_row >= threshold:
            self.healthy, self.reason = verdict, failure
            self.on_change(verdict, failure)
