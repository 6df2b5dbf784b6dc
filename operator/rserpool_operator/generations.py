# SPDX-License-Identifier: Apache-2.0
"""Which CA generations a pool has, as its status records them: the one place where a replacement's progress is kept.

A replacement is a walk over these fields, one status write a step; whatever else is done follows from what was written:

=============  ============  ===========  =========  ===============  =========================
phase          generation    next         former     keys             signs, and is trusted
=============  ============  ===========  =========  ===============  =========================
Active         N             none         none       N                N; N
Preparing      N             N+1          none       N, then N+1 too  N; N and N+1 once recorded
Activating     N+1           none         N          N, N+1           N+1; N and N+1
Retiring       N+1           none         N          N+1              N+1; N+1
=============  ============  ===========  =========  ===============  =========================

A pool that moves to another signer's CA walks the same way, so each generation has a signer of its own. One that is
called back while it prepares goes to Retiring with N and N+1 the other way round, and so does one that is called back
while it activates, from Activating to Activating.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from pydantic import ValidationError

from rserpool.pool import ServerPool
from rserpool.pool.model import Signer
from rserpool_operator.kube.kinds import Object


class Phase(StrEnum):
    """Where a replacement of the CA's key is; what the status shows also knows Pending and Stopped."""

    ACTIVE = "Active"
    PREPARING = "Preparing"
    ACTIVATING = "Activating"
    RETIRING = "Retiring"


@dataclass(frozen=True, slots=True, kw_only=True)
class Generations:
    """A pool's CA generations.

    Attributes:
        generation: the one that signs.
        next: the one that is being prepared.
        former: the one that is being left.
        since: when the present phase was begun, or last began anew, UTC.
        keys: hash of the public key of each generation that is trusted, or about to be; of a bundle, of each in it.
        signers: who signs with each, one for all of them; of an ``IssuerRef`` with the bundle that was in force.
        latest: the highest number that was ever given to one.
    """

    generation: int
    next: int | None = None
    former: int | None = None
    since: datetime | None = None
    keys: Mapping[int, str] = field(default_factory=dict)
    signers: Mapping[int, Signer] = field(default_factory=dict)
    latest: int = 0

    @property
    def unused(self) -> int:
        """A number that no generation ever had, so that no word of the user's about a former one counts for it."""
        return max(self.latest, *self.involved) + 1

    @property
    def phase(self) -> Phase:
        """Where the replacement is."""
        if self.next is not None:
            return Phase.PREPARING
        if self.former is not None:
            return Phase.ACTIVATING if self.former in self.keys else Phase.RETIRING
        return Phase.ACTIVE

    @property
    def involved(self) -> tuple[int, ...]:
        """All generations whose objects matter, the one that signs first."""
        others = (n for n in (self.next, self.former) if n is not None)
        return (self.generation, *others)

    @property
    def trusted(self) -> tuple[int, ...]:
        """Those whose key is recorded, in order."""
        return tuple(sorted(n for n in self.involved if n in self.keys))

    def recorded(self) -> dict[str, str]:
        """``status.authority.keys``."""
        return {str(number): key for number, key in sorted(self.keys.items())}

    def recorded_signers(self) -> dict[str, Object]:
        """``status.authority.signers``, each as ``spec.security.signer`` has it."""
        return {
            str(number): self.signers[number].model_dump(mode="json", by_alias=True, exclude_none=True)
            for number in sorted(self.involved)
            if number in self.signers
        }


def generations_of(raw: Object, pool: ServerPool) -> Generations:
    """As the status has them; before there is one, the generation and the signer of the spec."""
    status: Mapping[str, Any] = (raw.get("status") or {}).get("authority") or {}
    keys = {int(n): str(key) for n, key in (status.get("keys") or {}).items() if _is_number(n)}
    generation = _number(status.get("generation"))
    if generation not in keys:  # nothing is recorded yet, or an older operator's status
        generation = max(keys, default=pool.spec.security.ca.generation)
    assert generation is not None
    coming, former = _number(status.get("next")), _number(status.get("former"))
    coming = None if coming == generation else coming
    former = None if former == generation or coming is not None else former
    involved = {n for n in (generation, coming, former) if n is not None}
    recorded = status.get("signers") or {}
    return Generations(
        generation=generation,
        next=coming,
        former=former,
        since=_time(status.get("since")),
        keys={n: key for n, key in keys.items() if n in involved},
        signers={n: _signer(recorded.get(str(n)) if keys else None, pool.spec.security.signer) for n in involved},
        latest=max(_number(status.get("latest")) or 0, *involved),
    )


def _signer(value: object, wanted: Signer) -> Signer:
    """Whose a generation is: as recorded; the spec's where nothing is."""
    try:
        return Signer.model_validate_json(json.dumps(value), by_alias=True, by_name=False)
    except ValidationError:
        return wanted


def _is_number(text: object) -> bool:
    return str(text).isascii() and str(text).isdigit()


def _number(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None


def _time(value: object) -> datetime | None:
    try:
        found = datetime.fromisoformat(str(value))
    except ValueError:
        return None
    return found if found.tzinfo is not None else None
