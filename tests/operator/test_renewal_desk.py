# SPDX-License-Identifier: Apache-2.0
"""Renewal end to end: whose leaves are believed, for what, and what a connection that begins later sees."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from rserpool.transport.http import HttpError, Target, ask
from rserpool.transport.tls import Credentials, make_context
from rserpool_operator.work_queue import Key
from support.rig_cluster import member, pool_ref, raw_pool
from support.rig_identity import authority
from support.rig_served import (
    ECHO,
    HERE,
    OTHER,
    SECOND_UID,
    TOKEN,
    UID,
    Served,
    asked,
    identity,
    pod_ref,
    served,
)

REVOKING: dict[str, Callable[[Served], object]] = {
    "NotAMember": lambda f: f.world.change(pod_ref("app-1"), lambda p: p["metadata"].update(labels={})),
    "PodGone": lambda f: f.world.remove(pod_ref("app-1")),
    "PodEnding": lambda f: f.world.change(
        pod_ref("app-1"), lambda p: p["metadata"].update(deletionTimestamp="2026-01-01T00:00:00Z")
    ),
    "Revoked": lambda f: f.world.change(pool_ref(ECHO), lambda raw: raw["spec"]["security"].update(revoked=[UID])),
    "SourceAddress": lambda f: f.world.change(
        pod_ref("app-1"), lambda p: p["status"].update(podIPs=[{"ip": "127.0.0.9"}])
    ),
}


def reason(response: Any) -> tuple[int, str]:
    return response.status, json.loads(response.body)["reason"]


async def renewal(found: Served, leaf: Credentials | None, **claim: str) -> tuple[int, str]:
    request, _ = asked()
    response = await found.post("/v1/renew", json.loads(request.to_json()) | claim, leaf)
    return (200, "granted") if response.status == 200 else reason(response)


def test_renewal_takes_a_leaf_of_the_pools_own_ca() -> None:
    async def test(found: Served) -> None:
        assert await renewal(found, None) == (401, "NoCertificate")
        assert await renewal(found, found.leaf()) == (200, "granted")
        foreign = found.leaf(identity(), found.authority(OTHER))  # TLS believes it: it is some pool's
        assert await renewal(found, foreign) == (403, "Forbidden")
        name = found.authority().certificate.subject.rfc4514_string().removeprefix("CN=")
        for stranger in (authority("self-made"), authority(name)):
            with pytest.raises(HttpError):
                await renewal(found, found.leaf(identity(), stranger))
            assert found.refusals.pop()

    served(test)


@pytest.mark.parametrize(
    ("claim", "status", "word"),
    [
        ({"role": "registrar"}, 403, "OtherIdentity"),
        ({"pool": "another"}, 403, "OtherIdentity"),
        ({"namespace": "demo2"}, 403, "ForeignNamespace"),
    ],
)
def test_a_leaf_renews_itself_and_nothing_else(claim: dict[str, str], status: int, word: str) -> None:
    async def test(found: Served) -> None:
        assert await renewal(found, found.leaf(), **claim) == (status, word)

    served(test)


@pytest.mark.parametrize("word", REVOKING)
def test_a_leaf_is_looked_at_as_closely_as_a_token(word: str) -> None:
    async def test(found: Served) -> None:
        assert await renewal(found, found.leaf()) == (200, "granted")
        REVOKING[word](found)
        assert await renewal(found, found.leaf()) == (403, word)

    served(test)


def test_a_leaf_that_was_revoked_renews_nothing_and_its_pod_obtains_another_one_with_its_token() -> None:
    async def test(found: Served) -> None:
        leaf, other = found.leaf(), found.leaf()
        number = f"{leaf.chain[0].serial_number:x}"
        change = {"revoked": [f"serial:{number}"]}
        found.world.change(pool_ref(ECHO), lambda raw: raw["spec"]["security"].update(change))
        assert await renewal(found, leaf) == (403, "LeafRevoked")
        assert await renewal(found, other) == (200, "granted")
        request, _ = asked()
        assert (await found.client.enrol(request, TOKEN)).chain

    served(test)


def test_a_leaf_of_a_pool_that_was_made_anew_is_refused() -> None:
    found = Served()
    found.settle()
    old = found.leaf()
    found.world.remove(pool_ref(ECHO))
    found.settle()
    found.cluster.create(raw_pool("echo", "demo", security={"signer": {"type": "Embedded"}}))
    found.settle()

    async def run() -> None:
        async with found.running():
            with pytest.raises(HttpError):
                await renewal(found, old)

    asyncio.run(run())


def test_a_new_pools_leaves_are_believed_at_once_and_new_serving_keys_are_shown_to_new_connections() -> None:
    found = Served()
    found.settle()
    late = Key("late", "echo")

    async def run() -> None:
        async with found.running():
            before = found.leaf()
            raw = raw_pool("echo", "late", security={"signer": {"type": "Embedded"}})
            found.cluster.create(raw)
            await found.cluster._settle((late,))
            found.pod(member("app-9", "echo", "late"), SECOND_UID)
            await found.truster.refresh()
            request, _ = asked(identity(uid=SECOND_UID, key=late))
            body = json.loads(request.to_json())
            whose = identity(uid=SECOND_UID, key=late)
            assert (await found.post("/v1/renew", body, found.leaf(whose))).status == 200
            assert await renewal(found, before) == (200, "granted")
            shown = found.shown
            found.show()
            await found.truster.refresh()
            assert found.shown is not shown
            assert await renewal(found, before) == (200, "granted")

    asyncio.run(run())


def test_a_connection_gets_the_context_of_its_own_time_with_or_without_a_server_name() -> None:
    """What Python says of swapping a context within a handshake does not say that whom it trusts changes too."""

    async def test(found: Served) -> None:
        leaf = found.leaf()
        assert await renewal(found, leaf) == (200, "granted")
        kept = found.truster.context
        found.truster.context = type(found.truster)(
            found.world.kube, found.cluster.operator, lambda: found.shown
        ).context  # trusts nobody
        with pytest.raises(HttpError):
            await renewal(found, leaf)
        found.truster.context = kept
        assert await renewal(found, leaf) == (200, "granted")
        context = make_context(leaf, require_certificate=True)
        named = Target(host="localhost", port=found.port, context=context, local=HERE)
        response = await ask(named, "POST", "/v1/renew", body=asked()[0].to_json())
        assert response.status == 200

    served(test)
