# SPDX-License-Identifier: Apache-2.0
"""Hypothesis strategies for every message that can be sent in the RFC's dialect."""

from __future__ import annotations

from typing import Any, get_args

from hypothesis import strategies as st

from rserpool.wire import (
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
    TransportUse,
    UdpLiteTransport,
    UdpTransport,
    UnknownPolicy,
    UpdateAction,
    asap,
    canonical_address,
    enrp,
    policies,
)

u32 = st.integers(0, 0xFFFFFFFF)
ports = st.integers(1, 0xFFFF)
handles = st.binary(min_size=1, max_size=60)
addresses = st.ip_addresses().map(canonical_address)
lives = st.one_of(st.just(-1), st.integers(1, 0x7FFFFFFF))

sctp = st.builds(
    SctpTransport,
    port=ports,
    addresses=st.lists(addresses, min_size=1, max_size=4).map(tuple),
    use=st.sampled_from(TransportUse),
)
tcp = st.builds(TcpTransport, port=ports, address=addresses)
transports = st.one_of(
    sctp,
    tcp,
    st.builds(UdpTransport, port=ports, address=addresses),
    st.builds(UdpLiteTransport, port=ports, address=addresses),
    st.builds(DccpTransport, port=ports, address=addresses, service_code=u32),
    st.builds(OpaqueTransport, value=st.binary(max_size=40)),
)
_known_types = {cls.TYPE for cls in get_args(policies.KnownPolicy)} | {0, 0x40000000}
known_policies = st.one_of(
    st.builds(policies.RoundRobin),
    st.builds(policies.WeightedRoundRobin, u32),
    st.builds(policies.Random),
    st.builds(policies.WeightedRandom, u32),
    st.builds(policies.Priority, u32),
    st.builds(policies.LeastUsed, u32),
    st.builds(policies.LeastUsedDegradation, u32, u32),
    st.builds(policies.PriorityLeastUsed, u32, u32),
    st.builds(policies.RandomizedLeastUsed, u32),
    st.builds(policies.PriorityLeastUsedDegradation, u32, u32),
)
any_policy = st.one_of(
    known_policies,
    st.builds(UnknownPolicy, u32.filter(lambda n: n not in _known_types), st.binary(max_size=24)),
)
elements = st.builds(
    PoolElement,
    identifier=u32,
    home=u32,
    life=lives,
    transport=transports,
    policy=any_policy,
    asap_transport=st.one_of(st.none(), sctp, tcp),
)
servers = st.builds(
    ServerInformation,
    server_id=u32,
    transports=st.one_of(st.tuples(sctp), st.tuples(tcp), st.tuples(sctp, tcp)),
)
causes = st.builds(
    ErrorCause, st.one_of(st.sampled_from([int(c) for c in CauseCode]), st.integers(0, 0xFFFF)), st.binary(max_size=40)
)
error = st.lists(causes, min_size=1, max_size=4).map(tuple)
maybe_error = st.one_of(st.just(()), error)


def _parameter(top: int, low: int, value: bytes) -> bytes:
    return ((top << 14) | low).to_bytes(2) + (len(value) + 4).to_bytes(2) + value


skippable = st.builds(
    _parameter, st.sampled_from([0b10, 0b11]), st.integers(0, 0x3FFF).filter(lambda n: n != 0x3F), st.binary(max_size=9)
)


def _message(cls: type[Any], **fields: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.builds(cls, unrecognized=st.just(()), **fields)


_pe = {"pool_handle": handles, "pe_identifier": u32}
_ids = {"sender": u32, "receiver": u32}
_entries = st.lists(
    st.builds(PoolEntry, pool_handle=handles, elements=st.lists(elements, min_size=1, max_size=3).map(tuple)),
    max_size=3,
).map(tuple)

messages: st.SearchStrategy[Message] = st.one_of(
    _message(asap.Registration, pool_handle=handles, element=elements),
    _message(asap.Deregistration, **_pe),
    _message(asap.RegistrationResponse, **_pe, reject=st.booleans(), error=maybe_error),
    _message(asap.DeregistrationResponse, **_pe, error=maybe_error),
    _message(asap.HandleResolution, pool_handle=handles, send_updates=st.booleans(), items=st.one_of(st.none(), u32)),
    _message(
        asap.HandleResolutionResponse,
        pool_handle=handles,
        accept_updates=st.booleans(),
        policy=st.one_of(st.none(), any_policy),
        elements=st.lists(elements, max_size=4).map(tuple),
        error=maybe_error,
    ),
    _message(
        asap.EndpointKeepAlive,
        server_id=u32,
        pool_handle=handles,
        home=st.booleans(),
        pe_identifier=st.one_of(st.none(), u32),
    ),
    _message(asap.EndpointKeepAliveAck, **_pe),
    _message(asap.EndpointUnreachable, **_pe),
    _message(asap.ServerAnnounce, server_id=u32, transports=st.lists(st.one_of(sctp, tcp), max_size=3).map(tuple)),
    _message(asap.Cookie, cookie=st.binary(min_size=1, max_size=50)),
    _message(asap.CookieEcho, cookie=st.binary(min_size=1, max_size=50)),
    _message(asap.BusinessCard, pool_handle=handles, elements=st.lists(elements, min_size=1, max_size=3).map(tuple)),
    _message(asap.AsapError, error=error),
    _message(
        enrp.Presence,
        **_ids,
        reply_required=st.booleans(),
        checksum=st.one_of(st.none(), st.integers(0, 0xFFFF)),
        server=st.one_of(st.none(), servers),
    ),
    _message(enrp.HandleTableRequest, **_ids, own_children_only=st.booleans()),
    _message(enrp.HandleTableResponse, **_ids, reject=st.booleans(), more=st.booleans(), pools=_entries),
    _message(
        enrp.HandleUpdate,
        **_ids,
        action=st.sampled_from(UpdateAction),
        pool_handle=handles,
        element=elements,
        takeover_suggested=st.just(False),
    ),
    _message(enrp.ListRequest, **_ids),
    _message(enrp.ListResponse, **_ids, reject=st.booleans(), servers=st.lists(servers, max_size=3).map(tuple)),
    _message(enrp.InitTakeover, **_ids, target=u32),
    _message(enrp.InitTakeoverAck, **_ids, target=u32),
    _message(enrp.TakeoverServer, **_ids, target=u32),
    _message(enrp.EnrpError, **_ids, error=error),
)
