# SPDX-License-Identifier: Apache-2.0
"""A pool user that outlives its pool's authority: it reads its bundle again, and what it cannot use changes nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from rserpool.asap.authorisation import Role
from rserpool.client import PoolUser
from rserpool.client.bundle import MOST, follow_bundle
from rserpool.client.scope import make_scope
from rserpool.transport.security import Security
from rserpool.transport.tls import Credentials
from support.rig_identity import authority
from support.rig_model import running, runtime_folder, server_pool
from support.rig_virtual import virtually

OLD, NEW = authority("old"), authority("new")


def trusting(bundle: bytes) -> Security:
    return Security(trust_domain="", namespace="", pool="", role=Role.USER, credentials=Credentials.trusting(bundle))


def trusted(security: Security) -> set[object]:
    return set(security.credentials.bundle)


def test_both_are_trusted_while_both_are_published_and_then_the_new_one_alone(tmp_path: Path) -> None:
    file = tmp_path / "bundle.pem"
    file.write_bytes(OLD.bundle)

    async def main() -> None:
        security = trusting(OLD.bundle)
        first = security.client_context
        task = asyncio.create_task(follow_bundle(file, security))
        await asyncio.sleep(25)
        assert security.client_context is first  # nothing new, nothing made anew
        file.write_bytes(OLD.bundle + NEW.bundle)
        await asyncio.sleep(11)
        assert trusted(security) == {OLD.certificate, NEW.certificate}
        assert security.client_context is not first
        file.write_bytes(NEW.bundle)
        await asyncio.sleep(11)
        assert trusted(security) == {NEW.certificate}
        task.cancel()

    virtually(main())


SPOILT: dict[str, Callable[[Path], object]] = {
    "gone": lambda file: file.unlink(),
    "empty": lambda file: file.write_bytes(b""),
    "junk": lambda file: file.write_bytes(b"junk"),
    "cut": lambda file: file.write_bytes(NEW.bundle[:-60]),
    "huge": lambda file: file.write_bytes(NEW.bundle + b"\n" * MOST),
}


@pytest.mark.parametrize("how", SPOILT)
def test_what_is_no_bundle_changes_nothing_is_said_once_and_a_good_one_is_taken_after_it(
    how: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "bundle.pem"
    file.write_bytes(OLD.bundle)

    async def main() -> None:
        security = trusting(OLD.bundle)
        task = asyncio.create_task(follow_bundle(file, security))
        await asyncio.sleep(1)
        SPOILT[how](file)
        await asyncio.sleep(100)
        assert trusted(security) == {OLD.certificate}
        file.write_bytes(NEW.bundle)
        await asyncio.sleep(11)
        assert trusted(security) == {NEW.certificate}
        task.cancel()

    virtually(main())
    assert len([r for r in caplog.records if r.levelname == "WARNING"]) <= 1


def test_a_user_of_a_running_pool_follows_its_file_unless_it_brought_authorities_of_its_own(tmp_path: Path) -> None:
    file = tmp_path / "bundle.pem"

    async def main() -> None:
        async with running(server_pool(), 1) as found:
            assert found.scope.bundle is not None
            file.write_bytes(found.scope.bundle)
            places = [f"{host}:{port}" for host, port in found.scope.registrars]
            scope = replace(make_scope(places, file), local=found.scope.local)
            file.write_bytes(found.scope.bundle + NEW.bundle)  # it has changed since
            async with PoolUser(scope) as user:
                await user.resolve("echo")
                security = user._directory.security
                assert security is not None
                assert NEW.certificate in security.credentials.bundle
                await user.resolve("echo", fresh=True)
            own = Credentials.trusting(found.scope.bundle + OLD.bundle)
            async with PoolUser(scope, credentials=own) as user:
                await user.resolve("echo")
                security = user._directory.security
                assert security is not None
                assert NEW.certificate not in security.credentials.bundle

    with runtime_folder():
        asyncio.run(main())
