# SPDX-License-Identifier: Apache-2.0
"""What Wireshark shows of a message, told from our own decoding of it; and Wireshark's own word, through tshark.

Both are reduced to a sorted list of ``(path, field, value)``, the path without the values that tshark prints into its
headings.
"""

from __future__ import annotations

import json
import re
import struct
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rserpool.wire import (
    RFC,
    AsapTransport,
    AsapType,
    CauseCode,
    DccpTransport,
    Dialect,
    EnrpType,
    ErrorCause,
    Message,
    OpaqueTransport,
    ParameterType,
    PoolElement,
    Ppid,
    SctpTransport,
    ServerInformation,
    Transport,
    encode,
    policies,
    ppid_of,
)
from rserpool.wire.elements import encode_element, encode_server_information
from rserpool.wire.policies import encode_policy
from rserpool.wire.transports import encode_transport

Row = tuple[str, str, str]

_FLAGS: dict[tuple[Ppid, int], tuple[tuple[str, int], ...]] = {
    (Ppid.ASAP, AsapType.REGISTRATION_RESPONSE): (("r_bit", 1),),
    (Ppid.ASAP, AsapType.ENDPOINT_KEEP_ALIVE): (("h_bit", 1),),
    (Ppid.ENRP, EnrpType.PRESENCE): (("r_bit", 1),),
    (Ppid.ENRP, EnrpType.HANDLE_TABLE_REQUEST): (("w_bit", 1),),
    (Ppid.ENRP, EnrpType.HANDLE_TABLE_RESPONSE): (("m_bit", 2), ("r_bit", 1)),
    (Ppid.ENRP, EnrpType.HANDLE_UPDATE): (("t_bit", 1),),
    (Ppid.ENRP, EnrpType.LIST_RESPONSE): (("r_bit", 1),),
}
_TRANSPORT_NAMES = {
    ParameterType.SCTP_TRANSPORT: ("SCTP Transport Address Parameter", "sctp_transport_port"),
    ParameterType.TCP_TRANSPORT: ("TCP Transport Address Parameter", "tcp_transport_port"),
    ParameterType.UDP_TRANSPORT: ("UDP Transport Address Parameter", "udp_transport_port"),
    ParameterType.UDP_LITE_TRANSPORT: ("UDP-Lite Transport Address Parameter", "udp_lite_transport_port"),
    ParameterType.DCCP_TRANSPORT: ("DCCP Transport Address Parameter", "dccp_transport_port"),
}
_CAUSE_NAMES = {
    CauseCode.UNRECOGNIZED_PARAMETER: "Unrecognized parameter",
    CauseCode.UNRECOGNIZED_MESSAGE: "Unrecognized message",
    CauseCode.INVALID_VALUES: "Invalid values",
    CauseCode.NON_UNIQUE_PE_IDENTIFIER: "Non-unique PE identifier",
    CauseCode.INCONSISTENT_POLICY: "Pooling policy inconsistent",
    CauseCode.LACK_OF_RESOURCES: "Lack of resources",
    CauseCode.INCONSISTENT_TRANSPORT_TYPE: "Inconsistent transport type",
    CauseCode.INCONSISTENT_DATA_CONTROL: "Inconsistent data/control type",
    CauseCode.UNKNOWN_POOL_HANDLE: "Unknown pool handle",
    CauseCode.SECURITY_REJECTION: "Rejected due to security considerations",
}


def percent(load: int, whole: int = 100) -> str:
    return f"{load * whole / 0xFFFFFFFF:.15g}"


def colons(octets: bytes) -> str:
    return ":".join(f"{o:02x}" for o in octets)


class Teller:
    """Tells a decoded message in Wireshark's words."""

    def __init__(self, message: Message, dialect: Dialect) -> None:
        self.message, self.dialect = message, dialect
        self.ppid = ppid_of(message)
        self.rows: list[Row] = []
        self._tell()
        self.rows.sort()

    def _row(self, path: str, field: str, value: str) -> None:
        self.rows.append((path, f"{self.ppid.name.lower()}.{field}", value))

    def _tell(self) -> None:
        m, octets = self.message, encode(self.message, self.dialect)
        kind, flags, length = struct.unpack_from("!BBH", octets)
        self._row("", "message_type", str(kind))
        self._row("", "message_flags", f"0x{flags:02x}")
        self._row("", "message_length", str(length))
        for name, bit in _FLAGS.get((self.ppid, kind), ()):
            self._row("message_flags_tree", name, str(int(bool(flags & bit))))
        for attribute, field in (
            ("server_id", "server_identifier"),
            ("sender", "sender_servers_id"),
            ("receiver", "receiver_servers_id"),
            ("target", "target_servers_id"),
        ):
            if hasattr(m, attribute):
                self._row("", field, f"{getattr(m, attribute):#010x}")
        if hasattr(m, "action"):
            self._row("", "update_action", str(int(m.action)))
            self._row("", "reserved", "0x0000")
        self._parameters(m)

    def _parameters(self, m: Any) -> None:
        for entry in getattr(m, "pools", ()):
            self._handle("", entry.pool_handle)
            for element in entry.elements:
                self._element("", element)
        if hasattr(m, "pool_handle"):
            self._handle("", m.pool_handle)
        if getattr(m, "pe_identifier", None) is not None:
            self._head("", "Pool Element Identifier Parameter", ParameterType.PE_IDENTIFIER, 8)
            self._row("Pool Element Identifier Parameter", "pe_identifier", f"{m.pe_identifier:#010x}")
        if getattr(m, "items", None) is not None:
            self._head("", "Handle Resolution Option Parameter", ParameterType.HANDLE_RESOLUTION_OPTION, 8)
            self._row("Handle Resolution Option Parameter", "hropt_items", str(m.items))
        if getattr(m, "policy", None) is not None:
            self._policy("", m.policy)
        for element in getattr(m, "elements", ()):
            self._element("", element)
        if hasattr(m, "element"):
            self._element("", m.element)
        for transport in getattr(m, "transports", ()):
            self._transport("", transport)
        if getattr(m, "checksum", None) is not None:
            self._head("", "PE Checksum Parameter", ParameterType.PE_CHECKSUM, 6)
            self._row("PE Checksum Parameter", "pe_checksum", f"{m.checksum:#06x}")
        servers: Sequence[ServerInformation | None] = getattr(m, "servers", (getattr(m, "server", None),))
        for server in servers:
            if server is not None:
                self._server("", server)
        if getattr(m, "error", ()):
            self._error(m.error)
        if hasattr(m, "cookie"):
            self._head("", "Cookie Parameter", ParameterType.COOKIE, 4 + len(m.cookie))
            self._row("Cookie Parameter", "cookie", colons(m.cookie))
        for skipped in m.unrecognized:
            self._raw("", skipped.raw)

    def _head(self, path: str, name: str, kind: int, length: int) -> str:
        inner = f"{path}/{name}".removeprefix("/")
        self._row(inner, "parameter_type", f"{kind:#06x}")
        self._row(inner, "parameter_length", str(length))
        return inner

    def _handle(self, path: str, handle: bytes) -> None:
        inner = self._head(path, "Pool Handle Parameter", ParameterType.POOL_HANDLE, 4 + len(handle))
        self._row(inner, "pool_handle_pool_handle", colons(handle))

    def _transport(self, path: str, transport: Transport | AsapTransport) -> None:
        length = len(encode_transport(transport, self.dialect))
        if isinstance(transport, OpaqueTransport):
            inner = self._head(path, "Unknown Parameter", transport.TYPE, length)
            self._row(inner, "parameter_value", colons(transport.value))
            return
        name, port = _TRANSPORT_NAMES[transport.TYPE]
        inner = self._head(path, name, transport.TYPE, length)
        self._row(inner, port, str(transport.port))
        if isinstance(transport, SctpTransport):
            self._row(inner, "transport_use", str(int(transport.use)))
        elif transport.TYPE == ParameterType.TCP_TRANSPORT:
            self._row(inner, "transport_use", "0")
        elif isinstance(transport, DccpTransport):
            self._row(inner, "dccp_transport_reserved", "0")
            self._row(inner, "dccp_transport_service_code", str(transport.service_code))
        elif transport.TYPE == ParameterType.UDP_TRANSPORT:
            self._row(inner, "udp_transport_reserved", "0")
        else:
            self._row(inner, "udp_lite_transport_reserved", "0")
        for address in transport.addresses:
            v = address.version
            kind = ParameterType.IPV4_ADDRESS if v == 4 else ParameterType.IPV6_ADDRESS
            at = self._head(inner, f"IPv{v} Address Parameter", kind, 4 + len(address.packed))
            self._row(at, f"ipv{v}_address", str(address))

    def _policy(self, path: str, policy: policies.Policy) -> None:
        length = len(encode_policy(policy))
        inner = self._head(path, "Pool Member Selection Policy Parameter", ParameterType.POLICY, length)
        self._row(inner, "pool_member_selection_policy_type", f"{policy.TYPE:#010x}")
        for name, value in _policy_fields(policy):
            self._row(inner, f"pool_member_selection_policy_{name}", value)

    def _element(self, path: str, element: PoolElement) -> None:
        length = len(encode_element(element, self.dialect))
        inner = self._head(path, "Pool Element Parameter", ParameterType.POOL_ELEMENT, length)
        self._row(inner, "pool_element_pe_identifier", f"{element.identifier:#010x}")
        self._row(inner, "pool_element_home_enrp_server_identifier", f"{element.home:#010x}")
        self._row(inner, "pool_element_registration_life", str(element.life))
        self._transport(inner, element.transport)
        self._policy(inner, element.policy)
        if element.asap_transport is not None:
            self._transport(inner, element.asap_transport)

    def _server(self, path: str, server: ServerInformation) -> None:
        length = len(encode_server_information(server, self.dialect))
        inner = self._head(path, "Server Information Parameter", ParameterType.SERVER_INFORMATION, length)
        self._row(inner, "server_information_server_identifier", f"{server.server_id:#010x}")
        for transport in server.transports:
            self._transport(inner, transport)

    def _error(self, error: tuple[ErrorCause, ...]) -> None:
        lengths = [4 + len(cause.info) for cause in error]
        total = 4 + sum((n + 3) & ~3 for n in lengths[:-1]) + lengths[-1]
        inner = self._head("", "Operation Error Parameter", ParameterType.OPERATION_ERROR, total)
        for cause in error:
            name = _CAUSE_NAMES.get(cause.code, "Unknown error cause")  # type: ignore[call-overload] # a number that is no code is looked up, too
            at = f"{inner}/{name}"
            self._row(at, "cause_code", f"{cause.code:#06x}")
            self._row(at, "cause_length", str(4 + len(cause.info)))
            if not cause.info:
                continue
            if cause.code == CauseCode.UNRECOGNIZED_MESSAGE:
                self._message(f"{at}/{self.ppid.name.lower()}", cause.info)
            elif cause.code in _CAUSE_NAMES:
                self._raw(at, cause.info)
            else:
                self._row(at, "cause_info", colons(cause.info))

    def _message(self, path: str, octets: bytes) -> None:
        """The message inside an Unrecognized Message cause."""
        kind, flags, length = struct.unpack_from("!BBH", octets)
        self._row(path, "message_type", str(kind))
        self._row(path, "message_flags", f"0x{flags:02x}")
        self._row(path, "message_length", str(length))
        if self.ppid is Ppid.ASAP:
            self._raw(path, octets[4:])
        else:
            self._row(path, "message_value", colons(octets[4:]))

    def _raw(self, path: str, raw: bytes) -> None:
        """A parameter that stands inside a cause, or was skipped."""
        kind, length = struct.unpack_from("!HH", raw)
        if kind == ParameterType.POOL_HANDLE:
            self._handle(path, raw[4:])
        elif kind == ParameterType.POLICY:
            inner = self._head(path, "Pool Member Selection Policy Parameter", kind, length)
            policy = policies.UnknownPolicy(int.from_bytes(raw[4:8]), raw[8:])
            self._row(inner, "pool_member_selection_policy_type", f"{policy.TYPE:#010x}")
            for name, value in _policy_fields(policy) if policy.data else ():
                self._row(inner, f"pool_member_selection_policy_{name}", value)
        elif kind == ParameterType.TCP_TRANSPORT:
            inner = self._head(path, "TCP Transport Address Parameter", kind, length)
            self._row(inner, "tcp_transport_port", str(int.from_bytes(raw[4:6])))
            self._row(inner, "transport_use", "0")
            at = self._head(inner, "IPv4 Address Parameter", ParameterType.IPV4_ADDRESS, 8)
            self._row(at, "ipv4_address", ".".join(str(o) for o in raw[12:16]))
        else:
            inner = self._head(path, "Unknown Parameter", kind, length)
            self._row(inner, "parameter_value", colons(raw[4:]))


def _policy_fields(policy: policies.Policy) -> Iterator[tuple[str, str]]:
    match policy:
        case policies.WeightedRoundRobin(weight) | policies.WeightedRandom(weight):
            yield "weight", str(weight)
        case policies.Priority(priority):
            yield "priority", str(priority)
        case policies.LeastUsed(load) | policies.RandomizedLeastUsed(load):
            yield "load", percent(load)
        case policies.LeastUsedDegradation(load, degradation) | policies.PriorityLeastUsed(load, degradation):
            yield "load", percent(load)
            yield "degradation", percent(degradation)
        case policies.PriorityLeastUsedDegradation(load, degradation):  # rsplib's, which Wireshark does not know
            yield "value", colons(struct.pack("!II", load, degradation))
        case policies.UnknownPolicy(0xB0002001, data):  # rsplib's Weighted Random with distance penalty
            weight, dpf, distance = struct.unpack("!III", data)
            yield "weight", str(weight)
            yield "weight_dpf", percent(dpf, 1)
            yield "distance", str(distance)
        case policies.UnknownPolicy(0xB0002002, data):  # rsplib's Least Used with distance penalty
            load, dpf, distance = struct.unpack("!III", data)
            yield "load", percent(load)
            yield "load_dpf", percent(dpf, 1)
            yield "distance", str(distance)
        case policies.UnknownPolicy(_, data) if data:
            yield "value", colons(data)
        case _:
            return


def tell(message: Message, dialect: Dialect = RFC) -> list[Row]:
    return Teller(message, dialect).rows


def flatten(fields: dict[str, Any], path: str = "") -> list[Row]:
    """Wireshark's field tree as sorted rows."""
    rows: list[Row] = []
    for key, value in fields.items():
        for item in value if isinstance(value, list) else [value]:
            name = re.sub(r" \(.*\)$", "", key)
            name = re.sub(r"^(asap|enrp)\.(message_flags_tree)$", r"\2", name)
            if isinstance(item, dict):
                rows += flatten(item, f"{path}/{name}".removeprefix("/"))
            else:
                rows.append((path, key, str(item)))
    return sorted(rows)


def dissect(messages: Sequence[tuple[Ppid, bytes]], folder: Path) -> list[dict[str, Any]]:
    """Have tshark dissect messages as SCTP user data; returns one layer tree a message."""
    capture = folder / "messages.pcap"
    with capture.open("wb") as f:
        f.write(struct.pack("!IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 262144, 228))  # LINKTYPE_IPV4
        for tsn, (ppid, octets) in enumerate(messages):
            packet = _sctp_packet(ppid, octets, tsn)
            f.write(struct.pack("!IIII", tsn, 0, len(packet), len(packet)) + packet)
    command = ["tshark", "-r", str(capture), "-T", "json", "--no-duplicate-keys", "-o", "sctp.checksum:FALSE"]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    return [packet["_source"]["layers"] for packet in json.loads(run.stdout)]


def _sctp_packet(ppid: Ppid, octets: bytes, tsn: int) -> bytes:
    port = 3863 if ppid is Ppid.ASAP else 9901
    chunk = struct.pack("!BBHIHHI", 0, 3, 16 + len(octets), tsn, 0, tsn & 0xFFFF, ppid) + octets
    sctp = struct.pack("!HHII", port, port, 1, 0) + chunk + b"\0" * (-len(chunk) % 4)
    header = struct.pack(
        "!BBHHHBBH4s4s", 0x45, 0, 20 + len(sctp), tsn & 0xFFFF, 0, 64, 132, 0, b"\x0a\0\0\1", b"\x0a\0\0\2"
    )
    return header + sctp
