# SPDX-License-Identifier: Apache-2.0
"""A pool that works: registrars agree, users find elements, commands find the pool, and it leaves nothing behind."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from rserpool.client import PoolUser, UnknownPoolError
from support.running import ECHO, RunningPool, pool_running, started


@pytest.fixture(scope="module")
def pool() -> Iterator[RunningPool]:
    with pool_running(ECHO) as running:
        started(running)
        yield running


@pytest.mark.rfc("RFC 3237 2.5: nothing relies on multicast")
def test_three_registrars_that_start_together_hold_the_same_three_elements(pool: RunningPool) -> None:
    pool.settled_with_all()
    dumps = pool.dumps()
    assert len(dumps) == 3
    spaces = [dump["handlespace"] for dump in dumps.values()]
    assert spaces[0] == spaces[1] == spaces[2]
    assert spaces[0]["checksums"]  # part of what is equal
    assert len(spaces[0]["pools"][0]["elements"]) == 3


def test_every_registrar_knows_the_others_by_their_certificates(pool: RunningPool) -> None:
    dumps = pool.dumps()
    for name, dump in dumps.items():
        others = {other["server_id"] for key, other in dumps.items() if key != name}
        assert {peer["server_id"] for peer in dump["peers"]} == others
        assert all(peer["state"] == "active" and peer["connected"] for peer in dump["peers"])
        assert all(
            peer["identity"].startswith("spiffe://up.local/ns/demo/pool/echo/registrar/") for peer in dump["peers"]
        )


def test_echo_answers_through_a_resolved_element_and_everybody_gets_his_turn(pool: RunningPool) -> None:
    async def ask() -> set[str]:
        answers = set()
        async with PoolUser(pool.scope) as users:
            for _ in range(12):
                async with await users.connect("echo") as connection:
                    connection.writer.write(b"hello\n")
                    answers.add((await connection.reader.readline()).decode().split()[0])
        return answers

    assert pool.run(ask()) == {f"{e.address}:{e.port}" for e in pool.elements}


def test_a_pool_nobody_registered_in_is_told_apart(pool: RunningPool) -> None:
    async def ask() -> None:
        async with PoolUser(pool.scope) as users:
            await users.resolve("nobody")

    with pytest.raises(UnknownPoolError):
        pool.run(ask())


def test_other_commands_find_the_pool_by_themselves(pool: RunningPool) -> None:
    resolved = pool.command("resolve", "echo", "-o", "json")
    assert resolved.returncode == 0, resolved.stderr
    found = {e["transport"] for e in json.loads(resolved.stdout)["elements"]}
    assert found == {e.transport for e in pool.elements}

    listed = pool.command("pools", "-o", "json")
    assert json.loads(listed.stdout) == [
        {
            "pool": "demo/echo",
            "handle": "echo",
            "policy": "ROUND_ROBIN",
            "elements": 3,
            "registrars": "3/3",
            "agree": True,
        }
    ]

    dumped = json.loads(pool.command("dump").stdout)
    assert dumped == pool.dumps()


def test_a_command_against_a_registrar_given_by_address_and_bundle(pool: RunningPool) -> None:
    registrar = pool.registrars[0]
    bundle = pool.runtime / "bundle.pem"
    bundle.write_text(pool.state["bundle"])
    where = ("--registrar", f"{registrar.address}:{registrar.asap_port}", "--bundle", str(bundle))

    assert pool.command("resolve", "echo", *where).returncode == 0
    unknown = pool.command("resolve", "nobody", *where)
    assert (unknown.returncode, unknown.stdout) == (4, "")
    assert "nobody" in unknown.stderr
    nowhere = pool.command("resolve", "echo", "--registrar", f"{registrar.address}:1", "--bundle", str(bundle))
    assert nowhere.returncode == 3


def test_a_second_pool_of_the_same_name_does_not_meet_the_first(pool: RunningPool) -> None:
    with pool_running(ECHO, "--elements", "2", runtime=pool.runtime) as second:
        second.wait("the second pool has started", lambda: any("2 of 2" in line for line in second.lines))
        second.settled_with_all()
        ours = {e.transport for e in pool.elements}
        theirs = {e.transport for e in second.elements}
        assert not ours & theirs
        pool.settled(sorted(ours))
        ambiguous = pool.command("resolve", "echo")
        assert ambiguous.returncode == 3
        assert "several pools" in ambiguous.stderr
    pool.settled_with_all()
