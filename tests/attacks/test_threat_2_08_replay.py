# SPDX-License-Identifier: Apache-2.0
"""Threat 2.8: somebody in the middle records what is said, and says it again."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Iterator
from functools import partial

import pytest

from attacks.kit.middle import Middle, Toward, Unit
from attacks.kit.system import System, host_of, running_system, weakened_system
from attacks.kit.undisturbed import undisturbed
from rserpool.wire import Message, Ppid, asap
from support.rig_refusals import HANDLE, registration
from support.rogue import ENDED, Line, Rogue, end_of
from support.running import RegistrarProcess

pytestmark = pytest.mark.rfc("threats 2.8: nothing is replayed")

VERSIONS = (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)


@pytest.fixture(scope="module")
def system() -> Iterator[System]:
    with running_system() as running:
        yield running


@contextlib.contextmanager
def between(system: System, registrar: RegistrarProcess, port: int, *, tls: bool = True) -> Iterator[Middle]:
    """Somebody between whoever comes and a registrar."""
    at = (system.stranger().source, port)
    with Middle(at, (registrar.address, port), Unit.RECORD if tls else Unit.MESSAGE) as middle:
        yield middle


def through(victim: Rogue, middle: Middle, *, tls: bool = True) -> contextlib.AbstractContextManager[Line]:
    """The victim, an honest element, believes the one in the middle to be its registrar."""
    return (victim.secure if tls else victim.plain)(*middle.at, Ppid.ASAP)


def ask(line: Line, message: Message, kind: type[Message]) -> None:
    """Say something, and see it granted."""
    line.say(message)
    answers = (heard for _ in range(5) for heard in line.hear())
    answer = next(a for a in answers if isinstance(a, kind))
    assert isinstance(answer, asap.RegistrationResponse | asap.DeregistrationResponse)
    assert not answer.error


def comes_and_goes(victim: Rogue, line: Line) -> None:
    """An element registers, and deregisters."""
    identifier = number(victim)
    ask(line, registration(identifier, victim.source), asap.RegistrationResponse)
    leave = asap.Deregistration(pool_handle=HANDLE, pe_identifier=identifier)
    ask(line, leave, asap.DeregistrationResponse)


def number(victim: Rogue) -> int:
    assert victim.leaf is not None
    return victim.leaf.pe_identifier


def spare(system: System) -> Rogue:
    """An honest element that is to be a victim: at the address of a spare one, which the driver knows."""
    _, sidecar = system._spare[0]
    return Rogue(str(sidecar.place.address), system.compromised(0).leaf)


def said(middle: Middle) -> list[bytes]:
    """The records the victim said, without the handshake's in the clear."""
    return [r.octets for r in list(middle.records) if r.toward is Toward.SERVER and middle.carries(r)]


def test_recorded_records_said_again_on_the_same_connection_end_it(system: System) -> None:
    victim, registrar = spare(system), system.a.registrars[0]
    with (
        between(system, registrar, registrar.asap_port) as middle,
        undisturbed(system, threat="2.10", peers=[victim.name], what="2.8 on the same connection"),
        through(victim, middle) as line,
    ):
        comes_and_goes(victim, line)
        middle.inject(b"".join(said(middle)[-2:]), Toward.SERVER)  # the registration and the deregistration
        assert "ALERT" in (fate := line.fate()) or fate in ENDED
        system.wait("it is gone everywhere", lambda: not is_held(system, victim.source))


def test_a_recorded_connection_said_again_from_the_same_address_is_no_handshake(system: System) -> None:
    victim = spare(system)
    for registrar in system.a.registrars:
        with between(system, registrar, registrar.asap_port) as middle:
            with through(victim, middle) as line:
                comes_and_goes(victim, line)
            recorded = middle.recorded(Toward.SERVER)
        again = Rogue(system.stranger().source)
        with (
            undisturbed(system, threat="2.1", peers=[again.source], what="2.8 on a new connection"),
            contextlib.closing(again.connect(registrar.address, registrar.asap_port)) as sock,
        ):
            sock.sendall(recorded)
            assert end_of(sock) in ENDED
            assert not is_held(system, victim.source)


def test_what_registrars_tell_each_other_said_again_is_not_believed() -> None:
    """ENRP_HANDLE_UPDATEs: an element that has gone does not come back."""
    with running_system(registrars=1, elements=1, foreign=False, driven=False) as system:
        (first,) = system.a.registrars
        with between(system, first, first.enrp_port) as middle:
            late = system.start_registrar([f"{middle.at[0]}:{middle.at[1]}"])
            system.wait("it serves", lambda: (system.a.dump(late) or {}).get("phase") == "serving")
            victim = spare(system)
            with (
                undisturbed(system, threat="2.10", what="2.8 between registrars"),
                victim.secure(first.address, first.asap_port, Ppid.ASAP) as line,
            ):
                before = len(middle.records)
                comes_and_goes(victim, line)
                system.wait("both updates came by", lambda: len(middle.records) >= before + 2)
                told = list(middle.records)[before:]
                way = told[0].toward
                system.wait("the victim is gone", lambda: not is_there(system, late, victim.source))
                middle.inject(b"".join(r.octets for r in told if r.toward is way), way)
                system.wait("the connection is given up", lambda: refusals(system, first, late))
                system.wait("they speak again", lambda: system.a.dump(late) is not None)
                assert not is_there(system, late, victim.source)


def refusals(system: System, *registrars: RegistrarProcess) -> float:
    return sum(system.a.metric(r, "rserpool_refusals_total", threat="2.10") for r in registrars)


def is_held(system: System, source: str) -> bool:
    return any(source in {host_of(e["transport"]) for e in elements} for elements in system.held().values())


def is_there(system: System, registrar: RegistrarProcess, source: str) -> bool:
    dump = system.a.dump(registrar)
    assert dump is not None
    return any(source == host_of(e["transport"]) for pool in dump["handlespace"]["pools"] for e in pool["elements"])


@pytest.mark.parametrize("version", VERSIONS)
def test_no_session_is_resumed_and_no_early_data_is_offered(system: System, version: ssl.TLSVersion) -> None:
    """Early data needs a session that is resumed (RFC 8446 2.3): where there is none, nothing is said before a handshake."""
    victim = system.compromised(0)
    for registrar in system.a.registrars:
        assert not is_resumed(victim, registrar, version)


def is_resumed(victim: Rogue, registrar: RegistrarProcess, version: ssl.TLSVersion) -> bool:
    """Whether a second connection may do without a look at the certificate."""
    context = victim.context()
    context.minimum_version = context.maximum_version = version
    place, session, reused = (registrar.address, registrar.asap_port), None, False
    for _ in range(2):
        with context.wrap_socket(victim.connect(*place), session=session) as sock:
            line = Line(sock, Ppid.ASAP)
            line.say(asap.HandleResolution(pool_handle=HANDLE))
            assert isinstance(line.hear()[0], asap.HandleResolutionResponse)
            session = sock.session
            reused = bool(sock.session_reused)
    return reused


# -- and without the mechanism


def test_it_succeeds_without_tls() -> None:
    with weakened_system(secure=False) as system:
        victim = spare(system)
        registrar = system.a.registrars[0]
        with between(system, registrar, registrar.asap_port, tls=False) as middle:
            with through(victim, middle, tls=False) as line:
                comes_and_goes(victim, line)
            first = next(r.octets for r in middle.records if r.toward is Toward.SERVER)
        system.wait("it is gone everywhere", lambda: not is_held(system, victim.source))
        with contextlib.closing(victim.connect(registrar.address, registrar.asap_port)) as sock:
            sock.sendall(first)
            system.wait("the element is back that has gone", partial(is_held, system, victim.source))


def test_a_session_is_resumed_where_that_is_not_forbidden() -> None:
    with weakened_system("no-resumption", registrars=1) as system:
        for version in VERSIONS:
            assert is_resumed(system.compromised(0), system.a.registrars[0], version), version
