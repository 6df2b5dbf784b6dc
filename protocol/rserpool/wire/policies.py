# SPDX-License-Identifier: Apache-2.0
"""Pool Member Selection Policy parameters (RFC 5354 3.8, RFC 5356), and one that rsplib has besides.

Loads and degradations are fractions of 2**32 - 1: ``0`` is 0 %, ``0xffffffff`` is 100 % (RFC 5356 3.1).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, fields
from typing import ClassVar, Final

from rserpool.wire.codes import ParameterType, PolicyType
from rserpool.wire.errors import EncodeError
from rserpool.wire.tlv import Decoding, Tlv, pack

MAX_LOAD: Final = 0xFFFFFFFF
_TYPE: Final = struct.Struct("!I")
_INVALID_TYPES: Final = frozenset({0x00000000, 0x40000000})


@dataclass(frozen=True, slots=True)
class RoundRobin:
    """Round Robin (RFC 5356 4.1)."""

    TYPE: ClassVar = PolicyType.ROUND_ROBIN


@dataclass(frozen=True, slots=True)
class WeightedRoundRobin:
    """Weighted Round Robin (RFC 5356 4.2). A weight of 0 gets no work while others have more."""

    TYPE: ClassVar = PolicyType.WEIGHTED_ROUND_ROBIN
    weight: int


@dataclass(frozen=True, slots=True)
class Random:
    """Random (RFC 5356 4.3)."""

    TYPE: ClassVar = PolicyType.RANDOM


@dataclass(frozen=True, slots=True)
class WeightedRandom:
    """Weighted Random (RFC 5356 4.4)."""

    TYPE: ClassVar = PolicyType.WEIGHTED_RANDOM
    weight: int


@dataclass(frozen=True, slots=True)
class Priority:
    """Priority (RFC 5356 4.5): the larger number comes first."""

    TYPE: ClassVar = PolicyType.PRIORITY
    priority: int


@dataclass(frozen=True, slots=True)
class LeastUsed:
    """Least Used (RFC 5356 5.1)."""

    TYPE: ClassVar = PolicyType.LEAST_USED
    load: int


@dataclass(frozen=True, slots=True)
class LeastUsedDegradation:
    """Least Used with Degradation (RFC 5356 5.2)."""

    TYPE: ClassVar = PolicyType.LEAST_USED_DEGRADATION
    load: int
    degradation: int


@dataclass(frozen=True, slots=True)
class PriorityLeastUsed:
    """Priority Least Used (RFC 5356 5.3)."""

    TYPE: ClassVar = PolicyType.PRIORITY_LEAST_USED
    load: int
    degradation: int


@dataclass(frozen=True, slots=True)
class RandomizedLeastUsed:
    """Randomized Least Used (RFC 5356 5.4)."""

    TYPE: ClassVar = PolicyType.RANDOMIZED_LEAST_USED
    load: int


@dataclass(frozen=True, slots=True)
class PriorityLeastUsedDegradation:
    """Priority Least Used with Degradation: no policy of RFC 5356, but rsplib's under a number for private use.

    As Priority Least Used, and each time it is given out an element counts as loaded by one degradation more.
    """

    TYPE: ClassVar = PolicyType.PRIORITY_LEAST_USED_DEGRADATION
    load: int
    degradation: int


@dataclass(frozen=True, slots=True)
class UnknownPolicy:
    """A policy of private use or of the future: carried, not understood."""

    TYPE: int
    data: bytes


KnownPolicy = (
    RoundRobin
    | WeightedRoundRobin
    | Random
    | WeightedRandom
    | Priority
    | LeastUsed
    | LeastUsedDegradation
    | PriorityLeastUsed
    | RandomizedLeastUsed
    | PriorityLeastUsedDegradation
)
Policy = KnownPolicy | UnknownPolicy

_CLASSES: Final[dict[int, tuple[type[KnownPolicy], struct.Struct]]] = {
    RoundRobin.TYPE: (RoundRobin, struct.Struct("!")),
    WeightedRoundRobin.TYPE: (WeightedRoundRobin, struct.Struct("!I")),
    Random.TYPE: (Random, struct.Struct("!")),
    WeightedRandom.TYPE: (WeightedRandom, struct.Struct("!I")),
    Priority.TYPE: (Priority, struct.Struct("!I")),
    LeastUsed.TYPE: (LeastUsed, struct.Struct("!I")),
    LeastUsedDegradation.TYPE: (LeastUsedDegradation, struct.Struct("!II")),
    PriorityLeastUsed.TYPE: (PriorityLeastUsed, struct.Struct("!II")),
    RandomizedLeastUsed.TYPE: (RandomizedLeastUsed, struct.Struct("!I")),
    PriorityLeastUsedDegradation.TYPE: (PriorityLeastUsedDegradation, struct.Struct("!II")),
}

_NAMES: Final = {kind: tuple(f.name for f in fields(policy)) for kind, (policy, _) in _CLASSES.items()}


def decode_policy(decoding: Decoding, tlv: Tlv) -> Policy:
    """Read a policy parameter.

    Raises:
        DecodeError: one of the two invalid type numbers, or data that does not fit the type.
    """
    at = decoding.expect_at_least(tlv, 4, "Pool Member Selection Policy")
    (kind,) = _TYPE.unpack_from(decoding.data, at)
    if kind in _INVALID_TYPES:
        decoding.fail(at, f"policy type {kind:#010x} is invalid (RFC 5356 3)", tlv)
    if kind not in _CLASSES:
        return UnknownPolicy(kind, decoding.data[at + 4 : tlv.end])
    policy, layout = _CLASSES[kind]
    decoding.expect_body(tlv, 4 + layout.size, f"{PolicyType(kind).name} policy")
    return policy(*layout.unpack_from(decoding.data, at + 4))


def encode_policy(policy: Policy) -> bytes:
    """Write a policy parameter.

    Raises:
        EncodeError: a weight, priority, load or degradation outside 0..2**32 - 1.
    """
    if isinstance(policy, UnknownPolicy):
        return pack(ParameterType.POLICY, _TYPE.pack(policy.TYPE) + policy.data)
    try:
        data = _CLASSES[policy.TYPE][1].pack(*(getattr(policy, name) for name in _NAMES[policy.TYPE]))
    except struct.error as e:
        raise EncodeError(f"{policy.TYPE.name} policy: {e}") from None
    return pack(ParameterType.POLICY, _TYPE.pack(policy.TYPE) + data)
