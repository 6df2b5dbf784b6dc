# SPDX-License-Identifier: Apache-2.0
"""Over real TLS: while a CA is replaced the operator believes leaves of both, and has those of the former one renewed."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest

from rserpool.authority import EmbeddedAuthority
from rserpool.transport.http import HttpError
from rserpool_operator.installation_ca import key_pair_of
from rserpool_operator.observe import observe
from rserpool_operator.plan.certificates import key_hash
from support.rig_cluster import ca_ref, pool_ref
from support.rig_served import ECHO, UID, Served, identity, served

NONE = {"settings": "", "bundle": "", "ended": "", "renew": ""}


def signer(found: Served, generation: int) -> EmbeddedAuthority:
    certificate, private = key_pair_of(found.world.objects[ca_ref(found.cluster, ECHO, generation)], "the test's")
    return EmbeddedAuthority(certificate, timedelta(hours=1), private)


async def activating(found: Served) -> None:
    """Generation 2 signs, 1 is still trusted; as its status says after the time that is waited on purpose."""
    found.cluster.change(ECHO, lambda raw: raw["spec"]["security"].update(ca={"generation": 2}))
    for _ in range(4):
        await found.cluster.reconcile(ECHO)
    status = found.cluster.status(ECHO)["authority"]
    assert set(status["keys"]) == {"1", "2"}
    found.world.change(pool_ref(ECHO), lambda raw: _activate(raw["status"]["authority"]))
    await found.truster.refresh()
    await found.cluster.reconcile(ECHO)
    assert found.cluster.status(ECHO)["authority"]["phase"] == "Activating"


def _activate(authority: dict[str, Any]) -> None:
    authority |= {"generation": 2, "former": 1}
    del authority["next"]


async def asks(found: Served, by: EmbeddedAuthority, loaded: dict[str, str]) -> dict[str, Any]:
    body = {"role": "element", "wait": 0, "loaded": loaded, "transports": ["TCP"], "state": {}}
    response = await found.post("/v1/control", body, found.leaf(identity(), by))
    assert response.status == 200, response.body
    answer: dict[str, Any] = json.loads(response.body)
    return answer


def test_a_leaf_of_the_former_ca_is_believed_told_to_renew_and_reported_for_what_it_is() -> None:
    async def body(found: Served) -> None:
        await activating(found)
        for generation, renews in ((1, True), (2, False)):
            by = signer(found, generation)
            told = await asks(found, by, NONE)
            assert told["bundle"]["pem"].count("BEGIN CERTIFICATE") == 2
            loaded = NONE | {part: contents["version"] for part, contents in told.items()}
            assert ("renew" in await asks(found, by, loaded)) is renews  # whatever it says it has carried out
            report = found.cluster.boards.reports(ECHO)[UID]
            assert report.issuer == key_hash(by.bundle)
            raw = found.cluster.raw(ECHO)
            seen = await observe(found.world.kube, raw, found.cluster.operator, found.cluster.boards.reports(ECHO))
            assert key_hash(seen.authority.certificate) == key_hash(signer(found, 2).bundle)

    served(body)


def test_a_leaf_of_a_ca_that_is_retired_is_believed_no_more() -> None:
    async def body(found: Served) -> None:
        await activating(found)
        by = signer(found, 1)
        found.world.change(pool_ref(ECHO), lambda raw: raw["status"]["authority"]["keys"].pop("1"))
        await found.truster.refresh()
        with pytest.raises((AssertionError, HttpError)):
            await asks(found, by, NONE)
        assert await asks(found, signer(found, 2), NONE)

    served(body)
