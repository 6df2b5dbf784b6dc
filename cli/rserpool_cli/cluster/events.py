# SPDX-License-Identifier: Apache-2.0
"""The last Events about some objects."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from rserpool_cli.cluster.kubectl import Kubectl, KubectlError, Manifest

MOST: Final = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Happening:
    """One Event.

    Attributes:
        when: last seen, as Kubernetes writes times.
        kind: Normal or Warning.
        about: kind and name of the object.
    """

    when: str
    kind: str
    reason: str
    about: str
    message: str


def events_of(kubectl: Kubectl, namespace: str, about: Collection[tuple[str, str]]) -> tuple[Happening, ...]:
    """The last ones about objects of these kinds and names, newest last; none, if they may not be read."""
    try:
        events = kubectl.get("events", namespace=namespace)
    except KubectlError:
        return ()
    found = [event for event in events if _about(event) in about]
    return tuple(sorted((_happening(event) for event in found), key=lambda e: e.when)[-MOST:])


def _about(event: Manifest) -> tuple[str, str]:
    thing = event.get("involvedObject") or {}
    return (str(thing.get("kind")), str(thing.get("name")))


def _happening(event: Manifest) -> Happening:
    # Events of the older kind have lastTimestamp, those of the newer eventTime, and series if they came again
    when = (
        (event.get("series") or {}).get("lastObservedTime")
        or event.get("lastTimestamp")
        or event.get("eventTime")
        or event["metadata"].get("creationTimestamp")
        or ""
    )
    return Happening(
        when=when,
        kind=event.get("type") or "Normal",
        reason=event.get("reason") or "",
        about="/".join(_about(event)),
        message=" ".join(str(event.get("message") or "").split()),
    )
