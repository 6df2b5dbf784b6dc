# SPDX-License-Identifier: Apache-2.0
"""A pool user that resolves all the time, and says how long each resolution took, or why it failed."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from ipaddress import ip_address
from typing import Any, Final

from rserpool.client import PoolUser, PoolUserError, Scope

ITEMS: Final = 3
"""As many elements as a user tries."""


async def main(job: dict[str, Any]) -> None:
    scope = Scope(
        registrars=tuple((host, port) for host, port in job["registrars"]),
        bundle=job["bundle"].encode(),
        namespace=job["namespace"],
        pool=job["pool"],
        trust_domain=job["trust_domain"],
        local=ip_address(job["address"]),
    )
    async with PoolUser(scope) as users, asyncio.TaskGroup() as tasks:
        while True:
            tasks.create_task(_ask(users, job["handle"]))
            await asyncio.sleep(job["every"])


async def _ask(users: PoolUser, handle: str) -> None:
    began, failed = time.monotonic(), ""
    try:
        await users.resolve(handle, items=ITEMS, fresh=True)  # a registrar's answer, not the cache's
    except PoolUserError as e:
        failed = f"{type(e).__name__}: {e}"
    print(json.dumps({"at": began, "took": time.monotonic() - began, "failed": failed}), flush=True)


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1])))
