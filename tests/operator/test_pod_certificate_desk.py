# SPDX-License-Identifier: Apache-2.0
"""PodCertificateRequests from the kubelet's question to a process that is believed: the desk, the server, the source."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from rserpool.daemon.credentials import CredentialsError
from rserpool.daemon.enrolment import EnrolmentError
from rserpool.daemon.pod_certificate import PodCertificateSource
from rserpool.identity.certificates import leaf_of
from rserpool_operator import names
from rserpool_operator.enrolment.pod_certificate_desk import LATE, SOON, PodCertificateDesk
from rserpool_operator.kube import KubeError, Object, Ref
from rserpool_operator.kube.kinds import POD_CERTIFICATE_REQUEST, SERVER_POOL
from rserpool_operator.metrics import OperatorMetrics
from rserpool_operator.notes import Notes
from rserpool_operator.work_queue import NEVER, Key
from support.rig_cluster import ca_ref, member, raw_pool
from support.rig_identity import pem_key
from support.rig_pod_certificates import faults, file_of, request
from support.rig_served import SECOND_UID, UID, Served, asked, identity, pod_ref, reviewed, served

POOL: Final = Key("demo", "kubelets")
WAY: Final = {"enrolment": "PodCertificate", "signer": {"type": "Embedded"}}
CLAIM: Final = {names.CLAIMED_POOL: POOL.name, names.CLAIMED_ROLE: "element"}
Test = Callable[["Kubelets"], Coroutine[Any, Any, None]]


class Kubelets:
    """A served operator with a pool that enrols by the kubelet, and its desk.

    Attributes:
        now: the desk's clock, in seconds.
    """

    def __init__(self, found: Served, *, per_second: float = 100.0) -> None:
        self.served, self.world = found, found.world
        self.metrics = OperatorMetrics()
        self.key = ec.generate_private_key(ec.SECP256R1())
        notes = Notes(self.world.kube, "operator-0", lambda: found.now)
        self.desk = PodCertificateDesk(
            self.world.kube,
            found.cluster.operator,
            notes,
            self.metrics,
            per_second=per_second,
            clock=lambda: found.now,
        )

    def ask(self, pod: str = "app-9", **spec: Any) -> Key:
        """What a kubelet does for a pod."""
        claim = spec.pop("claim", CLAIM)
        made = self.world.put(request(self.world.objects[pod_ref(pod)], self.key, claim, **spec))
        key = self.desk.seen("ADDED", made)
        assert key is not None
        return key

    def status(self, key: Key) -> Object:
        found: Object = self.raw(key).get("status") or {}
        return found

    def raw(self, key: Key) -> Object:
        return self.world.objects[Ref(POD_CERTIFICATE_REQUEST, *key)]

    def condition(self, key: Key) -> tuple[str, str]:
        """How a request ended, and why."""
        conditions = self.status(key).get("conditions") or [{"type": "", "reason": ""}]
        return conditions[0]["type"], conditions[0]["reason"]

    def counted(self, outcome: str) -> float:
        return float(self.metrics.enrolments.labels("podCertificate", outcome)._value.get())

    def source(self, folder: Path, key: Key) -> PodCertificateSource:
        """A process in that pod."""
        file = folder / "credential.pem"
        file.write_bytes(file_of(self.status(key)["certificateChain"], self.key))
        whose = identity(uid=SECOND_UID, key=POOL)
        return PodCertificateSource(self.served.client, file, whose, ())


def with_kubelets(test: Test, **options: Any) -> None:
    """Run a test with pool demo/kubelets and its member app-9."""
    found = Served()
    found.cluster.create(raw_pool(POOL.name, POOL.namespace, security=WAY))
    found.pod(member("app-9", POOL.name), SECOND_UID)
    assert found.cluster.settle(POOL)
    found.settle()

    async def run() -> None:
        async with found.running():
            await test(Kubelets(found, **options))

    asyncio.run(run())


def test_a_member_is_certified_told_whom_to_trust_and_renews_by_its_leaf(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def test(kubelets: Kubelets) -> None:
        key = kubelets.ask()
        assert await kubelets.desk.look(key) == NEVER
        assert faults(kubelets.raw(key), kubelets.status(key), datetime.now(UTC)) == []
        assert kubelets.condition(key) == ("Issued", "Issued")
        source = kubelets.source(tmp_path, key)
        first = await source.obtain(None)
        assert leaf_of(first.chain[0]).identity == identity(uid=SECOND_UID, key=POOL)
        assert first.bundle == (kubelets.served.authority(POOL).certificate,)
        assert first.key is not None
        assert pem_key(first.key) == pem_key(kubelets.key)
        ordered = await source.obtain(first)
        assert ordered.chain != first.chain
        assert leaf_of(ordered.chain[0]).identity == identity(uid=SECOND_UID, key=POOL)
        assert kubelets.counted("granted") == 1

    with caplog.at_level("DEBUG"):
        with_kubelets(test)
    assert "BEGIN" not in caplog.text


def test_an_answered_request_is_answered_once() -> None:
    async def test(kubelets: Kubelets) -> None:
        key = kubelets.ask()
        await kubelets.desk.look(key)
        before, writes = kubelets.status(key), len(kubelets.world.writes)
        assert await kubelets.desk.look(key) == NEVER
        assert kubelets.status(key) == before
        assert len(kubelets.world.writes) == writes
        assert kubelets.desk.open == ()
        assert kubelets.desk.seen("MODIFIED", kubelets.raw(key)) is None

    with_kubelets(test)


def test_a_kubelet_that_starts_again_is_given_another_leaf_for_its_new_key() -> None:
    async def test(kubelets: Kubelets) -> None:
        first = kubelets.ask()
        kubelets.key = ec.generate_private_key(ec.SECP256R1())
        second = kubelets.ask()
        for key in (first, second):
            await kubelets.desk.look(key)
        assert kubelets.condition(first) == kubelets.condition(second) == ("Issued", "Issued")
        assert kubelets.status(first)["certificateChain"] != kubelets.status(second)["certificateChain"]

    with_kubelets(test)


def test_a_flood_of_requests_waits_its_turn_and_none_is_refused() -> None:
    async def test(kubelets: Kubelets) -> None:
        keys = [kubelets.ask() for _ in range(12)]
        answers = [await kubelets.desk.look(key) for key in keys]
        assert answers == [NEVER] * 5 + [SOON] * 7
        kubelets.served.now += 60
        assert [await kubelets.desk.look(key) for key in keys[5:]] == [NEVER] * 5 + [SOON] * 2
        assert kubelets.counted("granted") == 10

    with_kubelets(test, per_second=1.0)


def test_a_pod_waits_for_its_pool_and_is_certified_as_soon_as_there_is_one() -> None:
    async def test(kubelets: Kubelets) -> None:
        ref = Ref(SERVER_POOL, *POOL)
        pool = kubelets.world.objects.pop(ref)
        key = kubelets.ask()
        assert await kubelets.desk.look(key) == SOON
        assert kubelets.condition(key) == ("", "")
        assert [e["reason"] for e in kubelets.world.events][-1] == "PoolNotFound"
        kubelets.world.objects[ref] = pool
        assert await kubelets.desk.look(key) == NEVER
        assert kubelets.condition(key) == ("Issued", "Issued")

    with_kubelets(test)


def test_the_longer_a_request_waits_the_more_rarely_it_is_looked_at() -> None:
    async def test(kubelets: Kubelets) -> None:
        kubelets.world.objects.pop(Ref(SERVER_POOL, *POOL))
        key = kubelets.ask()
        pauses = []
        for age in (0, 40, 100, 900):
            made = datetime.now(UTC) - timedelta(seconds=age)
            kubelets.raw(key)["metadata"]["creationTimestamp"] = made.strftime("%Y-%m-%dT%H:%M:%SZ")
            pauses.append(round(await kubelets.desk.look(key)))
        assert pauses == [SOON, 10, 25, LATE]

    with_kubelets(test)


def test_nothing_is_signed_while_the_ca_is_lost_and_nothing_is_refused() -> None:
    async def test(kubelets: Kubelets) -> None:
        secret = kubelets.world.objects.pop(ca_ref(kubelets.served.cluster, POOL))
        key = kubelets.ask()
        assert await kubelets.desk.look(key) == SOON
        assert kubelets.condition(key) == ("", "")
        assert kubelets.counted("NoAuthority") == 1
        kubelets.world.objects[ca_ref(kubelets.served.cluster, POOL)] = secret
        assert await kubelets.desk.look(key) == NEVER

    with_kubelets(test)


ATTACKS: Final[dict[str, tuple[str, dict[str, Any]]]] = {
    "a pod that is not there": ("PodGone", {"podName": "app-8"}),
    "the UID of another pod": ("PodGone", {"podUID": UID}),
    "another service account": ("ServiceAccount", {"serviceAccountName": "admin"}),
    "the role of a user": ("RoleNotOffered", {"claim": {**CLAIM, names.CLAIMED_ROLE: "user"}}),
    "annotations that nobody knows": ("UnknownAnnotation", {"claim": {**CLAIM, "rserpool.io/names": "x"}}),
}


@pytest.mark.rfc("threats 2.1: registrations of elements that do not exist change nothing")
def test_requests_made_by_hand_are_denied_and_counted() -> None:
    async def test(kubelets: Kubelets) -> None:
        for what, (word, spec) in ATTACKS.items():
            before = kubelets.counted(word)
            key = kubelets.ask(**spec)
            assert await kubelets.desk.look(key) == NEVER, what
            assert kubelets.condition(key) == ("Denied", word), what
            assert faults(kubelets.raw(key), kubelets.status(key), datetime.now(UTC)) == [], what
            assert kubelets.counted(word) == before + 1, what

    with_kubelets(test)


@pytest.mark.rfc("threats 2.4: nobody registers in a pool that is not his")
def test_a_claim_of_a_foreign_pool_or_of_a_registrars_role_gets_nothing() -> None:
    async def test(kubelets: Kubelets) -> None:
        for claim in ({**CLAIM, names.CLAIMED_POOL: "echo"}, {**CLAIM, names.CLAIMED_ROLE: "registrar"}):
            key = kubelets.ask(claim=claim)
            assert await kubelets.desk.look(key) == SOON
            assert kubelets.condition(key) == ("", "")
        kubelets.world.objects[pod_ref("app-9")]["metadata"]["labels"] = {names.POOL_LABEL: "echo"}
        key = kubelets.ask()
        assert await kubelets.desk.look(key) == SOON
        assert kubelets.condition(key) == ("", "")
        assert kubelets.counted("granted") == 0

    with_kubelets(test)


@pytest.mark.rfc("threats 2.3: nobody registers or deregisters another element")
def test_the_request_of_a_pod_that_was_deleted_cannot_be_used_again_by_its_successor() -> None:
    async def test(kubelets: Kubelets) -> None:
        key = kubelets.ask()
        kubelets.world.objects[pod_ref("app-9")]["metadata"]["uid"] = "11111111-2222-4333-8444-555555555555"
        assert await kubelets.desk.look(key) == NEVER
        assert kubelets.condition(key) == ("Denied", "PodGone")

    with_kubelets(test)


def test_requests_for_other_signers_are_not_touched() -> None:
    async def test(kubelets: Kubelets) -> None:
        other = request(kubelets.world.objects[pod_ref("app-9")], kubelets.key, signerName="example.com/other")
        kubelets.world.put(other)
        assert kubelets.desk.seen("ADDED", other) is None
        assert await kubelets.desk.look(Key("demo", other["metadata"]["name"])) == NEVER
        assert kubelets.world.objects[Ref(POD_CERTIFICATE_REQUEST, "demo", other["metadata"]["name"])] == other | {
            "metadata": kubelets.world.objects[Ref(POD_CERTIFICATE_REQUEST, "demo", other["metadata"]["name"])][
                "metadata"
            ]
        }

    with_kubelets(test)


def test_who_has_read_another_answer_meanwhile_leaves_it_and_other_trouble_is_told() -> None:
    async def test(kubelets: Kubelets) -> None:
        key = kubelets.ask()
        kubelets.world.fails = lambda: KubeError(409, "Conflict", "gone")
        assert await kubelets.desk.look(key) == NEVER
        assert kubelets.counted("granted") == 0
        kubelets.world.fails = lambda: KubeError(500, "InternalError", "no")
        with pytest.raises(KubeError):
            await kubelets.desk.look(key)
        kubelets.world.fails = lambda: None
        assert await kubelets.desk.look(key) == NEVER
        assert kubelets.counted("granted") == 1

    with_kubelets(test)


def test_open_requests_are_remembered_until_they_are_gone() -> None:
    async def test(kubelets: Kubelets) -> None:
        key = kubelets.ask()
        assert list(kubelets.desk.open) == [key]
        assert kubelets.desk.seen("DELETED", kubelets.raw(key)) is None
        assert list(kubelets.desk.open) == []
        del kubelets.world.objects[Ref(POD_CERTIFICATE_REQUEST, *key)]
        assert await kubelets.desk.look(key) == NEVER

    with_kubelets(test)


def test_by_token_nobody_comes_into_a_pool_that_enrols_by_the_kubelet() -> None:
    async def test(kubelets: Kubelets) -> None:
        kubelets.world.tokens["t0ken.of.app-9"] = reviewed("app-9", SECOND_UID)
        enrolment, _ = asked(identity(uid=SECOND_UID, key=POOL))
        with pytest.raises(EnrolmentError, match="enrol by PodCertificate, not by Token"):
            await kubelets.served.client.enrol(enrolment, "t0ken.of.app-9")

    with_kubelets(test)


def test_whom_to_trust_is_told_to_nobody_who_may_not_have_the_leaf_it_shows(tmp_path: Path) -> None:
    async def test(kubelets: Kubelets) -> None:
        key = kubelets.ask()
        await kubelets.desk.look(key)
        source = kubelets.source(tmp_path, key)
        kubelets.world.objects[pod_ref("app-9")]["metadata"]["labels"] = {}
        with pytest.raises(CredentialsError, match=r"is gone|has no label"):
            await source.obtain(None)
        foreign = kubelets.served.leaf(identity(uid=SECOND_UID, key=POOL), kubelets.served.authority())
        with pytest.raises(EnrolmentError, match="not of that pool's authority"):
            await kubelets.served.client.bundle(foreign)
        kubelets.world.objects[pod_ref("app-9")]["metadata"]["labels"] = {names.POOL_LABEL: POOL.name}
        assert (await source.obtain(None)).bundle == (kubelets.served.authority(POOL).certificate,)

    with_kubelets(test)


def test_a_server_without_a_leaf_or_with_too_many_questions_tells_no_bundle() -> None:
    async def test(found: Served) -> None:
        nobody = await found.post("/v1/bundle", {})
        assert nobody.status == 401
        leaf = found.leaf()
        answers = [(await found.post("/v1/bundle", {}, leaf)).status for _ in range(7)]
        assert answers == [200] * 5 + [429] * 2

    served(test)
