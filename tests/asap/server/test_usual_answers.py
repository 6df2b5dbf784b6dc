# SPDX-License-Identifier: Apache-2.0
"""Most of what a registrar hears is the same answer again and again: it is recognised by its octets, and judged as ever."""

from __future__ import annotations

import pytest

from rserpool.asap.events import Ignored
from rserpool.wire import asap, encode
from support.rig_asapserver import POOL, Far, Rig, keep_alives


def asked(rig: Rig, *elements: Far) -> None:
    """Let time pass until each has been asked."""
    for _ in range(200):
        if all(keep_alives(e) for e in elements):
            return
        rig.run(0.01)
    raise AssertionError("nobody asks")


@pytest.mark.parametrize("written", ["usual", "padding counted", "with a parameter to skip"])
def test_an_answer_counts_however_it_is_written(written: str) -> None:
    rig = Rig()
    element = rig.element(1).register()
    asked(rig, element)
    octets = encode(asap.EndpointKeepAliveAck(pool_handle=POOL, pe_identifier=element.identifier))
    if written == "padding counted":
        octets = octets[:2] + len(octets).to_bytes(2, "big") + octets[4:]
    elif written == "with a parameter to skip":
        octets = octets[:2] + (len(octets) + 8).to_bytes(2, "big") + octets[4:] + bytes.fromhex("8123000800000000")
    rig.hear(element, octets)
    rig.run(0.45)  # a keep-alive that was not answered would have been repeated by now
    assert keep_alives(element) == []
    assert rig.seen(Ignored) == []


def test_the_usual_answer_of_one_element_means_nothing_on_the_association_of_another() -> None:
    rig = Rig()
    silent, other = rig.element(1).register(), rig.element(2).register()
    other.acknowledges = True
    asked(rig, silent, other)
    answer = encode(asap.EndpointKeepAliveAck(pool_handle=POOL, pe_identifier=silent.identifier))
    for _ in range(20):
        rig.hear(other, answer)
        rig.run(0.1)
    assert rig.elements().keys() == {other.identifier}


def test_elements_whose_turn_comes_at_almost_the_same_time_are_asked_in_one_go() -> None:
    rig = Rig()
    elements = [rig.element(n).register() for n in range(1, 101)]
    rig.run(1.6)
    moments = {round(keep_alives(e)[0], 6) for e in elements}
    assert 10 <= len(moments) <= 21, "a hundred elements, asked within a second, at most once in 50 ms"
