# SPDX-License-Identifier: Apache-2.0
"""What a registrar's operator sees of its machine's events: lines, counters, and when it begins to serve."""

from __future__ import annotations

import logging
from ipaddress import IPv4Address

import pytest
from prometheus_client.exposition import generate_latest

from rserpool.asap.events import Change, ElementChanged, HuntChanged, PeerChanged, PeerState, Refused, Serving
from rserpool.wire import PoolElement, TcpTransport, policies
from rserpool_registrar.observe import Observer

ELEMENT = PoolElement(
    identifier=0x11,
    home=0x22,
    life=30,
    transport=TcpTransport(port=7007, address=IPv4Address("10.0.0.8")),
    policy=policies.RoundRobin(),
)


@pytest.fixture
def seen(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.DEBUG)
    return caplog


@pytest.fixture
def observer() -> Observer:
    return Observer(dict, lambda: 0.0)


def sample(observer: Observer, line: str) -> bool:
    return line in generate_latest(observer.metrics.registry).decode().splitlines()


@pytest.mark.parametrize("change", Change)
def test_each_change_of_an_element_is_counted_and_written(
    observer: Observer, seen: pytest.LogCaptureFixture, change: Change
) -> None:
    observer.event(ElementChanged(change=change, pool_handle=b"echo\n", element=ELEMENT, reason="it died"))
    (record,) = seen.records
    assert record.getMessage().startswith("element 0x00000011 of pool ")
    assert record.getMessage().endswith(f" {change.value}, home 0x00000022")
    assert "\n" not in record.getMessage()
    assert vars(record)["reason"] == "it died"
    assert record.levelno == (logging.DEBUG if change is Change.UPDATED else logging.INFO)
    assert sample(observer, f'rserpool_element_changes_total{{change="{change.value}"}} 1.0')


@pytest.mark.parametrize("state", PeerState)
def test_a_peer_that_is_lost_is_a_warning_and_one_that_comes_is_not(
    observer: Observer, seen: pytest.LogCaptureFixture, state: PeerState
) -> None:
    observer.event(PeerChanged(server_id=0x33, state=state, name="spiffe://x", reason=""))
    (record,) = seen.records
    assert record.getMessage() == f"registrar 0x00000033 is {state.value}"
    assert vars(record)["peer"] == "spiffe://x"
    assert "reason" not in vars(record)
    usual = state in (PeerState.ACTIVE, PeerState.PROBING)
    assert record.levelno == (logging.INFO if usual else logging.WARNING)
    assert sample(observer, f'rserpool_peer_changes_total{{state="{state.value.replace(" ", "_")}"}} 1.0')


def test_that_it_serves_is_told_with_whose_handlespace(observer: Observer, seen: pytest.LogCaptureFixture) -> None:
    told: list[str] = []
    observer.on_serving = lambda: told.append("serving")
    observer.event(Serving(0))
    observer.event(Serving(0x44))
    assert [record.getMessage() for record in seen.records] == [
        "serving, with an empty handlespace",
        "serving, with the handlespace of 0x00000044",
    ]
    assert told == ["serving"] * 2


def test_what_both_daemons_have_is_counted_too_and_what_neither_has_is_let_be(
    observer: Observer, seen: pytest.LogCaptureFixture
) -> None:
    observer.event(Refused(threat="2.4", peer="x at y", what="ASAP Registration", reason="r"))
    assert sample(observer, 'rserpool_refusals_total{threat="2.4",what="ASAP Registration"} 1.0')
    before = len(seen.records)
    observer.event(HuntChanged(found=True))
    assert len(seen.records) == before
