# SPDX-License-Identifier: Apache-2.0
"""Pools that are not as usual: secured by an issuer of the user's own or not at all, or with the timers of the RFCs."""

from __future__ import annotations

import base64
import time
from typing import Any

from harness.apps import (
    echo,
    member,
    pool,
    until_members,
    until_pods_ready,
    until_ready,
    until_served,
    user,
)
from harness.cluster import SYSTEM
from harness.kubectl import apply, conditions, get, kubectl
from harness.manifests import certificate, issuer
from harness.waiting import wait_for


def _is_ready(issuer: str) -> bool:
    return conditions(get("issuer", issuer, "-n", SYSTEM)).get("Ready", {}).get("status") == "True"


def test_a_pool_of_the_users_own_issuer_is_certified_by_it(namespace: str) -> None:
    names = [f"{namespace}-root", f"{namespace}-ca"]
    apply([issuer(names[0]), certificate(names[1], names[0]), issuer(names[1], secret=names[1])], namespace=SYSTEM)
    try:
        wait_for(lambda: _is_ready(names[1]), 30, "the issuer is ready")
        root = base64.b64decode(get("secret", names[1], "-n", SYSTEM)["data"]["tls.crt"])
        signer = {
            "type": "IssuerRef",
            "issuerRef": {"name": names[1]},
            "caBundle": base64.b64encode(root).decode(),
        }
        apply([pool("own", security={"signer": signer}), echo("own", pool="own", replicas=2)], namespace=namespace)
        apply(user("own-user", uses="own", handle="own"), namespace=namespace)
        until_ready(namespace, "own")
        until_members(namespace, "own", 2)
        until_served(namespace, "own-user")
        mounted = get("configmap", f"rserpool.own.{namespace}", "-n", namespace)["data"]["bundle.pem"]
        assert mounted.encode() == root
        assert get("certificaterequests", "-n", SYSTEM, "-l", f"rserpool.io/server-pool-namespace={namespace}") == []
    finally:
        kubectl("-n", namespace, "delete", "serverpool", "own", "--ignore-not-found")
        kubectl("-n", SYSTEM, "delete", "issuer", *names, "--ignore-not-found")
        kubectl("-n", SYSTEM, "delete", f"certificate/{names[1]}", f"secret/{names[1]}", "--ignore-not-found")


def test_an_insecure_pool_speaks_on_plain_ports_only_and_is_used_without_a_bundle(namespace: str) -> None:
    apply([pool("plain", security={"mode": "Insecure", "signer": {"type": "Embedded"}})], namespace=namespace)
    until_ready(namespace, "plain")
    apply(
        [echo("plain", pool="plain", replicas=2), user("plain-user", uses="plain", handle="plain")], namespace=namespace
    )
    until_pods_ready(namespace, "plain", 2)
    until_members(namespace, "plain", 2)
    until_served(namespace, "plain-user")
    ports = {p["port"] for s in ("plain", "plain-peers") for p in get("service", s, "-n", namespace)["spec"]["ports"]}
    assert ports == {3863, 9901}


def test_a_pool_with_the_timers_of_the_rfcs_is_used_and_loses_a_member_that_is_gone(
    namespace: str, record_property: Any
) -> None:
    apply(pool("slow", replicas=2, timers={"profile": "RFC"}), namespace=namespace)
    until_ready(namespace, "slow")
    members = [member(name, pool="slow") for name in ("stays", "goes")]  # which nobody makes anew
    apply([*members, user("slow-user", uses="slow", handle="slow")], namespace=namespace)
    until_members(namespace, "slow", 2, registrars=2)
    until_served(namespace, "slow-user")
    began = time.monotonic()
    kubectl("-n", namespace, "delete", "pod", "goes", "--grace-period=0", "--force")
    until_members(namespace, "slow", 1, registrars=2)
    took = time.monotonic() - began
    record_property("figure", f"RFC profile: a pod that is deleted by force is gone everywhere after {took:.1f} s")


def test_a_network_policy_comes_and_goes_with_the_spec_and_selects_registrars_only(namespace: str) -> None:
    apply(pool("walled", replicas=1, networkPolicy=True), namespace=namespace)
    until_ready(namespace, "walled")
    (policy,) = get("networkpolicies", "-n", namespace)
    assert policy["spec"]["podSelector"]["matchLabels"]["app.kubernetes.io/component"] == "registrar"
    kubectl("-n", namespace, "patch", "serverpool", "walled", "--type=merge", "-p", '{"spec":{"networkPolicy":false}}')
    wait_for(lambda: get("networkpolicies", "-n", namespace) == [], 20, "the policy is gone")


def test_what_this_version_lacks_is_said_and_nothing_is_begun(namespace: str) -> None:
    apply(pool("wishes", transport={"order": ["SCTP"]}), namespace=namespace)

    def said() -> str:
        found = conditions(get("serverpool", "wishes", "-n", namespace))
        assert found.get("Accepted", {}).get("reason") == "NotSupported"
        assert found["Stalled"]["status"] == "True"
        assert found["Ready"]["status"] == "False"
        return str(found["Accepted"]["message"])

    assert wait_for(said, 20, "the wish is refused") == (
        "spec.transport.order: this version speaks ASAP and ENRP over TCP only: add TCP"
    )
    assert [s for s in get("statefulsets", "-n", namespace) if s["metadata"]["name"].startswith("wishes")] == []
