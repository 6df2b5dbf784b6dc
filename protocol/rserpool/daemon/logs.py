# SPDX-License-Identifier: Apache-2.0
"""Logs: text or JSON on standard error, and bounded: no peer can make us write more than a little a minute."""

from __future__ import annotations

import json
import logging
import sys
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

_STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class _Text(logging.Formatter):
    """``2026-11-23T10:00:00.123Z INFO message key=value``."""

    converter = staticmethod(time.gmtime)

    def format(self, record: logging.LogRecord) -> str:
        when = f"{self.formatTime(record, '%Y-%m-%dT%H:%M:%S')}.{int(record.msecs):03d}Z"
        extra = "".join(f" {key}={_word(value)}" for key, value in _extra(record).items())
        line = f"{when} {record.levelname} {_one_line(record.getMessage())}{extra}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


class _Json(logging.Formatter):
    """One JSON object a line."""

    converter = staticmethod(time.gmtime)

    def format(self, record: logging.LogRecord) -> str:
        fields: dict[str, Any] = {
            "time": f"{self.formatTime(record, '%Y-%m-%dT%H:%M:%S')}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "message": record.getMessage(),
            **_extra(record),
        }
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        return json.dumps(fields, ensure_ascii=False, default=str)


def _extra(record: logging.LogRecord) -> dict[str, Any]:
    return {key: value for key, value in vars(record).items() if key not in _STANDARD}


def _one_line(text: str) -> str:
    """What a peer sent must not forge lines of ours."""
    return "".join(c if c.isprintable() else "?" for c in text)


def _word(value: object) -> str:
    text = _one_line(str(value))
    return json.dumps(text, ensure_ascii=False) if not text or set(text) & set(' ="') else text


def set_up(*, form: str, level: str) -> None:
    """Send all logs of this process to standard error in that form."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Json() if form == "json" else _Text())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.getLogger("asyncio").setLevel(logging.WARNING)


@dataclass(slots=True)
class _Muted:
    until: float
    count: int = 0


class PeerLog:
    """Writes what concerns one peer at most once a minute for each subject, and then how often it was.

    Args:
        logger: where to.
        interval: seconds for which the same is not written again.
        most: peers and subjects remembered; the oldest are forgotten.
    """

    def __init__(self, logger: logging.Logger, interval: float = 60.0, most: int = 2048) -> None:
        self._logger = logger
        self._interval = interval
        self._most = most
        self._muted: OrderedDict[tuple[str, str], _Muted] = OrderedDict()

    def write(self, level: int, peer: str, subject: str, message: str, extra: Mapping[str, object], now: float) -> bool:
        """Write a line, unless one like it was written a short while ago; returns whether it was written."""
        key = (peer, subject)
        muted = self._muted.get(key)
        if muted is not None and now < muted.until:
            muted.count += 1
            return False
        again = muted.count if muted is not None else 0
        self._muted[key] = _Muted(now + self._interval)
        self._muted.move_to_end(key)
        if len(self._muted) > self._most:
            self._muted.popitem(last=False)
        more = {"unlogged_before": again} if again else {}
        self._logger.log(level, message, extra={**extra, **more})
        return True


def identity_of(peer: str) -> str:
    """The part of a peer's description that stays the same from connection to connection."""
    name, separator, _ = peer.rpartition(" at ")
    if separator:
        return name
    host, _, port = peer.rpartition(":")
    return host if host and port.isdigit() else peer
