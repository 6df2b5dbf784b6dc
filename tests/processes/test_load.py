# SPDX-License-Identifier: Apache-2.0
"""Load-adaptive policies go by what applications really do: their CPU time, and what they say of themselves."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import pytest

from rserpool.client import PoolUser
from rserpool.daemon.control import control
from rserpool.handlespace import describe_transport
from rserpool.transport.http import Target, ask
from support.running import ElementProcess, RunningPool, manifest, pool_running, started

WORKER = """\
import os, threading, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

busy = threading.Event()

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        busy.set() if self.path == "/work" else busy.clear() if self.path == "/rest" else None
        body = b'{"load": %s}' % (b"0.875" if busy.is_set() else b"0.125")
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass

def work():
    while True:
        busy.wait()
        end = time.perf_counter() + 0.05
        while time.perf_counter() < end:
            pass

threading.Thread(target=work, daemon=True).start()
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # one thread alone can fill it
ThreadingHTTPServer((os.environ["RSERPOOL_ADDRESS"], int(os.environ["RSERPOOL_PORT"])), Handler).serve_forever()
"""


async def chosen_first(pool: RunningPool, count: int = 10) -> Counter[str]:
    async with PoolUser(pool.scope) as users:
        return Counter(
            [describe_transport((await users.resolve("echo", fresh=True)).elements[0].transport) for _ in range(count)]
        )


def say(pool: RunningPool, element: ElementProcess, path: str) -> None:
    answer = pool.run(ask(Target(host=element.address, port=element.port), "GET", path))
    assert answer.status == 200


@pytest.mark.parametrize(
    ("policy", "load"),
    [("LeastUsed", "{source: cpu, smoothing: 1s}"), ("PriorityLeastUsedDegradation", "{source: http}")],
)
@pytest.mark.timeout(180)
def test_work_goes_where_there_is_less_load(policy: str, load: str, tmp_path: Path) -> None:
    script = tmp_path / "worker.py"
    script.write_text(WORKER)
    text = manifest(policy=f"{{type: {policy}}}", replicas=1, more=f"    load: {load}\n")
    with pool_running(text, "--elements", "2", program=(sys.executable, str(script))) as pool:
        started(pool)
        first, second = pool.elements

        def load_of(element: ElementProcess) -> float:
            status = pool.run(control(Path(element.socket), "GET", "/status"))
            return float(status["load_registered"]) if status["load_known"] else 2.0

        pool.wait("both are known to be idle", lambda: max(load_of(first), load_of(second)) < 0.2)
        say(pool, first, "/work")
        pool.wait("the first is known to be busy", lambda: load_of(first) > 0.2 > load_of(second))
        pool.wait("work goes to the second", lambda: set(pool.run(chosen_first(pool))) == {second.transport}, 10)
        say(pool, first, "/rest")
        say(pool, second, "/work")
        pool.wait("the second is known to be busy", lambda: load_of(second) > 0.2 > load_of(first))
        pool.wait("work goes to the first", lambda: set(pool.run(chosen_first(pool))) == {first.transport}, 10)
