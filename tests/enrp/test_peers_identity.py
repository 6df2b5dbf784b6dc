# SPDX-License-Identifier: Apache-2.0
"""Who speaks: an association is bound to one server ID, a server ID to one identity, and only registrars take part."""

from __future__ import annotations

from dataclasses import replace

import pytest

from rserpool.asap.authorisation import Principal, Role
from rserpool.asap.server.desk import Limits
from rserpool.identity import InsecureScope, principal_of
from rserpool.identity.decisions import anonymous, unverified
from rserpool.wire import CauseCode, ErrorCause, Message, Ppid, UpdateAction, enrp
from support.beings import HIGHER, LOWER, LOWEST, US, Being, endpoint, server_information
from support.rig_enrp import Rig, alone
from support.scope import POOL, identity

SECURITY = (ErrorCause(CauseCode.SECURITY_REJECTION),)
REJECTION = enrp.EnrpError(sender=US, error=SECURITY)
BEING = Being(30)


def add_pe(sender: int, being: Being = BEING) -> enrp.HandleUpdate:
    return enrp.HandleUpdate(
        sender=sender, action=UpdateAction.ADD_PE, pool_handle=POOL, element=being.element(home=sender)
    )


@pytest.mark.rfc("RFC 5353 3.4.1: any message makes its sender a peer, which is asked for its presence")
@pytest.mark.parametrize(
    "message",
    [
        enrp.Presence(sender=LOWER),
        add_pe(LOWER),
        enrp.HandleTableRequest(sender=LOWER, receiver=US, own_children_only=True),
        enrp.ListRequest(sender=LOWER),
        enrp.InitTakeover(sender=LOWER, target=LOWEST),
        enrp.EnrpError(sender=LOWER, error=SECURITY),
    ],
    ids=lambda m: type(m).__name__,
)
def test_any_message_makes_its_sender_known_who_is_asked_for_its_presence(message: Message) -> None:
    rig = alone()
    peer = rig.peer(LOWER, alive=False)
    line = peer.dial()
    assert line.sent == []
    line.send(message)
    assert rig.known() == {LOWER: "active"}
    asked = line.all(enrp.Presence)
    assert asked == [
        enrp.Presence(sender=US, receiver=LOWER, reply_required=True, checksum=0xFFFF, server=server_information(US, 1))
    ]


def test_who_is_known_already_is_not_asked_again() -> None:
    rig = alone()
    [peer] = rig.meet(LOWER)
    peer.introduce()
    assert peer.line.sent == []


@pytest.mark.rfc("PROTOCOL 7: messages for another receiver, from oneself or from nobody are dropped")
@pytest.mark.parametrize("receiver", [0, US])
def test_a_message_to_all_or_to_us_is_for_us(receiver: int) -> None:
    rig = alone()
    [peer] = rig.meet(LOWER)
    peer.line.send(replace(add_pe(LOWER), receiver=receiver))
    assert rig.homes() == {BEING.identifier: LOWER}


@pytest.mark.rfc("PROTOCOL 7: messages for another receiver, from oneself or from nobody are dropped")
def test_a_message_for_another_registrar_is_dropped_and_counts_for_nothing() -> None:
    rig = alone()
    [peer] = rig.meet(LOWER)
    peer.alive = False
    for _ in range(9):
        rig.run(0.1)
        peer.line.send(replace(add_pe(LOWER), receiver=HIGHER))
    assert rig.homes() == {}
    assert rig.ignored()[0] == ("ENRP_HANDLE_UPDATE", f"for {HIGHER:#010x}, not for us")
    assert rig.states(peer) == ["probing"]  # nothing was heard of it


def test_a_stranger_does_not_become_known_by_a_message_for_another_registrar() -> None:
    rig = alone()
    peer = rig.peer(LOWER)
    peer.dial().send(enrp.ListRequest(sender=LOWER, receiver=HIGHER))
    assert rig.known() == {}
    assert peer.line.sent == []


@pytest.mark.rfc("PROTOCOL 7: messages for another receiver, from oneself or from nobody are dropped")
@pytest.mark.parametrize("sender", [0, US])
def test_our_own_message_and_one_of_nobody_are_dropped(sender: int) -> None:
    rig = alone()
    [peer] = rig.meet(LOWER)
    stranger = rig.peer(sender)
    for line in (stranger.dial(), peer.line):
        line.send(add_pe(sender, BEING), enrp.HandleTableRequest(sender=sender))
        assert line.sent == []
    assert rig.known() == {LOWER: "active"}
    assert rig.homes() == {}
    assert (
        rig.ignored()
        == [
            ("ENRP_HANDLE_UPDATE", f"sender {sender:#010x}"),
            ("ENRP_HANDLE_TABLE_REQUEST", f"sender {sender:#010x}"),
        ]
        * 2
    )


def test_who_dials_itself_notices_and_never_does_it_again() -> None:
    rig = Rig(expects=(2,)).start()  # the same host by another name: number 2 is us
    ourselves = rig.peer(US, 2)
    ourselves.answer()
    ourselves.introduce()
    closed = ourselves.line.closed
    assert closed is not None
    assert closed.reason == "that is ourselves"
    rig.run(2.0)
    assert rig.dialled() == []
    assert rig.known() == {}


def test_a_registrar_that_has_introduced_itself_cannot_be_taken_for_ourselves() -> None:
    """It would stay a peer without a connection, and its address would never be dialled again."""
    rig = alone()
    peer = rig.peer(LOWER, 2)
    rig.do(lambda m, now: m.look_for([endpoint(2)], now))
    line = peer.answer()
    peer.introduce()
    line.send(add_pe(US))
    assert rig.homes() == {}
    assert [p["connected"] for p in rig.machine.dump()["peers"]] == [line.up]
    if line.up:
        line.lose()
    rig.run(0.4)
    assert rig.dialled() == [str(endpoint(2))]


# -- one association, one server ID


@pytest.mark.rfc("PROTOCOL 7: an association is bound to the first server ID seen on it")
def test_an_association_that_changes_its_server_id_is_rejected_and_closed() -> None:
    rig = alone()
    [peer] = rig.meet(LOWER)
    line = peer.line
    line.send(add_pe(HIGHER))
    assert line.all(enrp.EnrpError) == [REJECTION]
    assert line.closed is not None
    assert rig.threats() == [("2.5", "ENRP_HANDLE_UPDATE")]
    assert rig.homes() == {}
    assert HIGHER not in rig.known()


def test_who_spoke_by_two_names_is_asked_whether_it_is_still_there() -> None:
    rig = alone()
    [peer] = rig.meet(LOWER)
    peer.line.send(add_pe(HIGHER))
    assert rig.known() == {LOWER: "probing"}
    assert rig.dialled() == [str(peer.endpoint)]
    rig.run(0.399)
    assert rig.known() == {LOWER: "probing"}
    rig.run(0.002)
    assert rig.known() == {}


# -- one server ID, one identity (threat 2.5)


@pytest.mark.parametrize(
    "message", [add_pe(LOWER), enrp.Presence(sender=LOWER), enrp.TakeoverServer(sender=LOWER, target=US)]
)
def test_another_registrar_cannot_speak_by_the_id_of_one_that_is_known(message: Message) -> None:
    rig = alone()
    [victim] = rig.meet(LOWER)
    impostor = rig.peer(LOWER)
    line = impostor.dial()
    line.send(message)
    assert line.all(enrp.EnrpError) == [REJECTION]
    assert line.closed is not None
    assert [threat for threat, _ in rig.threats()] == ["2.5"]
    assert victim.line.up
    assert victim.line.sent == []
    assert rig.known() == {LOWER: "active"}
    assert rig.homes() == {}


def test_what_an_impostor_sends_behind_its_first_message_is_not_read() -> None:
    rig = alone()
    rig.meet(LOWER)
    line = rig.peer(LOWER).dial()
    line.send(enrp.Presence(sender=LOWER), add_pe(LOWER))
    assert rig.homes() == {}


def test_an_id_is_free_again_when_its_holder_has_been_given_up() -> None:
    rig = alone()
    [peer] = rig.meet(LOWER)
    peer.alive = False
    rig.run(1.4)
    assert rig.known() == {}
    other = rig.peer(LOWER)
    other.dial()
    other.introduce()
    assert rig.known() == {LOWER: "active"}


def test_where_nobody_is_verified_an_address_is_no_identity() -> None:
    rig = Rig(scope=InsecureScope(), secure=False).start()
    for number in (2, 3):
        line = rig.accept(Ppid.ENRP, unverified(f"10.0.0.{number}"), endpoint(number).addresses)
        line.send(enrp.Presence(sender=LOWER))
        assert line.all(enrp.EnrpError) == []
    assert rig.known() == {LOWER: "active"}


# -- a restarted registrar (PROTOCOL 10.7)


@pytest.mark.rfc("PROTOCOL 10.7: a new server ID of an identity has the old one probed at once")
def test_a_new_id_of_an_identity_has_its_old_one_probed_at_once() -> None:
    rig = alone()
    [old] = rig.meet(LOWER)
    old.own(BEING)
    rig.forget()
    old.alive = False
    new = rig.peer(HIGHER, old.number)
    new.dial()
    new.introduce()
    assert old.line.all(enrp.Presence)[0].reply_required
    assert rig.known() == {LOWER: "probing", HIGHER: "active"}
    rig.run(0.399)
    assert rig.known() == {LOWER: "probing", HIGHER: "active"}
    rig.run(0.002)
    assert rig.known() == {HIGHER: "active"}
    assert rig.homes() == {BEING.identifier: US}


def test_the_old_id_of_an_identity_stays_if_it_answers() -> None:
    rig = alone()
    [old] = rig.meet(LOWER)
    new = rig.peer(HIGHER, old.number)
    new.dial()
    new.introduce()
    rig.run(2)
    assert rig.known() == {LOWER: "active", HIGHER: "active"}


def test_where_nobody_is_verified_a_new_id_says_nothing_about_another() -> None:
    rig = Rig(scope=InsecureScope(), secure=False).start()
    for server_id in (LOWER, HIGHER):
        rig.accept(Ppid.ENRP, unverified("10.0.0.2"), endpoint(2).addresses).send(enrp.Presence(sender=server_id))
    assert rig.known() == {LOWER: "active", HIGHER: "active"}


# -- roles (threats 2.5, 2.15)

ROLES = {
    "element": principal_of(identity(Role.ELEMENT, 2)),
    "user": principal_of(identity(Role.USER, 2)),
    "anonymous": anonymous("10.0.0.2"),
    "not verified at all": unverified("10.0.0.2"),
}


@pytest.mark.rfc("RFC 5353 6.2: registrars authenticate each other")
@pytest.mark.parametrize("name", ROLES)
def test_who_is_no_registrar_is_told_so_and_left_and_nothing_it_says_is_heard(name: str) -> None:
    rig = alone()
    [peer] = rig.meet(LOWER)
    line = rig.accept(Ppid.ENRP, ROLES[name], endpoint(2).addresses)
    assert [m for _, m in line.sent] == [REJECTION]
    assert line.closed is not None
    assert rig.threats() == [("2.5", "ENRP association")]
    line.send(enrp.Presence(sender=HIGHER), add_pe(HIGHER), enrp.ListRequest(sender=HIGHER))
    assert [m for _, m in line.sent] == [REJECTION]
    assert rig.known() == {LOWER: "active"}
    assert rig.homes() == {}
    assert peer.line.sent == []


@pytest.mark.parametrize("name", ROLES)
def test_who_is_met_where_a_registrar_should_be_is_told_so_and_left(name: str) -> None:
    principal: Principal = ROLES[name]
    rig = Rig(expects=(2,)).start()
    line = rig.establish(endpoint(2), principal)
    assert [m for _, m in line.sent] == [REJECTION]
    assert line.closed is not None
    assert rig.threats() == [("2.5", "ENRP association")]
    assert rig.dialled() == []
    rig.run(0.4)
    assert rig.dialled() == [str(endpoint(2))]
    assert not rig.machine.serving


# -- limits


def test_there_are_no_more_registrars_than_the_limit() -> None:
    rig = alone(limits=Limits(peers=2))
    rig.meet(LOWEST, LOWER)
    third = rig.peer(HIGHER)
    line = third.dial()
    third.introduce()
    assert line.sent == []
    assert line.closed is not None
    assert line.closed.reason == "too many registrars"
    assert rig.ignored() == [("ENRP_PRESENCE", "there are 2 registrars already")]
    assert set(rig.known()) == {LOWEST, LOWER}


def test_an_association_on_which_no_registrar_introduces_itself_is_closed() -> None:
    rig = alone()
    silent, babbling, good = (rig.peer(i) for i in (LOWEST, LOWER, HIGHER))
    for peer in (silent, babbling, good):
        peer.dial()
    silent.alive = babbling.alive = False
    good.introduce()
    rig.run(4.9)
    babbling.line.send(enrp.Presence(sender=babbling.server_id, receiver=HIGHER))
    assert silent.line.up
    rig.run(0.2)
    for peer in (silent, babbling):
        assert peer.line.closed is not None
        assert peer.line.closed.reason == "no registrar introduced itself"
    assert good.line.up
