# SPDX-License-Identifier: Apache-2.0
"""Which pool a command speaks of: given on the command line, or found."""

from __future__ import annotations

import argparse
from pathlib import Path

from rserpool.client import (
    NoAnswerError,
    NoRegistrarError,
    PoolUserError,
    RefusedError,
    Scope,
    ScopeError,
    UnknownPoolError,
    find_scope,
)
from rserpool.client.scope import make_scope, running_pools
from rserpool_cli.errors import CommandError

NO_REGISTRAR, UNKNOWN_POOL, REFUSED, NO_ANSWER = 3, 4, 5, 6
STATUSES = "exit status: 0 done, 1 failed, 2 wrong command line, 3 no registrar, 4 no such pool, 5 refused, 6 no answer"
_BY_ERROR: dict[type[PoolUserError], int] = {
    NoRegistrarError: NO_REGISTRAR,
    UnknownPoolError: UNKNOWN_POOL,
    RefusedError: REFUSED,
    NoAnswerError: NO_ANSWER,
}


def add_scope(parser: argparse.ArgumentParser) -> None:
    """Declare how to name a pool's registrars."""
    group = parser.add_argument_group(
        "where",
        "Without these, the pool is found: RSERPOOL_REGISTRARS, a pod's mount, or the pool that `up` runs here.",
    )
    group.add_argument("--registrar", action="append", metavar="HOST:PORT", help="a registrar; may be repeated")
    group.add_argument("--bundle", type=Path, metavar="FILE", help="certificates to trust, PEM")
    group.add_argument("--insecure", action="store_true", help="the pool has no security: no TLS, nobody is verified")
    group.add_argument("--pool", metavar="[NAMESPACE/]NAME", help="one of several pools that run on this machine")


def scope_of(arguments: argparse.Namespace) -> Scope:
    """The pool to speak to.

    Raises:
        CommandError: none was named or found.
    """
    try:
        return _named(arguments) or find_scope()
    except ScopeError as e:
        raise CommandError(str(e), NO_REGISTRAR) from None


def _named(arguments: argparse.Namespace) -> Scope | None:
    """The pool that the command line names, if it names one."""
    if arguments.registrar:
        if arguments.bundle is None and not arguments.insecure:
            raise ScopeError("name the certificates to trust with --bundle (or --insecure for a pool without security)")
        return make_scope(arguments.registrar, None if arguments.insecure else arguments.bundle)
    if arguments.bundle is not None or arguments.insecure:
        raise ScopeError("name a registrar with --registrar HOST:PORT")
    return _running(arguments.pool) if arguments.pool else None


def named_running(name: str | None) -> Scope:
    """The pool of that name that runs on this machine; without a name the only one.

    Raises:
        CommandError: there is none, or more than one.
    """
    try:
        return _running(name)
    except ScopeError as e:
        raise CommandError(str(e), NO_REGISTRAR) from None


def _running(name: str | None) -> Scope:
    everybody = list(running_pools())
    namespace, _, pool = (name or "").rpartition("/")
    found = [s for s in everybody if pool in ("", s.pool) and namespace in ("", s.namespace)]
    if len(found) == 1:
        return found[0]
    there = ", ".join(f"{s.namespace}/{s.pool}" for s in everybody)
    if not everybody:
        raise ScopeError("no pool runs on this machine; start one with `rserpool up`")
    if found:
        raise ScopeError(f"several pools run on this machine; choose one with --pool: {there}")
    raise ScopeError(f"no pool {name} runs on this machine; there are: {there}")


def failure(error: PoolUserError) -> CommandError:
    """A pool user's error as a command's, with its exit status."""
    return CommandError(str(error), _BY_ERROR.get(type(error), 1))
