# SPDX-License-Identifier: Apache-2.0
"""Whatever registrars, elements and the network do, in whatever order: the machine neither fails nor contradicts itself."""

from __future__ import annotations

from random import Random

import pytest

from rserpool.asap.effects import Endpoint
from rserpool.asap.server.desk import Limits
from rserpool.handlespace.checksum import block_sum, fold
from rserpool.wire import EncodeError, Message, PoolElement, Ppid, UpdateAction, asap, encode, enrp, policies
from support.beings import US, Being, endpoint, server_information
from support.peers import Line, Peer
from support.rig_enrp import Rig, acknowledging
from support.scope import POOL

IDS = (0x10000000, 0x20000000, 0x80000000, 0x90000000)
NUMBERS = (2, 3, 4, 5)
BEINGS = [Being(n) for n in range(30, 36)]
TARGETS = (*IDS, US, 0x77777777)


class Chaos:
    """Random inputs from one seed."""

    def __init__(self, seed: int) -> None:
        self.rng = Random(seed)
        expects = tuple(NUMBERS[: self.rng.randrange(4)])
        self.rig = Rig(expects=expects, seed=seed, limits=Limits(elements=5, table_sessions=1)).start()
        self.peers = [self.rig.peer(i, n, alive=self.rng.random() < 0.7) for i, n in zip(IDS, NUMBERS, strict=True)]
        self.lines: list[Line] = []

    def up(self) -> list[Line]:
        self.lines = [line for line in self.lines if line.up]
        return self.lines

    def step(self) -> None:
        action = self.rng.choices(
            [self.speak, self.dial, self.settle, self.lose, self.wait, self.register, self.freeze],
            [40, 6, 12, 4, 20, 6, 1],
        )[0]
        action()

    def speak(self) -> None:
        if self.up():
            line = self.rng.choice(self.lines)
            try:
                octets = encode(self.message(self.rng.choice(TARGETS) if self.rng.random() < 0.05 else None, line))
            except EncodeError:
                return
            line.send_octets(octets if self.rng.random() < 0.97 else octets[: self.rng.randrange(len(octets))])

    def message(self, sender: int | None, line: Line) -> Message:
        rng = self.rng
        peer = next((p for p in self.peers if line.association.principal == p.principal), self.peers[0])
        who = peer.server_id if sender is None else sender
        target = rng.choice(TARGETS)
        some = tuple(self.element(who) for _ in range(rng.randrange(4)))
        messages: list[Message] = [
            enrp.Presence(
                sender=who,
                reply_required=rng.random() < 0.5,
                checksum=rng.choice([None, 0xFFFF, 0x1234, peer.presence().checksum]),
                server=rng.choice([None, server_information(who, peer.number)]),
            ),
            enrp.HandleTableRequest(sender=who, own_children_only=rng.random() < 0.5),
            self.table(peer, who, some),
            enrp.HandleUpdate(
                sender=who, action=rng.choice(list(UpdateAction)), pool_handle=POOL, element=self.element(who)
            ),
            enrp.ListRequest(sender=who),
            enrp.ListResponse(
                sender=who,
                reject=rng.random() < 0.3,
                servers=tuple(server_information(i, n) for i, n in zip(IDS, NUMBERS, strict=True)),
            ),
            enrp.InitTakeover(sender=who, target=target),
            enrp.InitTakeoverAck(sender=who, target=target),
            enrp.TakeoverServer(sender=who, target=target),
        ]
        return rng.choice(messages)

    def table(self, peer: Peer, who: int, some: tuple[PoolElement, ...]) -> Message:
        full = peer.table(some, more=self.rng.random() < 0.3)
        return enrp.HandleTableResponse(sender=who, reject=self.rng.random() < 0.2, more=full.more, pools=full.pools)

    def element(self, who: int) -> PoolElement:
        rng = self.rng
        policy = rng.choice([policies.RoundRobin()] * 9 + [policies.Random()])
        home = who if rng.random() < 0.8 else rng.choice(TARGETS)
        return rng.choice(BEINGS).element(home, life=rng.choice([1, 30]), policy=policy)

    def dial(self) -> None:
        self.lines.append(self.rng.choice(self.peers).dial())

    def settle(self) -> None:
        """Let an attempt of the machine to connect succeed or fail."""
        wanted: list[Endpoint] = [c.endpoint for _, c in self.rig.dials.values()]
        if not wanted:
            return
        to = self.rng.choice(wanted)
        peer = next((p for p in self.peers if p.endpoint == to), None)
        being = next((b for b in BEINGS if b.listening == to), None)
        if self.rng.random() < 0.5:
            self.rig.fail(to)
        elif peer is not None:
            self.lines.append(peer.answer())
        elif being is not None:
            self.rig.reached(self.rng.choice([being, being, BEINGS[0]]) if to == BEINGS[0].listening else being)
        else:
            assert to == endpoint(1)

    def lose(self) -> None:
        open_lines = [line for line in self.rig.lines.values() if line.up]
        if open_lines:
            self.rng.choice(open_lines).lose()

    def wait(self) -> None:
        self.rig.run(self.rng.choice([0.0, 0.01, 0.1, 0.3, 0.5, 1.0]))

    def freeze(self) -> None:
        self.rig.freeze(self.rng.choice([0.1, 1.0, 5.0]))
        self.rig.wake()

    def register(self) -> None:
        being = self.rng.choice(BEINGS)
        line = self.rig.accept(Ppid.ASAP, being.principal, (being.address,), acknowledging(being))
        line.send(asap.Registration(pool_handle=POOL, element=being.element()))
        if self.rng.random() < 0.3:
            line.send(asap.Deregistration(pool_handle=POOL, pe_identifier=being.identifier))

    def check(self) -> None:
        rig = self.rig
        homes = rig.homes()
        for owner, checksum in rig.space()["checksums"].items():
            own = [i for i, home in homes.items() if home == int(owner, 16)]
            assert int(checksum, 16) == fold(sum(block_sum(POOL, i) for i in own))
        counts = rig.machine.counts()
        assert counts["own"] == list(homes.values()).count(US)
        assert counts["elements"] == len(homes) <= 5
        assert {US, 0}.isdisjoint(rig.known())
        dump = rig.machine.dump()
        connected = sum(p["connected"] for p in dump["peers"])
        assert connected <= len([x for x in rig.lines.values() if x.up and x.association.service is Ppid.ENRP])
        deadline = rig.machine.deadline()
        assert deadline is not None


@pytest.mark.parametrize("seed", range(20))
def test_chaos(seed: int) -> None:
    chaos = Chaos(seed)
    for _ in range(250):
        chaos.step()
        chaos.check()
    chaos.rig.run(5.0)
    chaos.check()
    assert chaos.rig.machine.serving
