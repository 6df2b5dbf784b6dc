# SPDX-License-Identifier: Apache-2.0
"""Threat 2.7: a malicious registrar answers a user's resolutions."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import pytest

from attacks.kit.attackers import FalseRegistrar, false_registrar
from attacks.kit.impostors import FALSE_LEAVES, Maker
from attacks.kit.system import System, running_system
from attacks.kit.undisturbed import undisturbed
from attacks.kit.weakened import weaken
from rserpool.asap.authorisation import Role
from rserpool.client import NoRegistrarError, PoolUser
from rserpool.wire import Message, asap, policies
from support.rig_refusals import offer

pytestmark = pytest.mark.rfc("threats 2.7: no malicious registrar answers a user")
ASAP_PORT = 3864
TIMES = 10
"""Resolutions, each by a new user, since users ask registrars in random order."""
FALSE: dict[str, Maker] = {
    "without TLS": lambda _: None,
    **FALSE_LEAVES,
    "a registrar of another pool, signed by our authority": lambda s: s.a.leaf(Role.REGISTRAR, pool="other"),
    "an element": lambda s: s.a.leaf(Role.ELEMENT),
}


@pytest.fixture(scope="module")
def system() -> Iterator[System]:
    with running_system() as running:
        yield running


def answering(attacker: str) -> Callable[[Message], Sequence[Message]]:
    """Sends users to an element of the attacker's."""

    def script(message: Message) -> list[Message]:
        if not isinstance(message, asap.HandleResolution):
            return []
        element = offer(0x0BADE1E3, attacker)
        return [
            asap.HandleResolutionResponse(
                pool_handle=message.pool_handle, policy=policies.RoundRobin(), elements=(element,)
            )
        ]

    return script


@contextlib.contextmanager
def false(system: System, kind: str) -> Iterator[FalseRegistrar]:
    source = system.stranger().source
    with false_registrar(source, ASAP_PORT, FALSE[kind](system), answering(source)) as found:
        yield found


def resolved(system: System, *places: FalseRegistrar, true: bool) -> set[str]:
    """Where a user is sent who knows these false registrars, and the true ones or not."""

    async def ask() -> set[str]:
        registrars = tuple((f.host, f.port) for f in places) + (system.a.scope.registrars if true else ())
        async with PoolUser(replace(system.a.scope, registrars=registrars), patience=10.0 if true else 3.0) as user:
            found = await user.resolve("echo", fresh=True)
            return {str(address) for element in found.elements for address in element.transport.addresses}

    answer: set[str] = system.a.run(ask())
    return answer


@pytest.mark.parametrize("kind", FALSE)
def test_a_user_who_knows_false_registrars_only_says_nothing_and_says_why(system: System, kind: str) -> None:
    with undisturbed(system, refused=False, what=f"2.7 {kind}"), false(system, kind) as it:
        with pytest.raises(NoRegistrarError) as caught:
            resolved(system, it, true=False)
        assert it.host in str(caught.value)
        assert it.calls
        assert not it.heard, "it was asked"


def test_a_user_goes_on_to_a_genuine_registrar(system: System) -> None:
    """Among as many false registrars as there are kinds; the driver's elements are honest, too."""
    honest = {e.address for e in system.a.elements} | system.driven_at
    with undisturbed(system, refused=False, what="2.7 the hunt goes on"), contextlib.ExitStack() as stack:
        liars = [stack.enter_context(false(system, kind)) for kind in FALSE]
        for _ in range(TIMES):
            assert resolved(system, *liars, true=True) <= honest
        assert sum(liar.calls for liar in liars) > 0
        assert not any(liar.heard for liar in liars)


# -- and without the mechanism, which is the user's own


@pytest.mark.parametrize(
    ("weakening", "kind"),
    [
        ("registrar-role", "an element"),
        ("verification", "self-signed"),
        ("verification", "an authority of the same name"),
        ("verification", "expired"),
        ("pool-of-certificate", "a registrar of another pool, signed by our authority"),
    ],
)
def test_it_succeeds_where(system: System, monkeypatch: pytest.MonkeyPatch, weakening: str, kind: str) -> None:
    weaken([weakening, "leaf-expiry"], monkeypatch.setattr)
    with false(system, kind) as it:
        assert resolved(system, it, true=False) == {it.host}, "the user goes to the attacker"


def test_it_succeeds_without_tls(system: System) -> None:
    async def ask(place: FalseRegistrar) -> set[str]:
        scope = replace(system.a.scope, registrars=((place.host, place.port),), bundle=None)
        async with PoolUser(scope, patience=3.0) as user:
            found = await user.resolve("echo")
            return {str(address) for element in found.elements for address in element.transport.addresses}

    with false(system, "without TLS") as it:
        assert system.a.run(ask(it)) == {it.host}
