# SPDX-License-Identifier: Apache-2.0
"""What is seen: watches that have died, pods that left, and what is told of it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from rserpool_operator import names, notes
from rserpool_operator.control.board import Boards
from rserpool_operator.happenings import Happenings
from rserpool_operator.kube import KubeError, Object
from rserpool_operator.kube.kinds import POD, SERVER_POOL
from rserpool_operator.notes import AGAIN_AFTER, LONGEST, Notes
from rserpool_operator.plan import Channel, Note
from rserpool_operator.reasons import Reason
from rserpool_operator.watchdog import STUCK, Watchdog
from rserpool_operator.work_queue import Key
from support.rig_cluster import member, raw_pool
from support.rig_virtual import virtually
from support.rig_world import World, WorldKube

KEY, OTHER = Key("demo", "echo"), Key("demo", "other")


class Watched:
    """A world, and a watchdog that is told of all of it, or not."""

    def __init__(self) -> None:
        self.world = World()
        self.alive = True
        self.beat: float | None = None
        self.dog = Watchdog(self.world.kube, (), lambda: self.alive, lambda: self.beat)
        self.world.put(raw_pool())
        self.world.put(member("app-1", "echo"))

    def hear(self) -> None:
        for kind in (SERVER_POOL, POD):
            for found in self.world.of(kind):
                self.dog.heard(kind.plural, "MODIFIED", found)

    async def looks(self, count: int) -> str:
        for _ in range(count):
            await self.dog.look()
        return self.dog.trouble()


def test_watches_that_tell_of_everything_are_well() -> None:
    async def main() -> None:
        watched = Watched()
        watched.hear()
        assert await watched.looks(3) == ""
        watched.world.put(member("app-2", "echo"))
        assert await watched.looks(1) == ""  # its event may be on its way
        watched.hear()
        assert await watched.looks(3) == ""

    asyncio.run(main())


@pytest.mark.parametrize("what", ["made", "changed", "deleted"])
def test_a_watch_that_does_not_tell_is_found_in_two_looks_and_forgiven_when_it_does(what: str) -> None:
    async def main() -> None:
        watched = Watched()
        watched.hear()
        ref = next(r for r in watched.world.objects if r.kind == POD)
        gone = watched.world.objects[ref]
        if what == "made":
            watched.world.put(member("app-2", "echo"))
        elif what == "changed":
            watched.world.change(ref, lambda pod: pod["metadata"].update(annotations={"a": "b"}))
        else:
            watched.world.remove(ref)
        assert await watched.looks(1) == ""
        assert "the watch of pods" in await watched.looks(1)
        if what == "deleted":
            watched.dog.heard("pods", "DELETED", gone)
        watched.hear()
        assert await watched.looks(1) == ""

    asyncio.run(main())


def test_an_api_server_that_does_not_answer_is_no_dead_watch(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        watched = Watched()
        watched.hear()
        watched.world.put(member("app-2", "echo"))
        assert await watched.looks(1) == ""

        async def away(*_: Any, **__: Any) -> list[Object]:
            raise KubeError(0, "NoAnswer", "no answer")

        monkeypatch.setattr(WorldKube, "list", away)
        assert await watched.looks(5) == ""
        monkeypatch.undo()
        assert await watched.looks(1) == ""  # it begins anew
        watched.hear()
        assert await watched.looks(2) == ""

    asyncio.run(main())


def test_a_watcher_that_ended_and_a_queue_that_is_stuck_are_trouble() -> None:
    async def main() -> None:
        watched = Watched()
        loop = asyncio.get_running_loop()
        watched.beat = loop.time()
        assert watched.dog.trouble() == ""
        watched.beat = loop.time() - STUCK - 1
        assert "the queue has not moved" in watched.dog.trouble()
        watched.beat = None  # it does not lead
        assert watched.dog.trouble() == ""
        watched.alive = False
        assert watched.dog.trouble() == "a watcher has ended"

    asyncio.run(main())


def test_it_looks_by_itself() -> None:
    async def main() -> None:
        watched = Watched()
        running = asyncio.create_task(watched.dog.run())
        await asyncio.sleep(200)
        assert "serverpools" in watched.dog.trouble()
        running.cancel()

    virtually(main())


class Seen:
    """Happenings, and all that they led to."""

    def __init__(self) -> None:
        self.boards = Boards()
        for key in (KEY, OTHER):
            self.boards.tell(key, Channel(registrar={}, element={}, bundle="PEM"))
        self.looked: list[Key] = []
        self.left: list[tuple[Key, str]] = []
        self.happenings = Happenings(self.boards, self, self.looked.append, self._left)  # type: ignore[arg-type] # all of a Kube that is used here
        self.names: dict[str, str] = {}
        self.again: list[Key] = []

    def _left(self, key: Key, pod: Mapping[str, Any]) -> None:
        self.left.append((key, pod["metadata"]["name"]))

    def look_again(self, key: Key) -> None:
        self.again.append(key)

    def remember_pod(self, uid: str, name: str) -> None:
        self.names[uid] = name

    def pod(self, kind: str, pool: str | None = "echo", *, phase: str = "Running", uid: str = "u") -> None:
        found = member("app", pool or "")
        found["metadata"]["uid"] = uid
        found["status"]["phase"] = phase
        if pool is None:
            found["metadata"]["labels"] = {}
        self.happenings.seen("pods", kind, found)


def test_a_member_that_comes_is_looked_at_and_known_by_name() -> None:
    seen = Seen()
    seen.pod("ADDED")
    assert seen.looked == [KEY]
    assert seen.names == {"u": "app"}
    assert not seen.boards.has_ended(KEY, "u")
    assert seen.left == []


def test_a_member_is_looked_at_again_only_for_what_a_plan_would_know_of() -> None:
    seen = Seen()
    seen.pod("ADDED", phase="Pending")
    seen.pod("MODIFIED", phase="Pending")
    assert seen.looked == [KEY]
    seen.pod("MODIFIED", phase="Running")  # its sidecar may have a leaf
    seen.pod("MODIFIED", phase="Running")
    assert seen.looked == [KEY] * 2
    seen.pod("DELETED")
    seen.pod("ADDED", phase="Running")
    assert seen.looked == [KEY] * 4


@pytest.mark.parametrize(
    ("kind", "pool", "phase"),
    [
        ("DELETED", "echo", "Running"),
        ("DELETED", None, "Running"),
        ("MODIFIED", None, "Running"),
        ("MODIFIED", "other", "Running"),
        ("MODIFIED", "echo", "Succeeded"),
        ("MODIFIED", "echo", "Failed"),
    ],
)
def test_a_member_that_is_none_any_more_has_ended_there(kind: str, pool: str | None, phase: str) -> None:
    seen = Seen()
    seen.pod("ADDED")
    seen.looked.clear()
    seen.pod(kind, pool, phase=phase)
    assert seen.boards.has_ended(KEY, "u")
    assert seen.left == [(KEY, "app")]
    assert KEY in seen.looked
    assert not seen.boards.has_ended(OTHER, "u")
    assert (OTHER in seen.looked) == (pool == "other")


def test_a_member_whose_label_comes_back_is_one_again() -> None:
    seen = Seen()
    for kind, pool in (("ADDED", "echo"), ("MODIFIED", "other"), ("MODIFIED", "echo")):
        seen.pod(kind, pool)
    assert not seen.boards.has_ended(KEY, "u")
    assert seen.boards.has_ended(OTHER, "u")


def test_a_pod_that_had_ended_when_the_operator_began_has_ended() -> None:
    seen = Seen()
    seen.pod("", phase="Succeeded")
    assert seen.boards.has_ended(KEY, "u")
    assert seen.left == []


def test_pools_and_their_objects_and_namespaces_lead_to_looks() -> None:
    seen = Seen()
    seen.happenings.seen("serverpools", "ADDED", raw_pool())
    assert (seen.looked, seen.again, seen.happenings.pools) == ([KEY], [KEY], {KEY})
    labels = {names.OWNER_LABEL: "echo", names.OWNER_NAMESPACE_LABEL: "demo"}
    for plural, where in (("secrets", "system"), ("statefulsets", "demo"), ("configmaps", "friend")):
        seen.happenings.seen(plural, "MODIFIED", {"metadata": {"namespace": where, "name": "x", "labels": labels}})
    assert seen.looked == [KEY] * 4
    assert seen.again == [KEY] * 2  # whom to believe follows from the pool, and from the Secret of its authority
    seen.happenings.seen("services", "DELETED", {"metadata": {"namespace": "demo", "name": "x", "labels": {}}})
    assert len(seen.looked) == 4
    space: Object = {"metadata": {"name": "friend", "labels": {"team": "a"}}}
    seen.happenings.seen("namespaces", "", space)  # what is there at the start is no news
    seen.happenings.seen("namespaces", "MODIFIED", space)
    assert len(seen.looked) == 4
    seen.happenings.seen("namespaces", "MODIFIED", {"metadata": {"name": "friend", "labels": {}}})
    seen.happenings.seen("namespaces", "ADDED", {"metadata": {"name": "new"}})
    assert len(seen.looked) == 6
    seen.happenings.seen("serverpools", "DELETED", raw_pool())
    assert seen.happenings.pools == set()


def note(message: str = "no", uid: str = "u", reason: Reason = Reason.NOT_INJECTED) -> Note:
    about = {"apiVersion": "v1", "kind": "Pod", "namespace": "demo", "name": "app", "uid": uid}
    return Note(about=about, reason=reason, message=message, warning=True)


class Noting:
    def __init__(self) -> None:
        self.world = World()
        self.world.namespace("demo")
        self.now = 0.0
        self.notes = Notes(self.world.kube, "operator-0", lambda: self.now)

    def write(self, *wanted: Note) -> None:
        async def main() -> None:
            for each in wanted:
                await self.notes.write(each)

        asyncio.run(main())


def test_the_same_is_said_once_and_again_after_a_while() -> None:
    noting = Noting()
    noting.write(*(note() for _ in range(10)))
    assert len(noting.world.events) == 1
    noting.write(note("other"), note(uid="v"), note(reason=Reason.ENROLMENT_REFUSED))
    assert len(noting.world.events) == 4
    noting.now += AGAIN_AFTER + 1
    noting.write(note())
    assert len(noting.world.events) == 5


def test_events_are_of_the_kind_that_kubernetes_takes() -> None:
    from charts.schemas import kubernetes_faults

    noting = Noting()
    noting.write(note("x" * 5000))
    (event,) = noting.world.events
    for version in ("1.30", "1.33", "1.37"):
        assert kubernetes_faults(event, version) == []
    assert len(event["note"]) == LONGEST
    assert event["metadata"]["name"].islower()
    assert len(event["metadata"]["name"]) <= 253


def test_a_flood_of_events_is_held_to_a_rate_and_costs_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notes, "MOST", 20)
    noting = Noting()
    noting.write(*(note(str(n)) for n in range(500)))
    assert len(noting.world.events) == notes.RATE.burst
    assert len(noting.notes._said) <= 20
    noting.now += 2.0
    noting.write(*(note(f"later {n}") for n in range(500)))
    assert len(noting.world.events) == notes.RATE.burst + 2 * notes.RATE.per_second


@pytest.mark.parametrize("status", [0, 403, 404, 409])
def test_that_an_event_cannot_be_written_stops_nothing(status: int) -> None:
    noting = Noting()
    noting.world.fails = lambda: KubeError(status, "x", "no")
    noting.write(note())
    assert noting.world.events == []
