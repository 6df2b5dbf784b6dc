# SPDX-License-Identifier: Apache-2.0
"""`rserpool elements`, and `rserpool dump` on a cluster."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rserpool_cli.cluster.kubectl import Kubectl
from rserpool_cli.cluster.listing import differences, plain_elements, shown
from rserpool_cli.cluster.members import Members, ask_registrars, look, registrars_of
from rserpool_cli.cluster.pools import all_pools, find_pool
from rserpool_cli.errors import CommandError
from rserpool_cli.output import show


def require_name(kubectl: Kubectl, name: str | None) -> str:
    """The name that was written.

    Raises:
        CommandError: none was; says which there are.
    """
    if name is not None:
        return name
    there = ", ".join(p.full for p in all_pools(kubectl)[:10])
    raise CommandError(f"name a pool, NAMESPACE/POOL; there are: {there or 'none'}", 2)


def run_elements(kubectl: Kubectl, name: str | None, output: str) -> int:
    """List a pool's elements, and the members that are not in it.

    Raises:
        CommandError: there is no such pool, or none of its registrars tells what it holds.
    """
    pool = find_pool(kubectl, require_name(kubectl, name))
    members = look(kubectl, pool)
    if not members.holdings.serving:
        told = "; ".join(f"{r.pod}: {_state(r.phase, r.trouble)}" for r in members.registrars) or "it has none"
        raise CommandError(
            f"no registrar of {pool.full} tells what it holds ({told}); see `rserpool status {pool.full}`"
        )
    if output == "json":
        show(_plain(members))
    else:
        print(shown(members.holdings, members.pods))
        for line in remarks(members):
            print(line)
    return 0


def remarks(members: Members) -> list[str]:
    """What else there is to say, a line each."""
    silent = [r for r in members.registrars if r.pod not in members.holdings.serving]
    return [
        *(f"registrar {r.pod} is not counted: {_state(_phase(r.dump, r.phase), r.trouble)}" for r in silent),
        *differences(members.holdings),
        *(f"not registered: {a.pod}: {a.reason}" for a in members.absent),
    ]


def _phase(dump: Mapping[str, Any] | None, phase: str) -> str:
    return str(dump.get("phase", phase)) if dump is not None else phase


def _state(phase: str, trouble: str) -> str:
    return trouble or phase.lower()


def _plain(members: Members) -> dict[str, Any]:
    return {
        "elements": plain_elements(members.holdings, members.pods),
        "notRegistered": [{"pod": a.pod, "reason": a.reason} for a in members.absent],
        "registrars": [
            {"pod": r.pod, "phase": _phase(r.dump, r.phase), "trouble": r.trouble} for r in members.registrars
        ],
        "differences": list(members.holdings.differences),
    }


def run_dump(kubectl: Kubectl, name: str | None, registrar: str | None = None) -> int:
    """Print what a pool's registrars hold.

    Raises:
        CommandError: there is no such pool or registrar, or it does not answer.
    """
    pool = find_pool(kubectl, require_name(kubectl, name))
    registrars = registrars_of(kubectl, pool)
    known = [r.pod for r in registrars]
    if not registrars:
        raise CommandError(f"{pool.full} has no registrar; see `rserpool status {pool.full}`")
    if registrar is not None:
        registrars = [r for r in registrars if r.pod == registrar]
        if not registrars:
            raise CommandError(f"there is no registrar {registrar}; there are {', '.join(known)}")
    asked = ask_registrars(kubectl, pool.namespace, registrars)
    if len(asked) == 1 and asked[0].dump is None:
        raise CommandError(f"{asked[0].pod}: {_state(asked[0].phase, asked[0].trouble)}")
    show({r.pod: r.dump if r.dump is not None else {"error": _state(r.phase, r.trouble)} for r in asked})
    return 0
