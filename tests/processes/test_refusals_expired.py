# SPDX-License-Identifier: Apache-2.0
"""A real leaf is worth nothing after its last second (RFC 5280 4.1.2.5). In a module of its own: it takes time."""

from __future__ import annotations

import asyncio
import tomllib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest

from rserpool.authority import make_request
from rserpool.daemon.enrolment import EnrolmentClient, EnrolmentError, EnrolmentRequest
from rserpool.transport.tls import Credentials
from rserpool.wire import Ppid, asap
from support.rig_refusals import HANDLE, Refusal, asap_line, refused, registration
from support.rogue import Leaf, Rogue, stolen
from support.running import RunningPool, manifest, pool_running, started

SHORTEST = "  security: {signer: {type: Embedded}, leafDuration: 10s}\n"
LAST = timedelta(seconds=1)
"""The second that the end of its life names belongs to it."""


@pytest.fixture(scope="module")
def pool() -> Iterator[RunningPool]:
    with pool_running(manifest(more=SHORTEST)) as running:
        started(running)
        yield running


@pytest.fixture(scope="module")
def expired(pool: RunningPool) -> Leaf:
    """Stolen while it was good, and good at every registrar; used when it is not any more."""
    leaf = stolen(pool.directory)
    for registrar in pool.registrars:
        with asap_line(Rogue(pool.elements[0].address, leaf), registrar) as line:
            line.say(asap.HandleResolution(pool_handle=HANDLE))
            assert isinstance(line.hear()[0], asap.HandleResolutionResponse)
    pool.wait("the leaf has expired", lambda: datetime.now(UTC) > leaf.not_after + LAST)
    return leaf


@pytest.mark.rfc("threats 2.1: registrations of elements that do not exist change nothing")
@pytest.mark.parametrize(("service", "threat"), [(Ppid.ASAP, "2.1"), (Ppid.ENRP, "2.5")], ids=["ASAP", "ENRP"])
def test_an_expired_leaf_is_refused_by_every_registrar_while_honest_ones_are_renewed(
    pool: RunningPool, expired: Leaf, service: Ppid, threat: str
) -> None:
    rogue = Rogue(pool.elements[0].address, expired)
    for registrar in pool.registrars:
        expected = Refusal(threat, "handshake", "certificate at depth 0: it has expired", rogue.source)
        port = registrar.asap_port if service is Ppid.ASAP else registrar.enrp_port
        with (
            refused(pool, registrar, expected, secrets=(expired.key_pem,)),
            rogue.secure(registrar.address, port, service) as line,
        ):
            line.say(registration(expired.pe_identifier, rogue.source))
            assert line.fate() == "SSLV3_ALERT_CERTIFICATE_EXPIRED"
        assert pool.metric(registrar, "rserpool_leaf_renewals_total") >= 1


def test_an_expired_leaf_renews_nothing(pool: RunningPool, expired: Leaf) -> None:
    security = tomllib.loads((pool.directory / "s0.toml").read_text())["security"]
    authority = Path(security["authority_file"]).read_bytes()
    client = EnrolmentClient(security["url"], authority, ip_address(pool.elements[0].address))
    identity = expired.identity
    made = make_request(identity)
    request = EnrolmentRequest(
        namespace=identity.namespace, pool=identity.pool, role=identity.role, request=made.request
    )
    current = Credentials.from_pem(expired.chain, pool.state["bundle"].encode(), expired.key)
    with pytest.raises(EnrolmentError):
        asyncio.run(client.renew(request, current))
