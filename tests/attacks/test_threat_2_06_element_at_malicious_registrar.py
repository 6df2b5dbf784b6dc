# SPDX-License-Identifier: Apache-2.0
"""Threat 2.6: an element registers at a malicious registrar, or lets itself be called by one."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest

from attacks.kit.attackers import FalseRegistrar, false_registrar
from attacks.kit.impostors import FALSE_LEAVES, Maker
from attacks.kit.system import System, host_of, running_system
from attacks.kit.undisturbed import undisturbed
from rserpool.asap.authorisation import Role
from rserpool.identity import pe_identifiers
from rserpool.wire import Message, Ppid, asap
from support.rig_refusals import HANDLE
from support.rogue import ENDED, Rogue

pytestmark = pytest.mark.rfc("threats 2.6: no element uses a malicious registrar")
ASAP_PORT = 3864
FALSE_ID = 0x0BADCAFE
FALSE: dict[str, Maker] = {
    "without TLS": lambda _: None,
    **FALSE_LEAVES,
    "an element": lambda s: s.a.leaf(Role.ELEMENT),
}
"""What false registrars have to show; the last one is genuine, but of no registrar."""


@pytest.fixture(scope="module")
def system() -> Iterator[System]:
    with running_system() as running:
        yield running


def granting(message: Message) -> list[Message]:
    """Grants whatever an element asks."""
    if isinstance(message, asap.Registration):
        return [asap.RegistrationResponse(pool_handle=message.pool_handle, pe_identifier=message.element.identifier)]
    return []


@contextlib.contextmanager
def everywhere(system: System) -> Iterator[dict[str, FalseRegistrar]]:
    """A false registrar of each kind."""
    with contextlib.ExitStack() as stack:
        yield {
            kind: stack.enter_context(false_registrar(system.stranger().source, ASAP_PORT, maker(system), granting))
            for kind, maker in FALSE.items()
        }


def test_an_element_that_knows_false_registrars_only_says_nothing_and_has_no_home(system: System) -> None:
    with everywhere(system) as false:
        hosts = [f.host for kind, f in false.items() if kind not in ("without TLS", "an element")]
        with undisturbed(system, threat="2.6", peers=hosts, what="2.6 false registrars"):
            name = system.start_spare([f.at for f in false.values()])
            system.wait("all have been tried", lambda: all(f.calls for f in false.values()))
            system.wait(
                "the wrong role is refused", lambda: "a peer of role element is no registrar" in system.log(name)
            )
            assert "registered" not in system.log(name).replace("unregistered", "")
        system.stop(name)
        assert not [f.heard for f in false.values() if f.heard], "not one message was said to them"


def test_an_element_goes_on_to_a_genuine_registrar(system: System) -> None:
    true = system.a.registrars[0]
    with everywhere(system) as false, undisturbed(system, refused=False, what="2.6 the hunt goes on"):
        name = system.start_spare([*(f.at for f in false.values()), f"{true.address}:{true.asap_port}"])
        address = str(system.spare_plan(name).place.address)
        system.wait("every registrar holds it", lambda: is_held(system, address))
        homes = {e["home"] for found in system.held().values() for e in found if host_of(e["transport"]) == address}
        assert homes == {(system.a.dump(true) or {})["server_id"]}
        assert not [f.heard for f in false.values() if f.heard], "not one message was said to them"
        system.stop(name)


CALLERS: dict[str, Maker] = {kind: maker for kind, maker in FALSE.items() if kind != "without TLS"} | {
    "no certificate": lambda _: None,
    "a user": lambda s: s.a.leaf(Role.USER),
}


@pytest.mark.parametrize("kind", CALLERS)
def test_an_element_does_not_let_a_false_registrar_adopt_it(system: System, kind: str) -> None:
    leaf = CALLERS[kind](system)
    rogue, plan = system.stranger(leaf), system.a.plan.sidecars[0]
    host, port = str(plan.place.address), plan.place.ports["asap"]
    peer = rogue.name if kind in ("an element", "a user") else rogue.source
    with undisturbed(system, threat="2.6", peers=[peer]), rogue.secure(host, port, Ppid.ASAP) as line:
        line.say(adoption(system))
        fate = line.fate()
        assert "ALERT" in fate or fate in ENDED


def adoption(system: System, name: str = "") -> Message:
    """A keep-alive that says: your home is here now."""
    identity = (system.spare_plan(name) if name else system.a.plan.sidecars[0]).identity
    assert identity is not None
    identifier = pe_identifiers(identity.pod_uid)[0]
    return asap.EndpointKeepAlive(server_id=FALSE_ID, pool_handle=HANDLE, home=True, pe_identifier=identifier)


def is_held(system: System, address: str) -> bool:
    return all(address in {host_of(e["transport"]) for e in elements} for elements in system.held().values())


# -- and without the mechanism: one system, and elements of which each does without another one


@pytest.fixture(scope="module")
def around() -> Iterator[System]:
    with running_system(registrars=1, elements=1, foreign=True, driven=False) as running:
        yield running


@pytest.mark.parametrize(
    ("weakening", "kind"), [("registrar-role", "an element"), ("verification", "an authority of the same name")]
)
def test_it_succeeds_where(around: System, weakening: str, kind: str) -> None:
    with false_registrar(around.stranger().source, ASAP_PORT, FALSE[kind](around), granting) as false:
        name = around.start_spare([false.at], without=[weakening])
        around.wait("it has registered there", lambda: any(isinstance(m, asap.Registration) for m in false.heard))
        around.wait("it believes that it is registered", lambda: ": registered" in around.log(name))
        assert not is_held(around, str(around.spare_plan(name).place.address)), "and no user will ever find it"


def test_an_adoption_succeeds_where_elements_may_be_registrars(around: System) -> None:
    name = around.start_spare(without=["registrar-role"])
    place = around.spare_plan(name).place
    around.wait("it is registered", lambda: is_held(around, str(place.address)))
    rogue: Rogue = around.compromised(0)
    with rogue.secure(str(place.address), place.ports["asap"], Ppid.ASAP) as line:
        line.say(adoption(around, name))
        assert isinstance(line.hear()[0], asap.EndpointKeepAliveAck)
