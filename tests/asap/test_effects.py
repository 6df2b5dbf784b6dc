# SPDX-License-Identifier: Apache-2.0
"""Endpoints and the transport parameters that name them are two spellings of one thing; both can be read by people."""

from __future__ import annotations

from ipaddress import IPv4Address

import pytest
from hypothesis import given

from rserpool.asap.effects import Endpoint, TransportKind, endpoint_of, transport_of
from rserpool.wire import SctpTransport, TcpTransport, TransportUse
from support import strategies
from support.far_ends import place, registrar
from support.rig_endpoints import element_rig
from support.samples import V4, V6

TCP, SCTP = TransportKind.TCP, TransportKind.SCTP


@given(transport=strategies.tcp)
def test_a_tcp_transport_is_the_same_there_and_back(transport: TcpTransport) -> None:
    endpoint = endpoint_of(transport)
    assert endpoint == Endpoint(TCP, (transport.address,), transport.port)
    assert transport_of(endpoint) == transport


@given(transport=strategies.sctp)
def test_an_sctp_transport_keeps_all_its_addresses_in_order(transport: SctpTransport) -> None:
    endpoint = endpoint_of(transport)
    assert endpoint == Endpoint(SCTP, transport.addresses, transport.port)
    back = transport_of(endpoint)
    assert isinstance(back, SctpTransport)
    assert (back.addresses, back.port, back.use) == (transport.addresses, transport.port, TransportUse.DATA_ONLY)


@pytest.mark.parametrize(
    ("endpoint", "text"),
    [
        (Endpoint(TCP, (V4,), 3864), "tcp:10.1.2.3:3864"),
        (Endpoint(TCP, (V6,), 1), "tcp:[fd00::3]:1"),
        (Endpoint(SCTP, (V4, V6), 3864), "sctp:10.1.2.3+[fd00::3]:3864"),
    ],
)
def test_an_endpoint_is_readable(endpoint: Endpoint, text: str) -> None:
    assert str(endpoint) == text


def test_endpoints_of_different_kinds_or_ports_are_different() -> None:
    endpoints = {Endpoint(kind, (a,), port) for kind in (TCP, SCTP) for a in (V4, V6) for port in (1, 2)}
    assert len(endpoints) == 8
    assert Endpoint(TCP, (IPv4Address("10.1.2.3"),), 1) in endpoints


def test_an_association_is_shown_by_who_is_there_and_where() -> None:
    (association,) = element_rig().up.values()
    assert str(association) == f"{registrar(1).name} at {place(1)}"
