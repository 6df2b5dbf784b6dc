# SPDX-License-Identifier: Apache-2.0
"""Addresses of this machine for a pool: nobody else's, and one for each process."""

from __future__ import annotations

import os
import socket
import sys
from ipaddress import IPv4Address, ip_address, ip_network

import pytest

from rserpool_cli.errors import CommandError
from rserpool_cli.up import loopback
from rserpool_cli.up.loopback import (
    ELEMENTS,
    FIRST,
    LOCK_PORT,
    OTHERS,
    REGISTRARS,
    Networks,
    OnePort,
    Subnet,
    claim,
    read_networks,
)

NUMBER = 1 + os.getpid() % (FIRST - 1)
"""Of a network that no pool is given unless it asks for it, and hardly ever other tests of this machine."""
linux = pytest.mark.skipif(sys.platform != "linux", reason="only there all of 127/8 is this machine's")


@linux
def test_pools_that_run_at_once_have_different_addresses() -> None:
    with claim() as one, claim() as two, claim() as three:
        assert all(isinstance(a, Subnet) for a in (one, two, three))
        assert len({a.client for a in (one, two, three)}) == 3


@linux
def test_what_was_claimed_is_free_again_at_the_end_also_after_a_failure() -> None:
    claimed: list[Subnet] = []

    def fail() -> None:
        with claim() as addresses:
            assert isinstance(addresses, Subnet)
            claimed.append(addresses)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    with socket.socket() as again:
        again.bind((f"127.{claimed[0].number}.255.254", LOCK_PORT))


@linux
def test_when_all_are_taken_the_user_is_told_to_end_a_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    with claim() as addresses:
        assert isinstance(addresses, Subnet)
        for bound in ("FIRST", "LAST"):
            monkeypatch.setattr(loopback, bound, addresses.number)
        number = addresses.number
        with pytest.raises(CommandError, match=f"all addresses from 127.{number} to 127.{number} are taken"), claim():
            pass


def test_every_process_of_the_largest_pool_has_an_address_of_its_own() -> None:
    subnet = Subnet(77)
    sizes = {1: 9, 2: 1000, 3: 3}
    places = [subnet.place(kind, i, asap=3864) for kind, size in sizes.items() for i in range(size)]
    addresses = {place.address for place in places}
    assert len(addresses) == sum(sizes.values())
    assert all(a in ip_network("127.77.0.0/16") for a in addresses)
    assert not addresses & {subnet.client, IPv4Address("127.77.255.254")}
    assert all(place.ports == {"asap": 3864} for place in places)


def test_where_there_is_one_address_everybody_has_ports_of_his_own_and_keeps_them() -> None:
    with claim(single=True) as addresses:
        assert isinstance(addresses, OnePort)
        assert addresses.client is None
        places = [addresses.place(kind, i, asap=3864, http=8080) for kind in (1, 2) for i in range(20)]
        assert {place.address for place in places} == {IPv4Address("127.0.0.1")}
        ports = [port for place in places for port in place.ports.values()]
        assert len(set(ports)) == len(ports)
        assert addresses.place(1, 3, asap=3864, http=8080) == places[3]
        assert addresses.place(3, 0, asap=3864, http=0).ports["http"] == 0


def test_a_network_of_ipv6_has_an_address_for_every_process_of_the_largest_pool() -> None:
    networks = Networks(read_networks("fd00:77::/112"))
    sizes = {REGISTRARS: 9, ELEMENTS: 1000, OTHERS: 3}
    places = [networks.place(kind, i, asap=3864) for kind, size in sizes.items() for i in range(size)]
    addresses = [place.address for place in places]
    assert len({*addresses, networks.client, networks.lock}) == sum(sizes.values()) + 2
    assert all(a in ip_network("fd00:77::/112") for a in (*addresses, networks.client, networks.lock))
    assert all(place.also == () for place in places)
    assert places[0].at("asap") == "[fd00:77::101]:3864"


def test_of_two_networks_registrars_have_an_address_in_each_and_elements_in_one_in_turn() -> None:
    networks = Networks(read_networks("10.77.0.0/16, fd00:77::/64"))
    registrar = networks.place(REGISTRARS, 0, asap=3864)
    assert (registrar.address, registrar.also) == (ip_address("10.77.1.1"), (ip_address("fd00:77::101"),))
    assert registrar.everywhere("asap") == ["10.77.1.1:3864", "[fd00:77::101]:3864"]
    elements = [networks.place(ELEMENTS, i) for i in range(4)]
    assert [str(e.address) for e in elements] == ["10.77.65.1", "fd00:77::4102", "10.77.65.3", "fd00:77::4104"]
    assert all(e.also == () for e in elements)
    assert networks.client == ip_address("10.77.254.1")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("fd00::/113", "is too small; write /112 or a shorter prefix"),
        ("10.0.0.0/24", "is too small; write /16 or a shorter prefix"),
        ("10.0.0.0/16,10.1.0.0/16", "one of IPv4 and one of IPv6"),
        ("tea", "tea"),
        ("10.0.0.1/16", "host bits set"),
        ("", "does not appear"),
    ],
)
def test_networks_that_cannot_be_are_refused_with_what_to_write(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        read_networks(text)


@linux
def test_a_network_is_one_pools_at_a_time_and_has_to_be_this_machines() -> None:
    mine = read_networks(f"127.{NUMBER}.0.0/16")
    with claim(networks=mine) as addresses:
        assert addresses.client == ip_address(f"127.{NUMBER}.254.1")
        with (
            pytest.raises(CommandError, match=rf"127\.{NUMBER}\.255\.254, which keeps .*: address already in use"),
            claim(networks=mine),
        ):
            pass
    with claim(networks=mine):
        pass
    with (
        pytest.raises(CommandError, match=r"192\.0\.255\.254.*assign requested address"),
        claim(networks=read_networks("192.0.0.0/16")),
    ):
        pass
