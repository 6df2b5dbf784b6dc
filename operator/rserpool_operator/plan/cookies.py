# SPDX-License-Identifier: Apache-2.0
"""The keys of a pool's cookies: made once, replaced by another on the user's word, and known to its elements alone.

They lie in a Secret of the operator's namespace, beside the pool's CA, and go with the ServerPool as that does. A new
key is handed out first and used only when every sidecar has asked since; the keys before it are believed for a while.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

from rserpool.pool import ServerPool
from rserpool_operator import names
from rserpool_operator.installation import Installation
from rserpool_operator.kube.kinds import SECRET, Ref
from rserpool_operator.manifests.authority import authority_labels
from rserpool_operator.observed import Observed
from rserpool_operator.plan.effects import AddCookieKey
from rserpool_operator.reasons import Reason

HANDED_OUT: Final = timedelta(minutes=2)
"""After that every sidecar has asked for news: they do every 30 s, a fifth more or less."""
KEPT: Final = 3
"""Keys that are believed, the newest included."""
COMPONENT: Final = "cookies"


@dataclass(frozen=True, slots=True, kw_only=True)
class CookiePlan:
    """What to do about the keys, and what elements are told.

    Attributes:
        keys: as ``ID:BASE64``, that to seal with first; empty: there are none yet.
        look_again: seconds after which the newest key comes into use.
    """

    effects: tuple[AddCookieKey, ...] = ()
    keys: tuple[str, ...] = field(default=(), repr=False)
    problem: tuple[Reason, str] | None = None
    look_again: float | None = None


def plan_cookies(observed: Observed, pool: ServerPool, installation: Installation) -> CookiePlan:
    """Decide about the keys of a pool with a control channel."""
    state = observed.cookies
    name = names.cookie_keys(pool.metadata.namespace, pool.metadata.name, observed.uid)
    if state.exists and not state.ours:
        ref = Ref(SECRET, installation.namespace, name)
        return CookiePlan(problem=(Reason.NAME_TAKEN, f"{ref} exists and is not this pool's: delete it"))
    renew = observed.annotations.get(names.RENEW, "")
    order = tuple(number for number in state.order if number in state.keys)
    effects: tuple[AddCookieKey, ...] = ()
    if not order or state.renew != renew:
        newest = order[0] if order else 0
        number = next(n for n in ((newest + i) % 255 + 1 for i in range(255)) if n not in order)
        kept = (number, *order)[:KEPT]
        add = AddCookieKey(
            name=name,
            namespace=installation.namespace,
            labels=authority_labels(pool, observed.uid) | {"app.kubernetes.io/component": COMPONENT},
            number=number,
            kept=kept,
            dropped=tuple(n for n in state.keys if n not in kept),
            renew=renew,
            at=observed.now,
            version=state.version,
        )
        effects = (add,)
    if not order:
        return CookiePlan(effects=effects)
    waits = HANDED_OUT - (observed.now - state.changed) if state.changed is not None else timedelta(0)
    fresh = len(order) > 1 and waits > timedelta(0)
    told = (order[1], order[0], *order[2:]) if fresh else order
    keys = tuple(f"{number}:{base64.b64encode(state.keys[number]).decode()}" for number in told)
    return CookiePlan(effects=effects, keys=keys, look_again=waits.total_seconds() if fresh else None)
