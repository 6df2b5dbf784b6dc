# SPDX-License-Identifier: Apache-2.0
"""Runs processes: starts them, starts them again when they die, ends them in order. None outlives this one."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

from rserpool_cli.up.plan import ProcessPlan

PATIENCE: Final = 5.0
"""Seconds a process has to end after it was asked to."""
LONGEST_PAUSE: Final = 30.0
_PR_SET_PDEATHSIG: Final = 1
_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def _die_with_parent() -> None:
    """In the child: end when the parent does, even if it was killed (Linux)."""
    if _libc is not None:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


class Supervised:
    """One process, over all its lives.

    Args:
        plan: what to run.
        log: file for what it writes; ``None``: its lines are given to ``on_line``.
        restart: seconds before it is started again; 0: never.

    Attributes:
        pid: of its current life, ``None`` between two.
        on_start, on_exit, on_line: told of its lives and lines.
    """

    def __init__(self, plan: ProcessPlan, log: Path | None, restart: float) -> None:
        self.plan = plan
        self.pid: int | None = None
        self.lives = 0
        self.on_start: Callable[[Supervised], None] = lambda _: None
        self.on_exit: Callable[[Supervised, int], None] = lambda _process, _status: None
        self.on_line: Callable[[Supervised, str], None] = lambda _process, _line: None
        self._log = log
        self._restart = restart
        self._process: asyncio.subprocess.Process | None = None
        self._creating: asyncio.Future[asyncio.subprocess.Process] | None = None
        self._ending = False
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start its first life."""
        self._task = asyncio.create_task(self._live())

    async def _live(self) -> None:
        loop = asyncio.get_running_loop()
        pause = self._restart
        while True:
            began = loop.time()
            status = await self._once()
            self.pid = None
            if self.is_ending:
                return
            if status is not None:
                self.on_exit(self, status)
            if not self._restart:
                return
            await asyncio.sleep(pause)
            short = loop.time() - began < LONGEST_PAUSE
            pause = min(2 * pause, LONGEST_PAUSE) if short else self._restart

    @property
    def is_ending(self) -> bool:
        """Whether it is to live no more."""
        return self._ending

    async def _once(self) -> int | None:
        """One life; returns its exit status, ``None`` if it could not begin."""
        plan = self.plan
        ours, theirs = os.pipe() if self._log is None else (None, None)
        try:
            with self._log.open("ab") if self._log is not None else contextlib.nullcontext() as log:
                creating = asyncio.create_subprocess_exec(
                    *plan.command,
                    env={**os.environ, **plan.environment},
                    cwd=plan.folder,
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=log if log is not None else theirs,
                    stderr=asyncio.subprocess.STDOUT,
                    start_new_session=True,  # Ctrl-C is for us: we end them in order
                    preexec_fn=_die_with_parent,
                )
                self._creating = asyncio.ensure_future(creating)
                self._process = await asyncio.shield(self._creating)
        except OSError as e:
            self.on_line(self, f"cannot be started: {plan.command[0]}: {e.strerror}")
            if ours is not None:
                os.close(ours)
            return None
        finally:
            if theirs is not None:
                os.close(theirs)
        self.pid = self._process.pid
        self.lives += 1
        self._write_down(self.pid)
        self.on_start(self)
        reading = asyncio.create_task(self._read(ours)) if ours is not None else None
        try:
            status = await self._process.wait()
            _signal_group(self.pid, signal.SIGKILL)  # what it started ends with it
            if reading is not None:
                await asyncio.wait({reading}, timeout=PATIENCE)
        finally:
            self._write_down(None)
            if reading is not None:
                reading.cancel()
        return status

    def _write_down(self, pid: int | None) -> None:
        """Which process lives, for whoever measures it; its number may be another's once it has ended."""
        if self.plan.process_file is not None:
            with contextlib.suppress(OSError):
                self.plan.process_file.write_text(f"{pid}\n" if pid else "")

    async def _read(self, descriptor: int) -> None:
        """Our own pipe, not asyncio's: `Process.wait` would wait for whoever else holds it open."""
        stream = asyncio.StreamReader()
        loop = asyncio.get_running_loop()
        transport, _ = await loop.connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(stream), os.fdopen(descriptor, "rb", 0)
        )
        try:
            while True:
                try:
                    line = await stream.readline()
                except ValueError:  # a line beyond the buffer's limit
                    continue
                if not line:
                    return
                self.on_line(self, line.decode(errors="replace").rstrip("\n"))
        finally:
            transport.close()

    async def end(self) -> None:
        """Ask it to end, and make it if it does not; it is not started again."""
        self._ending = True
        if self._creating is not None:
            with contextlib.suppress(OSError):
                self._process = await self._creating
        process = self._process
        if process is not None and process.returncode is None:
            _signal_group(process.pid, signal.SIGTERM)
            try:
                await asyncio.wait_for(process.wait(), PATIENCE)
            except TimeoutError:
                _signal_group(process.pid, signal.SIGKILL)
                await process.wait()
            _signal_group(process.pid, signal.SIGKILL)  # what it started ends with it
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)


def _signal_group(pid: int, number: signal.Signals) -> None:
    """Signal a process and its children: it leads its own group."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)


async def end_all(processes: Iterable[Supervised]) -> None:
    """End processes, all at once."""
    await asyncio.gather(*(process.end() for process in processes))
