# SPDX-License-Identifier: Apache-2.0
"""What is said again in the same octets is read once, judged as ever, and kept only as long as its element."""

from __future__ import annotations

import pytest

from rserpool.asap.authorisation import Action, Denial, Principal
from rserpool.asap.events import Refused
from rserpool.asap.server import repeats
from rserpool.wire import Decoded, DecodeError, Dialect, Ppid, UpdateAction, asap, decode_and_report, encode, enrp
from support.rig_asapserver import PEER_ID, POOL, Far, Rig, add, foreign, updates


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """What has been read and was not known."""
    octets: list[bytes] = []

    def counted(data: bytes, ppid: Ppid, dialect: Dialect) -> Decoded:
        octets.append(data)
        return decode_and_report(data, ppid, dialect)

    monkeypatch.setattr(repeats, "decode_and_report", counted)
    return octets


def registration(element: Far) -> bytes:
    return encode(asap.Registration(pool_handle=POOL, element=element.offer()))


def test_an_element_that_registers_again_is_read_once_answered_and_announced_each_time(read: list[bytes]) -> None:
    rig = Rig()
    peer, element = rig.peer(), rig.element(1)
    read.clear()
    octets = registration(element)
    answers = [element.send_octets(octets) for _ in range(3)]
    assert read == [octets]
    assert answers == [answers[0]] * 3
    assert len(answers[0]) == 1
    assert [action for action, _, _ in updates(peer)] == [UpdateAction.ADD_PE] * 3


def test_a_registration_that_repeats_another_one_puts_off_the_end_of_its_life() -> None:
    rig = Rig()
    element = rig.element(1)
    element.acknowledges = True
    for _ in range(3):
        element.send_octets(encode(asap.Registration(pool_handle=POOL, element=element.offer(life=20))))
        rig.run(15)
    assert rig.elements().keys() == {element.identifier}
    rig.run(6)
    assert rig.elements() == {}


def test_who_may_not_register_any_more_is_refused_although_it_says_what_was_granted_before() -> None:
    rig = Rig()
    element = rig.element(1).register()
    granted = rig.space

    class Nobody:
        """Refuses everybody."""

        def may(self, _principal: Principal, action: Action, *_: object) -> Denial:
            return Denial("2.2", f"may not {action.value}")

    rig.machine.desk.authoriser = Nobody()  # type: ignore[attr-defined] # the rig has it as any machine
    (answer,) = element.send_octets(registration(element))
    assert isinstance(answer, asap.RegistrationResponse)
    assert answer.reject
    assert [r.threat for r in rig.seen(Refused)] == ["2.2"]
    assert rig.space == granted


def test_a_peers_update_said_again_is_read_once(read: list[bytes]) -> None:
    rig = Rig()
    peer = rig.peer()
    read.clear()
    for _ in range(3):
        peer.send(add(foreign(1)))
    assert len(read) == 1
    assert rig.elements().keys() == {foreign(1).identifier}


def test_the_octets_of_one_protocol_mean_nothing_in_the_other() -> None:
    rig = Rig()
    peer, element = rig.peer(), rig.element(1)
    peer.send(add(foreign(2)))
    before = rig.space
    element.send_octets(encode(add(foreign(2))))
    assert rig.space == before


def test_what_was_refused_or_is_about_nobody_is_not_kept(read: list[bytes]) -> None:
    rig = Rig()
    peer, element = rig.peer(), rig.element(1)
    read.clear()
    strange = encode(asap.Registration(pool_handle=b"another", element=element.offer()))
    removal = enrp.HandleUpdate(sender=PEER_ID, action=UpdateAction.DEL_PE, pool_handle=POOL, element=foreign(3))
    for _ in range(2):
        element.send_octets(strange)
        peer.send(removal)
    assert len(read) == 4
    assert len(rig.machine.desk.repeats) == 0  # type: ignore[attr-defined] # the rig has it as any machine


def test_one_message_of_each_element_is_kept_and_none_of_one_that_is_gone() -> None:
    rig = Rig()
    peer, element = rig.peer(), rig.element(1)
    kept = rig.machine.desk.repeats  # type: ignore[attr-defined] # the rig has it as any machine
    for life in (100, 200, 300):
        element.send_octets(encode(asap.Registration(pool_handle=POOL, element=element.offer(life=life))))
        peer.send(add(foreign(2, life=life)))
    assert len(kept) == 2
    element.deregister()
    peer.send(enrp.HandleUpdate(sender=PEER_ID, action=UpdateAction.DEL_PE, pool_handle=POOL, element=foreign(2)))
    assert len(kept) == 0


def test_a_long_message_is_read_each_time(read: list[bytes]) -> None:
    rig = Rig()
    element = rig.element(1)
    read.clear()
    octets = registration(element)
    extra = bytes.fromhex("8123") + (repeats.LONGEST).to_bytes(2) + bytes(repeats.LONGEST - 4)
    long = octets[:2] + (len(octets) + len(extra)).to_bytes(2) + octets[4:] + extra
    for _ in range(2):
        element.send_octets(long)
    assert read == [long, long]
    assert rig.elements().keys() == {element.identifier}


def test_what_is_not_well_formed_is_said_each_time() -> None:
    kept = repeats.Repeats(Rig().machine.desk.dialect)
    for _ in range(2):
        with pytest.raises(DecodeError):
            kept.read(b"\x01", Ppid.ASAP)


def test_what_a_home_announces_again_is_written_once_and_anew_when_it_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig()
    peer, element = rig.peer(), rig.element(1)
    written: list[object] = []

    def counted(message: enrp.HandleUpdate, dialect: Dialect) -> bytes:
        written.append(message)
        return encode(message, dialect)

    monkeypatch.setattr(repeats, "encode", counted)
    for life in (100, 100, 100, 200, 200):
        element.send_octets(encode(asap.Registration(pool_handle=POOL, element=element.offer(life=life))))
    assert [e.life for _, _, e in updates(peer)] == [100, 100, 100, 200, 200]
    assert len(written) == 2
