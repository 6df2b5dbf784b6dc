# SPDX-License-Identifier: Apache-2.0
"""Places may be replaced while they are followed."""

from __future__ import annotations

import asyncio

from rserpool.asap.effects import Endpoint
from rserpool.daemon.places import Places
from support.rig_identity import quickly


def test_places_are_replaced_while_they_are_followed() -> None:
    async def run() -> None:
        places = Places((("10.0.0.1", 9902),))
        told: list[tuple[list[str], bool]] = []

        def changed(found: tuple[Endpoint, ...], complete: bool) -> None:
            told.append(([str(e.addresses[0]) for e in found], complete))

        assert len(await places.resolve()) == 1
        places.on_changed = changed
        following = asyncio.ensure_future(places.run())
        await asyncio.sleep(1)
        places.replace((("10.0.0.1", 9902),))
        await asyncio.sleep(1)
        assert told == []
        places.replace((("10.0.0.1", 9902), ("10.0.0.2", 9902)))
        await asyncio.sleep(1)
        assert told.pop() == (["10.0.0.1", "10.0.0.2"], True)
        places.replace((("no..name", 9902), ("10.0.0.2", 9902)))
        await asyncio.sleep(20)
        assert told == [(["10.0.0.2"], False)]
        assert not places.complete
        following.cancel()

    quickly(run())


def test_a_name_that_cannot_be_resolved_is_written_once_however_often_it_is_tried(caplog: object) -> None:
    async def run() -> None:
        places = Places((("no..name", 9902),))
        assert await places.resolve() == ()
        following = asyncio.ensure_future(places.run())
        await asyncio.sleep(20)
        following.cancel()

    quickly(run())
    assert getattr(caplog, "text").count("the name no..name cannot be resolved") == 1  # noqa: B009 - a fixture whose type says less
