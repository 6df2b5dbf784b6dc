# SPDX-License-Identifier: Apache-2.0
"""A Secret is lost while a CA is replaced: made anew where that harms nobody, else it stops, and takes nothing away."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from rserpool_operator import names
from support.rig_rotation import DAMAGES, Rotating, another_key, ca_of, remove_secret, settled_on

OWN = ["Embedded", "CertManager"]


@pytest.mark.parametrize("signer", OWN)
@pytest.mark.parametrize("damage", DAMAGES)
def test_the_new_secret_lost_before_it_is_used_is_made_anew(
    signer: str, damage: Callable[[Rotating, int], None]
) -> None:
    cluster = Rotating(signer)
    cluster.ask_for(2)
    cluster.until("Preparing")
    cluster.go_by(100)
    before = ca_of(cluster, 2)
    damage(cluster, 2)
    cluster.go_by(15)
    assert cluster.authority["phase"] == "Preparing"
    assert cluster.ready(cluster.key)
    cluster.until("Active")
    settled_on(cluster, 2)
    assert ca_of(cluster, 2) != before
    assert cluster.faults == []


@pytest.mark.parametrize("phase", ["Preparing", "Activating"])
@pytest.mark.parametrize("damage", [remove_secret, another_key])
def test_the_signing_secret_lost_in_the_middle_stops_with_its_reason_and_takes_nothing(
    phase: str, damage: Callable[[Rotating, int], None]
) -> None:
    cluster = Rotating()
    cluster.ask_for(2)
    cluster.until(phase)
    signs = cluster.authority["generation"]
    backup = cluster.world.objects[cluster.secret(signs)] | {}
    damage(cluster, signs)
    before = cluster.authority
    for _ in range(10):
        cluster.go_by(15)
    assert cluster.condition(cluster.key, "AuthorityReady") == ("False", "CALost")
    assert cluster.authority["keys"] == before["keys"]
    assert cluster.authority["phase"] == "Stopped"
    assert cluster.faults == []
    cluster.world.put(backup)
    cluster.until("Active")
    settled_on(cluster, 2)
    assert cluster.faults == []


@pytest.mark.parametrize("restored", [True, False])
def test_the_former_secret_lost_while_pods_need_it_stops_and_is_restored_or_given_up(restored: bool) -> None:
    cluster = Rotating()
    quiet = next(p for p in cluster.processes.values() if p.name == "app-1")
    cluster.ask_for(2)
    cluster.until("Activating")
    quiet.silent = True
    backup = cluster.world.objects[cluster.secret(1)] | {}
    remove_secret(cluster, 1)
    for _ in range(10):
        cluster.go_by(15)
    assert cluster.condition(cluster.key, "AuthorityReady") == ("False", "FormerCALost")
    assert cluster.condition(cluster.key, "Stalled") == ("True", "FormerCALost")
    assert cluster.authority["missing"]
    assert cluster.faults == []
    if restored:
        cluster.world.put(backup)
        quiet.silent = False
    else:
        cluster.annotate(names.GO_ON, "2")
        del cluster.processes[quiet.uid]
        cluster.world.remove(next(r for r, o in cluster.world.objects.items() if o["metadata"]["name"] == "app-1"))
    cluster.until("Active")
    settled_on(cluster, 2)
