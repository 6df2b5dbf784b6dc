# SPDX-License-Identifier: Apache-2.0
"""A registrar serves when it has a mentor's handlespace, or knows that it is alone; silence never says so."""

from __future__ import annotations

from dataclasses import replace

import pytest

from rserpool.asap.authorisation import Role
from rserpool.asap.events import Serving
from rserpool.asap.profiles import RFC
from rserpool.asap.server.desk import Limits
from rserpool.identity import principal_of
from rserpool.wire import PoolElement, Ppid, UpdateAction, asap, enrp, policies
from support.beings import HIGHER, HIGHEST, LOWER, LOWEST, US, Being, endpoint, server_information
from support.peers import Peer
from support.rig_enrp import Rig
from support.scope import POOL, identity

BEINGS = [Being(n) for n in range(30, 40)]
WHOLE = enrp.HandleTableRequest(sender=US, receiver=HIGHER)


def starting(*numbers: int, seed: int = 1, limits: Limits | None = None) -> Rig:
    return Rig(expects=(1, *numbers), seed=seed, limits=limits).start()


def mentored() -> tuple[Rig, Peer]:
    """A starting registrar that has met its only peer, which is HIGHER, at number 2, and answers as it is told."""
    rig = starting(2)
    mentor = rig.peer(HIGHER, 2)
    mentor.requests = "ignore"
    mentor.answer()
    return rig, mentor


# -- alone


@pytest.mark.rfc("RFC 5353 3.2.2.1: without peers a registrar serves at once")
@pytest.mark.parametrize("expects", [(), (1,)], ids=["nobody configured", "only ourselves configured"])
def test_who_has_no_peers_serves_at_once(expects: tuple[int, ...]) -> None:
    rig = Rig(expects=expects).start()
    assert rig.machine.serving
    assert rig.seen(Serving) == [Serving(0)]
    assert rig.dialled() == []
    assert rig.machine.dump()["phase"] == "serving"


# -- by a mentor


@pytest.mark.rfc("RFC 3237 2.1: every registrar of a scope can be replaced while it runs")
@pytest.mark.rfc("RFC 5353 3.2.2.2: the mentor is asked for its list of registrars")
@pytest.mark.rfc("RFC 5353 3.2.3: the mentor's whole handlespace is read, part by part")
def test_the_mentor_is_asked_for_its_list_then_for_its_whole_handlespace_part_by_part() -> None:
    rig, mentor = mentored()
    line = mentor.line
    assert rig.machine.dump()["phase"] == "waiting for a list of registrars"
    assert line.all(enrp.ListRequest) == [enrp.ListRequest(sender=US, receiver=HIGHER)]
    assert line.all(enrp.HandleTableRequest) == []
    line.send(mentor.listing())
    assert line.all(enrp.HandleTableRequest) == [WHOLE]
    assert rig.machine.dump()["phase"] == "reading the handlespace"
    for n in range(3):
        assert len(line.all(enrp.HandleTableRequest)) == n + 1
        assert not rig.machine.serving
        line.send(mentor.table([BEINGS[n].element(HIGHER)], more=n < 2))
    assert line.all(enrp.HandleTableRequest)[:3] == [WHOLE] * 3
    assert rig.machine.serving
    assert rig.seen(Serving) == [Serving(HIGHER)]
    assert rig.homes() == dict.fromkeys((b.identifier for b in BEINGS[:3]), HIGHER)


@pytest.mark.rfc("RFC 5353 3.2.3: the mentor's whole handlespace is read, part by part")
def test_elements_of_third_registrars_come_with_the_mentors_table() -> None:
    rig, mentor = mentored()
    mentor.line.send(mentor.listing())
    table = [BEINGS[0].element(HIGHER), BEINGS[1].element(LOWER), BEINGS[2].element(LOWEST)]
    mentor.line.send(mentor.table(table))
    assert rig.homes() == {BEINGS[0].identifier: HIGHER, BEINGS[1].identifier: LOWER, BEINGS[2].identifier: LOWEST}


@pytest.mark.rfc("RFC 5353 3.2.3: a registrar serves after the last part")
def test_an_empty_handlespace_is_one() -> None:
    rig, mentor = mentored()
    mentor.line.send(mentor.listing(), mentor.table())
    assert rig.seen(Serving) == [Serving(HIGHER)]
    assert rig.homes() == {}


@pytest.mark.rfc("RFC 3237 2.1: every registrar of a scope can be replaced while it runs")
def test_when_it_begins_to_serve_every_peer_is_asked_what_it_owns() -> None:
    rig = starting(2, 3)
    mentor, other = rig.peer(HIGHER, 2), rig.peer(LOWER, 3)
    other.requests = "ignore"
    mentor.answer()
    assert rig.machine.serving
    other.answer()
    late = rig.peer(LOWEST, 4)
    late.dial()
    late.introduce()
    own_children = enrp.HandleTableRequest(sender=US, receiver=HIGHER, own_children_only=True)
    assert mentor.line.all(enrp.HandleTableRequest) == [WHOLE, own_children]
    assert other.line.all(enrp.HandleTableRequest) == [replace(own_children, receiver=LOWER)]
    assert late.line.all(enrp.HandleTableRequest) == [replace(own_children, receiver=LOWEST)]


def test_what_changed_at_a_third_registrar_during_the_download_is_corrected_when_serving() -> None:
    rig = starting(2, 3)
    mentor, third = rig.peer(HIGHER, 2), rig.peer(LOWER, 3)
    mentor.requests = "ignore"
    mentor.answer()
    third.answer()
    mentor.line.send(mentor.listing())
    third.update(BEINGS[0].element(LOWER), UpdateAction.DEL_PE)  # unknown so far: no action
    mentor.line.send(mentor.table([BEINGS[0].element(LOWER)]))  # the mentor's part was older
    assert rig.machine.serving
    assert rig.homes() == {BEINGS[0].identifier: LOWER}  # the third lists nothing, but the mentor's table may name it
    rig.run(0.4)  # the mentor does not answer any more
    assert rig.homes() == {}


@pytest.mark.rfc("RFC 5353 3.2.2.2: the mentor is asked for its list of registrars")
def test_registrars_in_the_list_are_dialled_except_ourselves_nobody_and_those_met() -> None:
    rig, mentor = mentored()
    servers = [
        server_information(US, 77),
        server_information(0, 78),
        server_information(HIGHER, 79),
        server_information(LOWER, 5),
        server_information(LOWEST, 6),
        server_information(LOWEST - 1, 1),  # somebody says it were where we are
    ]
    mentor.line.send(mentor.listing(*servers))
    assert rig.dialled() == [str(endpoint(5)), str(endpoint(6))]


def test_of_a_list_no_more_are_dialled_than_a_scope_may_have_registrars() -> None:
    rig = starting(2, limits=Limits(peers=2))
    mentor = rig.peer(HIGHER, 2)
    mentor.requests = "ignore"
    mentor.answer()
    mentor.line.send(mentor.listing(*(server_information(LOWEST + n, 5 + n) for n in range(4))))
    assert rig.dialled() == [str(endpoint(5)), str(endpoint(6))]


def test_registrars_in_the_list_that_are_not_there_are_dialled_for_ten_heartbeats() -> None:
    rig, mentor = mentored()
    mentor.line.send(mentor.listing(server_information(LOWER, 5)), mentor.table())
    dialled = []
    while rig.clock < 6:
        if rig.dialled():
            rig.fail(endpoint(5))
            dialled.append(rig.clock)
        rig.run(0.1)
    assert dialled[:10] == pytest.approx([0.4 * n for n in range(10)])
    assert dialled[-1] < 4.05


# -- what the mentor may not say


@pytest.mark.rfc("PROTOCOL 10.2: entries that cannot be are ignored")
@pytest.mark.parametrize(
    ("element", "reason"),
    [
        (BEINGS[0].element(US), "lists {} as ours, which it cannot be"),
        (replace(BEINGS[0].element(HIGHER), asap_transport=None), "announces {} without an ASAP transport"),
        (BEINGS[0].element(HIGHER, policy=policies.Random()), "announces {}, which does not fit its pool"),
        (BEINGS[0].element(LOWER, policy=policies.Random()), "announces {}, which does not fit its pool"),
    ],
)
def test_an_absurd_entry_is_ignored_and_the_others_are_taken(element: PoolElement, reason: str) -> None:
    rig, mentor = mentored()
    mentor.line.send(mentor.listing())
    mentor.line.send(mentor.table([BEINGS[1].element(HIGHER), element, BEINGS[2].element(HIGHER)]))
    assert rig.machine.serving
    assert rig.homes() == {BEINGS[1].identifier: HIGHER, BEINGS[2].identifier: HIGHER}
    expected = reason.format(f"{BEINGS[0].identifier:#010x}")
    assert rig.ignored() == [("ENRP_HANDLE_TABLE_RESPONSE", expected)]


def test_a_third_registrars_element_without_an_asap_transport_is_not_taken() -> None:
    rig, mentor = mentored()
    mentor.line.send(mentor.listing())
    mentor.line.send(mentor.table([replace(BEINGS[0].element(LOWER), asap_transport=None)]))
    assert rig.machine.serving
    assert rig.homes() == {}


@pytest.mark.parametrize("home", [HIGHER, LOWER])
def test_a_mentor_cannot_fill_more_than_the_handlespace_holds(home: int) -> None:
    rig = starting(2, limits=Limits(elements=3))
    mentor = rig.peer(HIGHER, 2)
    mentor.requests = "ignore"
    mentor.answer()
    mentor.line.send(mentor.listing(), mentor.table([b.element(home) for b in BEINGS[:5]]))
    assert len(rig.homes()) == 3


def test_a_list_or_a_table_nobody_asked_for_is_ignored() -> None:
    rig = starting(2, 3)
    mentor, other = rig.peer(HIGHER, 2), rig.peer(LOWER, 3)
    mentor.requests = other.requests = "ignore"
    mentor.answer()
    other.answer()
    other.line.send(other.listing(server_information(LOWEST, 5)), other.table([BEINGS[0].element(LOWER)]))
    mentor.line.send(mentor.table([BEINGS[0].element(HIGHER)]))
    assert rig.ignored() == [
        ("ENRP_LIST_RESPONSE", "nobody asked"),
        ("ENRP_HANDLE_TABLE_RESPONSE", "nobody asked"),
        ("ENRP_HANDLE_TABLE_RESPONSE", "nobody asked"),
    ]
    assert rig.dialled() == []
    assert rig.homes() == {}
    assert not rig.machine.serving


# -- while starting


@pytest.mark.rfc('RFC 5353 3.2.2.2: a registrar that is starting says "not now"')
def test_while_starting_requests_for_list_and_table_are_rejected() -> None:
    rig, mentor = mentored()
    mentor.own(BEINGS[0])
    rig.forget()
    mentor.line.send(
        enrp.ListRequest(sender=HIGHER),
        enrp.HandleTableRequest(sender=HIGHER),
        enrp.HandleTableRequest(sender=HIGHER, own_children_only=True),
    )
    assert [m for _, m in mentor.line.sent] == [
        enrp.ListResponse(sender=US, receiver=HIGHER, reject=True),
        enrp.HandleTableResponse(sender=US, receiver=HIGHER, reject=True),
        enrp.HandleTableResponse(sender=US, receiver=HIGHER, reject=True),
    ]


@pytest.mark.rfc("RFC 5353 3.2.3: a registrar serves after the last part")
def test_while_starting_nobody_is_let_in_to_asap_and_afterwards_everybody_is() -> None:
    rig, mentor = mentored()
    early = rig.user()
    assert early.closed is not None
    assert early.closed.abort
    element = rig.accept(Ppid.ASAP, BEINGS[0].principal, (BEINGS[0].address,))
    assert element.closed is not None
    mentor.line.send(mentor.listing(), mentor.table())
    late = rig.user()
    late.send(asap.HandleResolution(pool_handle=POOL))
    assert late.kinds() == ["HandleResolutionResponse"]


@pytest.mark.rfc("PROTOCOL 10.2: what is announced during the download is newer than the mentor's word")
def test_while_starting_updates_count_and_are_newer_than_the_mentors_word_of_others() -> None:
    rig = starting(2, 3)
    mentor, third = rig.peer(HIGHER, 2), rig.peer(LOWER, 3)
    mentor.requests = "ignore"
    mentor.answer()
    third.answer()
    mentor.line.send(mentor.listing())
    third.requests = "ignore"
    third.update(BEINGS[0].element(LOWER, life=77))
    assert rig.homes() == {BEINGS[0].identifier: LOWER}
    mentor.line.send(mentor.table([BEINGS[0].element(LOWEST, life=66)]))
    assert rig.machine.serving
    assert rig.homes() == {BEINGS[0].identifier: LOWER}
    assert rig.space()["pools"][0]["elements"][0]["life"] == 77


def test_while_starting_presences_are_sent_and_answered_but_nothing_is_compared() -> None:
    rig, mentor = mentored()
    for _ in range(4):
        mentor.line.send(mentor.presence(checksum=0x1234, reply=True))
    rig.run(0.39)
    assert len(mentor.line.all(enrp.Presence)) == 2 + 4
    assert mentor.line.all(enrp.HandleTableRequest) == []


def test_while_starting_a_dead_peer_is_forgotten_not_taken_over() -> None:
    rig = starting(2, 3)
    mentor, third = rig.peer(HIGHER, 2), rig.peer(LOWER, 3)
    mentor.requests = "ignore"
    mentor.answer()
    third.answer()
    third.own(BEINGS[0])
    third.alive = False
    for _ in range(8):  # the mentor is slow, but it goes on
        mentor.line.send(mentor.listing(), mentor.table([], more=True))
        rig.run(0.2)
    assert LOWER not in rig.known()
    assert mentor.line.all(enrp.InitTakeover) == []
    assert rig.homes() == {BEINGS[0].identifier: LOWER}
    assert not rig.machine.serving


# -- a rogue mentor (threat 2.5)


@pytest.mark.rfc("threats 2.5: no malicious registrar joins")
def test_a_starting_registrar_refuses_a_mentor_that_is_none_and_uses_the_next() -> None:
    rig = starting(2, 3)
    fake = rig.establish(endpoint(2), principal_of(identity(Role.ELEMENT, 2)))
    fake.send(enrp.ListResponse(sender=HIGHEST), enrp.HandleTableResponse(sender=HIGHEST))
    assert not rig.machine.serving
    genuine = rig.peer(LOWER, 3)
    genuine.answer()
    assert rig.seen(Serving) == [Serving(LOWER)]


@pytest.mark.rfc('RFC 5353 3.2.2.2: a mentor that says "not now" is left for the next, or asked again')
def test_it_takes_its_mentors_with_the_timers_of_the_rfc_as_well() -> None:
    rig = Rig(expects=(2,), timers=RFC.registrar).start()
    mentor = rig.peer(HIGHER, 2)
    mentor.requests = "reject"
    mentor.answer()
    mentor.requests = "serve"
    rig.run(1.9)
    assert not rig.machine.serving
    rig.run(0.2)
    assert rig.seen(Serving) == [Serving(HIGHER)]
