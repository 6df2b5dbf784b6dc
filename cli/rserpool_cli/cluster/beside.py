# SPDX-License-Identifier: Apache-2.0
"""`rserpool dump` in a container of ours: asks the daemon that runs there.

A sidecar's container has memory for a sidecar and little more, and if it runs out the sidecar ends. So this loads
nothing but sockets; whatever goes wrong is left to the command itself, which says it as always.
"""

from __future__ import annotations

import json
import os
import socket
from typing import Final

SOCKET: Final = "RSERPOOL_CONTROL_SOCKET"
"""Names the control socket beside which we run."""
TIMEOUT: Final = 5.0
_REQUEST: Final = b"GET /dump HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"


def dump_beside() -> str | None:
    """What the daemon tells, as `dump` prints it; ``None``: there is none, or it does not answer."""
    path = os.environ.get(SOCKET)
    if not path:
        return None
    try:
        answer = _ask(path)
        head, _, body = answer.partition(b"\r\n\r\n")
        if head.split(b" ", 2)[1:2] != [b"200"]:
            return None
        return json.dumps({path: json.loads(body)}, indent=2, ensure_ascii=False)
    except (OSError, ValueError):
        return None


def _ask(path: str) -> bytes:
    octets = []
    with socket.socket(socket.AF_UNIX) as line:
        line.settimeout(TIMEOUT)
        line.connect(path)
        line.sendall(_REQUEST)
        while received := line.recv(65536):
            octets.append(received)
    return b"".join(octets)
