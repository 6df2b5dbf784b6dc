# SPDX-License-Identifier: Apache-2.0
"""A pool cannot move to the signer that is wanted, or something is lost on the way: it is said, and the pool goes on."""

from __future__ import annotations

import copy
from datetime import UTC, datetime, timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from rserpool.authority import EmbeddedAuthority
from rserpool.authority.embedded import self_signed
from rserpool_operator.kube import Object, ref_of
from rserpool_operator.kube.kinds import CERTIFICATE, CERTIFICATE_REQUEST, ISSUER
from rserpool_operator.plan.replacement import LONG
from support.rig_cluster import member
from support.rig_moves import CERT_MANAGER, EMBEDDED, ISSUERS, A, B, arrived_at, ca, pool_of, signs, theirs, until
from support.rig_rotation import ca_of, message, remove_secret


@pytest.mark.parametrize("corrected", [theirs("a", A), theirs("wrong", ISSUERS["wrong"].bundle), EMBEDDED])
def test_an_issuer_that_signs_with_a_ca_that_is_not_in_its_bundle_is_found_out_before_it_signs_for_pods(
    corrected: Object,
) -> None:
    cluster = pool_of(EMBEDDED)
    former = ca_of(cluster, 1)
    cluster.move_to(theirs("wrong", A))
    for _ in range(20):
        cluster.go_by(30)
    assert cluster.authority["phase"] == "Preparing"
    assert cluster.condition(cluster.key, "Stalled") == ("True", "IssuerFails")
    assert cluster.condition(cluster.key, "AuthorityReady") == ("True", "IssuerFails")
    assert "not in spec.security.signer.caBundle" in message(cluster)
    assert [e for e in cluster.world.events if (e["reason"], e["type"]) == ("IssuerFails", "Warning")]
    assert cluster.ready(cluster.key)
    assert {p.issuer for p in cluster.processes.values()} == {former}
    cluster.world.put(member("late", "echo"))
    cluster.go_by(5)
    assert "late" in {p.name for p in cluster.processes.values()}
    cluster.move_to(corrected)
    arrived_at(cluster, corrected)


def test_an_issuer_that_never_answers_is_asked_again_and_the_move_waits_for_it() -> None:
    cluster = pool_of(CERT_MANAGER)
    cluster.move_to(theirs("late", A))
    for _ in range(20):
        cluster.go_by(30)
        for request in cluster.world.of(CERTIFICATE_REQUEST):
            made = cluster.now.strftime("%Y-%m-%dT%H:%M:%SZ")
            if "creationTimestamp" not in request["metadata"]:
                cluster.world.change(ref_of(request), lambda o, m=made: o["metadata"].update(creationTimestamp=m))  # type: ignore[misc] # mypy infers no lambda with a default
    assert cluster.condition(cluster.key, "Stalled") == ("True", "IssuerFails")
    assert len(cluster.world.of(CERTIFICATE_REQUEST)) == 1
    asked = [w for w in cluster.world.writes if w.verb == "create" and w.ref.kind == CERTIFICATE_REQUEST]
    assert 5 < len(asked) <= 20  # twice a minute at most
    assert cluster.ready(cluster.key)
    cluster.issuers["late"] = ISSUERS["a"]
    arrived_at(cluster, theirs("late", A))


def test_an_issuer_that_changes_its_ca_while_it_activates_takes_no_leaf_from_anybody() -> None:
    cluster = pool_of(EMBEDDED)
    former = ca_of(cluster, 1)
    cluster.move_to(theirs("a", A))
    until(cluster, "Activating")
    cluster.issuers["a"] = ISSUERS["wrong"]
    began = cluster.now
    while cluster.now < began + 2 * LONG:
        cluster.go_by(30)
    assert cluster.condition(cluster.key, "AuthorityReady") == ("True", "CAReplacementWaits")
    assert set(cluster.authority["missing"]) == {p.name for p in cluster.processes.values()}
    assert {p.issuer for p in cluster.processes.values()} == {former}
    assert cluster.faults == []
    wanted = theirs("a", ISSUERS["wrong"].bundle)  # put right by way of the former signer, since both are trusted
    cluster.move_to(wanted)
    arrived_at(cluster, wanted)
    assert cluster.authority["generation"] == 3


@pytest.mark.parametrize("before", [EMBEDDED, theirs("b", B)], ids=lambda s: str(s["type"]))
def test_a_bundle_that_cannot_be_read_is_said_and_the_pool_goes_on(before: Object) -> None:
    cluster = pool_of(before)
    issued = {p.uid: p.issuer for p in cluster.processes.values()}
    broken = theirs("a", b"nothing of use")
    cluster.move_to(broken)
    for _ in range(5):
        cluster.go_by(60)
    assert cluster.condition(cluster.key, "Stalled") == ("True", "BundleUnreadable")
    assert cluster.condition(cluster.key, "AuthorityReady") == ("True", "BundleUnreadable")
    assert cluster.ready(cluster.key)
    cluster.world.put(member("late", "echo"))
    cluster.go_by(5)
    assert "late" in {p.name for p in cluster.processes.values()}
    assert {uid: p.issuer for uid, p in cluster.processes.items() if uid in issued} == issued
    cluster.move_to(theirs("a", A))
    arrived_at(cluster, theirs("a", A))


def test_a_bundle_that_becomes_unreadable_in_the_middle_changes_nothing_of_what_is_under_way() -> None:
    cluster = pool_of(EMBEDDED)
    cluster.move_to(theirs("a", A))
    until(cluster, "Activating")
    cluster.move_to(theirs("a", b"-----BEGIN CERTIFICATE-----\nAA==\n"))
    for _ in range(20):
        cluster.go_by(15)
    assert cluster.condition(cluster.key, "Stalled") == ("True", "BundleUnreadable")
    assert signs(cluster) == theirs("a", A)
    assert cluster.authority["phase"] == "Active"
    cluster.move_to(theirs("a", A))
    arrived_at(cluster, theirs("a", A))


@pytest.mark.parametrize("before", ["with A", "by itself"])
def test_two_keys_under_one_name_are_refused_before_anybody_is_told_of_them(before: str) -> None:
    double = ca("a user's CA a")
    twin = double.bundle
    cluster = pool_of(theirs("a", A) if before == "with A" else EMBEDDED)
    cluster.issuers["twin"] = double
    bundles = {p.bundle for p in cluster.processes.values()}
    cluster.move_to(theirs("twin", twin) if before == "with A" else theirs("twin", A, twin))
    for _ in range(5):
        cluster.go_by(60)
    assert cluster.condition(cluster.key, "Stalled") == ("True", "BundleRefused")
    assert [e for e in cluster.world.events if (e["reason"], e["type"]) == ("BundleRefused", "Warning")]
    assert cluster.ready(cluster.key)
    assert {p.bundle for p in cluster.processes.values()} == bundles
    assert cluster.faults == []
    cluster.move_to(theirs("b", B))
    arrived_at(cluster, theirs("b", B))


def test_a_renewed_certificate_of_the_same_key_replaces_the_former_one_in_the_bundle() -> None:
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    certificates = [self_signed(key, "renewed", now, timedelta(days=days)) for days in (10, 300)]
    short, again = (certificate.public_bytes(Encoding.PEM) for certificate in certificates)
    cluster = pool_of(theirs("short", short), short=EmbeddedAuthority(certificates[0], timedelta(hours=1), key))
    cluster.move_to(theirs("short", again, B))
    until(cluster, "Activating")
    live = next(o for o in cluster.world.objects.values() if o["kind"] == "ConfigMap")
    assert live["data"]["bundle.pem"] == (again + B).decode()
    arrived_at(cluster, theirs("short", again, B))


def test_without_cert_manager_a_pool_stays_with_its_own_signer_until_there_is_one() -> None:
    cluster = pool_of(EMBEDDED)
    cluster.world.cert_manager = False
    cluster.move_to(theirs("a", A))
    for _ in range(20):
        cluster.go_by(30)
    assert cluster.condition(cluster.key, "Stalled") == ("True", "CertManagerMissing")
    assert cluster.ready(cluster.key)
    assert signs(cluster) == EMBEDDED
    cluster.world.cert_manager = True
    arrived_at(cluster, theirs("a", A))


@pytest.mark.parametrize("before", [CERT_MANAGER, theirs("a", A)], ids=lambda s: str(s["type"]))
def test_a_pool_whose_cert_manager_is_gone_moves_to_embedded(before: Object) -> None:
    cluster = pool_of(before)
    for live in (*cluster.world.of(CERTIFICATE), *cluster.world.of(ISSUER)):  # objects go with their kind
        cluster.world.remove(ref_of(live))
    cluster.world.cert_manager = False
    cluster.go_by(5)
    assert cluster.condition(cluster.key, "AuthorityReady") == ("False", "CertManagerMissing")
    cluster.move_to(EMBEDDED)
    arrived_at(cluster, EMBEDDED)


def test_the_former_secret_lost_while_pods_need_it_stops_the_move_and_takes_nothing() -> None:
    cluster = pool_of(EMBEDDED)
    quiet = next(p for p in cluster.processes.values() if p.name == "app-1")
    cluster.move_to(theirs("a", A))
    until(cluster, "Activating")
    quiet.silent = True
    backup = copy.deepcopy(cluster.world.objects[cluster.secret(1)])
    remove_secret(cluster, 1)
    for _ in range(10):
        cluster.go_by(15)
    assert cluster.condition(cluster.key, "AuthorityReady") == ("False", "FormerCALost")
    assert cluster.faults == []
    cluster.world.put(backup)
    quiet.silent = False
    arrived_at(cluster, theirs("a", A))


def test_the_signing_secret_lost_while_it_prepares_stops_the_move_and_is_restored() -> None:
    cluster = pool_of(EMBEDDED)
    cluster.move_to(theirs("a", A))
    until(cluster, "Preparing")
    backup = copy.deepcopy(cluster.world.objects[cluster.secret(1)])
    remove_secret(cluster, 1)
    for _ in range(20):
        cluster.go_by(15)
    assert cluster.condition(cluster.key, "AuthorityReady") == ("False", "CALost")
    assert signs(cluster) == EMBEDDED
    assert cluster.faults == []
    cluster.world.put(backup)
    arrived_at(cluster, theirs("a", A))


def test_a_status_of_before_signers_were_recorded_is_taken_for_the_specs() -> None:
    cluster = pool_of(theirs("a", A))

    def forget(raw: Object) -> None:
        del raw["status"]["authority"]["signers"]
        raw["status"]["authority"]["keys"] = {}

    cluster.change(cluster.key, forget)
    cluster.restart()
    cluster.go_by(5)
    arrived_at(cluster, theirs("a", A), within=0)
    assert cluster.authority["generation"] == 1
