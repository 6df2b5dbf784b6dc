# SPDX-License-Identifier: Apache-2.0
"""Every example of docs/pool-user.md runs, as it stands there, with a pool of this machine that it finds by itself."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path

import pytest

import rserpool.client
from rserpool.pool import ServerPool
from support.rig_model import Background, runtime_folder
from support.rig_sessions import FRAMED, PLAIN, Counting, counting

PAGE = Path(__file__).parent.parent.parent / "docs" / "pool-user.md"
EXAMPLES = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
ANSWER = "an application's answer"
SAYS = (ANSWER, ANSWER, "True", "True 2", "there is no pool 'no-such-pool'")
"""What each of them prints, among other things."""


@contextmanager
def in_background(pool: ServerPool, elements: int) -> Iterator[Counting]:
    """A pool of counting applications in another thread, for programs that run a loop themselves."""
    with runtime_folder():
        background, stack = Background(), AsyncExitStack()
        try:
            yield background.do(stack.enter_async_context(counting(pool, elements)))
        finally:
            try:
                background.do(stack.aclose())
            finally:
                background.close()


@pytest.mark.parametrize("pool", [FRAMED, PLAIN], ids=["with control channel", "without"])
def test_the_examples_of_the_page_run(pool: ServerPool, capsys: pytest.CaptureFixture[str]) -> None:
    assert len(EXAMPLES) == len(SAYS)
    with in_background(pool, 2) as found:
        names = tuple(f"b'{a.name} 1 " for a in found.applications)
        for example, says in zip(EXAMPLES, SAYS, strict=True):
            program = threading.Thread(target=run, args=(example,))
            failures.clear()
            program.start()
            program.join(20)
            assert not program.is_alive()
            assert failures == []
            printed = capsys.readouterr().out
            answers = [name in printed for name in names]
            assert any(answers) if says is ANSWER else says in printed


failures: list[BaseException] = []


def run(example: str) -> None:
    try:
        exec(compile(example, str(PAGE), "exec", dont_inherit=True), {"__name__": "__main__"})
    except BaseException as e:  # noqa: BLE001 - told to who waits
        failures.append(e)


def test_the_page_names_all_there_is() -> None:
    page = PAGE.read_text()
    errors = [name for name in rserpool.client.__all__ if name.endswith("Error")]
    told = ["ElementLost", "ElementRemoved", "FailedOver", "Unsent", "Failover", "Scope", "PoolUser", "SendOptions"]
    assert [name for name in (*errors, *told) if name not in page] == []
    assert [option.name for option in rserpool.client.SendOptions if f"`{option.name}`" not in page] == []
