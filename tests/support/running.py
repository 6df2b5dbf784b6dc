# SPDX-License-Identifier: Apache-2.0
"""A pool that really runs: `rserpool up` as a process, its registrars looked at through their control sockets.

Shared by the process tests and the benchmarks. Everything is awaited by looking, never by sleeping for a while.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

from prometheus_client.parser import text_string_to_metric_families

from rserpool.client.scope import Scope, running_pools
from rserpool.daemon.control import ControlError, control
from rserpool.transport.http import Target, ask
from support.leaks import GUARD

REPOSITORY: Final = Path(__file__).parent.parent.parent
ECHO: Final = REPOSITORY / "examples" / "echo"
PATIENCE: Final = 30.0
"""Seconds after which something that should have come has not: long, since nothing that works waits for it."""
POLL: Final = 0.02
Dumps = dict[str, dict[str, Any]]


@dataclass(frozen=True, slots=True)
class RegistrarProcess:
    """One registrar: where it is, and which process."""

    name: str
    pid: int | None
    address: str
    asap_port: int
    enrp_port: int
    http_port: int
    socket: str


@dataclass(frozen=True, slots=True)
class ElementProcess:
    """One element: its application, and its sidecar."""

    name: str
    pid: int
    sidecar_pid: int
    address: str
    port: int
    socket: str

    @property
    def transport(self) -> str:
        """As a dump shows it."""
        return f"tcp:[{self.address}]:{self.port}" if ":" in self.address else f"tcp:{self.address}:{self.port}"


class RunningPool:
    """`rserpool up` while it runs."""

    def __init__(self, process: subprocess.Popen[str], runtime: Path) -> None:
        self.process = process
        self.runtime = runtime
        self.lines: list[str] = []
        self._runner = asyncio.Runner()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))

    def run(self, coroutine: Any) -> Any:
        """Run a coroutine to its end."""
        return self._runner.run(coroutine)

    # -- where everything is

    @property
    def directory(self) -> Path:
        """Its folder, while it runs."""
        return next(p for p in (self.runtime / "rserpool").iterdir() if p.name.startswith(f"{self.process.pid}."))

    @property
    def state(self) -> dict[str, Any]:
        """What it wrote down for other commands."""
        return cast("dict[str, Any]", json.loads((self.directory / "state.json").read_text()))

    @property
    def registrars(self) -> list[RegistrarProcess]:
        """Its registrars, as they are now."""
        return [RegistrarProcess(**r) for r in self.state["registrars"]]

    @property
    def elements(self) -> list[ElementProcess]:
        """Its elements, as they are now."""
        return [ElementProcess(**e) for e in self.state["elements"]]

    @property
    def scope(self) -> Scope:
        """For a PoolUser."""
        with _environment(XDG_RUNTIME_DIR=str(self.runtime)):
            return next(s for s in running_pools() if s.origin == self.state["directory"])

    def log(self, name: str) -> str:
        """What a registrar or a sidecar has logged."""
        return (self.directory / f"{name.replace('/', '-')}.log").read_text()

    # -- what registrars hold

    def dump(self, registrar: RegistrarProcess) -> dict[str, Any] | None:
        """One registrar's dump; ``None`` if it does not answer, or has no identity yet and so holds nothing."""
        try:
            dump = self.run(control(Path(registrar.socket), "GET", "/dump", timeout=1.0))
        except ControlError:
            return None
        return cast("dict[str, Any]", dump) if "server_id" in dump else None

    def dumps(self, without: Sequence[str] = ()) -> Dumps:
        """The dump of every registrar that answers, except those."""
        found = {r.name: self.dump(r) for r in self.registrars if r.name not in without}
        return {name: dump for name, dump in found.items() if dump is not None}

    def wait(self, what: str, condition: Callable[[], object], within: float = PATIENCE) -> float:
        """Look until it is so; returns how many seconds that took."""
        began = time.monotonic()
        while not condition():
            waited = time.monotonic() - began
            if waited > within:
                raise AssertionError(f"not within {within:g} s: {what}\n{self.story()}")
            time.sleep(POLL)
        return time.monotonic() - began

    def settled(self, elements: Sequence[str], without: Sequence[str] = (), within: float = PATIENCE) -> float:
        """Wait until every registrar holds exactly these elements, and all hold the same; returns the seconds.

        Args:
            elements: transports, as a dump shows them.
            without: registrars that are not asked.
            within: seconds.
        """
        wanted = sorted(elements)
        count = len(self.state["registrars"]) - len(without)

        def agreed() -> bool:
            dumps = self.dumps(without)
            spaces = [d["handlespace"] for d in dumps.values() if d["phase"] == "serving"]
            homes = {d["server_id"] for d in dumps.values()}
            return (
                len(spaces) == count
                and all(space == spaces[0] for space in spaces)
                and transports(spaces[0]) == wanted
                and {e["home"] for e in elements_of(spaces[0])} <= homes
            )

        return self.wait(f"every registrar but {list(without)} holds {wanted}", agreed, within)

    def settled_with_all(self, within: float = PATIENCE) -> float:
        """Wait until every registrar holds every element of the pool."""
        return self.settled([e.transport for e in self.elements], within=within)

    def home_of(self, element: ElementProcess) -> RegistrarProcess:
        """The registrar that is the element's home."""
        dumps = self.dumps()
        space = next(iter(dumps.values()))["handlespace"]
        home = next(e["home"] for e in elements_of(space) if e["transport"] == element.transport)
        name = next(name for name, dump in dumps.items() if dump["server_id"] == home)
        return next(r for r in self.registrars if r.name == name)

    def metric(self, registrar: RegistrarProcess, name: str, **labels: str) -> float:
        """One sample of a registrar's metrics, 0 if it has none; as Prometheus would read it."""
        target = Target(host=registrar.address, port=registrar.http_port)
        text = self.run(ask(target, "GET", "/metrics")).body.decode()
        return sum(
            sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )

    # -- faults

    def command(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run another `rserpool` command that finds this pool by itself."""
        return subprocess.run(
            [sys.executable, "-m", "rserpool_cli", *words],
            env={**os.environ, "XDG_RUNTIME_DIR": str(self.runtime)},
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )

    def story(self) -> str:
        """All that can be told when something went wrong."""
        parts = ["-- up:", *self.lines[-40:]]
        with contextlib.suppress(OSError, StopIteration):
            for name, dump in self.dumps().items():
                parts.append(f"-- {name}: {json.dumps(dump)}")
            for log in sorted(self.directory.glob("*.log")):
                parts += [f"-- {log.name}:", *log.read_text().splitlines()[-15:]]
        return "\n".join(parts)

    def end(self) -> None:
        """End as a user does, and see that nothing is left: no process, no file."""
        pids = self._pids()
        GUARD.sweep(self.runtime)  # it removes its files when it ends
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        status = self.process.wait(PATIENCE)
        self.close()
        story = "\n".join(self.lines)
        assert status == 0, f"`rserpool up` ended with status {status}:\n{story}"
        assert not any(is_alive(pid) for pid in pids), "a process outlived `rserpool up`"
        base = self.runtime / "rserpool"
        left = [p.name for p in base.iterdir() if p.name.startswith(f"{self.process.pid}.")] if base.exists() else []
        assert not left, "files outlived `rserpool up`"

    def close(self) -> None:
        """Let go of the process, which has ended."""
        self._reader.join(PATIENCE)
        self._runner.close()
        GUARD.note("what `rserpool up` writes", "\n".join(self.lines))
        assert self.process.stdout is not None
        self.process.stdout.close()

    def _pids(self) -> list[int]:
        with contextlib.suppress(OSError, StopIteration, ValueError):
            state = self.state
            registrars = [r["pid"] for r in state["registrars"]]
            elements = [pid for e in state["elements"] for pid in (e["pid"], e["sidecar_pid"])]
            return [pid for pid in (*registrars, *elements) if pid is not None]
        return []


def elements_of(space: dict[str, Any]) -> list[dict[str, Any]]:
    """All elements of a dumped handlespace."""
    return [e for pool in space["pools"] for e in pool["elements"]]


def transports(space: dict[str, Any]) -> list[str]:
    """The transports of all elements of a dumped handlespace, sorted."""
    return sorted(e["transport"] for e in elements_of(space))


def is_alive(pid: int) -> bool:
    """Whether there is such a process, and it is no zombie."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


@contextlib.contextmanager
def _environment(**changes: str) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in changes}
    os.environ.update(changes)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextlib.contextmanager
def pool_running(
    manifest: Path | str = ECHO, *words: str, program: Sequence[str] = (), runtime: Path | None = None
) -> Iterator[RunningPool]:
    """Run `rserpool up`, and end it.

    Args:
        manifest: a file, a folder, or a manifest's text.
        words: options.
        program: the application's command line.
        runtime: where it leaves its state; its own by default.
    """
    made = Path(tempfile.mkdtemp(prefix="rsp-"))  # pytest's own folders are too deep for Unix sockets
    if isinstance(manifest, str):
        file = made / "pool.yaml"
        file.write_text(manifest)
    else:
        file = manifest
    process = subprocess.Popen(
        [sys.executable, "-m", "rserpool_cli", "up", *words, str(file), *(["--", *program] if program else [])],
        env={**os.environ, "XDG_RUNTIME_DIR": str(runtime or made)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    pool = RunningPool(process, runtime or made)
    try:
        yield pool
        pool.end()
        assert runtime is not None or not (made / "rserpool").exists(), "a folder outlived `rserpool up`"
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        pool.close()
        shutil.rmtree(made, ignore_errors=True)


def started(pool: RunningPool) -> None:
    """Wait until all of a pool is there, and every registrar holds every element."""
    launched(pool)
    pool.settled_with_all()


def launched(pool: RunningPool) -> None:
    """Wait until `up` has started all processes."""

    def there() -> bool:
        with contextlib.suppress(OSError, StopIteration):
            state = pool.state
            return all(e["sidecar_pid"] for e in state["elements"])
        if pool.process.poll() is not None:
            raise AssertionError("`rserpool up` ended:\n" + "\n".join(pool.lines))
        return False

    pool.wait("`rserpool up` has started everything", there)


def manifest(
    name: str = "echo", *, policy: str = "{type: RoundRobin}", replicas: int = 3, port: int = 7007,
    health: str = "{tcpSocket: {}}", more: str = "", command: str = "",
) -> str:  # fmt: skip
    """A manifest's text; ``more`` are further lines of its spec."""
    program = command or f"{sys.executable} {ECHO / 'echo.py'}"
    return f"""\
apiVersion: rserpool.io/v1alpha1
kind: ServerPool
metadata:
  name: {name}
  namespace: demo
  annotations:
    rserpool.io/up-command: {program}
spec:
  policy: {policy}
  registrars: {{replicas: {replicas}}}
  elements:
    port: {port}
    health: {health}
{more}"""
