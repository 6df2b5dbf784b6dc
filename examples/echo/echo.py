# SPDX-License-Identifier: Apache-2.0
"""An echo server that says who it is: the application of the example pool. It knows nothing of RSerPool."""

from __future__ import annotations

import asyncio
import contextlib
import os


async def main() -> None:
    """Serve until told to stop."""
    address = os.environ.get("RSERPOOL_ADDRESS", "0.0.0.0")  # noqa: S104 - in a pod that is the pod's own
    port = int(os.environ.get("RSERPOOL_PORT", "7007"))
    name = f"{address}:{port}".encode()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                writer.write(name + b" " + line)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, address, port)
    await server.serve_forever()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main())
