# SPDX-License-Identifier: Apache-2.0
"""The pool user: resolve a pool handle, connect to an element, fail over to the next.

    async with PoolUser() as users:
        async with await users.connect("echo") as connection:
            connection.writer.write(b"hello")

Without arguments it finds the pool it is to use by itself: from RSERPOOL_REGISTRARS and RSERPOOL_BUNDLE, from
``/var/run/rserpool``, or from an `rserpool up` that runs on this machine.
"""

from rserpool.client.errors import (
    NoAnswerError,
    NoElementError,
    NoRegistrarError,
    PoolUserError,
    RefusedError,
    UnknownPoolError,
)
from rserpool.client.scope import Scope, ScopeError, find_scope
from rserpool.client.user import Connection, PoolUser, Resolution

__all__ = [
    "Connection",
    "NoAnswerError",
    "NoElementError",
    "NoRegistrarError",
    "PoolUser",
    "PoolUserError",
    "RefusedError",
    "Resolution",
    "Scope",
    "ScopeError",
    "UnknownPoolError",
    "find_scope",
]
