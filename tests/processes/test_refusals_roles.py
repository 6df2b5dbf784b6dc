# SPDX-License-Identifier: Apache-2.0
"""Good leaves of this pool's authority in the wrong hands: of users, of registrars, and of another pool."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from rserpool.asap.authorisation import Role
from rserpool.wire import CauseCode, Ppid, asap, enrp
from support.rig_refusals import (
    HANDLE,
    OwnPool,
    Refusal,
    asap_line,
    causes,
    enrp_line,
    own_pool,
    refused,
    registration,
    stranger,
)
from support.rogue import ENDED, Rogue

SECURITY = [CauseCode.SECURITY_REJECTION]


@pytest.fixture(scope="module")
def pool() -> Iterator[OwnPool]:
    with own_pool() as running:
        yield running


@pytest.mark.rfc("threats 2.2: floods of those who are no elements change nothing")
@pytest.mark.parametrize("role", [Role.USER, Role.REGISTRAR])
def test_no_other_role_registers_or_deregisters(pool: OwnPool, role: Role) -> None:
    """Not even under an identifier that would be that pod's own, or as the pod that is the element."""
    element = pool.plan.sidecars[0].identity
    assert element is not None
    leaf = pool.leaf(role, element.pod_uid)
    rogue = Rogue(pool.elements[0].address, leaf)
    reason = f"a peer of role {role.value} may not "
    for registrar in pool.registrars:
        with (
            refused(pool, registrar, Refusal("2.2", "ASAP_REGISTRATION", reason + "register", rogue.name)),
            asap_line(rogue, registrar) as line,
        ):
            line.say(registration(leaf.pe_identifier, rogue.source))
            assert [causes(answer) for answer in line.hear()] == [SECURITY]
        other = Rogue(rogue.source, pool.leaf(role))
        with (
            refused(pool, registrar, Refusal("2.2", "ASAP_DEREGISTRATION", reason + "deregister", other.name)),
            asap_line(other, registrar) as line,
        ):
            line.say(asap.Deregistration(pool_handle=HANDLE, pe_identifier=leaf.pe_identifier))
            assert [causes(answer) for answer in line.hear()] == [SECURITY]


def test_a_user_is_no_registrar(pool: OwnPool) -> None:
    rogue = stranger(pool, pool.leaf(Role.USER))
    for registrar in pool.registrars:
        expected = Refusal("2.5", "ENRP association", "a peer of role user may not take part", rogue.name)
        with refused(pool, registrar, expected), enrp_line(rogue, registrar) as line:
            line.say(enrp.Presence(sender=7, reply_required=True, checksum=0))
            (error,) = line.hear()
            assert isinstance(error, enrp.EnrpError)
            assert [cause.code for cause in error.error] == SECURITY
            assert line.fate() in ENDED


@pytest.mark.parametrize(("service", "threat"), [(Ppid.ASAP, "2.1"), (Ppid.ENRP, "2.5")], ids=["ASAP", "ENRP"])
def test_a_leaf_for_another_pool_is_refused_though_the_authority_is_ours(
    pool: OwnPool, service: Ppid, threat: str
) -> None:
    role = Role.ELEMENT if service is Ppid.ASAP else Role.REGISTRAR
    leaf = pool.leaf(role, pool="other")
    rogue = stranger(pool, leaf)
    for registrar in pool.registrars:
        expected = Refusal(threat, "handshake", f"{leaf.identity} is not of spiffe://", rogue.source)
        port = registrar.asap_port if service is Ppid.ASAP else registrar.enrp_port
        with refused(pool, registrar, expected), rogue.secure(registrar.address, port, service) as line:
            line.say(registration(leaf.pe_identifier, rogue.source))
            assert line.fate() in ENDED


@pytest.mark.rfc("threats 2.5: no malicious registrar joins")
def test_a_registrar_cannot_speak_as_another_one(pool: OwnPool) -> None:
    """What a server ID is good for is bound to the identity that used it first."""
    for attacked in pool.registrars:
        dump = pool.dump(attacked)
        assert dump is not None
        (peer,) = dump["peers"]
        rogue = stranger(pool, pool.leaf(Role.REGISTRAR))
        expected = Refusal("2.5", "ENRP_TAKEOVER_SERVER", f"is that of {peer['identity']}", rogue.name)
        with refused(pool, attacked, expected), enrp_line(rogue, attacked) as line:
            victim = int(peer["server_id"], 16)
            line.say(enrp.TakeoverServer(sender=victim, target=int(dump["server_id"], 16)))
            (error,) = line.hear()
            assert isinstance(error, enrp.EnrpError)
            assert [cause.code for cause in error.error] == SECURITY
            assert line.fate() in ENDED
