# SPDX-License-Identifier: Apache-2.0
"""What an attack must leave behind: a number, a line, and nothing else."""

from __future__ import annotations

import contextlib
import difflib
import functools
import itertools
import json
import time
from collections.abc import Iterator, Sequence
from typing import Any, Final

from attacks.kit.driver import Operation, since
from attacks.kit.figures import figure
from attacks.kit.system import System
from support.rig_refusals import MARK, SHORTEST_SECRET

MOST_LINES: Final = 2
"""Lines of one process about one peer and threat: one, or two if a minute ends meanwhile."""
MEMORY: Final = 24 * 1024 * 1024
"""Octets by which a daemon may have grown, unless a test says otherwise."""
LOG: Final = 32 * 1024
"""Octets that an attack may write to all logs together."""
COUNTED: Final = 5.0
"""Seconds in which what an attacker has seen refused must be counted."""
SLOWEST: Final = 2.0
"""Seconds an honest operation may take while an attack goes on (PROTOCOL 13.4)."""
SETTLED: Final = 10.0
"""Seconds after an attack in which what registrars hold must be what it was: updates between them are on their way."""


@contextlib.contextmanager
def undisturbed(
    system: System,
    *,
    threat: str | Sequence[str] = (),
    refused: bool = True,
    peers: Sequence[str] = (),
    memory: int = MEMORY,
    log: int = LOG,
    what: str = "",
) -> Iterator[None]:
    """Launch an attack inside; the system must come out of it as it went in.

    Asserted: what all registrars of both pools hold is the same, no operation of the honest driver failed, the refusals
    were counted under these threats and no other, each peer was logged once, memory and logs grew within bounds.

    Args:
        system: with its driver, if it has one.
        threat: the section, or sections, each of which must have been counted.
        refused: whether a daemon refuses at all; ``False``: nothing is counted anywhere.
        peers: names that must be in a log line of one of the threats: identities, or addresses of who has none.
        memory: octets by which each daemon may grow.
        log: octets by which all logs together may grow.
        what: the attack's name among the figures.
    """
    threats = (threat,) if isinstance(threat, str) else tuple(threat)
    assert bool(threats) == refused, "a refusal has a threat"
    before, counted = system.dumps(), system.refusals()
    size, sizes = system.log_size(), {name: len(text) for name, text in system.logs().items()}
    memories = {name: system.rss(name) for name in system.daemons()}
    began, quiet = time.monotonic(), list(system.operations)
    yield
    with contextlib.suppress(AssertionError):  # compared below, where the difference is shown
        system.wait("everything is as it was", lambda: system.dumps() == before, SETTLED)
    after = system.dumps()
    assert after == before, f"it is not as it was:\n{_difference(before, after)}"
    for section in threats:
        system.wait(f"a refusal under {section}", functools.partial(_has_risen, system, counted, section), COUNTED)
    risen = _risen(system, counted)
    assert set(risen) == set(threats), f"counted {risen}, not under {threats}"
    _told(system, sizes, threats, peers)
    assert not leaked(system), "a log tells a secret"
    grown = {name: system.rss(name) - was for name, was in memories.items()}
    written = system.log_size() - size
    during = since(system.operations, began) if quiet else []
    _report(what or f"threat {', '.join(threats)}", quiet, during, grown, written, risen)
    assert not [o for o in during if o.failure], "honest operations failed"
    assert not [o for o in during if o.seconds > SLOWEST], "honest operations were slow"
    assert max(grown.values()) <= memory, f"memory grew: {grown}"
    assert written <= log, f"logs grew by {written} octets"
    if quiet:
        system.wait("the driver goes on", lambda: len(since(system.operations, began)) >= 5, COUNTED)


def _risen(system: System, before: dict[str, float]) -> dict[str, float]:
    return {t: n - before.get(t, 0) for t, n in system.refusals().items() if n > before.get(t, 0)}


def _difference(before: dict[str, Any], after: dict[str, Any]) -> str:
    """What has changed, line by line."""
    was, now = (json.dumps(dumps, indent=1, sort_keys=True).splitlines() for dumps in (before, after))
    return "\n".join(difflib.unified_diff(was, now, "before", "after", lineterm="", n=1))


def leaked(system: System) -> bool:
    """Whether a log tells a line of a key, or what an attacker marked as his own."""
    keys = [file.read_bytes() for pool in system.pools for file in pool.directory.glob("*.key")]
    secrets = {line.decode() for key in keys for line in key.splitlines() if len(line) > SHORTEST_SECRET}
    secrets |= {MARK.decode(), "PRIVATE KEY"}
    return any(secret in log for log in system.logs().values() for secret in secrets)


def _has_risen(system: System, before: dict[str, float], threat: str) -> bool:
    return threat in _risen(system, before)


def _told(system: System, sizes: dict[str, int], threats: Sequence[str], peers: Sequence[str]) -> None:
    """One line of some process names each peer, and hardly any other line of that process does."""
    lines = {name: text[sizes.get(name, 0) :].splitlines() for name, text in system.logs().items()}
    for peer in peers:
        counts = {name: sum(_is_about(line, peer, threats) for line in said) for name, said in lines.items()}
        assert any(counts.values()), f"nobody logged {peer} under {threats}:\n" + "\n".join(
            itertools.chain(*lines.values())
        )
        most = MOST_LINES * len(threats)
        assert max(counts.values()) <= most, f"{peer} was logged again and again: {counts}"


def _is_about(line: str, peer: str, threats: Sequence[str]) -> bool:
    return peer in line and any(f"threat={threat}" in line.split() for threat in threats)


def quantile(operations: Sequence[Operation], part: float) -> float:
    """Seconds within which that part of operations was done; 0 without any."""
    took = sorted(o.seconds for o in operations)
    return took[min(len(took) - 1, int(part * len(took)))] if took else 0.0


def _report(
    what: str,
    quiet: Sequence[Operation],
    during: Sequence[Operation],
    grown: dict[str, int],
    written: int,
    risen: dict[str, float],
) -> None:
    counts = ", ".join(f"{int(count)} under {threat}" for threat, count in sorted(risen.items())) or "none"
    figure(
        f"{what}: refusals {counts}; memory +{max(grown.values()) / 2**20:.1f} MiB at most; logs +{written} octets;"
        f" {len(during)} honest operations p50/p99 {quantile(during, 0.5) * 1000:.1f}/"
        f"{quantile(during, 0.99) * 1000:.1f} ms, before {quantile(quiet, 0.5) * 1000:.1f}/"
        f"{quantile(quiet, 0.99) * 1000:.1f} ms"
    )
