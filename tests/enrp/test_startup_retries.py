# SPDX-License-Identifier: Apache-2.0
"""When a mentor rejects, is silent or dies there is a next one; when all are starting, the highest ID begins."""

from __future__ import annotations

import pytest

from rserpool.asap.events import Serving
from rserpool.wire import enrp
from support.beings import HIGHER, HIGHEST, LOWER, LOWEST, US, Being, endpoint
from support.peers import Peer
from support.rig_enrp import Rig

BEINGS = [Being(n) for n in range(30, 34)]


def starting(*server_ids: int, requests: str, seed: int = 1) -> tuple[Rig, list[Peer]]:
    """A starting registrar that has met all of its peers; ``requests`` is what they do about list and table requests.

    The last of ``server_ids`` is met first.
    """
    numbers = range(2, 2 + len(server_ids))
    rig = Rig(expects=tuple(numbers), seed=seed).start()
    peers = [rig.peer(server_id, number) for server_id, number in zip(server_ids, numbers, strict=True)]
    for peer in reversed(peers):
        peer.requests = requests
        peer.answer()
    return rig, peers


def asked(rig: Rig, kind: type[enrp.ListRequest | enrp.HandleTableRequest]) -> list[tuple[float, int]]:
    """When which peer was asked."""
    return [(at, m.receiver) for at, m in rig.times(kind)]


# -- the next mentor


@pytest.mark.rfc("RFC 5353 3.2.2.2: a mentor that does not answer in MAX-TIME-NO-RESPONSE is left for the next")
def test_a_mentor_that_does_not_answer_the_list_request_in_time_is_left_for_the_next() -> None:
    rig, [low, high] = starting(LOWER, HIGHER, requests="ignore")
    low.requests = "serve"
    rig.run(0.399)
    assert asked(rig, enrp.ListRequest) == [(0, HIGHER)]
    rig.run(0.002)
    assert asked(rig, enrp.ListRequest) == [(0, HIGHER), (0.4, LOWER)]
    assert rig.seen(Serving) == [Serving(LOWER)]
    high.line.send(high.listing())
    assert rig.ignored() == [("ENRP_LIST_RESPONSE", "nobody asked")]


@pytest.mark.rfc('RFC 5353 3.2.2.2: a mentor that says "not now" is left for the next, or asked again')
def test_a_mentor_that_rejects_the_list_request_is_left_at_once() -> None:
    rig, [_, high] = starting(LOWER, HIGHER, requests="ignore")
    rig.peers[0].requests = "serve"
    high.line.send(enrp.ListResponse(sender=HIGHER, reject=True))
    assert asked(rig, enrp.ListRequest) == [(0, HIGHER), (0, LOWER)]
    assert rig.seen(Serving) == [Serving(LOWER)]


@pytest.mark.rfc("RFC 5353 3.2.2.2: a mentor that does not answer in MAX-TIME-NO-RESPONSE is left for the next")
@pytest.mark.parametrize("how", ["rejects", "is silent"])
def test_a_mentor_that_fails_in_the_middle_of_the_table_is_left_and_the_next_begins_anew(how: str) -> None:
    rig, [low, high] = starting(LOWER, HIGHER, requests="ignore")
    low.owns = {b.key: b.element(LOWER) for b in BEINGS[:2]}
    low.requests = "serve"
    high.line.send(high.listing(), high.table([BEINGS[0].element(HIGHEST), BEINGS[2].element(HIGHER)], more=True))
    if how == "rejects":
        high.line.send(enrp.HandleTableResponse(sender=HIGHER, reject=True))
    else:
        rig.run(0.399)
        assert asked(rig, enrp.ListRequest) == [(0, HIGHER)]
        rig.run(0.002)
    assert rig.seen(Serving) == [Serving(LOWER)]
    whole = [m for m in low.line.all(enrp.HandleTableRequest) if not m.own_children_only]
    assert whole == [enrp.HandleTableRequest(sender=US, receiver=LOWER)]
    # the part that was read stays until an audit or an orphan's takeover corrects it
    assert rig.homes() == {BEINGS[0].identifier: LOWER, BEINGS[1].identifier: LOWER, BEINGS[2].identifier: HIGHER}


@pytest.mark.rfc("RFC 5353 3.2.2.1: one peer is the mentor, the others are back-ups")
def test_a_mentor_that_dies_is_left_for_the_next() -> None:
    rig, [low, high] = starting(LOWER, HIGHER, requests="ignore")
    low.requests = "serve"
    high.line.send(high.listing())
    high.line.lose()
    high.refuse()
    assert rig.seen(Serving) == [Serving(LOWER)]


@pytest.mark.rfc("RFC 5353 3.2.2.1: one peer is the mentor, the others are back-ups")
def test_a_mentor_that_dies_before_its_list_is_left_for_the_next() -> None:
    rig, [low, high] = starting(LOWER, HIGHER, requests="ignore")
    low.requests = "serve"
    high.line.lose()
    high.refuse()
    assert rig.seen(Serving) == [Serving(LOWER)]


@pytest.mark.rfc("RFC 5353 3.2.2.1: one peer is the mentor, the others are back-ups")
def test_the_highest_of_those_connected_is_asked_first() -> None:
    rig, [lowest, highest, high, low] = starting(LOWEST, HIGHEST, HIGHER, LOWER, requests="reject")
    rig.run(0.201)
    assert asked(rig, enrp.ListRequest)[1:] == [(0.2, p.server_id) for p in (highest, high, low, lowest)]


def test_a_registrar_whose_only_mentor_is_silent_asks_it_again() -> None:
    rig, [peer] = starting(HIGHER, requests="ignore")
    rig.run(1.3)
    assert asked(rig, enrp.ListRequest) == [(0, HIGHER), (0.6, HIGHER), (1.2, HIGHER)]
    assert not rig.machine.serving
    peer.requests = "serve"
    rig.run(0.6)
    assert rig.seen(Serving) == [Serving(HIGHER)]


# -- all are starting


@pytest.mark.rfc("PROTOCOL 10.2: when all are starting the highest server ID serves")
def test_when_all_are_starting_the_highest_id_serves_at_once() -> None:
    rig, [lowest, low] = starting(LOWEST, LOWER, requests="ignore")
    low.line.send(enrp.ListResponse(sender=LOWER, reject=True))
    assert not rig.machine.serving
    lowest.line.send(enrp.ListResponse(sender=LOWEST, reject=True))
    assert rig.seen(Serving) == [Serving(0)]
    assert rig.clock == 0


@pytest.mark.rfc("PROTOCOL 10.2: when all are starting the highest server ID serves")
def test_when_all_are_starting_a_lower_id_waits_for_the_highest_and_uses_it() -> None:
    rig, [low, high] = starting(LOWER, HIGHER, requests="reject")
    rig.run(0.199)
    assert not rig.machine.serving
    high.requests = "serve"
    high.own(BEINGS[0])
    rig.run(0.002)
    assert rig.seen(Serving) == [Serving(HIGHER)]
    assert rig.homes() == {BEINGS[0].identifier: HIGHER}
    assert low.line.up


def test_the_highest_does_not_serve_while_a_configured_one_has_not_been_met() -> None:
    rig = Rig(expects=(2, 3)).start()
    peer = rig.peer(LOWER, 2)
    peer.requests = "reject"
    peer.answer()
    rig.run(1.0)
    assert not rig.machine.serving
    missing = rig.peer(LOWEST, 3)
    missing.requests = "reject"
    rig.run(0.3)
    missing.answer()
    rig.run(0.5)
    assert rig.seen(Serving) == [Serving(0)]


def test_the_highest_does_not_serve_while_one_has_only_been_silent() -> None:
    rig, [low, _] = starting(LOWER, LOWEST, requests="ignore")
    low.requests = "reject"
    rig.run(2.2)
    assert not rig.machine.serving


def test_what_one_said_in_an_earlier_round_does_not_count() -> None:
    rig, [lowest, low] = starting(LOWEST, LOWER, requests="ignore")
    low.line.send(enrp.ListResponse(sender=LOWER, reject=True))
    rig.run(1.01)  # the other was silent, a new round has begun, and now the first is silent
    assert asked(rig, enrp.ListRequest) == [(0, LOWER), (0, LOWEST), (0.6, LOWER), (1.0, LOWEST)]
    lowest.line.send(enrp.ListResponse(sender=LOWEST, reject=True))
    assert not rig.machine.serving
    low.requests = "serve"
    rig.run(0.3)
    assert rig.seen(Serving) == [Serving(LOWER)]


def test_the_highest_does_not_serve_when_one_of_them_does() -> None:
    rig, [low, lowest] = starting(LOWER, LOWEST, requests="ignore")
    lowest.owns = {BEINGS[0].key: BEINGS[0].element(LOWEST)}
    low.requests, lowest.requests = "reject", "serve"
    rig.run(1.0)
    assert rig.seen(Serving) == [Serving(LOWEST)]
    assert rig.homes() == {BEINGS[0].identifier: LOWEST}


# -- nobody can say (threat 2.12)


def give_up_time(rig: Rig) -> float:
    """How long it looks for a mentor before it serves alone."""
    while not rig.machine.serving:
        for to in [c.endpoint for _, c in rig.dials.values()]:
            rig.fail(to)
        rig.run(0.01)
    assert rig.seen(Serving) == [Serving(0)]
    return rig.clock


@pytest.mark.rfc("PROTOCOL 10.2: silence of all peers does not mean alone")
def test_without_any_answer_it_is_alone_only_after_the_discovery_time_of_3_s_and_20_percent() -> None:
    times = [give_up_time(Rig(expects=(1, 2), seed=seed).start()) for seed in range(60)]
    assert 2.4 <= min(times) < 2.5
    assert 3.5 < max(times) <= 3.62


@pytest.mark.rfc("PROTOCOL 10.2: when all are starting the highest server ID serves")
@pytest.mark.parametrize("requests", ["ignore", "reject"])
def test_a_mentor_that_never_helps_delays_it_no_longer_than_that(requests: str) -> None:
    rig, _ = starting(HIGHER, requests=requests)
    rig.run(2.39)
    assert rig.seen(Serving) == []
    rig.run(1.22)
    assert rig.seen(Serving) == [Serving(0)]


@pytest.mark.rfc("PROTOCOL 10.2: silence of all peers does not mean alone")
@pytest.mark.rfc("threats 2.12: discovery cannot be thwarted or spoofed")
def test_an_empty_answer_of_dns_does_not_mean_alone() -> None:
    rig = Rig(expects=(2,)).start()
    rig.do(lambda m, now: m.look_for([], now))
    rig.run(2.39)
    assert not rig.machine.serving


def test_the_discovery_time_does_not_cut_a_download_short() -> None:
    rig, [mentor] = starting(HIGHER, requests="ignore")
    mentor.line.send(mentor.listing())
    for _ in range(20):
        rig.run(0.3)
        assert not rig.machine.serving
        mentor.line.send(mentor.table(more=True))
    mentor.line.send(mentor.table())
    assert rig.seen(Serving) == [Serving(HIGHER)]


def test_a_download_that_stops_after_the_discovery_time_ends_the_start() -> None:
    rig, [mentor] = starting(HIGHER, requests="ignore")
    mentor.line.send(mentor.listing())
    for _ in range(13):
        rig.run(0.3)
        mentor.line.send(mentor.table(more=True))
    rig.run(0.5)
    mentor.requests = "ignore"
    rig.run(0.5)
    assert rig.seen(Serving) == [Serving(0)]


def test_a_mentor_that_dies_after_dns_forgot_it_does_not_end_the_process() -> None:
    """A pod that terminates is taken out of DNS, then its association ends."""
    rig, [mentor] = starting(HIGHER, requests="ignore")
    mentor.introduce()
    mentor.line.send(mentor.listing())
    rig.do(lambda m, now: m.look_for([endpoint(1)], now))
    mentor.line.lose()
    mentor.refuse()
    rig.run(4)
    assert rig.seen(Serving) == [Serving(0)]


def test_it_begins_to_serve_only_once() -> None:
    rig, peers = starting(LOWER, HIGHER, requests="serve")
    assert rig.seen(Serving) == [Serving(HIGHER)]
    rig.run(5)
    for peer in peers:
        peer.line.send(peer.listing(), peer.table())
    rig.run(5)
    assert rig.seen(Serving) == [Serving(HIGHER)]
