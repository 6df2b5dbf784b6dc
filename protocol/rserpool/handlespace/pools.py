# SPDX-License-Identifier: Apache-2.0
"""One pool: its elements, and the three properties its first element fixes (RFC 5352 3.1 rules 1 and 2)."""

from __future__ import annotations

from random import Random as RandomSource

from rserpool.handlespace.selection import Increment, Selector
from rserpool.wire import (
    RFC,
    CauseCode,
    ErrorCause,
    ParameterType,
    PoolElement,
    SctpTransport,
    TransportUse,
    policies,
)
from rserpool.wire.policies import encode_policy
from rserpool.wire.transports import encode_transport


class Pool:
    """A pool handle's elements. It exists as long as it has one.

    Attributes:
        handle: the pool handle, opaque octets.
        policy: the overall policy, by its first element; only the type binds the others.
        transport_type: user transport type, binding.
        use: Transport Use for SCTP, binding; ``None`` for other transports.
        elements: by PE identifier.
    """

    __slots__ = ("_first", "_selector", "elements", "handle", "policy", "transport_type", "use")

    def __init__(
        self, handle: bytes, first: PoolElement, rng: RandomSource, increment: Increment = Increment.ALL
    ) -> None:
        self.handle = handle
        self.policy: policies.Policy = first.policy
        self.transport_type: ParameterType = first.transport.TYPE
        self.use = _use(first)
        self.elements: dict[int, PoolElement] = {}
        self._first = first
        self._selector = Selector(first.policy.TYPE, rng, increment)

    def mismatch(self, element: PoolElement) -> ErrorCause | None:
        """Why an element cannot belong to this pool, as the cause to answer with, in the RFC's order of checks."""
        if self.transport_type != element.transport.TYPE:
            return ErrorCause(CauseCode.INCONSISTENT_TRANSPORT_TYPE, encode_transport(self._first.transport, RFC))
        if _use(element) != self.use:
            return ErrorCause(CauseCode.INCONSISTENT_DATA_CONTROL)
        if element.policy.TYPE != self.policy.TYPE:
            return ErrorCause(CauseCode.INCONSISTENT_POLICY, encode_policy(self.policy))
        return None

    def put(self, element: PoolElement) -> None:
        """Add an element, or replace all it was."""
        before = self.elements.get(element.identifier)
        self.elements[element.identifier] = element
        if before is None:
            self._selector.add(element)
        else:
            self._selector.replace(before, element)

    def move(self, element: PoolElement) -> None:
        """Replace an element that changed nothing but its home: the policy's memory stays."""
        self.elements[element.identifier] = element

    def remove(self, identifier: int) -> None:
        """Take an element out; it must be there."""
        del self.elements[identifier]
        self._selector.remove(identifier)

    def select(self, limit: int = 0) -> list[PoolElement]:
        """Choose elements by policy for one resolution; at most ``limit``, 0 for all."""
        return self._selector.select(self.elements, limit)

    def peek(self, limit: int = 0) -> list[PoolElement]:
        """The elements for an update to a subscriber: the policy's memory does not move."""
        return self._selector.peek(self.elements, limit)


def _use(element: PoolElement) -> TransportUse | None:
    return element.transport.use if isinstance(element.transport, SctpTransport) else None
