# SPDX-License-Identifier: Apache-2.0
"""Decoding and encoding a registration, and a resolution response with three elements; beside rsplib's in turns."""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from ipaddress import IPv4Address
from typing import Any, Final

from figures import Figure, Figures, Options, quiet
from rserpool.wire import (
    RFC,
    RSPLIB,
    Dialect,
    Message,
    PoolElement,
    Ppid,
    SctpTransport,
    TcpTransport,
    TransportUse,
    asap,
    decode,
    encode,
    policies,
)
from rsplib import Rsplib

HANDLE: Final = b"echo"
CODECS: Final = {"RFC": RFC, "RSPLIB": RSPLIB}


def run(options: Options) -> Figures:
    busy = quiet(options)
    loops, turns = (200, 3) if options.quick else (3000, 15)
    for dialect in CODECS:
        measured = _in_child(partial(_measure, dialect, loops, turns))
        for name, times in measured["times"].items():
            ours = [t * 1e6 for t in times["ours"]]
            notes = {"message": f"{times['octets']} octets, {dialect} dialect; {loops} a turn", **busy}
            if "rsplib" in times:
                ratios = [a / b for a, b in zip(times["ours"], times["rsplib"], strict=True)]
                theirs = statistics.median(times["rsplib"]) * 1e6
                call = statistics.median(measured["call"]) * 1e6
                notes["rsplib"] = f"{theirs:.2f} us through ctypes, of which the call alone is about {call:.2f} us"
                notes["ours by rsplib's"] = f"{statistics.median(ratios):.1f} (median of {turns} turns, interleaved)"
            else:
                notes["rsplib"] = measured["rsplib"]
            yield Figure(name=f"{name}, {dialect}", unit="us", values=tuple(ours), notes=notes)


def messages(dialect: Dialect) -> dict[str, Message]:
    """What is measured: over TCP as our sidecars register; over SCTP in rsplib's dialect, which knows no other."""
    if dialect is RSPLIB:
        transports: list[Any] = [
            SctpTransport(port=7007, addresses=(IPv4Address(f"10.0.0.{i}"),), use=TransportUse.DATA_ONLY)
            for i in range(1, 4)
        ]
        listening: Any = None  # the association's own addresses, by that dialect
    else:
        transports = [TcpTransport(port=7007, address=IPv4Address(f"10.0.0.{i}")) for i in range(1, 4)]
        listening = TcpTransport(port=3864, address=IPv4Address("10.0.0.1"))
    life = 30_000 if dialect.life_in_milliseconds else 30
    elements = [
        PoolElement(identifier=i + 1, home=0x2A, life=life, transport=t, policy=policies.RoundRobin())
        for i, t in enumerate(transports)
    ]
    joining = PoolElement(
        identifier=1,
        home=0,
        life=life,
        transport=transports[0],
        policy=policies.RoundRobin(),
        asap_transport=listening,
    )
    return {
        "a registration": asap.Registration(pool_handle=HANDLE, element=joining),
        "a resolution response with 3 elements": asap.HandleResolutionResponse(
            pool_handle=HANDLE, policy=policies.RoundRobin(), elements=tuple(elements)
        ),
    }


def _measure(name: str, loops: int, turns: int) -> dict[str, Any]:
    dialect = CODECS[name]
    found: dict[str, Any] = {}
    calls: list[float] = []
    words, rsplib = _rsplib(dialect)
    for what, message in messages(dialect).items():
        octets = encode(message, dialect)
        if rsplib is not None:
            rsplib.prepare(octets)
        jobs: dict[str, tuple[Callable[[], object], Callable[[], object] | None]] = {
            f"decode {what}": (partial(decode, octets, Ppid.ASAP, dialect), rsplib.decode if rsplib else None),
            f"encode {what}": (partial(encode, message, dialect), rsplib.encode if rsplib else None),
        }
        for job, (ours, theirs) in jobs.items():
            times: dict[str, Any] = {"octets": len(octets), "ours": []}
            for _ in range(turns):
                times["ours"].append(_time(ours, loops))
                if theirs is not None and rsplib is not None:
                    times.setdefault("rsplib", []).append(_time(theirs, loops))
                    calls.append(_time(rsplib.nothing, loops))
            found[job] = times
    return {"times": found, "call": calls, "rsplib": words}


def _rsplib(dialect: Dialect) -> tuple[str, Rsplib | None]:
    if dialect is not RSPLIB:
        return "not asked: this dialect is not its own", None
    try:
        return "installed", Rsplib()
    except OSError:
        return "not installed (Debian: librspmessaging3)", None


def _time(job: Callable[[], object], loops: int) -> float:
    began = time.perf_counter()
    for _ in range(loops):
        job()
    return (time.perf_counter() - began) / loops


def _in_child(job: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """rsplib writes to standard output, and aborts on what it does not like: not in this process."""
    sys.stdout.flush()
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.close(reading)
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            os.write(writing, json.dumps(job()).encode())
        except BaseException as e:  # noqa: BLE001 - a child must not go on as its parent
            print(f"{type(e).__name__}: {e}", file=sys.stderr)
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        answer = pipe.read()
    os.waitpid(child, 0)
    if not answer:
        raise SystemExit("codec: the measuring process ended without a word")
    found: dict[str, Any] = json.loads(answer)
    return found
