# SPDX-License-Identifier: Apache-2.0
"""Who of the replicas leads: a Lease decides, and a label on the leader's pod leads its Service there."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any, Final

from kubernetes.aio.leaderelection.electionconfig import Config
from kubernetes.aio.leaderelection.leaderelection import LeaderElection

from rserpool.daemon.process import first_of
from rserpool_operator import names
from rserpool_operator.config import LeaseSection
from rserpool_operator.kube import Kube, KubeError
from rserpool_operator.kube.kinds import LEASE, POD
from rserpool_operator.lease import Lease

_log: Final = logging.getLogger(__name__)


class LostLeaseError(Exception):
    """Another replica leads, or may: this one must end at once."""


async def lead(
    kube: Kube,
    section: LeaseSection,
    namespace: str,
    identity: str,
    work: Callable[[], Coroutine[Any, Any, None]],
) -> None:
    """Wait until this replica leads, then work for as long as it does. Told to end, it gives the Lease back.

    Raises:
        LostLeaseError: the Lease could not be renewed.
    """
    begun = asyncio.Event()

    async def started() -> None:
        begun.set()
        await asyncio.Event().wait()

    lock = Lease(kube, section.name, namespace, identity)
    config = Config(
        lock,
        lease_duration=int(section.duration),
        renew_deadline=section.renew,
        retry_period=section.retry,
        onstarted_leading=started,
        onstopped_leading=_lost,
    )
    election = asyncio.create_task(LeaderElection(config).run())
    working: asyncio.Task[None] | None = None
    try:
        await first_of(_ended(election), begun)
        if election.done():
            election.result()
            raise LostLeaseError("the election has ended without a leader")
        _log.info("this replica leads")
        working = asyncio.create_task(work())
        await asyncio.wait({election, working}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            working.result()
        raise LostLeaseError("the Lease could not be renewed in time: another replica may lead")
    except asyncio.CancelledError:
        await _stop(election, working)
        if working is not None:
            await _give_back(kube, section.name, namespace)
        raise
    finally:
        await _stop(election, working)


async def _ended(task: asyncio.Task[None]) -> None:
    await asyncio.wait({task})


async def _lost() -> None:
    """What the election calls at its end; :func:`lead` sees that end by itself."""


async def _stop(*tasks: asyncio.Task[None] | None) -> None:
    running = [task for task in tasks if task is not None]
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)


async def _give_back(kube: Kube, name: str, namespace: str) -> None:
    """Let the next replica lead at once."""
    try:
        await kube.patch(LEASE, namespace, name, {"spec": {"holderIdentity": ""}})
    except KubeError as e:
        _log.info("the Lease runs out by itself: %s", e)


async def mark_leader(kube: Kube, namespace: str, pod: str) -> None:
    """Put the leader's label on our own pod, and take it from all others.

    Raises:
        KubeError: pods cannot be read or labelled.
    """
    for other in await kube.list(POD, namespace, f"{names.LEADER_LABEL}=true"):
        name = other["metadata"]["name"]
        if name != pod:
            try:
                await kube.patch(POD, namespace, name, {"metadata": {"labels": {names.LEADER_LABEL: None}}})
            except KubeError as e:
                if e.status != 404:
                    raise
    live = await kube.get(POD, namespace, pod)
    if live is not None and (live["metadata"].get("labels") or {}).get(names.LEADER_LABEL) != "true":
        await kube.patch(POD, namespace, pod, {"metadata": {"labels": {names.LEADER_LABEL: "true"}}})
