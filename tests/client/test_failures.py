# SPDX-License-Identifier: Apache-2.0
"""What can go wrong for a pool user is told apart, in a second, with the reason; and nobody false is believed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from ipaddress import IPv4Address

import pytest

from rserpool.asap.authorisation import Role
from rserpool.authority import EmbeddedAuthority
from rserpool.client import (
    NoAnswerError,
    NoRegistrarError,
    PoolUser,
    PoolUserError,
    RefusedError,
    Scope,
    UnknownPoolError,
)
from rserpool.transport.driver import Driver
from rserpool.transport.security import Security
from rserpool.transport.tcp import TcpLimits, TcpNetwork
from rserpool.wire import Ppid
from support.rig_model import (
    authority,
    credentials,
    insecure,
    leaf_identity,
    mute_machine,
    running,
    runtime_folder,
    server_pool,
    silent,
)

OWN, OTHER = authority(), authority()
EXPIRED = replace(OWN, leaf_life=timedelta(minutes=-1))
LOCAL = "127.0.0.1"


@pytest.fixture(autouse=True)
def _runtime() -> Iterator[None]:
    with runtime_folder():
        yield


async def failure(scope: Scope, handle: str = "echo", patience: float = 0.4) -> PoolUserError:
    """Why a resolution fails, and that it does so in time."""
    async with PoolUser(scope, patience=patience) as user:
        began = time.monotonic()
        with pytest.raises(PoolUserError) as caught:
            await user.resolve(handle)
        assert time.monotonic() - began < patience + 0.5
    assert "\n" not in str(caught.value)
    return caught.value


@asynccontextmanager
async def impostor(role: Role, pool: str, signer: EmbeddedAuthority) -> AsyncIterator[Scope]:
    """Somebody with a certificate where a registrar should be; the scope of a user who looks for it there."""
    security = Security(
        trust_domain="td", namespace="demo", pool=pool, role=Role.REGISTRAR,
        credentials=credentials(signer, leaf_identity(role, pool)),
    )  # fmt: skip
    network = TcpNetwork(IPv4Address(LOCAL), security, TcpLimits())
    driver = Driver(mute_machine(), network, lambda _: None)
    port = await network.listen(Ppid.ASAP, 0, driver)
    try:
        yield Scope(registrars=((LOCAL, port),), bundle=OWN.bundle, namespace="demo", pool="echo", trust_domain="td")
    finally:
        await driver.close()


def test_nobody_listens() -> None:
    error = asyncio.run(failure(Scope(registrars=((LOCAL, 1),), bundle=None)))
    assert type(error) is NoRegistrarError
    assert str(error) == "tcp:127.0.0.1:1: connection refused"


@pytest.mark.parametrize("bundle", [None, OWN.bundle], ids=["Insecure", "Secure"])
def test_somebody_listens_and_says_nothing(bundle: bytes | None) -> None:
    async def main() -> PoolUserError:
        async with silent() as scope:
            return await failure(replace(scope, bundle=bundle))

    error = asyncio.run(main())
    if bundle is None:  # it is a registrar for all a user knows, and was asked
        assert type(error) is NoAnswerError
        assert str(error) == "1 registrar(s) asked, none answered in 0.4 s"
    else:
        assert type(error) is NoRegistrarError


def test_by_default_a_resolution_has_failed_after_a_second() -> None:
    async def main() -> None:
        async with silent() as scope, PoolUser(scope) as user:
            began = time.monotonic()
            with pytest.raises(NoAnswerError, match=r"1 registrar\(s\) asked, none answered in 1 s"):
                await user.resolve("echo")
            assert 0.9 < time.monotonic() - began < 1.6

    asyncio.run(main())


def test_no_registrar_is_known() -> None:
    error = asyncio.run(failure(Scope(registrars=(), bundle=None)))
    assert type(error) is NoRegistrarError
    assert "no registrar" in str(error)


def test_a_registrar_that_lets_no_anonymous_user_resolve_refuses() -> None:
    async def main() -> PoolUserError:
        async with running(server_pool(users={"anonymous": False})) as found:
            return await failure(found.scope, patience=10)

    error = asyncio.run(main())
    assert type(error) is RefusedError
    assert str(error) == "SECURITY_REJECTION"


def test_a_user_who_asks_too_often_is_refused_and_not_told_that_there_is_no_pool() -> None:
    async def main() -> None:
        async with (
            running(insecure(limits={"resolutionsPerSecond": 1})) as found,
            PoolUser(found.scope, patience=10) as user,
        ):
            for _ in range(2):
                with pytest.raises(UnknownPoolError):
                    await user.resolve("nobody", fresh=True)
            with pytest.raises(RefusedError, match="LACK_OF_RESOURCES"):
                await user.resolve("nobody", fresh=True)

    asyncio.run(main())


def test_a_user_without_tls_learns_nothing_of_a_secure_pool() -> None:
    async def main() -> PoolUserError:
        async with running(server_pool()) as found:
            return await failure(replace(found.scope, bundle=None))

    assert isinstance(asyncio.run(main()), NoRegistrarError | NoAnswerError)  # it was asked, and hung up


@pytest.mark.parametrize(
    ("role", "pool", "signer", "reason"),
    [
        (Role.ELEMENT, "echo", OWN, "role element is no registrar"),
        (Role.REGISTRAR, "echo", OTHER, "its root is not an authority of this pool"),
        (Role.REGISTRAR, "echo", EXPIRED, "it has expired"),
        (Role.REGISTRAR, "other", OWN, "is not of spiffe://td/ns/demo/pool/echo"),
    ],
    ids=["an element", "of another authority", "expired", "of another pool"],
)
def test_who_is_no_registrar_of_the_pool_is_not_believed(
    role: Role, pool: str, signer: EmbeddedAuthority, reason: str
) -> None:
    async def main() -> PoolUserError:
        async with impostor(role, pool, signer) as scope:
            return await failure(scope, patience=0.6)

    error = asyncio.run(main())
    assert type(error) is NoRegistrarError
    assert str(error).startswith("the registrar at ")
    assert "127.0.0.1:" in str(error)
    assert reason in str(error)


@pytest.mark.parametrize(("role", "believed"), [(Role.REGISTRAR, True), (Role.ELEMENT, False)])
def test_with_nothing_but_a_bundle_every_registrar_it_vouches_for_is_believed(role: Role, believed: bool) -> None:
    async def main() -> PoolUserError:
        async with impostor(role, "other", OWN) as scope:
            return await failure(replace(scope, namespace="", pool="", trust_domain=""), patience=0.6)

    assert type(asyncio.run(main())) is (NoAnswerError if believed else NoRegistrarError)


def test_whoever_waits_when_the_pool_user_is_closed_is_told() -> None:
    async def main() -> None:
        async with silent() as scope:
            async with PoolUser(scope, patience=30) as user:
                waiting = asyncio.create_task(user.resolve("echo"))
                watching = asyncio.ensure_future(anext(user.watch("echo")))
                await asyncio.sleep(0)
            done, pending = await asyncio.wait({waiting, watching}, timeout=2)
            for task in pending:
                task.cancel()
            await asyncio.gather(*pending, return_exceptions=True)
        assert done == {waiting, watching}
        assert isinstance(waiting.exception(), PoolUserError)
        assert isinstance(watching.exception(), PoolUserError | StopAsyncIteration)

    asyncio.run(main())
