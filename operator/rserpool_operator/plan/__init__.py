# SPDX-License-Identifier: Apache-2.0
"""From what is observed to what is to be done. Pure: the same observation always gives the same plan.

``planner`` puts a plan together; ``authority`` decides about the CA that signs, ``replacement`` about the way to the
next one, ``signers`` which CA a signer stands for, ``trial`` whether an issuer may become one, ``cookies`` about the
keys of cookies, ``objects`` which objects have to be written, ``status`` what the pool says of itself, ``channel`` what
its processes are told; ``effects`` is what plans consist of.
"""

from rserpool_operator.plan.effects import (
    AddCookieKey,
    Apply,
    Channel,
    CreateAuthority,
    Delete,
    Effect,
    Finalize,
    Note,
    Plan,
    TryIssuer,
    about_pod,
)
from rserpool_operator.plan.planner import plan

__all__ = [
    "AddCookieKey",
    "Apply",
    "Channel",
    "CreateAuthority",
    "Delete",
    "Effect",
    "Finalize",
    "Note",
    "Plan",
    "TryIssuer",
    "about_pod",
    "plan",
]
