# SPDX-License-Identifier: Apache-2.0
"""Whether a command means this machine or a cluster, which cluster, and which pool there."""

from __future__ import annotations

import argparse
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Final

from rserpool_cli.cluster.kubectl import Kubectl, KubectlError, find_kubectl
from rserpool_cli.errors import CommandError

_NAME: Final = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_ADVICE: Final = "write NAMESPACE/POOL, such as demo/echo"


class NoPoolError(CommandError):
    """The cluster has no such ServerPool."""


def add_cluster(parser: argparse.ArgumentParser, *, optional: bool = True) -> None:
    """Declare how to name a cluster; with `optional`, and that one is meant at all."""
    told = "With one of these the cluster is asked, and not this machine." if optional else "kubectl's own options."
    group = parser.add_argument_group("cluster", told)
    if optional:
        group.add_argument("--cluster", action="store_true", help="ask the cluster of kubectl's current context")
    else:
        parser.set_defaults(cluster=True)
    group.add_argument("--context", metavar="NAME", help="a context of kubectl's configuration")
    group.add_argument("--kubeconfig", type=Path, metavar="FILE", help="another configuration of kubectl's")
    group.add_argument("-n", "--namespace", metavar="NAMESPACE", help="of the pool, if its name says none")


def asks_cluster(arguments: argparse.Namespace) -> bool:
    """Whether a cluster is meant, and nothing else."""
    return bool(
        arguments.cluster or arguments.context or arguments.kubeconfig or arguments.namespace or arguments.plugin
    )


def connect(arguments: argparse.Namespace) -> Kubectl:
    """The cluster that is meant.

    Raises:
        CommandError: there is no kubectl.
    """
    options = []
    if arguments.context:
        options.append(f"--context={arguments.context}")
    if arguments.kubeconfig:
        options.append(f"--kubeconfig={arguments.kubeconfig}")
    return Kubectl(program=find_kubectl(), options=tuple(options), namespace=arguments.namespace)


def cluster_is_configured() -> bool:
    """Whether kubectl is there and has a cluster to ask."""
    if shutil.which("kubectl") is None:
        return False
    listed = [Path(p) for p in os.environ.get("KUBECONFIG", "").split(os.pathsep) if p]
    places = listed or [Path.home() / ".kube" / "config"]
    return any(place.is_file() for place in places) or "KUBERNETES_SERVICE_HOST" in os.environ


def on_cluster(
    arguments: argparse.Namespace, work: Callable[[Kubectl], int], missed: CommandError | None = None
) -> int:
    """Do something on the cluster.

    Args:
        arguments: of the command line.
        work: what to do there.
        missed: what was looked for on this machine first, in vain; ``None``: the cluster was asked for.

    Raises:
        CommandError: it failed; says what was tried. Without a cluster to ask, `missed`.
    """
    if missed is None:
        return work(connect(arguments))
    if not cluster_is_configured():
        raise missed
    try:
        return work(connect(arguments))
    except CommandError as e:
        if not isinstance(e, (KubectlError, NoPoolError)):
            raise  # the pool is there, and what is wrong with it is all there is to say
        raise CommandError(f"{missed}; then the cluster was asked: {e}", e.status) from None


def split_name(text: str, kubectl: Kubectl) -> tuple[str | None, str]:
    """Namespace and name of a pool; no namespace: kubectl's own.

    Raises:
        CommandError: it is no name, or two namespaces are written.
    """
    namespace, slash, name = text.rpartition("/")
    if not _NAME.fullmatch(name) or (slash and not _NAME.fullmatch(namespace)):
        raise CommandError(f"{text!r} is no pool's name: {_ADVICE}", 2)
    if namespace and kubectl.namespace and namespace != kubectl.namespace:
        raise CommandError(f"{text} is not in namespace {kubectl.namespace}: leave out --namespace", 2)
    return namespace or kubectl.namespace, name


def names_a_pool(text: str) -> bool:
    """Whether a word is NAMESPACE/POOL, and not a handle or a registrar."""
    namespace, slash, name = text.partition("/")
    return bool(slash) and bool(_NAME.fullmatch(namespace)) and bool(_NAME.fullmatch(name))
