# SPDX-License-Identifier: Apache-2.0
"""The registrar's ASAP side: what comes in is read, and given to whom it concerns (RFC 5352 2.2, RFC 5354 3 and 4)."""

from __future__ import annotations

from rserpool.asap.answers import bounded
from rserpool.asap.authorisation import Action
from rserpool.asap.effects import Association, TransportKind
from rserpool.asap.events import Malformed
from rserpool.asap.server.desk import RegistrarDesk
from rserpool.asap.server.liveness import Liveness
from rserpool.asap.server.membership import Membership
from rserpool.asap.server.registration import Registrations
from rserpool.asap.server.reports import Reports
from rserpool.asap.server.resolution import Resolutions
from rserpool.wire import (
    AsapType,
    DecodeError,
    ErrorCause,
    Ppid,
    asap,
    name_of,
    unrecognized_message,
)


class AsapFront:
    """Reads ASAP messages and hands them on.

    Attributes:
        membership, liveness, resolutions, registrations: the parts others have to do with.
    """

    def __init__(self, desk: RegistrarDesk) -> None:
        self._desk = desk
        self.membership = Membership(desk)
        self.liveness = Liveness(desk, self.membership)
        self.resolutions = Resolutions(desk)
        self.membership.observers.append(self.resolutions.observe)
        self.registrations = Registrations(desk, self.membership, self.liveness)
        self._reports = Reports(desk, self.membership, self.liveness)

    def reconfigured(self) -> None:
        """The desk has another configuration."""
        for part in (self.liveness, self.resolutions, self.registrations, self._reports):
            part.reconfigured()

    def received(self, association: Association, octets: bytes) -> None:
        """Handle one message; parsed whole before anything changes."""
        usual = self.liveness.expected(association.id, octets)
        if usual is not None and self._may_be_element(association):
            self._acknowledged(association, usual)
            return
        try:
            decoded = self._desk.repeats.read(octets, Ppid.ASAP)
        except DecodeError as e:
            self._malformed(association, e, len(octets))
            return
        message = decoded.message
        match message:
            case asap.HandleResolution():
                self.resolutions.resolve(association, message)
            case asap.EndpointKeepAliveAck() if self._may_be_element(association):
                self._acknowledged(association, message)
            case asap.EndpointKeepAliveAck():
                self._desk.refuse(
                    association.id, asap.AsapError(error=bounded((unrecognized_message(octets),), len(octets)))
                )
            case asap.Registration():
                if self.registrations.register(association, message, len(octets)):
                    key = (message.pool_handle, message.element.identifier)
                    self._desk.repeats.keep(key, octets, Ppid.ASAP, decoded)
            case asap.Deregistration():
                self.registrations.deregister(association, message)
            case asap.EndpointUnreachable():
                self._reports.report(association, message)
            case asap.AsapError():
                self._desk.ignored(association, "ASAP_ERROR", ", ".join(str(c) for c in message.error))
                return  # never answer an error by an error
            case _:
                self._desk.ignored(association, name_of(message), "not for a registrar")
                self._desk.refuse(association.id, None)
        if decoded.reports:
            self._desk.refuse(association.id, asap.AsapError(error=bounded(decoded.reports, len(octets))))

    def lost(self, association: Association) -> None:
        """An ASAP association has ended."""
        self.resolutions.lost(association.id)
        self.liveness.lost(association.id)
        self._reports.lost(association.id)

    def _acknowledged(self, association: Association, message: asap.EndpointKeepAliveAck) -> None:
        what = "ASAP_ENDPOINT_KEEP_ALIVE_ACK"
        if self._desk.denial(association, Action.ACKNOWLEDGE, what, message.pool_handle, message.pe_identifier):
            self._desk.refuse(association.id, None)
            return
        own = self.liveness.acknowledged(association, message)
        if own:
            self._reports.answered((message.pool_handle, message.pe_identifier))
        elif not self._reports.acknowledged(association, message):
            self._desk.ignored(association, what, "nobody asked")

    def _may_be_element(self, association: Association) -> bool:
        """Over TCP only where the TCP profile is in force (RFC 5352 2.1)."""
        return association.kind is not TransportKind.TCP or self._desk.dialect.tcp_profile

    def _malformed(self, association: Association, error: DecodeError, length: int) -> None:
        self._desk.emit(Malformed(peer=str(association), offset=error.offset, reason=error.reason))
        joins = error.message_type == AsapType.REGISTRATION
        leaves = error.message_type == AsapType.DEREGISTRATION
        causes: tuple[ErrorCause, ...] = bounded(error.causes, length - len(error.pool_handle or b""))
        handle = error.pool_handle
        named = handle is not None and len(handle) <= self._desk.config.limits.handle_length
        if (joins or leaves) and causes and handle and named and error.pe_identifier is not None:
            self.registrations.answer_broken(association, handle, error.pe_identifier, causes, joins=joins)
        elif causes and error.message_type != AsapType.ERROR:
            self._desk.refuse(association.id, asap.AsapError(error=causes))
        else:
            self._desk.refuse(association.id, None)
