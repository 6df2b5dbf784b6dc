# SPDX-License-Identifier: Apache-2.0
"""Who a peer is over TLS, who is turned away and under which threat, and what a reload changes."""

from __future__ import annotations

import re
import ssl
from dataclasses import replace

import pytest
from OpenSSL import SSL

from rserpool.asap.authorisation import Role
from rserpool.identity import IdentityError, principal_of
from rserpool.transport.base import ConnectError
from rserpool.transport.security import Security
from rserpool.transport.tls import Credentials
from rserpool.wire import Ppid
from support.far_ends import leaf
from support.rig_transport import (
    CA,
    NOBODYS,
    OTHER_CA,
    aside,
    credentials,
    dial,
    dialled,
    drained,
    listening,
    message,
    peer_context,
    plays,
    security,
    shaken,
)

REGISTRAR = principal_of(leaf(Role.REGISTRAR, 1))
BOTH = (CA.certificate, OTHER_CA.certificate)


@pytest.mark.rfc("RFC 5352 9.2: element and registrar authenticate each other")
@pytest.mark.rfc("RFC 5353 6.2: registrars authenticate each other")
@plays
@pytest.mark.parametrize("service", [Ppid.ASAP, Ppid.ENRP])
@pytest.mark.parametrize("role", [Role.REGISTRAR, Role.ELEMENT])
async def test_both_sides_know_who_the_other_one_is(service: Ppid, role: Role) -> None:
    there = await listening(security(), service=service)
    _, link = await dial(there.endpoint, security(role, credentials(role, 7)), service=service)
    await there.told.until(lambda: there.told.ups)
    assert link.principal == REGISTRAR
    assert there.told.ups[0].principal == principal_of(leaf(role, 7))
    assert str(there.told.ups[0]) == f"{leaf(role, 7)} at 127.0.0.1:{there.told.ups[0].peer_port}"


@plays
async def test_a_user_with_a_certificate_is_one_and_without_it_is_anonymous() -> None:
    there = await listening(security())
    await dial(there.endpoint, security(Role.USER, credentials(Role.USER, 2)))
    await dial(there.endpoint, security(Role.USER))
    await there.told.until(lambda: len(there.told.ups) == 2)
    assert [link.principal.role for link in there.told.ups] == [Role.USER, Role.ANONYMOUS]
    assert there.told.ups[1].principal.name == "anonymous at 127.0.0.1"


@plays
async def test_without_security_nobody_is_verified() -> None:
    there = await listening()
    _, link = await dial(there.endpoint)
    assert (link.principal.role, link.principal.name) == (Role.UNVERIFIED, f"127.0.0.1:{there.port}")


NO_CERTIFICATE = "peer did not return a certificate"
REFUSED: list[tuple[Role, Ppid, Credentials, str, str]] = [
    (Role.REGISTRAR, Ppid.ENRP, NOBODYS, "2.5", NO_CERTIFICATE),
    (Role.ELEMENT, Ppid.ASAP, NOBODYS, "2.6", NO_CERTIFICATE),
    (Role.REGISTRAR, Ppid.ASAP, credentials(Role.ELEMENT, signer=OTHER_CA), "2.1", "not .*an authority of this pool"),
    (Role.REGISTRAR, Ppid.ENRP, credentials(signer=OTHER_CA), "2.5", "not .*an authority of this pool"),
    (Role.ELEMENT, Ppid.ASAP, credentials(signer=OTHER_CA), "2.6", "not .*an authority of this pool"),
    (Role.REGISTRAR, Ppid.ASAP, credentials(Role.ELEMENT, 1, "other"), "2.1", "is not of spiffe://.*/pool/echo$"),
    (Role.REGISTRAR, Ppid.ENRP, credentials(Role.REGISTRAR, 1, "other"), "2.5", "is not of spiffe://.*/pool/echo$"),
    (Role.ELEMENT, Ppid.ASAP, credentials(Role.REGISTRAR, 1, "other"), "2.6", "is not of spiffe://.*/pool/echo$"),
]


@pytest.mark.rfc("RFC 5353 6.2: registrars authenticate each other")
@plays
@pytest.mark.parametrize(("own", "service", "theirs", "threat", "why"), REFUSED)
async def test_who_cannot_prove_to_be_of_the_pool_never_comes_up(
    own: Role, service: Ppid, theirs: Credentials, threat: str, why: str
) -> None:
    there = await listening(security(own), service=service)

    def call() -> None:
        try:
            peer = shaken(there.port, peer_context(replace(theirs, bundle=BOTH)))
            peer.sendall(message())
            drained(peer)
        except (ssl.SSLError, ConnectionError):
            pass

    await aside(call)
    ((counted, what, reason),) = there.told.refusals
    assert (counted, what) == (threat, "handshake")
    assert re.search(why, reason)
    assert (there.told.ups, there.told.messages, there.network.half_open) == ([], [], 0)
    assert there.network.associations == 0


@pytest.mark.rfc("threats 2.15: a scope is secure as a whole or not at all")
@plays
async def test_plain_text_on_a_tls_port_is_threat_2_15_and_gets_no_answer_but_an_alert() -> None:
    there = await listening(security())

    def call() -> bytes:
        peer = dialled(there.port)
        peer.sendall(message())
        return drained(peer)

    assert len(await aside(call)) < 16
    assert there.told.refusals == [("2.15", "handshake", "the peer does not speak TLS")]


@pytest.mark.rfc("RFC 5352 9.2: an identity check that fails closes the connection")
@pytest.mark.rfc("RFC 3237 2.13.2: queries are private, and answers cannot be spoofed")
@plays
@pytest.mark.parametrize(("role", "threat"), [(Role.ELEMENT, "2.6"), (Role.REGISTRAR, "2.3"), (Role.USER, "2.7")])
async def test_a_server_that_is_not_the_pools_is_refused_by_who_calls(role: Role, threat: str) -> None:
    false = security(Role.REGISTRAR, replace(credentials(signer=OTHER_CA), bundle=BOTH))
    there, ours = await listening(false), await listening()
    with pytest.raises(ConnectError, match=r"not .*an authority of this pool"):
        await dial(there.endpoint, security(role), told=ours.told)
    ((counted, what, _),) = ours.told.refusals
    assert (counted, what) == (threat, "handshake")


@pytest.mark.rfc("RFC 5352 9.2: a client verifies that it has met its registrar")
@plays
async def test_a_registrar_of_another_pool_of_the_same_authority_is_refused_by_who_calls() -> None:
    other = Security(
        trust_domain="cluster.local",
        namespace="demo",
        pool="other",
        role=Role.REGISTRAR,
        credentials=credentials(Role.REGISTRAR, 1, "other"),
    )
    there = await listening(other)
    with pytest.raises(ConnectError, match=r"is not of spiffe://cluster\.local/ns/demo/pool/echo$"):
        await dial(there.endpoint, security(Role.USER))


@plays
async def test_a_user_that_knows_no_more_than_a_bundle_accepts_whom_it_vouches_for() -> None:
    there = await listening(security())
    loose = Security(trust_domain="", namespace="", pool="", role=Role.USER, credentials=NOBODYS)
    _, link = await dial(there.endpoint, loose)
    assert link.principal == REGISTRAR


@plays
async def test_new_credentials_are_for_new_connections_and_standing_ones_go_on() -> None:
    secure = security()
    there = await listening(secure)
    _, old = await dial(there.endpoint, security(Role.ELEMENT))
    secure.reload(replace(credentials(Role.REGISTRAR, 2, signer=OTHER_CA), bundle=BOTH))
    of_both = replace(credentials(Role.ELEMENT, 1), bundle=BOTH)
    _, new = await dial(there.endpoint, security(Role.ELEMENT, of_both))
    assert new.principal == principal_of(leaf(Role.REGISTRAR, 2))
    assert old.principal == REGISTRAR
    with pytest.raises(ConnectError, match=r"not .*an authority of this pool"):
        await dial(there.endpoint, security(Role.ELEMENT))
    for link in (old, new):
        link.send(message())
    await there.told.until(lambda: len(there.told.messages) == 2)
    secure.reload(replace(credentials(Role.REGISTRAR, 2, signer=OTHER_CA), bundle=(OTHER_CA.certificate,)))
    await dial(there.endpoint, security(Role.ELEMENT, of_both))
    await there.told.until(lambda: there.told.refusals)
    assert "unknown ca" in there.told.refusals[0][2]  # the alert of who was called with the new leaf
    old.send(message())
    await there.told.until(lambda: len(there.told.messages) == 3)
    assert there.told.downs == []


@plays
async def test_who_calls_shows_the_new_leaf_after_a_reload_and_trusts_the_new_bundle() -> None:
    there = await listening(security(Role.REGISTRAR, replace(credentials(signer=OTHER_CA), bundle=BOTH)))
    calling = security(Role.ELEMENT)
    with pytest.raises(ConnectError, match=r"not .*an authority of this pool"):
        await dial(there.endpoint, calling)
    calling.reload(replace(credentials(Role.ELEMENT, 2), bundle=BOTH))
    await dial(there.endpoint, calling)
    await there.told.until(lambda: there.told.ups)
    assert there.told.ups[0].principal == principal_of(leaf(Role.ELEMENT, 2))


@plays
async def test_credentials_that_openssl_does_not_like_leave_the_former_ones_in_force() -> None:
    secure = security()
    before = secure.credentials
    with pytest.raises(SSL.Error):
        secure.reload(replace(credentials(Role.REGISTRAR, 2), key=credentials(Role.ELEMENT).key))
    assert secure.credentials is before
    there = await listening(secure)
    _, link = await dial(there.endpoint, security(Role.ELEMENT))
    assert link.principal == REGISTRAR


def test_a_leaf_that_is_no_member_of_the_pool_has_no_principal() -> None:
    secure = security()
    assert secure.principal(None, "10.0.0.1").role is Role.ANONYMOUS
    with pytest.raises(IdentityError, match="not a certificate that can be read"):
        secure.principal(b"\x30\x00", "10.0.0.1")
