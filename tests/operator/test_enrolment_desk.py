# SPDX-License-Identifier: Apache-2.0
"""Enrolment end to end: our own client, real TLS, the operator's server, a cluster in memory."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from rserpool.asap.authorisation import Role
from rserpool.daemon.enrolment import EnrolmentError
from rserpool.identity.certificates import leaf_of
from rserpool.transport.tls import Credentials
from rserpool_operator import names
from rserpool_operator.kube import KubeError
from support.rig_cluster import member, pool_ref
from support.rig_served import (
    ECHO,
    ELSEWHERE,
    HERE,
    OTHER,
    SECOND_UID,
    TOKEN,
    UID,
    Served,
    asked,
    identity,
    pod_ref,
    reviewed,
    served,
)
from support.rig_world import World

BEARER = {"authorization": f"Bearer {TOKEN}"}
Change = Callable[[Served], object]


def reason(response: Any) -> tuple[int, str]:
    return response.status, json.loads(response.body)["reason"]


async def enrolment(found: Served, token: str = TOKEN, **claim: str) -> tuple[int, str]:
    """Ask without our client, which does not tell the reason."""
    request, _ = asked()
    body = json.loads(request.to_json()) | claim
    response = await found.post("/v1/enrol", body, headers={"authorization": f"Bearer {token}"})
    assert token not in response.body.decode()
    if response.status == 200:
        return 200, "granted"
    return reason(response)


def test_a_member_enrols_by_its_token_and_renews_by_its_leaf(caplog: pytest.LogCaptureFixture) -> None:
    async def test(found: Served) -> None:
        request, key = asked()
        enrolled = await found.client.enrol(request, TOKEN)
        leaf = Credentials.from_pem(enrolled.chain, enrolled.bundle, key)
        assert leaf_of(leaf.chain[0]).identity == identity()
        assert leaf.bundle == (found.authority().certificate,)
        again, second = asked()
        renewed = await found.client.renew(again, Credentials.from_pem(enrolled.chain, enrolled.bundle, key))
        assert leaf_of(Credentials.from_pem(renewed.chain, renewed.bundle, second).chain[0]).identity == identity()
        assert [w for w in found.world.writes if w.verb == "create" and w.ref.kind.kind == "CertificateRequest"] == []

    with caplog.at_level("DEBUG"):
        served(test)
    assert TOKEN not in caplog.text
    assert "BEGIN" not in caplog.text


def test_a_registrar_enrols_with_its_host_names() -> None:
    async def test(found: Served) -> None:
        pod = found.world.objects[pod_ref("echo-registrar-0")]
        pod["status"]["podIPs"] = [{"ip": str(HERE)}]
        uid = pod["metadata"]["uid"]
        found.world.tokens["registrars"] = reviewed("echo-registrar-0", uid, account="echo-registrar")
        hosts = tuple(
            f"{name}{domain}"
            for name in ("echo-registrar-0.echo-peers.demo.svc", "echo.demo.svc")
            for domain in ("", ".cluster.local")
        )
        request, key = asked(identity(Role.REGISTRAR, uid), hosts)
        enrolled = await found.client.enrol(request, "registrars")
        leaf = leaf_of(Credentials.from_pem(enrolled.chain, enrolled.bundle, key).chain[0])
        assert (leaf.identity, leaf.dns_names) == (identity(Role.REGISTRAR, uid), hosts)
        again, _ = asked(identity(Role.REGISTRAR, uid), hosts)
        renewed = await found.client.renew(again, Credentials.from_pem(enrolled.chain, enrolled.bundle, key))
        assert renewed.bundle == enrolled.bundle

    served(test)


def _label(found: Served, value: str | None) -> None:
    labels = {} if value is None else {names.POOL_LABEL: value}
    found.world.change(pod_ref("app-1"), lambda pod: pod["metadata"].update(labels=labels))


def _pod(found: Served, **fields: Any) -> None:
    found.world.change(pod_ref("app-1"), lambda pod: pod["metadata"].update(fields))


def _spec(found: Served, **fields: Any) -> None:
    found.world.change(pod_ref("app-1"), lambda pod: pod["spec"].update(fields))


def _pool(found: Served, **spec: Any) -> None:
    found.world.change(pool_ref(ECHO), lambda raw: raw["spec"].update(spec))


def _token(found: Served, **status: Any) -> None:
    found.world.tokens[TOKEN] = found.world.tokens[TOKEN] | status


REFUSALS: list[tuple[str, int, str, Change]] = [
    ("not valid", 401, "Unauthorized", lambda f: _token(f, authenticated=False)),
    ("of another audience", 401, "Unauthorized", lambda f: _token(f, audiences=["https://kubernetes.default.svc"])),
    ("of no audience", 401, "Unauthorized", lambda f: _token(f, audiences=[])),
    (
        "of a user",
        401,
        "Unauthorized",
        lambda f: _token(f, user={"username": "kubernetes-admin", "extra": reviewed("a", UID)["user"]["extra"]}),
    ),
    (
        "bound to no pod",
        401,
        "Unauthorized",
        lambda f: _token(f, user={"username": "system:serviceaccount:demo:default"}),
    ),
    ("of a pod that is gone", 403, "PodGone", lambda f: f.world.remove(pod_ref("app-1"))),
    ("of a former pod of that name", 403, "PodGone", lambda f: _pod(f, uid=SECOND_UID)),
    ("of a pod that is ending", 403, "PodEnding", lambda f: _pod(f, deletionTimestamp="2026-01-01T00:00:00Z")),
    (
        "of a pod that has ended",
        403,
        "PodEnded",
        lambda f: f.world.change(pod_ref("app-1"), lambda p: p["status"].update(phase="Succeeded")),
    ),
    (
        "of another service account",
        403,
        "ServiceAccount",
        lambda f: _token(f, **reviewed("app-1", UID, account="other")),
    ),
    ("of another namespace", 403, "ForeignNamespace", lambda f: _token(f, **reviewed("app-1", UID, namespace="x"))),
    ("of a pod without the label", 403, "NotAMember", lambda f: _label(f, None)),
    ("of another pool's member", 403, "NotAMember", lambda f: _label(f, "another")),
    ("of a pod without a sidecar", 403, "NotInjected", lambda f: _spec(f, initContainers=[])),
    ("of a pod on its node's network", 403, "HostNetwork", lambda f: _spec(f, hostNetwork=True)),
    (
        "from another pod's address",
        403,
        "SourceAddress",
        lambda f: f.world.change(pod_ref("app-1"), lambda p: p["status"].update(podIPs=[{"ip": "127.0.0.9"}])),
    ),
    (
        "of a pod without an address",
        503,
        "NoAddressYet",
        lambda f: f.world.change(pod_ref("app-1"), lambda p: p["status"].pop("podIPs")),
    ),
    (
        "of a service account that may not",
        503,
        "ServiceAccountNotAllowed",
        lambda f: _pool(f, elements={"port": 7007, "serviceAccounts": ["web"]}),
    ),
    (
        "on a node that may not",
        503,
        "NodeNotAllowed",
        lambda f: _pool(f, elements={"port": 7007, "nodes": {"matchLabels": {"zone": "a"}}}),
    ),
    ("of a pod that is revoked", 403, "Revoked", lambda f: _pool(f, security={"revoked": [UID]})),
    ("for a pool that is wrong", 503, "PoolInvalid", lambda f: _pool(f, policy={"type": "Nonsense"})),
    (
        "for a pool that ends",
        503,
        "PoolEnding",
        lambda f: f.world.remove(pool_ref(ECHO)),
    ),
    (
        "for a pool that is gone",
        503,
        "PoolNotFound",
        lambda f: f.world.objects.pop(pool_ref(ECHO)),
    ),
    (
        "for a pool whose CA is lost",
        503,
        "NoAuthority",
        lambda f: f.world.change(pool_ref(ECHO), lambda r: r["status"]["authority"].update(keys={"1": "sha256:0"})),
    ),
    (
        "for a pool without a CA yet",
        503,
        "NoAuthority",
        lambda f: f.world.change(pool_ref(ECHO), lambda r: r.pop("status")),
    ),
]


@pytest.mark.parametrize(("status", "word", "change"), [r[1:] for r in REFUSALS], ids=[r[0] for r in REFUSALS])
def test_a_token_that_is_refused(status: int, word: str, change: Change, caplog: pytest.LogCaptureFixture) -> None:
    async def test(found: Served) -> None:
        assert await enrolment(found) == (200, "granted")
        change(found)
        assert await enrolment(found) == (status, word)
        page = (await found.get("/metrics")).body.decode()
        assert f'rserpool_operator_enrolments_total{{outcome="{word}",way="token"}} 1.0' in page
        assert any(r.levelname == "WARNING" and "refused enrolment" in r.message for r in caplog.records)

    served(test)
    assert TOKEN not in caplog.text


@pytest.mark.parametrize("word", ["NotAMember", "SourceAddress"])
def test_a_refusal_of_a_pod_that_is_there_is_an_event_at_the_pod(word: str) -> None:
    async def test(found: Served) -> None:
        next(r for r in REFUSALS if r[2] == word)[3](found)
        await enrolment(found)
        (event,) = [e for e in found.world.events if e["reason"] == "EnrolmentRefused"]
        assert event["regarding"] | {"name": "app-1", "uid": UID} == event["regarding"]
        assert event["note"].startswith(f"{word}: ")
        assert event["type"] == "Warning"

    served(test)


@pytest.mark.parametrize(
    ("headers", "word"),
    [
        ({}, "NoToken"),
        ({"authorization": TOKEN}, "NoToken"),
        ({"authorization": f"Basic {TOKEN}"}, "NoToken"),
        ({"authorization": "Bearer two words"}, "NoToken"),
        ({"authorization": "Bearer unknown"}, "Unauthorized"),
    ],
)
def test_without_a_token_nobody_is_listened_to(headers: dict[str, str], word: str) -> None:
    async def test(found: Served) -> None:
        assert reason(await found.post("/v1/enrol", json.loads(asked()[0].to_json()), headers=headers)) == (401, word)

    served(test)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{}",
        b"\xff",
        b"[" * 50_000,
        b'{"namespace": "demo", "pool": "echo", "role": "king", "request": ""}',
        b'{"namespace": "demo", "pool": "echo", "role": "element", "request": "junk"}',
        b'{"namespace": "demo", "pool": "../x", "role": "element", "request": "junk"}',
        b'{"namespace": "demo", "pool": "", "role": "element", "request": "junk"}',
    ],
    ids=lambda b: repr(b[:60]),
)
def test_a_body_that_makes_no_sense_is_refused_as_such(body: bytes) -> None:
    async def test(found: Served) -> None:
        assert reason(await found.post("/v1/enrol", body, headers=BEARER)) == (400, "BadRequest")

    served(test)


@pytest.mark.parametrize(
    ("whose", "dns_names"),
    [
        (identity(Role.REGISTRAR), ()),
        (identity(uid=SECOND_UID), ()),
        (identity(key=OTHER), ()),
        (identity(), ("evil.example",)),
    ],
)
def test_a_certificate_request_for_anything_else_is_refused(whose: Any, dns_names: tuple[str, ...]) -> None:
    async def test(found: Served) -> None:
        request, _ = asked(whose, dns_names)
        body = json.loads(request.to_json()) | {"namespace": "demo", "pool": "echo", "role": "element"}
        assert reason(await found.post("/v1/enrol", body, headers=BEARER)) == (400, "BadRequest")

    served(test)


@pytest.mark.parametrize(
    ("claim", "status", "word"),
    [
        ({"role": "registrar"}, 403, "NotARegistrar"),
        ({"role": "user"}, 403, "RoleNotOffered"),
        ({"namespace": "demo2"}, 403, "ForeignNamespace"),
        ({"namespace": "nowhere"}, 403, "ForeignNamespace"),
        ({"pool": "another"}, 503, "PoolNotFound"),
    ],
)
def test_a_token_buys_no_identity_but_its_pods(claim: dict[str, str], status: int, word: str) -> None:
    async def test(found: Served) -> None:
        found.world.reads.clear()
        assert await enrolment(found, **claim) == (status, word)
        assert [r for r in found.world.reads if "demo2" in r or "nowhere" in r] == []

    served(test)


def test_a_token_from_another_address_than_its_pods_is_refused_unless_addresses_are_not_looked_at() -> None:
    async def enrol(found: Served) -> None:
        request, _ = asked()
        await found.client_at(ELSEWHERE).enrol(request, TOKEN)

    async def strict(found: Served) -> None:
        with pytest.raises(EnrolmentError, match=r"does not have the address 127\.0\.0\.2"):
            await enrol(found)

    served(strict)
    served(enrol, check_source=False)


def test_who_asks_all_the_time_is_told_to_wait_and_may_ask_again_later() -> None:
    async def test(found: Served) -> None:
        answers = [await enrolment(found, "unknown") for _ in range(7)]
        assert answers[:5] == [(401, "Unauthorized")] * 5
        assert answers[5:] == [(429, "TooMany")] * 2
        found.now += 2.0
        assert await enrolment(found) == (200, "granted")

    served(test)


def test_a_namespace_may_enrol_so_many_pods_a_second_and_another_is_not_held_up() -> None:
    async def test(found: Served) -> None:
        found.pod(member("app-2", "echo", "demo2"), SECOND_UID, ELSEWHERE)
        found.world.tokens["theirs"] = reviewed("app-2", SECOND_UID, namespace="demo2")
        assert await enrolment(found) == (200, "granted")
        assert await enrolment(found) == (429, "TooMany")
        request, _ = asked(identity(uid=SECOND_UID, key=OTHER))
        enrolled = await found.client_at(ELSEWHERE).enrol(request, "theirs")
        assert enrolled.bundle == found.authority(OTHER).bundle

    served(test, per_second=0.1)


def test_while_the_api_server_does_not_answer_pods_are_asked_to_ask_again(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(found: Served) -> None:
        def create(*_: Any) -> Any:
            raise KubeError(0, "NoAnswer", "no answer")

        monkeypatch.setattr(World, "create", create)
        assert await enrolment(found) == (503, "ApiServer")

    served(test)


def test_a_body_too_large_is_refused_unread_with_and_without_a_length() -> None:
    async def test(found: Served) -> None:
        for path, leaf, headers in (("/v1/enrol", None, BEARER), ("/v1/renew", found.leaf(), {})):
            response = await found.post(path, b" " * 70_000, leaf, headers)
            assert response.status in {400, 413}
            assert "octets" in json.loads(response.body)["message"]
        reader, writer = await asyncio.open_connection(str(HERE), found.port, ssl=_open(found))
        writer.write(f"POST /v1/enrol HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {TOKEN}\r\n".encode())
        writer.write(
            b"connection: close\r\ntransfer-encoding: chunked\r\n\r\n11170\r\n" + b" " * 70_000 + b"\r\n"
        )  # and no end
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.split()[1] in {b"400", b"413"}
        assert b"octets" in await reader.readuntil(b"}")
        writer.write(b"0\r\n\r\n")  # or the server would wait for it a while
        assert await reader.read() == b""
        writer.close()

    served(test)


def _open(found: Served) -> Any:
    import ssl

    context = ssl.create_default_context(cadata=found.installation.bundle.decode())
    context.check_hostname = False
    return context
