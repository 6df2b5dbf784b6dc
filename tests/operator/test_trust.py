# SPDX-License-Identifier: Apache-2.0
"""No pool's authority, however it is made or spoilt, says anything about another pool, or stops the operator."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from rserpool.asap.authorisation import Role
from rserpool.authority import EmbeddedAuthority
from rserpool.authority.embedded import key_usage
from rserpool.transport.http import HttpError
from rserpool_operator import trust
from rserpool_operator.kube import KubeError, Object
from rserpool_operator.plan.certificates import key_hash
from rserpool_operator.work_queue import Key
from support.rig_cluster import SYSTEM, ca_ref, member, pool_ref, raw_pool
from support.rig_identity import authority
from support.rig_pools import ISSUER_REF
from support.rig_served import ECHO, OTHER, SECOND_UID, Served, asked, identity
from support.rig_world import WorldKube

TENANT = Key("tenant", "theirs")
YOUNGER = "2026-01-01T00:00:00Z"
"""Than what has no time of creation."""


def bundled(*certificates: bytes) -> Object:
    """A tenant's pool that trusts this."""
    encoded = base64.b64encode(b"".join(certificates)).decode()
    return raw_pool(TENANT.name, TENANT.namespace, security={"signer": ISSUER_REF | {"caBundle": encoded}})


def twin_of(ca: EmbeddedAuthority) -> EmbeddedAuthority:
    """Another key under the same name and the same key identifier, which is all by which OpenSSL looks for issuers."""
    key = ec.generate_private_key(ec.SECP256R1())
    extension = ca.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(ca.certificate.subject)
        .issuer_name(ca.certificate.subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=30))
        .not_valid_after(now + timedelta(days=3000))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(key_usage(sign_certificates=True), critical=True)
        .add_extension(extension, critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(extension), critical=False)
        .sign(key, hashes.SHA256())
    )
    return EmbeddedAuthority(certificate, timedelta(hours=1), key)


async def renews(found: Served, leaf: Any, key: Key = ECHO) -> int:
    request, _ = asked(identity(key=key))
    response = await found.post("/v1/renew", json.loads(request.to_json()), leaf)
    return response.status


@pytest.mark.parametrize("attempt", range(4))
def test_a_tenant_who_brings_a_ca_that_looks_like_anothers_harms_nobody_but_himself(attempt: int) -> None:
    found = Served()
    found.settle()
    twin = twin_of(found.authority())

    async def run() -> None:
        async with found.running():
            leaf = found.leaf()
            assert await renews(found, leaf) == 200
            found.cluster.create(bundled(twin.bundle))
            await found.truster.refresh()
            assert await renews(found, leaf) == 200
            try:
                status = await renews(found, found.leaf(identity(), twin))
            except HttpError:  # refused by TLS already
                status = 403
            assert status == 403

    asyncio.run(run())


@pytest.mark.parametrize("spec", [{"type": "Embedded"}, ISSUER_REF])
def test_a_tenant_whose_pool_moves_between_signers_harms_nobody_but_himself_either(spec: Object) -> None:
    """His pool is the older one, and has a CA of ours beside the one that looks like another's."""
    found = Served()
    found.settle()
    twin = twin_of(found.authority())
    brought = ISSUER_REF | {"caBundle": base64.b64encode(twin.bundle).decode()}
    moving = bundled(twin.bundle)
    moving["spec"]["security"]["signer"] = spec if spec["type"] == "Embedded" else brought
    moving["status"] = {
        "authority": {
            "generation": 2,
            "former": 1,
            "keys": {"1": key_hash(twin.bundle), "2": "sha256:ours"},
            "signers": {"1": brought, "2": {"type": "Embedded"}},
        }
    }

    async def run() -> None:
        async with found.running():
            leaf = found.leaf()
            found.cluster.create(moving)
            found.world.change(pool_ref(ECHO), lambda live: live["metadata"].update(creationTimestamp=YOUNGER))
            await found.truster.refresh()
            assert await renews(found, leaf) == 200

    asyncio.run(run())


def test_a_tenants_ca_says_nothing_of_other_pools() -> None:
    found = Served()
    found.settle()
    own = authority("the tenant's own")

    async def run() -> None:
        async with found.running():
            found.cluster.create(bundled(own.bundle))
            found.pod(member("app-t", TENANT.name, TENANT.namespace), SECOND_UID)
            await found.truster.refresh()
            for key in (ECHO, OTHER):
                for role in (Role.ELEMENT, Role.REGISTRAR):
                    assert await renews(found, found.leaf(identity(role, key=key), own), key) == 403
            theirs = found.leaf(identity(uid=SECOND_UID, key=TENANT), own)
            await found.truster.verified(theirs.chain[0].public_bytes(serialization.Encoding.DER))

    asyncio.run(run())


def test_leaves_for_pools_that_do_not_exist_do_not_make_the_operator_read_everything_again_and_again() -> None:
    found = Served()
    found.settle()
    own = authority("the tenant's own")

    async def run() -> None:
        async with found.running():
            found.cluster.create(bundled(own.bundle))
            await found.truster.refresh()
            found.world.reads.clear()
            for number in range(10):
                nowhere = found.leaf(identity(key=Key("tenant", f"nowhere-{number}")), own)
                with pytest.raises(trust.TrustError):
                    await found.truster.verified(nowhere.chain[0].public_bytes(serialization.Encoding.DER))
            assert [read for read in found.world.reads if "serverpools" in read] == ["get serverpools tenant/nowhere-0"]

    asyncio.run(run())


@contextlib.asynccontextmanager
async def truster_of(served: Served) -> AsyncIterator[trust.Truster]:
    """One that runs, and has read everything."""
    truster = trust.Truster(WorldKube(served.world), served.cluster.operator, lambda: served.shown)
    running = asyncio.create_task(truster.run())
    try:
        await until(lambda: truster.believes(ECHO) and truster.believes(OTHER))
        served.world.reads.clear()
        yield truster
    finally:
        running.cancel()


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> Served:
    """Two pools that are ready, and a truster that does not wait for more changes."""
    monkeypatch.setattr(trust, "GATHER", 0.0)
    served = Served()
    served.settle()
    return served


async def noticed(truster: trust.Truster) -> None:
    """A change of the tenant's pool is told, and its CA believed since."""
    truster.look_again(TENANT)
    await until(lambda: truster.believes(TENANT))


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - what is looked at tells nobody
            await asyncio.sleep(0)


def test_a_change_of_one_pool_makes_the_operator_read_that_pool_only(found: Served) -> None:
    """Of five hundred each writes its status now and then."""

    async def run() -> None:
        async with truster_of(found) as truster:
            found.cluster.create(bundled(authority("the tenant's own").bundle))
            await noticed(truster)
            found.world.remove(pool_ref(TENANT))
            truster.look_again(TENANT)
            await until(lambda: not truster.believes(TENANT))
            assert found.world.reads == [f"get serverpools {TENANT}"] * 2
            assert truster.believes(ECHO)

    asyncio.run(run())


def test_changes_of_many_pools_at_once_are_read_by_lists(found: Served) -> None:

    async def run() -> None:
        async with truster_of(found) as truster:
            found.cluster.create(bundled(authority("the tenant's own").bundle))
            for number in range(trust.FEW):
                truster.look_again(Key("tenant", f"another-{number}"))
            truster.look_again(TENANT)
            await until(lambda: truster.believes(TENANT))
            assert [read.split()[0] for read in found.world.reads if "serverpools" in read] == ["list"]

    asyncio.run(run())


def test_a_pool_that_could_not_be_read_is_read_again(found: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trust, "LEAST", 0.0)

    async def run() -> None:
        async with truster_of(found) as truster:
            original, failures = WorldKube.get, 1

            async def away(self: WorldKube, *args: Any) -> Object | None:
                nonlocal failures
                failures -= 1
                if failures >= 0:
                    raise KubeError(0, "NoAnswer", "no answer")
                return await original(self, *args)

            monkeypatch.setattr(WorldKube, "get", away)
            found.cluster.create(bundled(authority("the tenant's own").bundle))
            await noticed(truster)

    asyncio.run(run())


def test_what_was_read_of_a_pool_while_all_were_being_read_is_not_put_back(
    found: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = authority("the tenant's own")
    leaf = found.leaf(identity(uid=SECOND_UID, key=TENANT), own).chain[0].public_bytes(serialization.Encoding.DER)

    async def run() -> None:
        truster = trust.Truster(WorldKube(found.world), found.cluster.operator, lambda: found.shown)
        original, listed, go_on = WorldKube.list, asyncio.Event(), asyncio.Event()

        async def slowly(self: WorldKube, *args: Any, **more: Any) -> list[Object]:
            before = await original(self, *args, **more)
            listed.set()
            await go_on.wait()
            return before

        monkeypatch.setattr(WorldKube, "list", slowly)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(truster.refresh())
            await listed.wait()
            found.cluster.create(bundled(own.bundle))
            tasks.create_task(truster.verified(leaf))
            for _ in range(20):
                await asyncio.sleep(0)
            go_on.set()
        assert truster.believes(TENANT)

    asyncio.run(run())


def test_a_leaf_of_a_pool_nobody_has_told_of_yet_makes_the_operator_read_that_pool(found: Served) -> None:
    async def run() -> None:
        async with truster_of(found) as truster:
            own = authority("the tenant's own")
            found.cluster.create(bundled(own.bundle))
            theirs = found.leaf(identity(uid=SECOND_UID, key=TENANT), own)
            await truster.verified(theirs.chain[0].public_bytes(serialization.Encoding.DER))
            assert found.world.reads == [f"get serverpools {TENANT}"]

    asyncio.run(run())


_CURVELESS = base64.b64decode(
    "MIIBJTCByaADAgECAgEBMAoGCCqGSM49BAMCMAwxCjAIBgNVBAMMAXgwHhcNMjYwMTAxMDAwMDAwWhcNMzYwMTAxMDAwMDAwWjAMMQow"
)
SPOILT: dict[str, bytes] = {
    "nothing": b"",
    "junk": b"hello",
    "half a certificate": b"-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n",
    "a cut certificate": b"-----BEGIN CERTIFICATE-----\n"
    + base64.encodebytes(_CURVELESS)
    + b"-----END CERTIFICATE-----\n",
    "a leaf": b"",
    "many": b"",
}


def spoilt(how: str) -> bytes:
    pem = serialization.Encoding.PEM
    if how == "a leaf":
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([])
        now = datetime.now(UTC)
        builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        builder = builder.serial_number(1).not_valid_before(now).not_valid_after(now + timedelta(days=1))
        return builder.sign(key, hashes.SHA256()).public_bytes(pem)
    if how == "many":
        return authority("twice").bundle * 20
    return SPOILT[how]


@pytest.mark.parametrize("where", ["a tenant's caBundle", "the CA's Secret"])
@pytest.mark.parametrize("how", SPOILT)
def test_what_is_spoilt_in_one_pool_stops_neither_the_others_nor_the_operator(how: str, where: str) -> None:
    found = Served()
    found.settle()

    async def run() -> None:
        async with found.running():
            if where == "the CA's Secret":
                encoded = base64.b64encode(spoilt(how)).decode()
                ref = ca_ref(found.cluster, OTHER)
                found.world.change(ref, lambda live: live.update(data={"tls.crt": encoded, "tls.key": encoded}))
            else:
                found.cluster.create(bundled(spoilt(how)))
            await found.truster.refresh()
            assert await renews(found, found.leaf()) == 200
            if where == "the CA's Secret":
                await found.cluster.reconcile(OTHER)
                assert found.cluster.condition(OTHER, "AuthorityReady") == ("False", "CALost")

    asyncio.run(run())


def test_it_goes_on_by_itself_when_the_api_server_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trust, "LEAST", 0.01)
    found = Served()
    found.settle()

    async def run() -> None:
        async with found.running():
            original, failures, done = WorldKube.list, 3, asyncio.Event()

            async def away(self: WorldKube, *args: Any, **more: Any) -> list[Object]:
                nonlocal failures
                failures -= 1
                if failures >= 0:
                    raise KubeError(0, "NoAnswer", "no answer")
                done.set()
                return await original(self, *args, **more)

            monkeypatch.setattr(WorldKube, "list", away)
            running = asyncio.create_task(found.truster.run())
            await asyncio.wait_for(done.wait(), 5)
            assert not running.done()
            assert await renews(found, found.leaf()) == 200
            running.cancel()

    asyncio.run(run())


def test_the_authorities_of_all_pools_are_read_together() -> None:
    """Hundreds of requests at each change of any pool would leave no time for anything else."""
    served = Served()
    served.settle()
    truster = trust.Truster(WorldKube(served.world), served.cluster.operator, lambda: served.shown)
    served.world.reads.clear()
    asyncio.run(truster.refresh())
    assert [read for read in served.world.reads if "secrets" in read] == [f"list secrets {SYSTEM}"]
    for key in (ECHO, OTHER):
        whose = identity(key=key)
        pem = served.authority(key).sign(whose, asked(whose)[0].request, datetime.now(UTC))
        der = x509.load_pem_x509_certificate(pem).public_bytes(serialization.Encoding.DER)
        leaf, _ = asyncio.run(truster.verified(der))
        assert leaf.identity == whose
