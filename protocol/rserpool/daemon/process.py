# SPDX-License-Identifier: Apache-2.0
"""The life of a daemon: its command line, its event loop, its signals, its end."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import resource
import signal
import sys
import threading
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, TypeVar

from rserpool import __version__
from rserpool.daemon.settings import SettingsError, example, load

MOST_LOOKUPS: Final = 16
"""Threads that may wait for a resolver; it may be silent for minutes."""
T = TypeVar("T")
Background = Sequence[asyncio.Task[None]]
_log: Final = logging.getLogger(__name__)


def run_daemon(
    name: str,
    settings: type[T],
    main: Callable[[T, asyncio.Event], Awaitable[int]],
    argv: Sequence[str] | None,
    *,
    uvloop: bool,
) -> int:
    """Read the configuration, run ``main`` until it ends or a signal asks it to, return the exit status.

    Args:
        name: of the program.
        settings: its configuration.
        main: gets the configuration and an event that is set by SIGTERM or SIGINT.
        argv: the command line.
        uvloop: use that event loop if it is installed; asyncio's own needs less memory.
    """
    parser = argparse.ArgumentParser(prog=name)
    parser.add_argument("--config", type=Path, metavar="FILE", help="configuration; RSERPOOL_* variables override it")
    parser.add_argument("--example", action="store_true", help="print a commented configuration file")
    parser.add_argument("--version", action="version", version=f"{name} {__version__}")
    arguments = parser.parse_args(argv)
    if arguments.example:
        sys.stdout.write(example(settings))
        return 0
    try:
        configuration = load(settings, arguments.config, os.environ)
    except SettingsError as e:
        for line in e.lines:
            sys.stderr.write(f"{name}: {line}\n")
        return 2
    _allow_many_files()
    with asyncio.Runner(loop_factory=_loop_factory(wanted=uvloop)) as runner:
        runner.get_loop().set_default_executor(_Impatient())
        return runner.run(_until_told(main, configuration))


class _Impatient(ThreadPoolExecutor):
    """Threads that look names up. Nobody waits for one when the process ends: a resolver may be silent for long."""

    def __init__(self) -> None:
        super().__init__()
        self._room = threading.BoundedSemaphore(MOST_LOOKUPS)

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """Run a function in a thread of its own."""
        future: Future[T] = Future()

        def work() -> None:
            try:
                if future.set_running_or_notify_cancel():
                    future.set_result(fn(*args, **kwargs))
            except BaseException as e:  # noqa: BLE001 - it is for whoever waits for the result
                future.set_exception(e)
            finally:
                self._room.release()

        if self._room.acquire(blocking=False):
            threading.Thread(target=work, daemon=True).start()
        else:
            future.set_exception(OSError("too many names are being looked up already"))
        return future


def _loop_factory(*, wanted: bool) -> Callable[[], asyncio.AbstractEventLoop] | None:
    if wanted:
        with contextlib.suppress(ImportError):
            from rserpool.daemon.faster import Loop  # noqa: PLC0415 - a sidecar never loads it

            return Loop
    return None


async def _until_told(main: Callable[[Any, asyncio.Event], Awaitable[int]], configuration: Any) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    return await main(configuration, stop)


def _allow_many_files() -> None:
    """A registrar holds an association to each element: as many files as the system lets us have."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


async def first_of(wanted: Coroutine[Any, Any, T], stop: asyncio.Event, beside: Background = ()) -> T | None:
    """Wait for something, or to be told to stop: then ``None``.

    Args:
        wanted: what to wait for.
        stop: set by whoever tells to stop.
        beside: tasks that run meanwhile; the error of one that fails is raised.
    """
    task, stopping = asyncio.ensure_future(wanted), asyncio.ensure_future(stop.wait())
    try:
        waiting = {task, stopping, *beside}
        while not task.done() and not stopping.done():
            done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            for other in done - {task, stopping}:
                other.result()
        return task.result() if task.done() else None
    finally:
        stopping.cancel()
        task.cancel()


async def ended(tasks: Background) -> None:
    """End tasks, and wait until they are over."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def until(stop: asyncio.Event, background: Sequence[Coroutine[Any, Any, None] | asyncio.Task[None]]) -> int:
    """Run coroutines in the background until told to stop; returns the exit status.

    One that fails ends the process: a daemon that does only half of its work must not look healthy.
    """
    tasks: set[asyncio.Task[None]] = {asyncio.ensure_future(c) for c in background}
    stopping = asyncio.ensure_future(stop.wait())
    status = 0
    try:
        while not stopping.done() and not status:
            done, _ = await asyncio.wait({stopping, *tasks}, return_when=asyncio.FIRST_COMPLETED)
            for task in done - {stopping}:
                tasks.discard(task)
                error = task.exception()
                if error is not None:
                    _log.critical("%s: %s", type(error).__name__, error, exc_info=error)
                    status = 1
        return status
    finally:
        stopping.cancel()
        await ended([*tasks])
