# SPDX-License-Identifier: Apache-2.0
"""A wall clock that is wrong, for daemons that tests start: Python's, and OpenSSL's when it looks at certificates.

Python imports this by itself from a folder of PYTHONPATH. SKEWED is ``NAME=SECONDS,...``; NAME is that of a daemon's
configuration file, which is among its arguments.
"""

from __future__ import annotations

import datetime as dt
import os
import sys
import time
from typing import Any


def _skew() -> float:
    for entry in os.environ.get("SKEWED", "").split(","):
        name, _, seconds = entry.partition("=")
        if name and any(argument.endswith(f"/{name}.toml") for argument in sys.orig_argv):
            return float(seconds)
    return 0.0


def _set(seconds: float) -> None:
    right = time.time
    time.time = lambda: right() + seconds
    true = dt.datetime

    class Wrong(true):  # type: ignore[valid-type,misc] # a class that is found at run time
        """Says another time."""

        @classmethod
        def now(cls, tz: dt.tzinfo | None = None) -> dt.datetime:
            return true.fromtimestamp(time.time(), tz)

    dt.datetime = Wrong  # type: ignore[misc] # all are to be misled
    from OpenSSL import SSL

    made = SSL.Connection.__init__

    def make(self: SSL.Connection, context: SSL.Context, *args: Any, **kwargs: Any) -> None:
        store = context.get_cert_store()
        assert store is not None
        store.set_time(true.fromtimestamp(time.time(), dt.UTC))
        made(self, context, *args, **kwargs)

    SSL.Connection.__init__ = make  # type: ignore[method-assign] # all are to be misled


if _skew():
    _set(_skew())
