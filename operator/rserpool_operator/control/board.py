# SPDX-License-Identifier: Apache-2.0
"""What the processes of each pool are told, and what they said last. In the leader's memory: both come again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from rserpool.asap.authorisation import Role
from rserpool.identity.revoked import serial_text
from rserpool_operator.observed import Report
from rserpool_operator.plan import Channel
from rserpool_operator.plan.certificates import is_of
from rserpool_operator.plan.versions import version_of
from rserpool_operator.work_queue import Key

MOST_ENDED: Final = 10_000
"""Pods that have ended which a pool's registrars are told of; the oldest leaves are over by then."""


@dataclass(slots=True)
class _Board:
    """One pool's."""

    channel: Channel | None = None
    ended: dict[str, None] = field(default_factory=dict)
    registrars: dict[str, None] = field(default_factory=dict)
    reports: dict[str, Report] = field(default_factory=dict)
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    versions: dict[str, str] = field(default_factory=dict)

    @property
    def gone(self) -> set[str]:
        """Pods that have ended, and pods whose identity was taken back."""
        return {*self.ended, *(self.channel.revoked if self.channel is not None else ())}

    @property
    def gone_for_elements(self) -> set[str]:
        """Those of them that an element may meet: registrars, and whoever was taken back, for it may be one."""
        return {*self.registrars, *(self.channel.revoked if self.channel is not None else ())}


class Boards:
    """All pools' boards.

    Attributes:
        on_report: called with a pool's key when a process has said something new.
    """

    def __init__(self) -> None:
        self._boards: dict[Key, _Board] = {}
        self.on_report: Callable[[Key], None] = lambda _: None

    def _board(self, key: Key) -> _Board:
        return self._boards.setdefault(key, _Board())

    def tell(self, key: Key, channel: Channel) -> None:
        """Say this to a pool's processes from now on."""
        board = self._board(key)
        if board.channel != channel:
            board.channel = channel
            self._renumber(board)

    def pod_ended(self, key: Key, uid: str) -> None:
        """A pod is gone, or is a member no more: its element is to be removed, and its identity refused."""
        board = self._boards.get(key)
        if board is None or uid in board.ended:
            return
        said = board.reports.pop(uid, None)
        board.ended[uid] = None
        if said is not None and said.role == Role.REGISTRAR.value:
            board.registrars[uid] = None
        while len(board.ended) > MOST_ENDED:
            oldest = next(iter(board.ended))
            del board.ended[oldest]
            board.registrars.pop(oldest, None)
        self._renumber(board)

    def pod_is_back(self, key: Key, uid: str) -> None:
        """A pod that was taken for ended is a member after all."""
        board = self._boards.get(key)
        if board is not None and board.ended.pop(uid, 0) is None:
            board.registrars.pop(uid, None)
            self._renumber(board)

    def has_ended(self, key: Key, uid: str) -> bool:
        """Whether that pod's identity is to be refused."""
        board = self._boards.get(key)
        return board is not None and uid in board.gone

    def has_revoked(self, key: Key, serial: int) -> bool:
        """Whether that leaf of the pool is to be refused, whoever shows it."""
        board = self._boards.get(key)
        channel = board.channel if board is not None else None
        return channel is not None and serial_text(serial) in channel.serials

    def forget(self, key: Key) -> None:
        """The pool is gone; its processes go on with what they have."""
        board = self._boards.pop(key, None)
        if board is not None:
            board.changed.set()

    def reports(self, key: Key) -> Mapping[str, Report]:
        """What a pool's processes said last, by pod UID."""
        return dict(self._board(key).reports)

    def _renumber(self, board: _Board) -> None:
        channel = board.channel
        serials = channel.serials if channel is not None else ()
        board.versions = {
            "ended registrar": version_of([sorted(board.gone), serials]),
            "ended element": version_of([sorted(board.gone_for_elements), serials]),
        }
        if channel is not None:
            board.versions |= {
                "registrar": version_of(channel.registrar),
                "element": version_of(channel.element),
                "bundle": version_of(channel.bundle),
                "renew": version_of(channel.renew),
            }
        board.changed.set()
        board.changed = asyncio.Event()

    def report(self, key: Key, uid: str, report: Report) -> None:
        """A process has said how it stands."""
        board = self._board(key)
        before = board.reports.get(uid)
        board.reports[uid] = report
        if before is None or _telling(before) != _telling(report):
            self.on_report(key)

    def expire(self, key: Key, longest: timedelta) -> None:
        """Forget what was said long ago."""
        board = self._board(key)
        now = datetime.now(UTC)
        board.reports = {uid: r for uid, r in board.reports.items() if now - r.at <= longest}

    def news(self, key: Key, role: Role, loaded: Mapping[str, str], issuer: str = "") -> dict[str, Any] | None:
        """What is new to a process; ``None`` while there is nothing to tell this pool at all.

        Args:
            key: the pool.
            role: of the process.
            loaded: versions in force in it.
            issuer: hash of the key that signed the leaf it shows; empty: not known.
        """
        board = self._board(key)
        channel, versions = board.channel, board.versions
        if channel is None:
            return None
        name = "registrar" if role is Role.REGISTRAR else "element"
        tables = channel.registrar if role is Role.REGISTRAR else channel.element
        found: dict[str, Any] = {}
        if loaded.get("settings") != versions[name]:
            found["settings"] = {"version": versions[name], "tables": tables}
        if channel.bundle and loaded.get("bundle") != versions["bundle"]:
            found["bundle"] = {"version": versions["bundle"], "pem": channel.bundle}
        strange = bool(channel.issuer and issuer) and not is_of(issuer, channel.issuer)
        if loaded.get("renew") != versions["renew"] or strange:
            found["renew"] = {"version": versions["renew"]}
        if loaded.get("ended") != versions[f"ended {name}"]:
            gone = sorted(board.gone if role is Role.REGISTRAR else board.gone_for_elements)
            found["ended"] = {"version": versions[f"ended {name}"], "pod_uids": gone, "serials": list(channel.serials)}
        return found

    async def wait(self, key: Key, seconds: float) -> None:
        """Until there may be news for a pool, or the time is over."""
        try:
            async with asyncio.timeout(seconds):
                await self._board(key).changed.wait()
        except TimeoutError:
            return


def _telling(report: Report) -> object:
    """What of a report a status shows."""
    state = {k: v for k, v in report.state.items() if k in ("serving", "elements", "registered", "healthy")}
    return (report.role, dict(report.loaded), report.transports, report.issuer, state)
