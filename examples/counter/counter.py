# SPDX-License-Identifier: Apache-2.0
"""Counts its user's lines, wherever the user goes: what was counted is in the cookie that the user keeps.

It knows nothing of RSerPool but three requests of plain HTTP to its sidecar (docs/control-channel.md).
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
from urllib.parse import urlsplit

CHANNEL = urlsplit(os.environ.get("RSERPOOL_CHANNEL", "http://127.0.0.1:8082"))


async def ask(method: str, path: str, body: bytes = b"") -> bytes:
    """One request to the sidecar; returns the body of its answer."""
    reader, writer = await asyncio.open_connection(CHANNEL.hostname, CHANNEL.port)
    head = f"{method} {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
    writer.write(head.encode() + body)
    answer = await reader.read(-1)
    writer.close()
    status, _, rest = answer.partition(b"\r\n")
    if b" 200" not in status:
        raise ConnectionError(status.decode())
    return rest.partition(b"\r\n\r\n")[2]


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Serve one user: go on where it was, and have it keep where it is."""
    connection = f"/v1/connections/{writer.get_extra_info('peername')[1]}"
    count: int | None = None
    try:
        while line := await reader.readline():
            if count is None:
                known = json.loads(await ask("GET", connection))  # true now: a cookie comes before all data
                count = int(base64.b64decode(known["cookie"])) if "cookie" in known else 0
            count += 1
            await ask("POST", f"{connection}/cookie", str(count).encode())
            writer.write(f"{count} {line.decode(errors='replace')}".encode())
            await writer.drain()
    except ConnectionError:
        pass
    finally:
        writer.close()


async def main() -> None:
    """Serve until told to stop."""
    address = os.environ.get("RSERPOOL_ADDRESS", "127.0.0.1")  # in a pod only the sidecar has to reach it
    server = await asyncio.start_server(serve, address, int(os.environ.get("RSERPOOL_PORT", "7007")))
    await server.serve_forever()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main())
