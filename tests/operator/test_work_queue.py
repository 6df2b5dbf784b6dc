# SPDX-License-Identifier: Apache-2.0
"""The queue: each key once, one task a key, a few at a time, again after a failure, and again after a while."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable

import pytest

from rserpool_operator.work_queue import LONGEST_PAUSE, NEVER, Key, WorkQueue
from support.rig_virtual import virtually

A, B = Key("demo", "a"), Key("demo", "b")
Work = Callable[[Key], Awaitable[float | None]]


class Worker:
    """Counts what it is asked to do."""

    def __init__(self) -> None:
        self.done: list[tuple[Key, float]] = []
        self.at_once = 0
        self.most = 0
        self.takes = 0.0
        self.fails = 0
        self.after: float | None = NEVER

    async def work(self, key: Key) -> float | None:
        self.at_once += 1
        self.most = max(self.most, self.at_once)
        self.done.append((key, asyncio.get_running_loop().time()))
        try:
            await asyncio.sleep(self.takes)
            if self.fails:
                self.fails -= 1
                raise RuntimeError("no luck")
            return self.after
        finally:
            self.at_once -= 1

    def times(self, key: Key = A) -> int:
        return sum(k == key for k, _ in self.done)

    def gaps(self) -> list[float]:
        at = [when for _, when in self.done]
        return [later - earlier for earlier, later in itertools.pairwise(at)]


def working(test: Callable[[WorkQueue, Worker], Awaitable[None]], *, most: int = 8, resync: float = 300.0) -> None:
    async def main() -> None:
        worker = Worker()
        queue = WorkQueue(worker.work, most=most, resync=resync)
        running = asyncio.create_task(queue.run())
        try:
            await test(queue, worker)
            assert not running.done()
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    virtually(main())


def test_a_key_that_is_put_in_a_hundred_times_is_worked_on_once() -> None:
    async def test(queue: WorkQueue, worker: Worker) -> None:
        for _ in range(100):
            queue.add(A)
        queue.add(B)
        await asyncio.sleep(5)
        assert (worker.times(A), worker.times(B)) == (1, 1)
        assert len(queue) == 0

    working(test)


def test_a_key_that_is_put_in_while_it_is_worked_on_is_worked_on_once_more_and_never_twice_at_a_time() -> None:
    async def test(queue: WorkQueue, worker: Worker) -> None:
        worker.takes = 10.0
        queue.add(A)
        await asyncio.sleep(2)
        for _ in range(10):
            queue.add(A)
        await asyncio.sleep(30)
        assert worker.times() == 2
        assert worker.most == 1

    working(test)


def test_only_so_many_keys_are_worked_on_at_once_and_all_have_their_turn() -> None:
    async def test(queue: WorkQueue, worker: Worker) -> None:
        worker.takes = 3.0
        for number in range(12):
            queue.add(Key("demo", str(number)))
        await asyncio.sleep(60)
        assert worker.most == 3
        assert len({key for key, _ in worker.done}) == 12

    working(test, most=3)


def test_the_earlier_of_two_wishes_counts() -> None:
    async def test(queue: WorkQueue, worker: Worker) -> None:
        queue.add(A, 100.0)
        queue.add(A, 5.0)
        queue.add(A, 50.0)
        await asyncio.sleep(10)
        assert worker.times() == 1
        await asyncio.sleep(200)
        assert worker.times() == 1

    working(test)


def test_a_key_that_wants_to_be_looked_at_again_is_when_it_said() -> None:
    async def test(queue: WorkQueue, worker: Worker) -> None:
        worker.after = 7.0
        queue.add(A)
        await asyncio.sleep(30)
        assert worker.times() == 5
        assert all(7.0 <= gap < 8.5 for gap in worker.gaps())

    working(test)


def test_a_key_that_wants_nothing_is_looked_at_at_the_resync_and_one_that_is_gone_never() -> None:
    async def test(queue: WorkQueue, worker: Worker) -> None:
        worker.after = None
        queue.add(A)
        await asyncio.sleep(130)
        assert worker.times() == 3
        worker.after = NEVER
        await asyncio.sleep(500)
        assert worker.times() == 4
        queue.add(A)
        await asyncio.sleep(5)
        assert worker.times() == 5

    working(test, resync=60.0)


def test_a_failure_is_tried_again_less_and_less_often_and_success_forgets_it(caplog: pytest.LogCaptureFixture) -> None:
    async def test(queue: WorkQueue, worker: Worker) -> None:
        worker.fails = 12
        queue.add(A)
        await asyncio.sleep(20 * LONGEST_PAUSE)
        assert worker.times() == 13
        gaps = worker.gaps()
        assert gaps[0] < 2.0
        assert gaps[5] > 4 * gaps[1]
        assert max(gaps) < 1.2 * LONGEST_PAUSE + 2
        worker.fails = 1
        queue.add(A)
        await asyncio.sleep(5)
        assert worker.times() == 15
        assert worker.gaps()[-1] < 2.0

    working(test)
    assert "demo/a: no luck; trying again in" in caplog.text


def test_a_key_that_fails_does_not_hold_up_another() -> None:
    async def test(queue: WorkQueue, worker: Worker) -> None:
        worker.fails = 1
        queue.add(A)
        await asyncio.sleep(0.2)
        queue.add(B)
        await asyncio.sleep(0.4)
        assert worker.times(B) == 1

    working(test)


def test_its_heart_beats_while_there_is_nothing_to_do() -> None:
    async def test(queue: WorkQueue, worker: Worker) -> None:
        for _ in range(10):
            await asyncio.sleep(10)
            assert asyncio.get_running_loop().time() - queue.beat <= 2.0
        assert worker.done == []

    working(test)


def test_the_end_of_the_queue_is_the_end_of_its_work() -> None:
    async def main() -> None:
        worker = Worker()
        worker.takes = 1000.0
        queue = WorkQueue(worker.work)
        running = asyncio.create_task(queue.run())
        queue.add(A)
        await asyncio.sleep(2)
        assert worker.at_once == 1
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await asyncio.sleep(1)
        assert worker.at_once == 0

    virtually(main())
