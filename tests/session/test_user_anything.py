# SPDX-License-Identifier: Apache-2.0
"""Whatever happens to a session, in whatever order: nothing goes to whom it must not go, and it ends once."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from rserpool.asap.events import Failure
from rserpool.identity import principal_of
from rserpool.session.backlog import QueueFull
from rserpool.session.sending import SendOptions
from rserpool.session.user import SessionOver
from rserpool.session.user_effects import Ask, Deliver, Dial, Ended, FailedOver, HangUp, Report, Tell, Transmit
from rserpool.wire import asap
from support.rig_session import Rig, card, element, elements, identity, is_who_it_should_be, somebody, which

IMPOSTOR = somebody(principal_of(identity(9)))
WAYS = (None, "connection refused", IMPOSTOR, "itself")


def try_to(rig: Rig, octets: bytes, options: SendOptions) -> None:
    with contextlib.suppress(QueueFull, SessionOver):  # said clearly, and nothing has happened
        rig.send(octets, options)


def set_far(rig: Rig, k: int, way: int) -> None:
    found = WAYS[way]
    rig.far[element(k).identifier] = is_who_it_should_be(k) if found == "itself" else found


NUMBERS = st.integers(1, 4)
SOME = st.lists(NUMBERS, max_size=4)
Step = Callable[[Rig], None]
STEPS: st.SearchStrategy[Step] = st.one_of(
    st.builds(lambda o, n: lambda r: try_to(r, b"d%d" % n, o), st.sampled_from(
        [SendOptions.USE_DEFAULT, SendOptions.SEND_FAILOVER, SendOptions.SEND_NO_FAILOVER]), NUMBERS),
    st.builds(lambda orderly: lambda r: r.lose(orderly=orderly), st.booleans()),
    st.builds(lambda k, way: lambda r: set_far(r, k, way), NUMBERS, st.integers(0, 3)),
    st.builds(lambda ks: lambda r: r.update(*ks), SOME),
    st.builds(lambda ks: lambda r: setattr(r, "answer", elements(*ks)), SOME),
    st.builds(lambda f: lambda r: setattr(r, "answer", f), st.sampled_from(list(Failure))),
    st.builds(lambda a: lambda r: setattr(r, "agrees", a), st.sampled_from([True, False, None])),
    st.builds(lambda k: lambda r: r.control(asap.Cookie(cookie=b"c%d" % k)), NUMBERS),
    st.builds(lambda ks: lambda r: r.control(card(*(ks or [1]))), SOME),
    st.builds(lambda s: lambda r: r.run(s), st.sampled_from([0.01, 0.3, 2.0, 9.0])),
    st.sampled_from([
        Rig.agree, Rig.decline, Rig.writable, Rig.drain, Rig.not_connected,
        lambda r: r.data(b"hello"), lambda r: r.octets(b"\xff" * 9), lambda r: r.connected(is_who_it_should_be(1)),
        lambda r: r.connected(IMPOSTOR), lambda r: r.do(r.machine.report("bad", r.now)),
        lambda r: r.do(r.machine.end_data(r.now)), lambda r: r.do(r.machine.resolved(r.pool, r.now)),
    ]),
)  # fmt: skip


@given(
    st.lists(STEPS, max_size=40),
    st.booleans(),
    st.booleans(),
    st.sampled_from([None, element(2).identifier]),
)
def test_nothing_goes_to_whom_it_must_not_go(
    steps: list[Step], failover: bool, leave_removed: bool, wanted: int | None
) -> None:
    rig = Rig(1, 2, 3, failover=failover, leave_removed=leave_removed, element=wanted, patience=8.0)
    rig.begin()
    for step in steps:
        step(rig)
    judge(rig)
    rig.do(rig.machine.close(rig.now))
    assert len(rig.of(Ended)) == 1
    assert rig.machine.deadline() is None
    assert rig.machine.unsent == 0


def judge(rig: Rig) -> None:
    """Look at all that was done, in order."""
    dialled: dict[int, int] = {}
    reports: dict[int, int] = {}
    left: set[int] = set()
    asked: set[int] = set()  # connections the application was asked about, and agreed to
    first = 0
    for at, effect in enumerate(rig.done):
        match effect:
            case Dial(attempt, found, _):
                dialled[attempt], reports[attempt] = found.identifier, 0
            case Ask(attempt, failover):
                assert failover.new.element.identifier == dialled[attempt]
                assert failover.new.security.identity == str(identity(which(dialled[attempt])))
            case Tell(FailedOver(failover)):
                asked.add(max(dialled))
                assert not failover.cookie or isinstance(rig.said(max(dialled))[0], asap.CookieEcho)
            case Transmit(attempt, _):
                first = first or (attempt if not asked else 0)
                assert attempt in asked or attempt == first
                assert attempt not in left
            case HangUp(attempt, _):
                left.add(attempt)
            case Report(found):
                last = max(a for a, k in dialled.items() if k == found.identifier)  # never of one it did not dial
                reports[last] += 1
                assert reports[last] == 1
            case Deliver(found, _):
                assert found.identifier == dialled[max(dialled)]
            case Ended():
                assert rig.done[at + 1 :] == []
            case _:
                pass
    assert rig.machine.far is None or rig.machine.far.security.identity == str(identity(rig.at))
