# SPDX-License-Identifier: Apache-2.0
"""How long honest registrations and resolutions take while somebody floods, beside undisturbed ones of the same run.

The attacker's kit is that of the attack tests, and so is the system: three registrars and two elements under TLS, and
an honest driver. All of it has one processor, the attacker another.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

from attacks.kit import daemons
from attacks.kit.attackers import flood, of_impostor, secured
from attacks.kit.driver import Operation, since
from attacks.kit.insider import SERVER_ID, insider, update
from attacks.kit.system import System, running_system
from attacks.kit.undisturbed import quantile
from figures import Figure, Figures, Options, quiet, say
from rserpool.asap.authorisation import Role
from rserpool.identity import pe_identifiers
from rserpool.wire import RFC, Message, Ppid, asap, encode
from support.rig_refusals import HANDLE, offer, registration
from support.rogue import Rogue

EACH: Final = 50
"""Messages that are sent at once."""
A_SECOND: Final = 10_000
ALLOWED: Final = 0.05
"""Seconds for the slowest hundredth, if that is more than twice the undisturbed one."""
SETTLES: Final = 1.0
"""Seconds between an attack and what is undisturbed."""

Attack = Callable[[System, float], str]
"""Floods for so many seconds; returns how much that was."""


def run(options: Options) -> Figures:
    seconds = 1.0 if options.quick else 8.0
    for name, attack in ATTACKS.items():
        busy = quiet(options)
        shares, notes = [], dict[str, str]()
        for _ in range(options.runs):
            with running_system(foreign=False) as system, apart(system):
                share, notes = _measured(system, attack, seconds)
            shares.append(share)
            say(f"{name}: {share:.2f}; {notes['now']}, before {notes['before']}")
        yield Figure(
            name=f"p99 under {name}, of what is allowed",
            unit="of max(2 x undisturbed, 50 ms)",
            values=tuple(shares),
            goal=1.0,
            notes={"what": f"{seconds:g} s each; the notes are the last run's", **notes, **busy},
        )


def _measured(system: System, attack: Attack, seconds: float) -> tuple[float, dict[str, str]]:
    assert system.driver is not None
    time.sleep(SETTLES)
    began = time.monotonic()
    time.sleep(seconds)
    before = since(system.operations, began)
    began = time.monotonic()
    how_much = attack(system, seconds)
    now = since(system.operations, began)
    failed = [o for o in (*before, *now) if o.failure]
    usual, worst = (quantile(_messages(operations), 0.99) for operations in (before, now))
    notes = {
        "attack": how_much,
        "before": _told(before),
        "now": _told(now),
        "failed": ", ".join(sorted({f"{o.what}: {o.failure}" for o in failed})) or "none",
    }
    return (float("inf") if failed or not now else worst / max(2 * usual, ALLOWED)), notes


def _messages(operations: list[Operation]) -> list[Operation]:
    """What goes over an association that is up; a handshake costs a CPU as much as it does."""
    return [o for o in operations if o.what != "connect"]


def _told(operations: list[Operation]) -> str:
    messages = _messages(operations)
    handshakes = [o for o in operations if o.what == "connect" and o.seconds > 0.001]
    took = "/".join(f"{quantile(messages, part) * 1000:.1f}" for part in (0.5, 0.99, 1.0))
    dialled = "/".join(f"{quantile(handshakes, part) * 1000:.1f}" for part in (0.5, 0.99))
    return f"{len(messages)} operations, p50/p99/max {took} ms; {len(handshakes)} handshakes, p50/p99 {dialled} ms"


@contextlib.contextmanager
def apart(system: System) -> Iterator[None]:
    """The system and its driver on one processor, this process on another, where there are two."""
    ours = os.sched_getaffinity(0)
    first, *others = sorted(ours)
    assert system.driver is not None
    for pid in (system.driver.pid, *(process.pid for process in system.processes.values())):
        for thread in Path(f"/proc/{pid}/task").iterdir():
            os.sched_setaffinity(int(thread.name), {first})
    os.sched_setaffinity(0, set(others or ours))
    try:
        yield
    finally:
        os.sched_setaffinity(0, ours)


# -- the floods


def _flood(
    rogue: Rogue, host: str, port: int, messages: list[Message], seconds: float, service: Ppid = Ppid.ASAP
) -> str:
    octets = b"".join(encode(message, RFC) for message in messages)
    attack = secured(rogue, host, port)
    done = flood(attack, lambda: octets, each=len(messages), seconds=seconds, a_second=A_SECOND, service=service)
    return f"{done.sent} messages, {done.rate:.0f}/s, over {done.connections} connections"


def _handshakes(system: System, seconds: float) -> str:
    """Threat 2.1: a certificate of an authority of one's own."""
    rogue = system.stranger(of_impostor(system.a.identity(Role.ELEMENT), system.a.authority.bundle))
    target = system.a.registrars[1]
    return _flood(rogue, target.address, target.asap_port, [registration(7, rogue.source)] * EACH, seconds)


def _reports(system: System, seconds: float) -> str:
    """Threat 2.13: a user who reports a healthy element."""
    identity = system.a.plan.sidecars[0].identity
    assert identity is not None
    report = asap.EndpointUnreachable(pool_handle=HANDLE, pe_identifier=pe_identifiers(identity.pod_uid)[0])
    target = system.a.registrars[0]
    rogue = system.stranger(system.a.leaf(Role.USER))
    return _flood(rogue, target.address, target.asap_port, [report] * EACH, seconds)


def _keep_alives(system: System, seconds: float) -> str:
    """Threat 2.14: a registrar that asks an element all the time."""
    element = system.a.plan.sidecars[0]
    assert element.identity is not None
    identifier = pe_identifiers(element.identity.pod_uid)[0]
    question = asap.EndpointKeepAlive(server_id=0xBAD, pool_handle=HANDLE, pe_identifier=identifier)
    rogue = system.stranger(system.a.leaf(Role.REGISTRAR))
    return _flood(rogue, str(element.place.address), daemons.ASAP, [question] * EACH, seconds)


def _registrations(system: System, seconds: float) -> str:
    """Threat 2.2: an element, with its own certificate, that registers all the time."""
    rogue, target = system.compromised(), system.a.registrars[0]
    assert rogue.leaf is not None
    message = registration(rogue.leaf.pe_identifier, rogue.source)
    return _flood(rogue, target.address, target.asap_port, [message] * EACH, seconds)


def _resolutions(system: System, seconds: float) -> str:
    """Somebody without a certificate who resolves all the time."""
    rogue, target = system.stranger(), system.a.registrars[0]
    message = asap.HandleResolution(pool_handle=HANDLE)
    return _flood(rogue, target.address, target.asap_port, [message] * EACH, seconds)


def _updates(system: System, seconds: float) -> str:
    """RFC 5355 2.17: a registrar that claims the honest elements, and changes one it has invented, all the time."""
    with insider(system) as hacked:
        place = daemons.place(system)
        honest = [
            offer(pe_identifiers(s.identity.pod_uid)[0], place, home=SERVER_ID)
            for s in system.a.plan.sidecars
            if s.identity is not None
        ]
        invented = offer(0x70000000, system.a.elements[0].address, home=SERVER_ID)
        each = [*honest, *(replace(invented, life=300 + n) for n in range(EACH - len(honest)))]
        began, sent = time.monotonic(), 0
        while (passed := time.monotonic() - began) < seconds:
            if sent <= passed * A_SECOND:
                hacked.say(*map(update, each), to=0)
                sent += len(each)
            else:
                time.sleep(0.001)
    return f"{sent} messages, {sent / seconds:.0f}/s"


ATTACKS: Final[dict[str, Attack]] = {
    "strangers' handshakes (2.1)": _handshakes,
    "an element's registrations (2.2)": _registrations,
    "a user's reports (2.13)": _reports,
    "keep-alives (2.14)": _keep_alives,
    "a stranger's resolutions": _resolutions,
    "a registrar's updates (2.17)": _updates,
}
