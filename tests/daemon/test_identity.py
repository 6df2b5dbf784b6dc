# SPDX-License-Identifier: Apache-2.0
"""From the sections to an identity; a configuration that does not add up to one says which key to write."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization

from rserpool.asap.authorisation import Action, Principal, Role
from rserpool.daemon.identity import keeper_of, leaf_identity, operator_of, scope_of
from rserpool.daemon.sections import OperatorSection, PoolSection, SecuritySection
from rserpool.daemon.settings import SettingsError
from rserpool.identity import InsecureScope, LeafIdentity, SecureScope, principal_of
from support.rig_identity import LOOPBACK, UID, authority, credentials, identity, pem_key, quickly

POOL = PoolSection(namespace="demo", name="echo")


@pytest.fixture
def enrolling(tmp_path: Path) -> SecuritySection:
    authority_file = tmp_path / "authority.pem"
    authority_file.write_bytes(authority().bundle)
    return SecuritySection(
        pod_uid=UID, url="https://127.0.0.1:1", token_file=tmp_path / "token", authority_file=authority_file
    )


def refusal(section: SecuritySection, pool: PoolSection = POOL) -> list[str]:
    with pytest.raises(SettingsError) as raised:
        keeper_of(pool, section, Role.ELEMENT, LOOPBACK)
    return raised.value.lines


def test_without_security_nobody_has_an_identity() -> None:
    assert keeper_of(POOL, SecuritySection(mode="Insecure"), Role.ELEMENT, None) is None
    section = SecuritySection(mode="Insecure")
    assert isinstance(scope_of(POOL, section, anonymous=True, registrar_threat="2.6"), InsecureScope)


def test_a_complete_section_gives_a_keeper_that_has_nothing_yet(enrolling: SecuritySection) -> None:
    keeper = keeper_of(POOL, enrolling, Role.ELEMENT, LOOPBACK)
    assert keeper is not None
    assert keeper.leaf is None


def test_who_says_nothing_is_told_every_key_that_is_missing() -> None:
    keys = ("url", "token_file", "authority_file", "pod_uid")
    assert refusal(SecuritySection()) == [f"[security] {key} is required with source = 'enrolment'" for key in keys]
    files = ("chain_file", "key_file", "bundle_file")
    assert refusal(SecuritySection(source="files")) == [
        f"[security] {key} is required with source = 'files'" for key in files
    ]


@pytest.mark.parametrize("missing", ["url", "token_file", "authority_file", "pod_uid"])
def test_each_key_of_enrolment_is_needed(enrolling: SecuritySection, missing: str) -> None:
    empty: Any = "" if isinstance(getattr(enrolling, missing), str) else None
    (line,) = refusal(replace(enrolling, **{missing: empty}))
    assert line.startswith(f"[security] {missing} is required")


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://operator:8443", "write https://HOST:PORT"),
        ("operator:8443", "write https://HOST:PORT"),
        ("https://", "write https://HOST:PORT"),
        ("https://operator:99999", "write https://HOST:PORT"),
        ("https://operator:http", "write https://HOST:PORT"),
        ("https://[::1", "write https://HOST:PORT"),
    ],
)
def test_a_place_nobody_can_enrol_at_is_refused_and_shown(enrolling: SecuritySection, url: str, said: str) -> None:
    (line,) = refusal(replace(enrolling, url=url))
    assert line.startswith("[security] ")
    assert url in line
    assert said in line


def test_an_authority_file_that_is_away_or_no_certificate_is_named(enrolling: SecuritySection) -> None:
    file = enrolling.authority_file
    assert file is not None
    file.write_text("not PEM")
    (line,) = refusal(enrolling)
    assert line.startswith(f"[security] authority_file {file}")
    file.unlink()
    assert refusal(enrolling) == [f"[security] authority_file {file}: No such file or directory"]


@pytest.mark.parametrize(
    ("pool", "uid"), [(POOL, "echo-0"), (POOL, UID.upper()), (replace(POOL, name="Echo"), UID)], ids=str
)
def test_names_that_make_no_identity_are_refused(enrolling: SecuritySection, pool: PoolSection, uid: str) -> None:
    (line,) = refusal(replace(enrolling, pod_uid=uid), pool)
    assert line.startswith("[pool] and [security] pod_uid name no identity: ")


@pytest.mark.parametrize("given", [identity(pool="other"), identity(Role.USER), identity(Role.REGISTRAR)], ids=str)
def test_files_with_somebody_elses_leaf_are_refused_with_both_names(
    tmp_path: Path, given: LeafIdentity, caplog: pytest.LogCaptureFixture
) -> None:
    """Every peer would refuse who shows it; here is the one place that can say why."""
    made = credentials(authority(), given)
    assert made.key is not None
    (tmp_path / "both").write_bytes(made.chain[0].public_bytes(serialization.Encoding.PEM) + pem_key(made.key))
    (tmp_path / "bundle").write_bytes(made.bundle[0].public_bytes(serialization.Encoding.PEM))
    section = SecuritySection(
        source="files", chain_file=tmp_path / "both", key_file=tmp_path / "both", bundle_file=tmp_path / "bundle"
    )

    async def run() -> None:
        keeper = keeper_of(POOL, section, Role.ELEMENT, None)
        assert keeper is not None
        first = asyncio.ensure_future(keeper.first())
        await asyncio.sleep(5)
        assert not first.done()
        first.cancel()

    quickly(run())
    assert str(given) in caplog.text
    assert "spiffe://cluster.local/ns/demo/pool/echo/element" in caplog.text


def test_the_identity_is_made_of_the_sections(enrolling: SecuritySection) -> None:
    for role in (Role.REGISTRAR, Role.ELEMENT):
        assert leaf_identity(POOL, enrolling, role) == identity(role)


def test_the_scope_holds_the_pools_handle_and_whom_it_lets_in() -> None:
    pool = replace(POOL, handle="other")
    scope = scope_of(pool, SecuritySection(), anonymous=False, registrar_threat="2.5")
    assert scope == SecureScope(pool_handle=b"other", anonymous=False, registrar_threat="2.5")
    denial = scope.may(principal_of(identity()), Action.REGISTER, b"echo", 1)
    assert denial is not None
    assert denial.threat == "2.4"
    assert scope.may(Principal(role=Role.ANONYMOUS, name="a"), Action.RESOLVE, b"other") is not None


def test_the_handle_is_the_pools_name_unless_one_is_given() -> None:
    assert POOL.pool_handle == b"echo"
    assert replace(POOL, handle="gr\u00fc\u00df dich").pool_handle == "gr\u00fc\u00df dich".encode()


def test_no_secret_stands_in_the_sections(enrolling: SecuritySection, tmp_path: Path) -> None:
    """They are logged and shown: they name files, never what is in them."""
    made = authority()
    (tmp_path / "token").write_text("s3cret")
    (tmp_path / "key.pem").write_bytes(pem_key(made._key))
    keeper = keeper_of(POOL, enrolling, Role.ELEMENT, LOOPBACK)
    assert "s3cret" not in f"{enrolling!r} {vars(keeper)!r}"


# -- an operator


def operated(section: SecuritySection, url: str = "https://operator:8443") -> list[str]:
    with pytest.raises(SettingsError) as raised:
        operator_of(OperatorSection(url=url), section, LOOPBACK)
    return raised.value.lines


def test_without_an_url_there_is_no_operator_and_nothing_is_asked_of_the_configuration() -> None:
    assert operator_of(OperatorSection(), SecuritySection(), LOOPBACK) is None


def test_the_authority_may_stand_in_the_configuration_itself_and_one_of_both_must(
    enrolling: SecuritySection, tmp_path: Path
) -> None:
    assert enrolling.authority_file is not None
    itself = replace(enrolling, authority_file=None, authority=enrolling.authority_file.read_text())
    assert keeper_of(POOL, itself, Role.ELEMENT, LOOPBACK) is not None
    operator = operator_of(
        OperatorSection(url="https://operator:8443"), replace(itself, directory=tmp_path / "i"), LOOPBACK
    )
    assert operator is not None
    assert operator.vault is not None
    assert (tmp_path / "i").stat().st_mode & 0o777 == 0o700
    both = replace(enrolling, authority=itself.authority)
    neither = replace(enrolling, authority_file=None)
    for wrong in (both, neither):
        assert "write one of them" in operated(wrong)[0]
    assert "write one of them" in refusal(both)[0]
    assert operated(replace(itself, authority="junk")) == [
        "[security] authority: is no certificate; write a certificate in PEM"
    ]


def test_an_url_of_no_operator_is_refused_and_shown(enrolling: SecuritySection) -> None:
    (line,) = operated(enrolling, "http://operator")
    assert line.startswith("[operator] 'http://operator' is no place")


def test_a_process_with_an_operator_has_an_identity_also_in_a_scope_without_security(
    enrolling: SecuritySection,
) -> None:
    section = replace(enrolling, mode="Insecure")
    assert keeper_of(POOL, section, Role.ELEMENT, LOOPBACK) is None
    assert keeper_of(POOL, section, Role.ELEMENT, LOOPBACK, operated=True) is not None
