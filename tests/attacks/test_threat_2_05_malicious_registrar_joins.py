# SPDX-License-Identifier: Apache-2.0
"""Threat 2.5: a malicious registrar joins the scope, or plays the mentor of one that starts."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence

import pytest

from attacks.kit.attackers import FalseRegistrar, false_registrar
from attacks.kit.figures import figure
from attacks.kit.impostors import FALSE_LEAVES, Maker
from attacks.kit.system import System, running_system, weakened_system
from attacks.kit.undisturbed import undisturbed
from rserpool.asap.authorisation import Role
from rserpool.wire import CauseCode, Message, PoolEntry, Ppid, UpdateAction, enrp
from support.rig_refusals import HANDLE, enrp_line, offer, stranger, usurping
from support.rogue import ENDED
from support.running import RegistrarProcess

pytestmark = pytest.mark.rfc("threats 2.5: no malicious registrar joins")
FALSE_ID = 0xFFFFFFFE
"""Server ID of a false registrar: high, so that a starting registrar asks it first."""
FALSE_ELEMENT = 0x0BADE1E3
MOST_BEFORE = 20
"""Messages a registrar may say to a new peer before it answers."""


@pytest.fixture(scope="module")
def system() -> Iterator[System]:
    with running_system() as running:
        yield running


NO_CREDENTIALS: dict[str, Maker] = {
    "no certificate": lambda _: None,
    **FALSE_LEAVES,
}
"""With these nobody finishes a handshake."""


def says(system: System, source: str) -> list[Message]:
    """All that a registrar could say to change another's handlespace or to read it."""
    victim, *_ = system.a.dumps().values()
    sibling = int(system.held()["echo-registrar-0"][0]["identifier"], 16)
    return [
        *usurping(FALSE_ID, int(victim["server_id"], 16), sibling, source),
        enrp.ListRequest(sender=FALSE_ID),
        enrp.HandleTableRequest(sender=FALSE_ID),
    ]


@pytest.mark.parametrize("kind", NO_CREDENTIALS)
def test_nobody_without_the_pools_certificate_is_let_in(system: System, kind: str) -> None:
    rogue = system.stranger(NO_CREDENTIALS[kind](system))
    said = says(system, rogue.source)
    with undisturbed(system, threat="2.5", peers=[rogue.source], what=f"2.5 {kind}"):
        for registrar in system.a.registrars:
            with enrp_line(rogue, registrar) as line:
                line.say(*said)
                assert "ALERT" in line.fate()  # and it has said nothing: nothing is disclosed


@pytest.mark.parametrize("role", [Role.ELEMENT, Role.USER])
def test_no_element_and_no_user_is_a_registrar(system: System, role: Role) -> None:
    leaf = system.a.leaf(role)
    rogue = system.compromised(0) if role is Role.ELEMENT else stranger(system.a, leaf)
    said = says(system, rogue.source)
    with undisturbed(system, threat="2.5", peers=[rogue.name], what=f"2.5 role {role.value}"):
        for registrar in system.a.registrars:
            with enrp_line(rogue, registrar) as line:
                line.say(*said)
                assert is_rejected(line.hear())
                assert line.fate() in ENDED


def test_a_genuine_registrar_cannot_speak_as_another_one(system: System) -> None:
    for attacked in system.a.registrars:
        dump = system.a.dump(attacked)
        assert dump is not None
        rogue = system.stranger(system.a.leaf(Role.REGISTRAR))
        victim, own = int(dump["peers"][0]["server_id"], 16), int(dump["server_id"], 16)
        with undisturbed(system, threat="2.5", peers=[rogue.name]), enrp_line(rogue, attacked) as line:
            line.say(enrp.TakeoverServer(sender=victim, target=own))
            assert is_rejected(line.hear())
            assert line.fate() in ENDED


def is_rejected(heard: Sequence[Message]) -> bool:
    """Whether one ENRP_ERROR was heard that says why."""
    (error,) = heard
    return isinstance(error, enrp.EnrpError) and [c.code for c in error.error] == [CauseCode.SECURITY_REJECTION]


# -- a false mentor


def mentor(source: str) -> Callable[[Message], list[Message]]:
    """Answers as a mentor would, with a handlespace of its own making."""

    def script(message: Message) -> list[Message]:
        match message:
            case enrp.Presence(sender=asker):
                return [enrp.Presence(sender=FALSE_ID, receiver=asker, checksum=0xFFFF)]
            case enrp.ListRequest(sender=asker):
                return [enrp.ListResponse(sender=FALSE_ID, receiver=asker)]
            case enrp.HandleTableRequest(sender=asker):
                element = offer(FALSE_ELEMENT, source, home=FALSE_ID)
                entry = PoolEntry(pool_handle=HANDLE, elements=(element,))
                return [enrp.HandleTableResponse(sender=FALSE_ID, receiver=asker, pools=(entry,))]
        return []

    return script


def holds_the_false_element(system: System, registrar: RegistrarProcess) -> bool:
    dump = system.a.dump(registrar) or {"handlespace": {"pools": []}}
    found = [e for pool in dump["handlespace"]["pools"] for e in pool["elements"]]
    return f"{FALSE_ELEMENT:#010x}" in {e["identifier"] for e in found}


@pytest.fixture(scope="module")
def starting() -> Iterator[System]:
    """A system in which registrars start that know a false one."""
    with running_system(foreign=False, driven=False, elements=1) as running:
        yield running


@contextlib.contextmanager
def false_mentor(system: System, kind: str) -> Iterator[FalseRegistrar]:
    leaf = system.a.leaf(Role.ELEMENT) if kind == "an element" else NO_CREDENTIALS[kind](system)
    source = system.stranger().source
    with false_registrar(source, 9902, leaf, mentor(source), service=Ppid.ENRP) as false:
        yield false


@contextlib.contextmanager
def one_more(system: System, peers: Sequence[str], without: Sequence[str] = ()) -> Iterator[RegistrarProcess]:
    """A registrar that starts with these peers, and is ended afterwards: the next one has its address."""
    late = system.start_registrar(peers, without=without)
    try:
        yield late
    finally:
        system.stop(late.name)


@pytest.mark.parametrize("kind", ["an authority of the same name", "an element"])
def test_a_starting_registrar_refuses_a_false_mentor_and_takes_the_next(starting: System, kind: str) -> None:
    true = [f"{r.address}:{r.enrp_port}" for r in starting.a.registrars]
    with false_mentor(starting, kind) as false, one_more(starting, [false.at, *true]) as late:
        took = starting.wait("it serves", lambda: (starting.a.dump(late) or {}).get("phase") == "serving")
        dump = starting.a.dump(late)
        assert dump is not None
        assert dump["handlespace"] == starting.a.dumps()["echo-registrar-0"]["handlespace"]
        assert f"{FALSE_ID:#010x}" not in {peer["server_id"] for peer in dump["peers"]}
        starting.wait("it was tried", lambda: starting.a.metric(late, "rserpool_refusals_total", threat="2.5"))
        assert all(isinstance(message, enrp.EnrpError) for message in false.heard), "nothing was disclosed to it"
        assert "threat=2.5" in starting.log(late.name)
    figure(f"2.5 false mentor, {kind}: the starting registrar serves after {took:.1f} s")


# -- and without the mechanism


def test_it_succeeds_where_elements_may_be_registrars() -> None:
    """It reads the whole handlespace, and its own elements are believed."""
    with weakened_system("registrar-role") as system:
        rogue = system.compromised(0)
        element = offer(FALSE_ELEMENT, rogue.source, home=FALSE_ID)
        for registrar in system.a.registrars:
            with enrp_line(rogue, registrar) as line:
                line.say(
                    enrp.Presence(sender=FALSE_ID, checksum=0xFFFF),
                    enrp.HandleUpdate(sender=FALSE_ID, action=UpdateAction.ADD_PE, pool_handle=HANDLE, element=element),
                    enrp.HandleTableRequest(sender=FALSE_ID),
                )
                heard = (message for _ in range(MOST_BEFORE) for message in line.hear())
                table = next(message for message in heard if isinstance(message, enrp.HandleTableResponse))
                assert table.pools, "the handlespace is disclosed"
                assert holds_the_false_element(system, registrar)
                assert FALSE_ID in peers_of(system, registrar)


def test_it_succeeds_where_certificates_are_not_verified() -> None:
    with weakened_system("verification", "leaf-expiry", foreign=True) as system:
        for kind in ("self-signed", "an authority of the same name", "expired"):
            rogue = system.stranger(NO_CREDENTIALS[kind](system))
            registrar = system.a.registrars[0]
            with enrp_line(rogue, registrar) as line:
                line.say(enrp.Presence(sender=FALSE_ID - len(kind), reply_required=True, checksum=0xFFFF))
                assert isinstance(line.hear()[0], enrp.Presence), kind
                assert FALSE_ID - len(kind) in peers_of(system, registrar), kind


def test_it_succeeds_where_a_server_id_is_not_bound_to_an_identity() -> None:
    """A genuine registrar's leaf removes another registrar's element in that one's name."""
    with weakened_system("server-id-binding") as system:
        (held,) = system.held()["echo-registrar-0"]
        home = int(held["home"], 16)
        attacked = next(r for r in system.a.registrars if (system.a.dump(r) or {})["server_id"] != held["home"])
        rogue = system.stranger(system.a.leaf(Role.REGISTRAR))
        element = offer(FALSE_ELEMENT, rogue.source, home=home)
        with enrp_line(rogue, attacked) as line:
            line.say(enrp.HandleUpdate(sender=home, action=UpdateAction.ADD_PE, pool_handle=HANDLE, element=element))
            system.wait("an element is learned in another's name", lambda: holds_the_false_element(system, attacked))


@pytest.mark.parametrize(
    ("weakening", "kind"), [("registrar-role", "an element"), ("verification", "an authority of the same name")]
)
def test_a_false_mentor_succeeds_where(starting: System, weakening: str, kind: str) -> None:
    with false_mentor(starting, kind) as false, one_more(starting, [false.at], without=[weakening]) as late:
        starting.wait("it holds what it was told", lambda: holds_the_false_element(starting, late))


def peers_of(system: System, registrar: RegistrarProcess) -> set[int]:
    return {int(peer["server_id"], 16) for peer in (system.a.dump(registrar) or {"peers": []})["peers"]}
