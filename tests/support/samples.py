# SPDX-License-Identifier: Apache-2.0
"""One message of every kind, with every transport, policy and error cause in one of them."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

from rserpool.wire import (
    INFINITE_LIFE,
    CauseCode,
    DccpTransport,
    ErrorCause,
    Message,
    OpaqueTransport,
    PoolElement,
    PoolEntry,
    SctpTransport,
    ServerInformation,
    TcpTransport,
    Transport,
    TransportUse,
    UdpLiteTransport,
    UdpTransport,
    UnknownPolicy,
    UpdateAction,
    asap,
    enrp,
    policies,
)

V4 = IPv4Address("10.1.2.3")
V6 = IPv6Address("fd00::3")

TRANSPORTS: tuple[Transport, ...] = (
    SctpTransport(port=7, addresses=(V4,)),
    SctpTransport(port=7, addresses=(V4, V6), use=TransportUse.DATA_PLUS_CONTROL),
    TcpTransport(port=7, address=V4),
    TcpTransport(port=65535, address=V6),
    UdpTransport(port=53, address=V4),
    UdpLiteTransport(port=53, address=V6),
    DccpTransport(port=9, address=V4, service_code=0x1234),
    DccpTransport(port=9, address=V6, service_code=0xFFFFFFFF),
    OpaqueTransport(value=b"unix:/run/echo"),
)
POLICIES: tuple[policies.Policy, ...] = (
    policies.RoundRobin(),
    policies.WeightedRoundRobin(3),
    policies.Random(),
    policies.WeightedRandom(0),
    policies.Priority(0xFFFFFFFF),
    policies.LeastUsed(0x80000000),
    policies.LeastUsedDegradation(1, 2),
    policies.PriorityLeastUsed(3, 4),
    policies.RandomizedLeastUsed(5),
    policies.PriorityLeastUsedDegradation(6, 7),
    UnknownPolicy(0xB0001001, b"\0" * 8),
    UnknownPolicy(0x00000006, b""),
)


def element(
    identifier: int = 0x11223344,
    *,
    home: int = 0,
    life: int = 300,
    transport: Transport = TRANSPORTS[2],
    policy: policies.Policy = POLICIES[0],
    reachable: bool = False,
) -> PoolElement:
    asap_transport = SctpTransport(port=34127, addresses=(V4,)) if reachable else None
    return PoolElement(
        identifier=identifier, home=home, life=life, transport=transport, policy=policy, asap_transport=asap_transport
    )


_INVALID_POLICY = bytes.fromhex("00080008deadbeef")
CAUSES = (
    ErrorCause(CauseCode.UNSPECIFIED),
    ErrorCause(CauseCode.UNRECOGNIZED_PARAMETER, bytes.fromhex("41230006abcd")),
    ErrorCause(CauseCode.UNRECOGNIZED_MESSAGE, bytes.fromhex("4f00000c0009000841424344")),
    ErrorCause(CauseCode.INVALID_VALUES, _INVALID_POLICY),
    ErrorCause(CauseCode.NON_UNIQUE_PE_IDENTIFIER),
    ErrorCause(CauseCode.INCONSISTENT_POLICY, bytes.fromhex("0008000800000001")),
    ErrorCause(CauseCode.LACK_OF_RESOURCES),
    ErrorCause(CauseCode.INCONSISTENT_TRANSPORT_TYPE, bytes.fromhex("0005001000070000000100080a010203")),
    ErrorCause(CauseCode.INCONSISTENT_DATA_CONTROL),
    ErrorCause(CauseCode.UNKNOWN_POOL_HANDLE),
    ErrorCause(CauseCode.SECURITY_REJECTION),
)
SERVER = ServerInformation(server_id=0xA1B2C3D4, transports=(SctpTransport(port=9901, addresses=(V4, V6)),))

SAMPLES: tuple[Message, ...] = (
    *(asap.Registration(pool_handle=b"EchoPool", element=element(transport=t)) for t in TRANSPORTS),
    *(asap.Registration(pool_handle=b"Pool1", element=element(policy=p)) for p in POLICIES),
    asap.Registration(pool_handle=b"for ever", element=element(life=INFINITE_LIFE)),
    asap.Deregistration(pool_handle=b"EchoPool", pe_identifier=1),
    asap.RegistrationResponse(pool_handle=b"EchoPool", pe_identifier=1),
    *(
        asap.RegistrationResponse(pool_handle=b"EchoPool", pe_identifier=1, reject=True, error=(cause,))
        for cause in CAUSES
    ),
    asap.DeregistrationResponse(pool_handle=b"EchoPool", pe_identifier=1),
    asap.DeregistrationResponse(pool_handle=b"EchoPool", pe_identifier=1, error=CAUSES),
    asap.HandleResolution(pool_handle=b"Pool1"),
    asap.HandleResolution(pool_handle=b"EchoPool", send_updates=True, items=0xFFFFFFFF),
    asap.HandleResolutionResponse(
        pool_handle=b"EchoPool",
        accept_updates=True,
        policy=policies.LeastUsed(0),
        elements=tuple(element(i, policy=policies.LeastUsed(i)) for i in range(1, 4)),
    ),
    asap.HandleResolutionResponse(pool_handle=b"nobody", error=(ErrorCause(CauseCode.UNKNOWN_POOL_HANDLE),)),
    asap.EndpointKeepAlive(server_id=0xA1B2C3D4, pool_handle=b"EchoPool", home=True),
    asap.EndpointKeepAlive(server_id=1, pool_handle=b"EchoPool", pe_identifier=0x11223344),
    asap.EndpointKeepAliveAck(pool_handle=b"EchoPool", pe_identifier=0x11223344),
    asap.EndpointUnreachable(pool_handle=b"EchoPool", pe_identifier=0x11223344),
    asap.ServerAnnounce(server_id=0xA1B2C3D4),
    asap.ServerAnnounce(
        server_id=0xA1B2C3D4,
        transports=(SctpTransport(port=3863, addresses=(V4,)), TcpTransport(port=3863, address=V6)),
    ),
    asap.Cookie(cookie=b"state"),
    asap.CookieEcho(cookie=bytes(range(256))),
    asap.BusinessCard(pool_handle=b"EchoPool", elements=(element(2), element(1))),
    asap.AsapError(error=CAUSES),
    enrp.Presence(sender=0xA1B2C3D4, reply_required=True, checksum=0x4DEB, server=SERVER),
    enrp.Presence(sender=0xA1B2C3D4, receiver=0xBEEF, checksum=0xFFFF),
    enrp.HandleTableRequest(sender=0xBEEF, receiver=0xA1B2C3D4, own_children_only=True),
    enrp.HandleTableRequest(sender=0xBEEF),
    enrp.HandleTableResponse(sender=0xA1B2C3D4, receiver=0xBEEF, reject=True),
    enrp.HandleTableResponse(
        sender=0xA1B2C3D4,
        receiver=0xBEEF,
        more=True,
        pools=(
            PoolEntry(pool_handle=b"EchoPool", elements=(element(1, home=2, reachable=True),)),
            PoolEntry(pool_handle=b"Pool1", elements=tuple(element(i, home=2, reachable=True) for i in range(3))),
        ),
    ),
    enrp.HandleUpdate(
        sender=0xA1B2C3D4, action=UpdateAction.ADD_PE, pool_handle=b"Pool1", element=element(home=2, reachable=True)
    ),
    enrp.HandleUpdate(
        sender=0xA1B2C3D4, action=UpdateAction.DEL_PE, pool_handle=b"EchoPool", element=element(home=2, reachable=True)
    ),
    enrp.ListRequest(sender=0xBEEF, receiver=0xA1B2C3D4),
    enrp.ListResponse(sender=0xA1B2C3D4, receiver=0xBEEF, servers=(SERVER,)),
    enrp.ListResponse(sender=0xA1B2C3D4, receiver=0xBEEF, reject=True),
    enrp.InitTakeover(sender=0xA1B2C3D4, target=0xDEAD0001),
    enrp.InitTakeoverAck(sender=0xBEEF, receiver=0xA1B2C3D4, target=0xDEAD0001),
    enrp.TakeoverServer(sender=0xA1B2C3D4, target=0xDEAD0001),
    enrp.EnrpError(sender=0xA1B2C3D4, receiver=0xBEEF, error=CAUSES),
)
"""In the RFC's dialect, without the TCP profile: what any implementation of the RFCs can read."""

TCP_PROFILE_SAMPLES: tuple[Message, ...] = (
    asap.Registration(
        pool_handle=b"EchoPool",
        element=PoolElement(
            identifier=1,
            home=0,
            life=30,
            transport=TcpTransport(port=7007, address=V4),
            policy=policies.RoundRobin(),
            asap_transport=TcpTransport(port=3864, address=V4),
        ),
    ),
    enrp.Presence(
        sender=1,
        checksum=1,
        server=ServerInformation(
            server_id=1,
            transports=(SctpTransport(port=9902, addresses=(V4,)), TcpTransport(port=9902, address=V4)),
        ),
    ),
)
