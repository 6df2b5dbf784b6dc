# SPDX-License-Identifier: Apache-2.0
"""The operator as a process: its configuration, its own CA, its place as leader, and how it is uninstalled."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest
from cryptography import x509

from rserpool.daemon.settings import SettingsError, load
from rserpool_operator import installation_ca, names, serving_identity, uninstall
from rserpool_operator.config import OperatorSettings
from rserpool_operator.daemon import until_there
from rserpool_operator.installation import installation_of, serving_names
from rserpool_operator.installation_ca import InstallationError
from rserpool_operator.kube import KubeError, Object, Ref
from rserpool_operator.kube.kinds import LEASE, MUTATING_WEBHOOK, POD, SECRET, SERVER_POOL
from rserpool_operator.leader import mark_leader
from rserpool_operator.reasons import TABLE, Reason
from support.rig_cluster import SYSTEM, member, raw_pool
from support.rig_identity import quickly
from support.rig_world import World

LEAST: Mapping[str, str] = {
    "RSERPOOL_INSTALLATION_NAMESPACE": SYSTEM,
    "RSERPOOL_INSTALLATION_POD": "operator-0",
    "RSERPOOL_NODE_IMAGE": "registry.example/rserpool-node",
    "RSERPOOL_NODE_VERSION": "1.0.0",
}


def settings(**more: str) -> OperatorSettings:
    return load(OperatorSettings, None, {**LEAST, **{f"RSERPOOL_{k}".upper(): v for k, v in more.items()}})


def test_the_least_configuration_is_enough() -> None:
    found = installation_of(settings(), b"PEM")
    assert found.enrolment_url == f"https://rserpool-operator.{SYSTEM}.svc:8443"
    assert found.control_url == f"https://rserpool-operator-leader.{SYSTEM}.svc:8443"
    assert found.image_of("") == "registry.example/rserpool-node:1.0.0"
    assert found.image_of("2") == "registry.example/rserpool-node:2"
    assert f"rserpool-operator.{SYSTEM}.svc" in serving_names(settings())
    assert f"rserpool-operator-leader.{SYSTEM}.svc.cluster.local" in serving_names(settings())


@pytest.mark.parametrize("missing", LEAST)
def test_what_is_missing_is_named(missing: str) -> None:
    with pytest.raises(SettingsError) as raised:
        load(OperatorSettings, None, {k: v for k, v in LEAST.items() if k != missing})
    assert missing.rpartition("_")[2].lower() in str(raised.value)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("node_pull_policy", "Sometimes"),
        ("node_registrar_resources", "no JSON"),
        ("node_registrar_resources", "[]"),
        ("node_sidecar_resources", '"text"'),
        ("server_https_port", "0"),
        ("server_https_port", "70000"),
        ("server_address", "nowhere"),
        ("enrolment_check_source", "perhaps"),
        ("enrolment_per_second", "0"),
        ("lease_duration", "1.5s"),
        ("lease_renew", "10s"),
        ("lease_retry", "6s"),
        ("lease_retry", "0.5s"),
        ("log_format", "xml"),
        ("installation_unknown", "1"),
    ],
)
def test_what_is_wrong_in_the_configuration_is_named(key: str, value: str) -> None:
    with pytest.raises(SettingsError) as raised:
        settings(**{key: value})
    assert key.partition("_")[2] in str(raised.value)


def test_the_installations_ca_is_made_once_and_read_ever_after() -> None:
    async def main() -> None:
        world = World()
        world.namespace(SYSTEM)
        first, second = await asyncio.gather(*(installation_ca.obtain(world.kube, SYSTEM) for _ in range(2)))
        third = await installation_ca.obtain(world.kube, SYSTEM)
        assert first.bundle == second.bundle == third.bundle
        (secret,) = world.of(SECRET)
        assert secret["type"] == "kubernetes.io/tls"

    asyncio.run(main())


def test_of_two_replicas_that_make_it_at_once_both_use_what_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        world, other = World(), World()
        for each in (world, other):
            each.namespace(SYSTEM)
        made = await installation_ca.obtain(other.kube, SYSTEM)
        original = World.create

        def beaten(self: World, kind: Any, namespace: str, manifest: Object) -> Object:
            self.put(other.of(SECRET)[0])
            return original(self, kind, namespace, manifest)

        monkeypatch.setattr(World, "create", beaten)
        assert (await installation_ca.obtain(world.kube, SYSTEM)).bundle == made.bundle

    asyncio.run(main())


@pytest.mark.parametrize("data", [{}, {"tls.crt": "?", "tls.key": "?"}, {"tls.crt": "aGVsbG8=", "tls.key": "aGVsbG8="}])
def test_a_secret_that_holds_something_else_is_an_error_that_shows_none_of_it(data: Object) -> None:
    world = World()
    metadata = {"name": names.INSTALLATION_CA, "namespace": SYSTEM}
    world.put({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": data})
    with pytest.raises(InstallationError, match=names.INSTALLATION_CA) as raised:
        asyncio.run(installation_ca.obtain(world.kube, SYSTEM))
    assert "aGVsbG8" not in str(raised.value)
    assert "hello" not in str(raised.value)


def test_the_webhook_is_told_by_whom_it_is_certified_once() -> None:
    async def main() -> None:
        world = World()
        hooks = [
            {"name": f"{n}.rserpool.io", "clientConfig": {"service": {"name": "x"}}} for n in ("elements", "users")
        ]
        metadata = {"name": "rserpool-operator"}
        world.put(
            {
                "apiVersion": MUTATING_WEBHOOK.api_version,
                "kind": MUTATING_WEBHOOK.kind,
                "metadata": metadata,
                "webhooks": hooks,
            }
        )
        assert await installation_ca.complete_webhook(world.kube, "rserpool-operator", b"PEM")
        (live,) = world.of(MUTATING_WEBHOOK)
        assert [h["clientConfig"]["caBundle"] for h in live["webhooks"]] == ["UEVN", "UEVN"]
        assert [h["clientConfig"]["service"] for h in live["webhooks"]] == [{"name": "x"}] * 2
        assert not await installation_ca.complete_webhook(world.kube, "rserpool-operator", b"PEM")
        assert not await installation_ca.complete_webhook(world.kube, "none", b"PEM")
        assert len(world.writes) == 1

    asyncio.run(main())


def test_the_serving_certificate_is_renewed_in_time_with_another_key(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        world = World()
        world.namespace(SYSTEM)
        authority = await installation_ca.obtain(world.kube, SYSTEM)
        identity = serving_identity.ServingIdentity(authority, serving_names(settings()))
        first = identity.current()
        assert identity.current() is first
        monkeypatch.setattr(serving_identity, "RENEW_AFTER", timedelta(0))
        second = identity.current()
        assert second.chain != first.chain
        leaf = x509.load_pem_x509_certificate(second.chain)
        found = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert f"rserpool-operator.{SYSTEM}.svc" in found.get_values_for_type(x509.DNSName)
        leaf.verify_directly_issued_by(authority.certificate)

    asyncio.run(main())


def test_the_leader_takes_the_label_from_whoever_has_it() -> None:
    async def main() -> None:
        world = World()
        for name, leads in (("operator-0", False), ("operator-1", True), ("operator-2", True)):
            pod = member(name, "", SYSTEM)
            pod["metadata"]["labels"] = {names.LEADER_LABEL: "true"} if leads else {"app": "x"}
            world.put(pod)
        await mark_leader(world.kube, SYSTEM, "operator-0")
        leaders = [p["metadata"]["name"] for p in world.of(POD) if names.LEADER_LABEL in p["metadata"]["labels"]]
        assert leaders == ["operator-0"]
        before = len(world.writes)
        await mark_leader(world.kube, SYSTEM, "operator-0")
        assert len(world.writes) == before

    asyncio.run(main())


class Api:
    """A connection that is closed."""

    closed = False

    async def close(self) -> None:
        self.closed = True


@pytest.mark.parametrize(
    ("pools", "failure", "status", "says"),
    [
        ([], None, 0, ""),
        ([("demo", "echo"), ("a", "b")], None, 1, "2 ServerPool(s) are left, and nobody would look after them: a/b, demo/echo"),
        ([("n", f"p{i:02}") for i in range(25)], None, 1, "n/p19, …"),
        ([], KubeError(404, "NotFound", "no such kind"), 0, ""),
        ([], KubeError(0, "NoAnswer", "no answer"), 1, "cannot look for ServerPools: no answer"),
        ([], KubeError(403, "Forbidden", "forbidden"), 1, "cannot look for ServerPools: forbidden"),
    ],
)  # fmt: skip
def test_an_uninstallation_that_would_leave_pools_alone_is_refused_by_name(
    pools: list[tuple[str, str]],
    failure: KubeError | None,
    status: int,
    says: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    world, api = World(), Api()
    for namespace, name in pools:
        world.put(raw_pool(name, namespace))

    async def connect() -> Api:
        return api

    class Asked:
        def __init__(self, _: Api) -> None: ...

        async def list(self, *args: Any, **more: Any) -> list[Object]:
            if failure is not None:
                raise failure
            return await world.kube.list(*args, **more)

    monkeypatch.setattr(uninstall, "connect", connect)
    monkeypatch.setattr(uninstall, "Kube", Asked)
    assert asyncio.run(uninstall.check(settings())) == status
    assert says in capsys.readouterr().err
    assert api.closed


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../x", "a/b", "a?b", "a#b", "%2e%2e", "A", "a b", "a..b", "-a", "a" * 300]
)
def test_what_is_no_name_never_becomes_a_path(name: str) -> None:
    for arguments in ((name, "x"), ("x", name)):
        with pytest.raises(ValueError, match="is no name"):
            SERVER_POOL.path(*arguments)


def test_names_of_all_our_objects_become_paths() -> None:
    assert SERVER_POOL.path("demo", "echo") == "/apis/rserpool.io/v1alpha1/namespaces/demo/serverpools/echo"
    assert SERVER_POOL.path() == "/apis/rserpool.io/v1alpha1/serverpools"
    assert SERVER_POOL.path("demo", "echo", "status").endswith("/echo/status")
    assert SECRET.path(SYSTEM, "demo.echo.7c9e6679-g1") == f"/api/v1/namespaces/{SYSTEM}/secrets/demo.echo.7c9e6679-g1"
    assert LEASE.path(SYSTEM, "x") == f"/apis/coordination.k8s.io/v1/namespaces/{SYSTEM}/leases/x"
    assert MUTATING_WEBHOOK.path("", "x").endswith("/mutatingwebhookconfigurations/x")
    assert str(Ref(SERVER_POOL, "demo", "echo")) == "ServerPool demo/echo"


def test_every_reason_is_explained_with_what_to_do() -> None:
    assert set(TABLE) == set(Reason)
    assert all(meaning.endswith(".") and action.endswith(".") for meaning, action in TABLE.values())


def test_a_kind_that_comes_while_the_operator_runs_is_noticed() -> None:
    answers: list[bool | KubeError] = [False, KubeError(0, "NoAnswer", "no answer"), False, True]
    asked: list[float] = []

    async def ask() -> bool:
        asked.append(asyncio.get_running_loop().time())
        answer = answers.pop(0)
        if isinstance(answer, KubeError):
            raise answer
        return answer

    quickly(until_there(ask, 30))
    assert answers == []
    assert [round(later - earlier) for earlier, later in pairwise(asked)] == [30, 3, 30]
