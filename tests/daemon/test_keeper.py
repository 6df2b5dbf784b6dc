# SPDX-License-Identifier: Apache-2.0
"""The keeper renews at two thirds of a leaf's life, not all pods at once, and what is built on it goes on undisturbed."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from rserpool.asap.authorisation import Role
from rserpool.daemon import credentials as subject
from rserpool.daemon.credentials import CredentialsError, Keeper
from rserpool.identity import IdentityError
from rserpool.identity.certificates import leaf_of
from rserpool.transport.security import Security
from rserpool.transport.tls import Credentials, TlsEngine, TlsError, make_context
from rserpool.wire import Ppid
from support.rig_identity import DAY, HOUR, NOW, Craft, authority, credentials, identity, quickly, shake_hands

CA = authority(life=30 * DAY)
NEXT = authority("next")
REGISTRAR = identity(Role.REGISTRAR)
NAMES = [x509.UniformResourceIdentifier(str(REGISTRAR))]


class EndOfTestError(Exception):
    """There is nothing more to hand out."""


class Script:
    """A source that hands out what a test says, and notes when the keeper would have asked again."""

    def __init__(self, *given: Credentials | CredentialsError) -> None:
        self.given = deque(given)
        self.seen: list[Credentials | None] = []
        self.renew_after: list[float] = []
        self.left: Credentials | None = None
        self.kept: list[Credentials] = []

    async def obtain(self, current: Credentials | None) -> Credentials:
        self.seen.append(current)
        if not self.given:
            raise EndOfTestError
        given = self.given.popleft()
        if isinstance(given, CredentialsError):
            raise given
        return given

    async def changed(self, current: Credentials, renew_after: float) -> None:
        del current
        self.renew_after.append(renew_after)

    def restore(self) -> Credentials | None:
        return self.left

    def keep(self, credentials: Credentials) -> None:
        self.kept.append(credentials)


def left(life: timedelta) -> float:
    """Seconds that leaves of that life have left: they begin when these files are read, and are obtained later."""
    return (life - (datetime.now(UTC) - NOW)).total_seconds()


def security(made: Credentials) -> Security:
    return Security(trust_domain="cluster.local", namespace="demo", pool="echo", role=Role.REGISTRAR, credentials=made)


def played(script: Script) -> Keeper:
    """A keeper that went through the whole script."""

    async def run() -> Keeper:
        keeper = Keeper(script, security)
        await keeper.first()
        with pytest.raises(EndOfTestError):
            await keeper.run()
        return keeper

    return quickly(run())


def too_weak() -> Credentials:
    """A key that our reader takes and OpenSSL does not."""
    return Craft(names=NAMES, key=ec.generate_private_key(ec.SECP192R1())).credentials(CA, CA)


def test_a_leaf_is_renewed_at_two_thirds_of_its_life_a_little_earlier_at_random() -> None:
    """Of a day: at 16 hours, or up to 72 minutes before; hundreds of pods that started together do not come together."""
    script = Script(*[credentials(CA, REGISTRAR)] * 200)
    played(script)
    parts = [after / left(DAY) for after in script.renew_after]
    assert len(parts) == 200
    assert all(2 / 3 - 0.051 < part < 2 / 3 + 0.002 for part in parts), (min(parts), max(parts))
    assert max(parts) - min(parts) > 0.03
    assert len({round(part, 6) for part in parts}) > 150


@pytest.mark.parametrize("life", [HOUR, 10 * DAY])
def test_the_time_is_measured_at_the_leaf_and_not_fixed(life: timedelta) -> None:
    script = Script(credentials(authority(life=30 * DAY, leaf_life=life), REGISTRAR))
    played(script)
    assert 0.6 * left(life) < script.renew_after[0] < 0.67 * left(life)


def test_a_leaf_that_is_over_is_not_asked_for_in_an_endless_hurry() -> None:
    script = Script(Craft(names=NAMES, begin=NOW - 2 * DAY, end=NOW - DAY).credentials(CA, CA))
    played(script)
    assert script.renew_after[0] == 1.0


def test_the_source_is_told_what_is_in_use() -> None:
    first, second = credentials(CA, REGISTRAR), credentials(CA, REGISTRAR)
    script = Script(first, CredentialsError("away"), second)
    keeper = played(script)
    assert script.seen == [None, first, first, second]
    assert (keeper.renewals, keeper.failures) == (1, 1)
    assert keeper.leaf == leaf_of(second.chain[0])


def test_new_associations_use_the_new_leaf_and_the_new_bundle_and_standing_ones_go_on() -> None:
    """Replacement of the authority, as it goes over one process: trust both, change the leaf, trust the new one."""
    both = (CA.certificate, NEXT.certificate)
    old, new = credentials(CA, REGISTRAR), credentials(NEXT, REGISTRAR)
    member_of = {"old": security(credentials(CA, identity())), "new": security(credentials(NEXT, identity()))}
    stages = [
        old,
        Credentials(old.chain, both, old.key),
        Credentials(new.chain, both, new.key),
        Credentials(new.chain, (NEXT.certificate,), new.key),
    ]
    met: list[set[str]] = []
    standing: list[tuple[TlsEngine, TlsEngine]] = []

    def meets(used: Security, who: Security) -> bool:
        try:
            standing.append(shake_hands(who.client_context, used.server_context(Ppid.ENRP)))
        except TlsError:
            return False
        return True

    async def run() -> None:
        keeper = Keeper(Script(*stages), security)
        used = await keeper.first()

        def look() -> None:
            met.append({name for name, who in member_of.items() if meets(used, who)})

        look()
        keeper.on_renewed = look
        with pytest.raises(EndOfTestError):
            await keeper.run()

    quickly(run())
    assert met == [{"old"}, {"old"}, {"new"}, {"new"}]
    for ours, theirs in standing:
        ours.write(b"still here")
        assert theirs.feed(ours.outgoing()) == [b"still here"]


def test_credentials_that_cannot_be_used_leave_the_former_ones_in_force(caplog: pytest.LogCaptureFixture) -> None:
    first, last = credentials(CA, REGISTRAR), credentials(CA, REGISTRAR)
    in_use: list[Credentials] = []

    async def run() -> Keeper:
        script = Script(first, too_weak(), too_weak(), last)
        keeper = Keeper(script, security)
        used = await keeper.first()
        keeper.on_renewed = lambda: in_use.append(used.credentials)
        with pytest.raises(EndOfTestError):
            await keeper.run()
        assert script.seen == [None, first, first, first, last], "what cannot be used was taken for what is in use"
        return keeper

    keeper = quickly(run())
    assert in_use == [last]
    assert (keeper.renewals, keeper.failures) == (1, 2)
    assert caplog.text.count("the new credentials cannot be used, the former stay in use") == 2


def test_the_metrics_show_the_leaf_in_use_and_not_one_that_could_not_be_used() -> None:
    first = credentials(CA, REGISTRAR)

    async def run() -> Keeper:
        keeper = Keeper(Script(first, too_weak()), security)
        await keeper.first()
        with pytest.raises(EndOfTestError):
            await keeper.run()
        return keeper

    keeper = quickly(run())
    assert keeper.leaf == leaf_of(first.chain[0])


def test_first_credentials_that_cannot_be_used_are_asked_for_again() -> None:
    good = credentials(CA, REGISTRAR)
    keeper = played(Script(too_weak(), CredentialsError("away"), good))
    assert keeper.leaf == leaf_of(good.chain[0])
    assert keeper.failures == 2


def test_the_metrics_tell_when_the_leaf_ends_and_how_often_it_was_renewed() -> None:
    keeper = Keeper(Script(), security)
    assert {name: value for name, (_, value) in keeper.gauges().items()} == {
        "rserpool_leaf_not_after_timestamp_seconds": 0.0,
        "rserpool_leaf_renewals_total": 0,
        "rserpool_leaf_failures_total": 0,
    }
    made = credentials(CA, REGISTRAR)
    gauges = played(Script(CredentialsError("a"), made, CredentialsError("b"), made, made)).gauges()
    assert {name: value for name, (_, value) in gauges.items()} == {
        "rserpool_leaf_not_after_timestamp_seconds": (NOW + DAY).timestamp(),
        "rserpool_leaf_renewals_total": 2,
        "rserpool_leaf_failures_total": 2,
    }


def test_a_renewal_is_one_line_with_the_new_end(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    played(Script(*[credentials(CA, REGISTRAR)] * 2))
    assert [record.getMessage() for record in caplog.records if record.name == subject.__name__] == [
        f"the leaf was renewed; it is valid until {(NOW + DAY).isoformat()}"
    ]


def test_a_peer_of_another_pool_of_the_same_authority_is_nobody() -> None:
    """What the keeper's security makes of a chain that is good for TLS."""
    used = security(credentials(CA, REGISTRAR))
    other = security(credentials(CA, identity(pool="other")))
    _, theirs = shake_hands(other.client_context, used.server_context(Ppid.ENRP))
    with pytest.raises(IdentityError, match=r"is not of spiffe://cluster\.local/ns/demo/pool/echo"):
        used.principal(theirs.peer_certificate, "10.0.0.9")


# -- after a restart of the container, and on command


def test_what_is_left_of_before_is_taken_up_without_asking_anybody() -> None:
    left = credentials(CA, REGISTRAR)
    script = Script(credentials(CA, REGISTRAR))
    script.left = left

    async def run() -> Keeper:
        keeper = Keeper(script, security)
        made = await keeper.first()
        assert made.credentials is left
        assert keeper.restored
        assert script.seen == []
        with pytest.raises(EndOfTestError):
            await keeper.run()
        return keeper

    keeper = quickly(run())
    assert not keeper.restored
    assert script.seen[0] is left
    assert len(script.kept) == 1, "what was taken up is there already"


def test_a_leaf_taken_up_late_in_its_life_is_renewed_when_two_thirds_of_the_whole_are_over() -> None:
    now = datetime.now(UTC)
    half = Craft(names=NAMES, begin=now - HOUR, end=now + HOUR).credentials(CA, CA)
    over = Craft(names=NAMES, begin=NOW - 9 * HOUR, end=NOW + HOUR).credentials(CA, CA)
    for left, low, high in ((half, 0.2 * 3600, 0.34 * 3600), (over, 1.0, 1.0)):
        script = Script()
        script.left = left
        played(script)
        assert low <= script.renew_after[0] <= high


def test_what_is_left_and_cannot_be_used_is_asked_for_anew(caplog: pytest.LogCaptureFixture) -> None:
    good = credentials(CA, REGISTRAR)
    script = Script(good)
    script.left = too_weak()
    keeper = played(script)
    assert not keeper.restored
    assert script.seen[0] is None
    assert script.kept == [good]
    assert "the identity that was kept cannot be used" in caplog.text


def test_a_bundle_is_replaced_for_new_associations_and_what_is_none_changes_nothing() -> None:
    script = Script(credentials(CA, REGISTRAR))

    async def run() -> None:
        keeper = Keeper(script, security)
        made = await keeper.first()
        before = made.credentials
        for junk in (b"", b"junk", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"):
            with pytest.raises(ValueError, match=r"."):
                keeper.trust(junk)
        assert made.credentials is before
        theirs = make_context(credentials(NEXT, REGISTRAR), require_certificate=False)
        with pytest.raises(TlsError):
            shake_hands(made.client_context, theirs)
        keeper.trust(CA.bundle + NEXT.bundle)
        assert made.credentials.chain == before.chain
        ours = credentials(NEXT, REGISTRAR)
        trusting = make_context(Credentials(ours.chain, before.bundle, ours.key), require_certificate=True)
        shake_hands(made.client_context, trusting)
        assert script.kept[-1] is made.credentials

    quickly(run())


def test_a_renewal_on_command_is_told_when_the_new_leaf_is_in_use() -> None:
    class Waiting(Script):
        async def changed(self, current: Credentials, renew_after: float) -> None:
            del current
            await asyncio.sleep(renew_after)

    second = credentials(CA, REGISTRAR)
    script = Waiting(credentials(CA, REGISTRAR), CredentialsError("away"), second)

    async def run() -> None:
        keeper, renewed = Keeper(script, security), asyncio.Event()
        used = await keeper.first()
        running = asyncio.ensure_future(keeper.run())
        await asyncio.sleep(5)
        assert keeper.renewals == 0
        keeper.renew_now(renewed.set)
        await renewed.wait()
        assert used.credentials is second
        assert (keeper.renewals, keeper.failures) == (1, 1)
        assert not running.done()
        running.cancel()

    quickly(run())


@pytest.mark.parametrize(("left", "within"), [(timedelta(hours=8), 60.0), (timedelta(seconds=7), 3.5), (-HOUR, 0.0)])
def test_associations_are_replaced_while_the_former_leaf_is_good_and_within_a_minute(
    left: timedelta, within: float
) -> None:
    ends = datetime.now(UTC) + left
    former = Craft(names=NAMES, begin=ends - DAY, end=ends).credentials(CA, CA)
    told: list[float] = []

    async def run() -> None:
        keeper = Keeper(Script(former, credentials(CA, REGISTRAR)), security)
        await keeper.first()
        keeper.on_renewed = lambda: told.append(keeper.replaced_within)
        with pytest.raises(EndOfTestError):
            await keeper.run()

    quickly(run())
    (found,) = told
    assert within - 1 <= found <= within
