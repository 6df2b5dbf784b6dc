# SPDX-License-Identifier: Apache-2.0
"""`rserpool-sidecar drain`: a pod's preStop hook. Asks the sidecar to leave the pool, and waits until it has.

It runs while the pod's grace period does, beside an application that may be short of CPU, so it loads nothing but
sockets. It never fails because the sidecar is gone or slow: a hook that fails would have the container killed at once.
"""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Sequence

SOCKET = "RSERPOOL_CONTROL_SOCKET"
TIMEOUT = 7.0
"""Seconds: as long as a sidecar takes to leave by default, and a little more."""
LONGEST = 3600.0
USAGE = f"""\
usage: rserpool-sidecar drain [--timeout SECONDS] [--socket PATH]

Leave the pool and stay out; returns when the registration is gone, after SECONDS ({TIMEOUT:g}) at the latest.
The control socket is that of {SOCKET}, or PATH.
"""
_REQUEST = b"POST /drain HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
_MOST = 65536


def main(arguments: Sequence[str]) -> int:
    """Drain; returns the exit status: 0, also if there is nobody to be drained, 2 if the command line is wrong."""
    options = {"--timeout": str(TIMEOUT), "--socket": os.environ.get(SOCKET, "")}
    words = list(arguments)
    while words:
        name, separator, value = words.pop(0).partition("=")
        if name in ("-h", "--help"):
            sys.stdout.write(USAGE)
            return 0
        if name not in options or (not separator and not words):
            sys.stderr.write(USAGE)
            return 2
        options[name] = value if separator else words.pop(0)
    seconds = _seconds(options["--timeout"])
    if seconds is None or not options["--socket"]:
        what = (
            f"name the socket by --socket or {SOCKET}" if seconds is not None else "--timeout: write seconds, such as 7"
        )
        sys.stderr.write(f"rserpool-sidecar drain: {what}\n")
        return 2
    trouble = _drain(options["--socket"], seconds)
    if trouble:
        sys.stderr.write(f"rserpool-sidecar drain: {trouble}\n")
    return 0


def _seconds(text: str) -> float | None:
    try:
        seconds = float(text.removesuffix("s"))
    except ValueError:
        return None
    return seconds if 0 < seconds <= LONGEST else None


def _drain(path: str, seconds: float) -> str:
    """Ask, and wait for the answer; returns what went wrong."""
    end = time.monotonic() + seconds
    answer = b""
    try:
        with socket.socket(socket.AF_UNIX) as line:
            line.settimeout(seconds)
            line.connect(path)
            line.sendall(_REQUEST)
            while len(answer) < _MOST:
                line.settimeout(max(0.001, end - time.monotonic()))
                octets = line.recv(_MOST)
                if not octets:
                    break
                answer += octets
    except TimeoutError:
        return f"the sidecar has not left the pool within {seconds:g} s"
    except OSError as e:
        return f"no sidecar answers at {path}: {e.strerror or e}; there is nothing to drain"
    status = answer.split(b"\r\n", 1)[0].split(b" ", 2)[1:2]
    return "" if status == [b"200"] else "the sidecar has ended while it was asked"
