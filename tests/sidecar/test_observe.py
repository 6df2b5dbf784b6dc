# SPDX-License-Identifier: Apache-2.0
"""What a sidecar's operator sees of its element, and whom it tells when the element's state is the awaited one."""

from __future__ import annotations

import asyncio
import logging

import pytest
from prometheus_client.exposition import generate_latest

from rserpool.asap.events import ElementState, ElementStateChanged, HuntChanged, Refused
from rserpool_sidecar.observe import Observer


@pytest.fixture
def seen(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.DEBUG)
    return caplog


@pytest.fixture
def observer() -> Observer:
    return Observer(dict, lambda: 0.0)


def changed(state: ElementState, reason: str = "") -> ElementStateChanged:
    return ElementStateChanged(state=state, pool_handle=b"echo", pe_identifier=0x11, reason=reason)


def sample(observer: Observer, line: str) -> bool:
    return line in generate_latest(observer.metrics.registry).decode().splitlines()


def test_that_it_was_registered_once_is_remembered_for_ever(observer: Observer) -> None:
    """Readiness is latched on it: the loss of registrars takes no application out of its Service."""
    for state in (ElementState.NO_HOME, ElementState.REGISTERING):
        observer.event(changed(state))
        assert not observer.ever_registered
    for state in (ElementState.REGISTERED, ElementState.NO_HOME, ElementState.DEREGISTERED):
        observer.event(changed(state))
        assert observer.ever_registered


@pytest.mark.parametrize("state", ElementState)
@pytest.mark.parametrize("reason", ["", "no answer"])
def test_each_state_is_counted_and_written_with_its_reason(
    observer: Observer, seen: pytest.LogCaptureFixture, state: ElementState, reason: str
) -> None:
    observer.event(changed(state, reason))
    (record,) = seen.records
    assert record.getMessage() == f"element 0x00000011: {state.value}"
    assert vars(record).get("reason", "") == reason
    bad = bool(reason) and state in (ElementState.REJECTED, ElementState.NO_HOME)
    assert record.levelno == (logging.WARNING if bad else logging.INFO)
    label = state.value.replace(" ", "_")
    assert sample(observer, f'rserpool_element_state_changes_total{{state="{label}"}} 1.0')


def test_a_registration_that_is_refreshed_is_not_news(observer: Observer, seen: pytest.LogCaptureFixture) -> None:
    for state in (ElementState.REGISTERED, ElementState.REGISTERED, ElementState.NO_HOME, ElementState.REGISTERED):
        observer.event(changed(state))
    assert [r.levelno for r in seen.records] == [logging.INFO, logging.DEBUG, logging.INFO, logging.INFO]


def test_who_waits_for_a_state_is_told_when_it_comes_and_not_before(observer: Observer) -> None:
    async def run() -> None:
        left, also = observer.when(ElementState.DEREGISTERED), observer.when(ElementState.DEREGISTERED)
        observer.event(changed(ElementState.DEREGISTERING))
        assert not left.is_set()
        observer.event(changed(ElementState.DEREGISTERED))
        assert left.is_set()
        assert also.is_set()
        assert not observer.when(ElementState.DEREGISTERED).is_set(), "the next time is another time"

    asyncio.run(run())


@pytest.mark.parametrize(("found", "outcome"), [(True, "found"), (False, "failed")])
def test_rounds_of_the_hunt_are_counted_by_outcome(
    observer: Observer, seen: pytest.LogCaptureFixture, found: bool, outcome: str
) -> None:
    observer.event(HuntChanged(found=found, registrar="spiffe://r", reason="nobody answers"))
    (record,) = seen.records
    assert record.levelno == (logging.INFO if found else logging.WARNING)
    assert ("spiffe://r" if found else "nobody answers") in vars(record).values()
    assert sample(observer, f'rserpool_hunts_total{{outcome="{outcome}"}} 1.0')


def test_what_both_daemons_have_is_counted_too(observer: Observer) -> None:
    observer.event(Refused(threat="2.6", peer="x at y", what="ASAP association", reason="r"))
    assert sample(observer, 'rserpool_refusals_total{threat="2.6",what="ASAP association"} 1.0')
