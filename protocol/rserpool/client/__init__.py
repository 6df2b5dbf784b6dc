# SPDX-License-Identifier: Apache-2.0
"""The pool user: resolve a pool handle, speak with an element, go on at another one when it fails.

    async with PoolUser() as users:
        async with users.session("echo") as session:
            await session.send(b"hello")
            print(await session.receive())

Without arguments it finds the pool it is to use by itself: from RSERPOOL_REGISTRARS and RSERPOOL_BUNDLE, from
``/var/run/rserpool``, or from an `rserpool up` that runs on this machine.
"""

from rserpool.asap.announce import Multicast
from rserpool.client.carrier import Received
from rserpool.client.connection import Connection
from rserpool.client.directory import Resolution
from rserpool.client.errors import (
    NoAnswerError,
    NoElementError,
    NoRegistrarError,
    PoolUserError,
    QueueFullError,
    RefusedError,
    SessionClosedError,
    SessionLostError,
    UnknownPoolError,
)
from rserpool.client.scope import Scope, ScopeError, find_scope
from rserpool.client.session import PoolElementHandle, Session
from rserpool.client.user import PoolUser
from rserpool.session.sending import SendOptions
from rserpool.session.user_effects import (
    ChannelSecurity,
    ElementLost,
    ElementRemoved,
    FailedOver,
    Failover,
    Far,
    SessionEvent,
    Unsent,
)

__all__ = [
    "ChannelSecurity",
    "Connection",
    "ElementLost",
    "ElementRemoved",
    "FailedOver",
    "Failover",
    "Far",
    "Multicast",
    "NoAnswerError",
    "NoElementError",
    "NoRegistrarError",
    "PoolElementHandle",
    "PoolUser",
    "PoolUserError",
    "QueueFullError",
    "Received",
    "RefusedError",
    "Resolution",
    "Scope",
    "ScopeError",
    "SendOptions",
    "Session",
    "SessionClosedError",
    "SessionEvent",
    "SessionLostError",
    "UnknownPoolError",
    "Unsent",
    "find_scope",
]
