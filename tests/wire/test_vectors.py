# SPDX-License-Identifier: Apache-2.0
"""The golden vectors, both ways."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

import pytest

from rserpool.wire import (
    CauseCode,
    ErrorCause,
    Message,
    PoolElement,
    PoolEntry,
    Ppid,
    SctpTransport,
    ServerInformation,
    TcpTransport,
    TransportUse,
    UpdateAction,
    asap,
    decode,
    encode,
    enrp,
    policies,
)
from support.wiredata import Vector, vectors

HANDLE = b"EchoPool"
PE = 0x11223344
V4 = IPv4Address("10.1.2.3")


def echo(home: int = 0, asap_port: int | None = None, policy: policies.Policy | None = None) -> PoolElement:
    return PoolElement(
        identifier=PE,
        home=home,
        life=300,
        transport=TcpTransport(port=7, address=V4),
        policy=policy or policies.RoundRobin(),
        asap_transport=None if asap_port is None else SctpTransport(port=asap_port, addresses=(V4,)),
    )


def server(server_id: int, address: str) -> ServerInformation:
    return ServerInformation(
        server_id=server_id, transports=(SctpTransport(port=9901, addresses=(IPv4Address(address),)),)
    )


HALF = policies.LeastUsed(0x80000000)
MEANING: dict[str, Message] = {
    "V1": asap.Registration(pool_handle=HANDLE, element=echo()),
    "V2": asap.Registration(
        pool_handle=HANDLE,
        element=PoolElement(
            identifier=PE,
            home=0,
            life=300,
            transport=SctpTransport(port=7, addresses=(V4, IPv6Address("fd00::3")), use=TransportUse.DATA_PLUS_CONTROL),
            policy=HALF,
        ),
    ),
    "V3": asap.RegistrationResponse(pool_handle=HANDLE, pe_identifier=PE),
    "V4": asap.RegistrationResponse(
        pool_handle=HANDLE,
        pe_identifier=PE,
        reject=True,
        error=(ErrorCause(CauseCode.INCONSISTENT_POLICY, bytes.fromhex("0008000800000001")),),
    ),
    "V5": asap.Deregistration(pool_handle=HANDLE, pe_identifier=PE),
    "V6": asap.HandleResolution(pool_handle=HANDLE, send_updates=True),
    "V7": asap.HandleResolution(pool_handle=b"Pool1"),
    "V8": asap.HandleResolutionResponse(
        pool_handle=HANDLE, accept_updates=True, policy=HALF, elements=(echo(0xA1B2C3D4, policy=HALF),)
    ),
    "V9": asap.HandleResolutionResponse(pool_handle=HANDLE, error=(ErrorCause(CauseCode.UNKNOWN_POOL_HANDLE),)),
    "V10": asap.EndpointKeepAlive(server_id=0xA1B2C3D4, pool_handle=HANDLE, home=True),
    "V11": asap.EndpointKeepAliveAck(pool_handle=HANDLE, pe_identifier=PE),
    "V12": asap.EndpointUnreachable(pool_handle=HANDLE, pe_identifier=PE),
    "V13": asap.ServerAnnounce(
        server_id=0xA1B2C3D4,
        transports=(
            SctpTransport(port=3863, addresses=(IPv4Address("10.1.0.9"),)),
            TcpTransport(port=3863, address=IPv4Address("10.1.0.9")),
        ),
    ),
    "V14": asap.Cookie(cookie=b"state"),
    "V15": asap.AsapError(error=(ErrorCause(CauseCode.UNRECOGNIZED_PARAMETER, bytes.fromhex("41230006abcd")),)),
    "V16": enrp.Presence(
        sender=0xA1B2C3D4, reply_required=True, checksum=0x4DEB, server=server(0xA1B2C3D4, "10.1.0.9")
    ),
    "V17": enrp.HandleTableRequest(sender=0xBEEF, receiver=0xA1B2C3D4, own_children_only=True),
    "V18": enrp.HandleTableResponse(
        sender=0xA1B2C3D4,
        receiver=0xBEEF,
        more=True,
        pools=(PoolEntry(pool_handle=HANDLE, elements=(echo(0xA1B2C3D4, 34127),)),),
    ),
    "V19": enrp.HandleUpdate(
        sender=0xA1B2C3D4, action=UpdateAction.ADD_PE, pool_handle=HANDLE, element=echo(0xA1B2C3D4, 34127)
    ),
    "V20": enrp.ListResponse(sender=0xA1B2C3D4, receiver=0xBEEF, servers=(server(0xBEEF, "10.1.0.10"),)),
    "V21": enrp.ListResponse(sender=0xA1B2C3D4, receiver=0xBEEF, reject=True),
    "V22": enrp.InitTakeover(sender=0xA1B2C3D4, target=0xDEAD0001),
    "V23": enrp.EnrpError(sender=0xA1B2C3D4, receiver=0xBEEF, error=(ErrorCause(CauseCode.SECURITY_REJECTION),)),
    "V24": asap.HandleResolution(pool_handle=HANDLE, items=3),
}


@pytest.mark.rfc("RFC 5354 4: messages are written and read as their figures show them")
@pytest.mark.parametrize("vector", vectors(), ids=str)
def test_a_vector_is_read_as_the_message_it_was_written_from(vector: Vector) -> None:
    assert decode(vector.octets, vector.ppid) == MEANING[vector.id]


@pytest.mark.rfc("RFC 5354 4: messages are written and read as their figures show them")
@pytest.mark.parametrize("vector", vectors(), ids=str)
def test_a_message_is_written_octet_by_octet_as_its_vector(vector: Vector) -> None:
    assert encode(MEANING[vector.id]).hex() == vector.octets.hex()


@pytest.mark.rfc("PROTOCOL 14.1: both readings of the last padding are understood")
@pytest.mark.parametrize("vector", [v for v in vectors() if v.accept], ids=str)
def test_other_readings_of_the_last_padding_give_the_same_message(vector: Vector) -> None:
    for octets in vector.accept:
        assert decode(octets, vector.ppid) == MEANING[vector.id]


@pytest.mark.rfc("RFC 5354 4: final padding is sent, not counted and not looked at")
@pytest.mark.parametrize("vector", vectors(), ids=str)
def test_final_padding_may_be_missing_or_hold_anything(vector: Vector) -> None:
    length = int.from_bytes(vector.octets[2:4])
    bare = vector.octets[:length]
    padding = len(vector.octets) - length
    assert decode(bare, vector.ppid) == MEANING[vector.id]
    assert decode(bare + b"\xff" * padding, vector.ppid) == MEANING[vector.id]


def test_there_is_a_vector_for_every_meaning() -> None:
    assert {v.id for v in vectors()} == set(MEANING)
    assert {v.ppid for v in vectors()} == set(Ppid)
