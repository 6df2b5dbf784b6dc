# SPDX-License-Identifier: Apache-2.0
"""What is taken back, a leaf, a service account or a label, counts at no registrar any more, and is not given again."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from harness import apps, operators
from harness.intruder import IDENTITY, TOKEN, Members, control, dial, enrol, who
from harness.kubectl import apply, events, exec_in, get, kubectl, logs
from harness.waiting import NotYet, wait_for


@pytest.fixture(scope="module")
def pool(namespace: str) -> Members:
    """A pool with two members."""
    apply([apps.pool(signer="CertManager", replicas=2), apps.echo(replicas=2)], namespace=namespace)
    apps.until_ready(namespace)
    apps.until_members(namespace, "echo", 2, registrars=2)
    return Members(home=namespace, members=apps.pods(namespace, "echo"))


def revoke(pool: Members, *entries: str) -> None:
    """These count no longer, and all others do."""
    patch = json.dumps({"spec": {"security": {"revoked": list(entries)}}})
    kubectl("-n", pool.home, "patch", "serverpool", "echo", "--type=merge", "-p", patch)


def serial(pool: Members, pod: str) -> str:
    """Of a member's leaf, in hexadecimal digits."""
    program = (
        "from cryptography import x509; from pathlib import Path;"
        f"pem = Path({IDENTITY!r}).read_bytes();"
        "print(f'{x509.load_pem_x509_certificates(pem)[0].serial_number:x}')"
    )
    return exec_in(pod, apps.SIDECAR, "python3", "-c", program, namespace=pool.home).strip()


def test_a_leaf_that_is_revoked_by_its_serial_number_is_out_and_its_pod_makes_another_one(
    pool: Members, record_property: Any
) -> None:
    pod, before = pool.name(1), serial(pool, pool.name(1))
    revoke(pool, f"serial:{before}")
    began = time.monotonic()

    def another() -> bool:
        if serial(pool, pod) == before:
            raise NotYet(f"{pod} has its former leaf")
        return True

    wait_for(another, 60, f"{pod} has obtained another leaf")
    apps.until_members(pool.home, "echo", 2, registrars=2, timeout=60)
    record_property(
        "figure", f"a pod whose leaf was revoked has another one and is a member after {time.monotonic() - began:.1f} s"
    )
    for registrar in ("echo-registrar-0", "echo-registrar-1"):
        assert "its leaf was revoked" in logs(registrar, "registrar", namespace=pool.home)


def test_a_service_account_that_is_revoked_has_no_member_left_and_gets_no_certificate(
    pool: Members, record_property: Any
) -> None:
    revoke(pool, "default")
    try:
        began = time.monotonic()
        apps.until_members(pool.home, "echo", 0, registrars=2, timeout=15)
        record_property(
            "figure", f"a revoked service account's elements are gone everywhere after {time.monotonic() - began:.1f} s"
        )
        with_leaf, with_token, asked = pool.as_member(
            enrol(who(pool.home, "echo", pool.uid()), leaf=IDENTITY),
            enrol(who(pool.home, "echo", pool.uid()), token_file=TOKEN),
            control(),
        )
        assert {(told.status, told.reason) for told in (with_leaf, with_token, asked)} == {(403, "Revoked")}
    finally:
        revoke(pool)
    apps.until_members(pool.home, "echo", 2, registrars=2, timeout=60)


def test_a_pod_that_loses_its_label_loses_its_place_and_its_identity(pool: Members, record_property: Any) -> None:
    pod, uid, since = pool.name(), pool.uid(), operators.now()
    kubectl("-n", pool.home, "label", "pod", pod, "rserpool.io/pool-")
    began = time.monotonic()
    apps.until_members(pool.home, "echo", 1, registrars=2, timeout=15)
    record_property(
        "figure", f"a relabelled pod's element is gone from all registrars after {time.monotonic() - began:.1f} s"
    )

    def told() -> bool:
        reasons = {e["reason"] for e in events(pool.home, about=pod)}
        assert "IdentityRevoked" in reasons, reasons
        return True

    wait_for(told, 15, f"an Event says that {pod} has lost its identity")
    address = get("pod", "echo-registrar-0", "-n", pool.home)["status"]["podIP"]
    renewed, asked, again = pool.as_member(
        enrol(who(pool.home, "echo", uid), leaf=IDENTITY), control(), dial(address, uid, leaf=IDENTITY)
    )
    assert (renewed.status, renewed.reason) == (403, "NotAMember")
    assert (asked.status, asked.reason) == (403, "Revoked")
    assert again.answer == "" or again.rejected, again
    logged = {line.get("reason") for line in operators.lines(since)}
    assert "NotAMember" in logged, logged  # Revoked was said of it less than a minute ago, in the test before
    apps.until_members(pool.home, "echo", 1, registrars=2, timeout=5)
    kubectl("-n", pool.home, "delete", "pod", pod, "--wait=false")
    apps.until_members(pool.home, "echo", 2, registrars=2)
