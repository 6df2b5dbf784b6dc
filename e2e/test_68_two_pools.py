# SPDX-License-Identifier: Apache-2.0
"""Two pools of one name keep to themselves; certificates are renewed, and connections replaced, under traffic."""

from __future__ import annotations

import socket
import time
from typing import Any

from harness import apps
from harness.command import rserpool
from harness.kubectl import apply, exec_in
from harness.namespaces import fresh
from harness.pools import dumps, elements, registrars
from harness.waiting import NotYet, wait_for

OURS = frozenset({3864, 9902})
"""Ports on which registrars take elements, users and each other."""


def established(namespace: str, pod: str) -> set[tuple[str, str]]:
    """Connections that stand at a registrar's ports, in both directions, as the kernel has them."""
    found = set()
    for line in exec_in(pod, "registrar", "cat", "/proc/net/tcp", namespace=namespace).splitlines()[1:]:
        local, remote, state = line.split()[1:4]
        if state == "01" and OURS & {int(end.rpartition(":")[2], 16) for end in (local, remote)}:
            found.add((local, remote))
    return found


def _as_the_kernel_has_it(address: str) -> str:
    return socket.inet_aton(address)[::-1].hex().upper()


def leaf(namespace: str, pod: str, container: str) -> str:
    """Which certificate a process has: what of its file is public, as a hash."""
    program = (
        "import hashlib; from cryptography import x509; from pathlib import Path;"
        "pem = Path('/run/rserpool/identity/identity.pem').read_bytes();"
        "print(x509.load_pem_x509_certificates(pem)[0].serial_number)"
    )
    return exec_in(pod, container, "python3", "-c", program, namespace=namespace).strip()


def test_two_pools_of_one_name_keep_to_themselves_and_leaves_are_renewed_without_an_element_missing(
    namespace: str, record_property: Any
) -> None:
    with fresh("e2e-other") as other:
        for home in (namespace, other):
            apply(
                [apps.pool(replicas=2), apps.echo(replicas=2), apps.user("user", environment=apps.PATIENT)],
                namespace=home,
            )
        for home in (namespace, other):
            apps.until_ready(home)
            apps.until_members(home, "echo", 2, registrars=2)
            apps.until_served(home, "user")
        wait_for(lambda: keep_to_themselves(namespace, other), 20, "each pool keeps to itself")
        processes = [(pod, "registrar") for pod in registrars(namespace, "echo")]
        processes += [(p["metadata"]["name"], apps.SIDECAR) for p in apps.pods(namespace, "echo")]
        leaves = {process: leaf(namespace, *process) for process in processes}
        elsewhere = leaf(other, apps.pods(other, "echo")[0]["metadata"]["name"], apps.SIDECAR)
        asks = {_as_the_kernel_has_it(pod["status"]["podIP"]) for pod in apps.pods(namespace, "user")}
        standing = {
            pod: {ends for ends in established(namespace, pod) if ends[1].partition(":")[0] not in asks}
            for pod in registrars(namespace, "echo")
        }  # the user has no leaf, and so nothing of which a connection could be replaced
        assert all(standing.values()), standing  # each to the other at least; elements may be at one of them
        began, since = time.monotonic(), time.time()
        assert "Every connection is replaced by a newer one first." in rserpool("renew", f"{namespace}/echo")

        def renewed() -> bool:
            same = [process for process in processes if leaf(namespace, *process) == leaves[process]]
            if same:
                raise NotYet(f"old leaves: {same}")
            return True

        wait_for(renewed, 3 * 40, "every process has another leaf", every=2)  # a look starts a process in each
        took = time.monotonic() - began

        def replaced() -> bool:
            apps.until_members(namespace, "echo", 2, registrars=2, timeout=2)
            left = {pod: before & established(namespace, pod) for pod, before in standing.items()}
            if any(left.values()):
                raise NotYet(f"opened with former leaves: {left}")
            return True

        wait_for(replaced, 90, "every connection is a newer one", every=2)
        asked = apps.asked(namespace, "user", since)
        count = sum(len(found) for found in standing.values())
        record_property(
            "figure",
            f"{len(processes)} leaves renewed in {took:.1f} s: {count} connections replaced, {len(asked)} requests, "
            f"{len(apps.failures(asked))} failed",
        )
        assert apps.failures(asked) == []
        assert leaf(other, apps.pods(other, "echo")[0]["metadata"]["name"], apps.SIDECAR) == elsewhere
        wait_for(lambda: keep_to_themselves(namespace, other), 20, "each pool keeps to itself")


def keep_to_themselves(*homes: str) -> bool:
    """Each pool holds its own elements, knows its own registrars, and serves its own users.

    Raises:
        AssertionError: not so, or not now: on a busy machine an element or a registrar is missed for a moment.
    """
    for home in homes:
        addresses = {p["status"]["podIP"] for p in apps.pods(home, "echo")}
        for pod, told in dumps(home, "echo").items():
            held = {e["transport"].split(":")[1] for e in elements(told).values()}
            assert held == addresses, f"{home}/{pod} holds {held}"
            strangers = [p["identity"] for p in told["peers"] if f"/ns/{home}/" not in str(p["identity"])]
            assert len(told["peers"]) == 1, told["peers"]
            assert strangers == [], f"{home}/{pod} knows {strangers}"
        names = {p["metadata"]["name"] for p in apps.pods(home, "echo")}
        assert {r.by for r in apps.asked(home, "user") if r.by} <= names
    return True
