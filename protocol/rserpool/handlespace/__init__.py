# SPDX-License-Identifier: Apache-2.0
"""The handlespace: which elements are in which pool, who owns them, and which of them a user gets.

No I/O, no clock. ``space`` holds pools and ownership with its checksums, ``pools`` one pool, ``selection`` the
policies at a registrar, ``choosing`` at a pool user, ``dump`` the canonical form that tests and people compare.
"""

from rserpool.handlespace.choosing import UserSelector
from rserpool.handlespace.dump import describe_policy, describe_transport, dump
from rserpool.handlespace.pools import Pool
from rserpool.handlespace.selection import Increment, Selector
from rserpool.handlespace.space import ElementKey, Handlespace

__all__ = [
    "ElementKey",
    "Handlespace",
    "Increment",
    "Pool",
    "Selector",
    "UserSelector",
    "describe_policy",
    "describe_transport",
    "dump",
]
