# SPDX-License-Identifier: Apache-2.0
"""`make demo`: a pool from its manifest, what it is good for, and what it does when things go wrong.

Runs `rserpool up examples/echo` and looks at it from outside: as its users do, and through its control sockets.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, Final

import rogue

from rserpool.client import PoolUser, Scope
from rserpool.client.scope import running_pools, running_states
from rserpool.daemon.control import ControlError, control

EXAMPLE: Final = Path(__file__).parent / "echo"
RSERPOOL: Final = (sys.executable, "-m", "rserpool_cli")
PATIENCE: Final = 25.0
Dumps = dict[str, dict[str, Any]]


class Demo:
    """The pool of the demo, and what it looks like."""

    def __init__(self) -> None:
        self._began = time.monotonic()

    def title(self, text: str) -> None:
        """Say what comes next."""
        print(f"\n[{time.monotonic() - self._began:4.1f} s] {text}", flush=True)

    async def show(self, *words: str) -> None:
        """Run a command as a user would, and show it."""
        print(f"  $ rserpool {' '.join(words)}", flush=True)
        process = await asyncio.create_subprocess_exec(*RSERPOOL, *words, stdout=asyncio.subprocess.PIPE)
        output, _ = await process.communicate()
        print("".join(f"    {line}\n" for line in output.decode().splitlines()), end="", flush=True)

    @property
    def state(self) -> dict[str, Any]:
        """Where the pool's processes are."""
        return next(running_states())

    @property
    def scope(self) -> Scope:
        """The pool, for its users."""
        return next(running_pools())

    async def dumps(self) -> Dumps:
        """What each registrar holds, of those that answer."""
        found = {}
        for registrar in self.state["registrars"]:
            with contextlib.suppress(ControlError):
                dump = await control(Path(registrar["socket"]), "GET", "/dump", timeout=1.0)
                if dump["phase"] == "serving":
                    found[registrar["name"]] = dump
        return found

    async def until(self, what: str, condition: Callable[[Dumps], bool]) -> None:
        """Wait until the registrars hold what they should, and tell how long that took and what each holds."""
        began = time.monotonic()
        while not condition(dumps := await self.dumps()):
            if time.monotonic() - began > PATIENCE:
                raise SystemExit(f"demo: not within {PATIENCE:g} s: {what}")
            await asyncio.sleep(0.02)
        print(f"  {what}: after {time.monotonic() - began:.2f} s", flush=True)
        self.holdings(dumps)

    def holdings(self, dumps: Dumps) -> None:
        """What each registrar holds, a line each."""
        for registrar in self.state["registrars"]:
            dump = dumps.get(registrar["name"])
            if dump is None:
                print(f"    {registrar['name']}  is away")
                continue
            found = elements(dump)
            own = sum(e["home"] == dump["server_id"] for e in found)
            checksums = ", ".join(f"{owner} {value}" for owner, value in dump["handlespace"]["checksums"].items())
            print(
                f"    {registrar['name']}  {dump['server_id']}  {len(found)} elements, home of {own};"
                f" checksums {checksums or '-'}"
            )
        sys.stdout.flush()


def elements(dump: dict[str, Any]) -> list[dict[str, Any]]:
    """All elements of a dump."""
    return [e for pool in dump["handlespace"]["pools"] for e in pool["elements"]]


def agreed(dumps: Dumps, registrars: int, count: int) -> bool:
    """As many registrars serve, all hold the same elements, and each element's home is alive."""
    spaces = [dump["handlespace"] for dump in dumps.values()]
    alive = {dump["server_id"] for dump in dumps.values()}
    return (
        len(spaces) == registrars
        and all(space == spaces[0] for space in spaces)
        and len(found := elements(next(iter(dumps.values())))) == count
        and {e["home"] for e in found} <= alive
    )


async def echo(demo: Demo, times: int) -> None:
    """Echo through elements that the pool's policy chooses."""
    async with PoolUser(demo.scope) as users:
        for _ in range(times):
            began = time.monotonic()
            async with await users.connect("echo") as connection:
                connection.writer.write(b"hello\n")
                answer = (await connection.reader.readline()).decode().strip()
            took = (time.monotonic() - began) * 1000
            failed = f", after {connection.tried} that did not answer" if connection.tried else ""
            print(f"    {answer!r}  resolved, connected and echoed in {took:.1f} ms{failed}", flush=True)


async def kill(pid: int) -> None:
    """Kill a process, and see it gone: a dying one may still accept a connection, and then reset it."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
        while True:
            await asyncio.sleep(0.001)
            os.kill(pid, 0)


async def run(demo: Demo) -> None:
    """All of it."""
    demo.title("one manifest, one command: three registrars, three echo servers with their sidecars, mutual TLS")
    print(f"  $ rserpool up {EXAMPLE.relative_to(Path.cwd()) if EXAMPLE.is_relative_to(Path.cwd()) else EXAMPLE}")
    await demo.until("every registrar holds every element", lambda d: agreed(d, 3, 3))

    demo.title("what users see")
    await demo.show("pools")
    await demo.show("resolve", "echo")
    print("  an echo through an element that the policy chose, three times")
    await echo(demo, 3)

    victim = demo.state["elements"][0]
    demo.title(f"the application of {victim['name']} is killed (process {victim['pid']})")
    await kill(victim["pid"])
    await echo(demo, 1)
    await demo.until("it is out of every registrar", lambda d: agreed(d, 3, 2))
    await demo.until("started again, it is back in every registrar", lambda d: agreed(d, 3, 3))

    before = await demo.dumps()
    homes = {e["home"] for e in elements(next(iter(before.values())))}
    home = next(r for r in demo.state["registrars"] if before[r["name"]]["server_id"] in homes)
    demo.title(f"a home registrar is killed: {home['name']} (process {home['pid']})")
    await kill(home["pid"])
    await demo.until("the others have taken its elements over", lambda d: agreed(d, 2, 3))
    await echo(demo, 1)
    await demo.until("started again, with a new server ID, it has everything from its peers", lambda d: agreed(d, 3, 3))

    await refuse(demo)

    demo.title("Ctrl-C")


async def refuse(demo: Demo) -> None:
    """A rogue tries to get in."""
    scope = demo.scope
    address = str(scope.local)
    before = [dump["handlespace"] for dump in (await demo.dumps()).values()]
    demo.title("a rogue registers himself as an element")
    anonymous = await asyncio.to_thread(rogue.without_certificate, scope, address)
    print(f"  without a certificate:                      {anonymous}")
    forged = await asyncio.to_thread(rogue.with_own_authority, scope, address)
    print(f"  with a certificate of an authority he made: {forged}")
    name = demo.state["registrars"][0]["name"]
    log = Path(demo.state["directory"]) / f"{name}.log"
    print(f"  {name} says")
    for line in log.read_text().splitlines():
        if " refused " in line:
            print(f"    {line}")
    after = await demo.dumps()
    same = [dump["handlespace"] for dump in after.values()] == before
    print(f"  what registrars hold is {'unchanged' if same else 'CHANGED'}")
    demo.holdings(after)
    if not same or "he is in" in anonymous + forged:
        raise SystemExit("demo: the rogue got in")


@contextlib.asynccontextmanager
async def pool_up() -> AsyncIterator[None]:
    """Run `rserpool up` in the background, and end it as Ctrl-C does."""
    process = await asyncio.create_subprocess_exec(
        *RSERPOOL,
        "up",
        "--restart",
        "2",
        str(EXAMPLE),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said = asyncio.create_task(process.communicate())
    try:
        while not any(True for _ in running_states()):
            if process.returncode is not None:
                raise SystemExit(f"demo: `rserpool up` ended:\n{(await said)[0].decode()}")
            await asyncio.sleep(0.02)
        yield
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGINT)
        await said
    if process.returncode:
        raise SystemExit(f"demo: `rserpool up` ended with status {process.returncode}")


async def main() -> None:
    """Run the demo in a folder that is gone afterwards."""
    demo = Demo()
    with tempfile.TemporaryDirectory(prefix="rsp-demo-") as folder:
        os.environ["XDG_RUNTIME_DIR"] = folder
        async with pool_up():
            await run(demo)
        left = list(Path(folder).rglob("*"))
        if left:
            raise SystemExit(f"demo: files were left: {json.dumps([str(p) for p in left])}")
    demo.title("everything has ended, and nothing is left")


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except KeyboardInterrupt:
        sys.exit(130)
