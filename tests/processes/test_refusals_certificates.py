# SPDX-License-Identifier: Apache-2.0
"""Whoever comes without a certificate of this pool's authority, or with one of the wrong role, changes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from rserpool.identity import LeafIdentity
from rserpool.wire import CauseCode, Message, Ppid, asap, encode, enrp
from rserpool.wire.dialect import RFC
from support.rig_refusals import (
    HANDLE,
    MARK,
    Refusal,
    asap_line,
    causes,
    enrp_line,
    refused,
    registration,
    stranger,
    told,
    unmoved,
    usurping,
)
from support.rogue import ENDED, Leaf, Rogue, forged, impostor, root_as_leaf, stolen
from support.running import RegistrarProcess, RunningPool, manifest, pool_running, started

NOT_SIGNED = "certificate at depth 0: it is not signed by an authority of this pool"
SELF_MADE = {
    "leaf": NOT_SIGNED,
    "leaf and root": "certificate at depth 1: its root is not an authority of this pool",
    "root as leaf": "certificate at depth 0: it is signed by itself, not by an authority of this pool",
}
SERVICES = pytest.mark.parametrize(
    ("service", "threat"), [(Ppid.ASAP, "2.1"), (Ppid.ENRP, "2.5")], ids=["ASAP", "ENRP"]
)


@pytest.fixture(scope="module")
def pool() -> Iterator[RunningPool]:
    with pool_running(manifest()) as running:
        started(running)
        yield running


@pytest.fixture(scope="module")
def element(pool: RunningPool) -> Leaf:
    return stolen(pool.directory)


def port_of(registrar: RegistrarProcess, service: Ppid) -> int:
    return registrar.asap_port if service is Ppid.ASAP else registrar.enrp_port


def as_registrar(pool: RunningPool, address: str) -> list[Message]:
    """What a registrar of one's own would say, against one that is there and one of its elements."""
    victim, *_ = pool.dumps().values()
    sibling = int(victim["handlespace"]["pools"][0]["elements"][0]["identifier"], 16)
    return usurping(0x0BADCAFE, int(victim["server_id"], 16), sibling, address)


# -- without a certificate


@pytest.mark.rfc("threats 2.5: no malicious registrar joins")
def test_nobody_without_a_certificate_gets_into_the_enrp_port(pool: RunningPool) -> None:
    for registrar in pool.registrars:
        rogue = stranger(pool)
        expected = Refusal("2.5", "handshake", "peer did not return a certificate", rogue.source)
        with refused(pool, registrar, expected), enrp_line(rogue, registrar) as line:
            line.say(*as_registrar(pool, rogue.source))
            assert line.fate() == "TLSV13_ALERT_CERTIFICATE_REQUIRED"


@pytest.mark.rfc("threats 2.1: registrations of elements that do not exist change nothing")
def test_a_user_without_a_certificate_can_neither_register_nor_deregister_anybody(pool: RunningPool) -> None:
    sibling = stolen(pool.directory, 1).pe_identifier
    for registrar in pool.registrars:
        rogue = stranger(pool)
        reason = "without a certificate nobody may "
        with (
            refused(pool, registrar, Refusal("2.1", "ASAP_REGISTRATION", reason + "register", rogue.source, 2)),
            asap_line(rogue, registrar) as line,
        ):
            line.say(registration(7, rogue.source), registration(sibling, pool.elements[1].address))
            assert [causes(answer) for answer in line.hear(2)] == [[CauseCode.SECURITY_REJECTION]] * 2
        other = stranger(pool)
        with (
            refused(pool, registrar, Refusal("2.1", "ASAP_DEREGISTRATION", reason + "deregister", other.source)),
            asap_line(other, registrar) as line,
        ):
            line.say(asap.Deregistration(pool_handle=HANDLE, pe_identifier=sibling))
            assert [causes(answer) for answer in line.hear()] == [[CauseCode.SECURITY_REJECTION]]


# -- with a certificate of another authority


@pytest.mark.rfc("threats 2.1: registrations of elements that do not exist change nothing")
@SERVICES
@pytest.mark.parametrize("shown", ["leaf", "leaf and root", "root as leaf"])
def test_a_self_made_authority_of_the_very_same_name_certifies_nobody(
    pool: RunningPool, element: Leaf, service: Ppid, threat: str, shown: str
) -> None:
    ours, attacked, *_ = pool.registrars
    genuine = {peer["server_id"]: peer["identity"] for peer in pool.dumps()[attacked.name]["peers"]}
    identity = element.identity
    if service is Ppid.ENRP:  # even as a registrar that is there
        identity = LeafIdentity.parse(genuine[pool.dumps()[ours.name]["server_id"]])
    authority = impostor(pool.state["bundle"].encode())
    leaf = forged(identity, authority, with_root=shown == "leaf and root")
    if shown == "root as leaf":
        leaf = root_as_leaf(identity, authority)
    rogue = stranger(pool, leaf)
    expected = Refusal(threat, "handshake", SELF_MADE[shown], rogue.source)
    with (
        refused(pool, attacked, expected, secrets=(leaf.key_pem,)),
        rogue.secure(attacked.address, port_of(attacked, service), service) as line,
    ):
        line.say(registration(element.pe_identifier, rogue.source))
        assert line.fate() == "TLSV1_ALERT_UNKNOWN_CA"


@pytest.fixture(scope="module")
def foreign() -> Iterator[Leaf]:
    with pool_running(manifest("other", replicas=1), "--elements", "1") as running:
        started(running)
        yield stolen(running.directory)


@pytest.mark.rfc("threats 2.4: nobody registers in a pool that is not his")
@SERVICES
def test_the_authority_of_another_pool_that_runs_here_certifies_nobody(
    pool: RunningPool, foreign: Leaf, service: Ppid, threat: str
) -> None:
    assert foreign.identity.pool == "other"
    rogue = stranger(pool, foreign)
    for registrar in pool.registrars:
        expected = Refusal(threat, "handshake", NOT_SIGNED, rogue.source)
        with (
            refused(pool, registrar, expected),
            rogue.secure(registrar.address, port_of(registrar, service), service) as line,
        ):
            line.say(registration(foreign.pe_identifier, rogue.source))
            assert line.fate() == "TLSV1_ALERT_UNKNOWN_CA"


# -- with a certificate of the wrong role


@pytest.mark.rfc("threats 2.5: no malicious registrar joins")
def test_an_elements_real_leaf_opens_no_enrp_port(pool: RunningPool, element: Leaf) -> None:
    rogue = Rogue(pool.elements[0].address, element)
    for registrar in pool.registrars:
        expected = Refusal("2.5", "ENRP association", "a peer of role element may not take part", rogue.name)
        with refused(pool, registrar, expected), enrp_line(rogue, registrar) as line:
            line.say(*as_registrar(pool, rogue.source))
            (error,) = line.hear()
            assert isinstance(error, enrp.EnrpError)
            assert [cause.code for cause in error.error] == [CauseCode.SECURITY_REJECTION]
            assert line.fate() in ENDED


# -- without TLS, and without sense


@pytest.mark.rfc("threats 2.15: a scope is secure as a whole or not at all")
@SERVICES
@pytest.mark.parametrize("octets", ["message", "request"])
def test_whoever_speaks_without_tls_is_hung_up_on_without_a_word(
    pool: RunningPool, service: Ppid, threat: str, octets: str
) -> None:
    del threat  # neither: that nobody is verified is a threat of its own
    registrar = pool.registrars[0]
    rogue = stranger(pool)
    messages = [registration(7, rogue.source)] if service is Ppid.ASAP else as_registrar(pool, rogue.source)
    said = b"".join(encode(message, RFC) for message in messages)
    if octets == "request":
        said = b"GET /" + MARK + b" HTTP/1.1\r\n\r\n"
    expected = Refusal("2.15", "handshake", "the peer does not speak TLS", rogue.source)
    with (
        refused(pool, registrar, expected),
        rogue.plain(registrar.address, port_of(registrar, service), service) as line,
    ):
        line.shout(said)
        assert line.fate() in ENDED


@pytest.mark.rfc("threats 2.10: nothing that was changed on its way is believed")
@pytest.mark.parametrize("sealed", [True, False], ids=["under TLS", "below TLS"])
def test_garbage_after_a_handshake_ends_the_association(pool: RunningPool, sealed: bool) -> None:
    registrar = pool.registrars[1]
    rogue = stranger(pool)
    what, reason = ("message", "the stream is out of step") if sealed else ("TLS record", "")
    with refused(pool, registrar, Refusal("2.10", what, reason, rogue.source)), asap_line(rogue, registrar) as line:
        line.say(asap.HandleResolution(pool_handle=HANDLE))  # the handshake is done
        assert isinstance(line.hear()[0], asap.HandleResolutionResponse)
        if sealed:
            line.shout(bytes(4) + MARK)  # a message of no octets
        else:
            line.shout_below_tls(b"\x17\x03\x03" + len(MARK).to_bytes(2) + MARK)  # a record in due form
        assert line.fate() in (ENDED if sealed else ("SSLV3_ALERT_BAD_RECORD_MAC",))


def test_garbage_that_keeps_step_is_answered_a_few_times_and_then_left(pool: RunningPool) -> None:
    registrar = pool.registrars[2]
    rogue = stranger(pool)
    kind = 0x6A  # its two high bits ask for an answer (RFC 5354 4)
    garbage = bytes((kind, 0)) + (4 + len(MARK)).to_bytes(2) + MARK + bytes(-len(MARK) % 4)
    with unmoved(pool, registrar), ExitStack() as stack:
        before = pool.metric(registrar, "rserpool_malformed_total")
        seen = len(pool.log(registrar.name))
        line = stack.enter_context(asap_line(rogue, registrar))
        line.shout(garbage * 200)
        answers = line.hear(200)
        assert 10 <= len(answers) < 50
        assert [causes(answer) for answer in answers[:10]] == [[CauseCode.UNRECOGNIZED_MESSAGE]] * 10
        assert line.fate() in ENDED
        assert 100 < pool.metric(registrar, "rserpool_malformed_total") - before <= 200
        told(pool.log(registrar.name)[seen:].splitlines(), "not a message", rogue.source)
