# SPDX-License-Identifier: Apache-2.0
"""The control channel of one process, as long as it lives: asks, keeps versions, hands on what is new.

A registrar lets the operator wait with its answer until there is news; a sidecar asks now and then, and at once when
its own state has changed. When the operator is away everything runs on with what it has.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final

from cryptography import x509
from OpenSSL import SSL

from rserpool.asap.authorisation import Role
from rserpool.daemon.control_channel import CONTROL, Answer, Bundle, ChannelError, Ended, Loaded, question, read_answer
from rserpool.daemon.credentials import Keeper
from rserpool.daemon.enrolment import https_place
from rserpool.daemon.vault import Tables, Vault
from rserpool.transport.http import HttpError, Target, ask
from rserpool.transport.tls import Credentials, make_context
from rserpool.wire import Address

_log: Final = logging.getLogger(__name__)
WAIT: Final = 25.0
"""Seconds for which a registrar lets the operator wait for news."""
SHORT_WAIT: Final = 2.0
LIVELY: Final = 60.0
"""Seconds after its start and after a change of its elements for which a registrar asks with the short wait, so that
what it counts is known soon."""
INTERVAL: Final = 30.0
"""Of a sidecar, 20 % more or less."""
SOON: Final = 2.0
"""Of a sidecar to which the operator had nothing to say yet."""
PATIENCE: Final = 10.0
"""Beyond the wait, until an answer must be there."""
AT_MOST: Final = {Role.REGISTRAR: 0.2, Role.ELEMENT: 1.0}
"""Seconds at least between two questions."""
STALE: Final = 5.0
"""Until a registrar asks again that was only told what it knows and cannot follow (yet)."""
FIRST_PAUSE: Final = 1.0
"""After the first question that was not answered; doubled with each."""
LONGEST_PAUSE: Final = 30.0
LONGEST_AT_START: Final = 5.0
"""The longest pause of a process that cannot begin without an answer."""
HUNG_UP: Final = ("alert", "closed by the peer", "reset by peer")
"""How a question ends that was heard and not answered: so TLS says that it does not believe a certificate (TLS 1.3
tells the client after its handshake, if the words reach it before the end of the connection does)."""
ESTRANGED_AFTER: Final = 3
"""Questions in a row that ended so: a leader that restarts hangs up once."""
ESTRANGED: Final = 60.0
"""Seconds between two attempts to obtain a leaf that the operator believes."""
MOST_REASONS: Final = 8
State = Mapping[str, object]


class ControlClient:
    """Asks one operator.

    Args:
        url: ``https://host:port``, of its leader.
        authority: certificate of who signs its server's, PEM.
        local: address to ask from.

    Raises:
        ValueError: the URL is not https, or the authority is not a certificate.
    """

    def __init__(self, url: str, authority: bytes, local: Address | None) -> None:
        self._host, self._port = https_place(url)
        self._local = local
        self._pinned = Credentials.trusting(authority)
        self._context: SSL.Context | None = None
        self._shown: tuple[x509.Certificate, ...] = ()

    async def ask(self, body: bytes, current: Credentials, wait: float) -> Answer:
        """Ask once, with the current leaf.

        Raises:
            ChannelError: there is no answer that can be used.
        """
        if self._context is None or self._shown is not current.chain:
            credentials = Credentials(chain=current.chain, bundle=self._pinned.bundle, key=current.key)
            self._context, self._shown = make_context(credentials, require_certificate=True), current.chain
        target = Target(host=self._host, port=self._port, context=self._context, local=self._local)
        headers = {"content-type": "application/json"}
        try:
            response = await ask(target, "POST", CONTROL, body=body, headers=headers, timeout=wait + PATIENCE)
        except HttpError as e:
            where = f"the operator at {self._host}:{self._port}"
            hung_up = any(word in str(e) for word in HUNG_UP)
            raise ChannelError(f"{where} cannot be asked: {e}", hung_up=hung_up) from None
        return read_answer(response.status, response.body)


class Channel:
    """One process's end of the channel.

    Args:
        client: asks.
        keeper: of this process's credentials: its leaf is shown, its bundle replaced, its leaf renewed on command.
        role: of this process.
        state: how it is, read before each question.
        vault: where it is kept which order to renew has been carried out.

    Attributes:
        on_settings: given version and tables; returns the version in force now, which may be the former one.
        on_ended: given the pods that ended and the leaves that were revoked.
        tried: set after the first question, whatever came of it.
        problem: why the last question was not answered; empty after one that was.
        successes, failures, last_success: counted since the start; the time is Unix time.
    """

    def __init__(
        self, client: ControlClient, keeper: Keeper, role: Role, state: Callable[[], State], vault: Vault | None = None
    ) -> None:
        self._client = client
        self._keeper = keeper
        self._role = role
        self._state = state
        self._vault = vault
        renewed = vault.renewed() if vault is not None and keeper.restored else ""
        self._loaded = Loaded(renew=renewed)
        self._renewing = ""
        self._seen: frozenset[tuple[str, str]] = frozenset()
        self._told: tuple[Loaded, State] | None = None
        self._changed = asyncio.Event()
        self._lively_until = asyncio.get_running_loop().time() + LIVELY
        self._reasons: set[str] = set()
        self._estranged_until = 0.0
        self._hung_up = 0
        self.on_settings: Callable[[str, Tables], str] = lambda _version, _tables: ""
        self.on_ended: Callable[[Ended], None] = lambda _: None
        self.tried = asyncio.Event()
        self.problem = ""
        self.successes = self.failures = 0
        self.last_success = 0.0
        keeper.on_other_bundle = self._other_bundle

    @property
    def loaded(self) -> Loaded:
        """The versions in force."""
        return self._loaded

    def has_settings(self, version: str) -> None:
        """Settings of that version are in force, which came from elsewhere."""
        self._load(settings=version)

    def changed(self) -> None:
        """This process's state may have changed: a sidecar says so at once."""
        self._changed.set()

    def lively(self) -> None:
        """Elements have come or gone: a registrar asks more often for a while."""
        self._lively_until = asyncio.get_running_loop().time() + LIVELY
        self._changed.set()

    async def run(self) -> None:
        """Ask for ever."""
        loop = asyncio.get_running_loop()
        pause = FIRST_PAUSE
        while True:
            began, wait = loop.time(), self._wait()
            self._changed.clear()
            loaded, state = self._told = self._loaded, self._state()
            body = question(self._role, wait, loaded, state)
            try:
                answer = await self._client.ask(body, self._keeper.current, wait)
            except ChannelError as e:
                self._failed(str(e))
                self._hung_up = self._hung_up + 1 if e.hung_up else 0
                if e.revoked or self._hung_up >= ESTRANGED_AFTER:
                    self._estranged()
                await asyncio.sleep(pause * random.uniform(0.8, 1.2))  # noqa: S311 - only spreads load
                pause = min(pause * 2, LONGEST_PAUSE if self._loaded.settings else LONGEST_AT_START)
                continue
            pause, self._hung_up = FIRST_PAUSE, 0
            news = self._take(answer)
            self._succeeded()
            await self._rest(began, news=news, early=loop.time() - began < wait / 2)

    # -- the rhythm

    def _wait(self) -> float:
        """How long the operator may wait for news."""
        if self._role is not Role.REGISTRAR:
            return 0
        return SHORT_WAIT if asyncio.get_running_loop().time() < self._lively_until else WAIT

    async def _rest(self, began: float, *, news: bool, early: bool) -> None:
        """Wait until the next question is due.

        Args:
            began: when the last one was asked.
            news: it was answered with something new.
            early: the operator did not wait with its answer as long as it may.
        """
        if self._role is not Role.REGISTRAR:
            interval = INTERVAL * random.uniform(0.8, 1.2)  # noqa: S311 - only spreads load
            await self._until_changed(interval if self._loaded.settings else SOON)
        elif early and not news:
            await self._until_changed(STALE)
        loop = asyncio.get_running_loop()
        await asyncio.sleep(max(0.0, began + AT_MOST[self._role] - loop.time()))

    async def _until_changed(self, seconds: float) -> None:
        """Wait, unless there is something to tell."""
        try:
            async with asyncio.timeout(seconds):
                while self._told == (self._loaded, self._state()):
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            return

    # -- what comes back

    def _take(self, answer: Answer) -> bool:
        """Hand on what is new; returns whether anything was that had not been seen before."""
        news, self._seen = not answer.versions <= self._seen, answer.versions
        if answer.bundle is not None:
            self._trust(answer.bundle, again=not news)
        if answer.ended is not None:
            self.on_ended(answer.ended)
            self._load(ended=answer.ended.version)
        if answer.renew is not None:
            self._renew(answer.renew)
        if answer.settings is not None:
            self._load(settings=self.on_settings(answer.settings.version, answer.settings.tables))
        return news

    def _load(self, **versions: str) -> None:
        self._loaded = replace(self._loaded, **versions)
        self._changed.set()

    def _trust(self, bundle: Bundle, *, again: bool) -> None:
        try:
            self._keeper.trust(bundle.pem)
        except ValueError as e:
            if not again:
                _log.error("the operator's trust bundle is no bundle, the former one stays in force: %s", e)
            return
        _log.info("another trust bundle is in force", extra={"version": bundle.version})
        self._load(bundle=bundle.version)

    def _other_bundle(self) -> None:
        """A renewal brought one, perhaps an older one than the channel did: ask which it is to be."""
        self._load(bundle="")

    def _renew(self, version: str) -> None:
        if not self._loaded.renew and not self._keeper.restored:  # it has just enrolled
            self._renewed(version)
        elif version != self._renewing:
            self._renewing = version
            _log.info("a new leaf is asked for, as the operator orders")
            self._keeper.renew_now(lambda: self._renewed(version))

    def _renewed(self, version: str) -> None:
        if self._vault is not None:
            self._vault.keep_renewed(version)
        self._load(renew=version)

    # -- how it goes

    def _succeeded(self) -> None:
        if self.problem:
            _log.info("the operator answers again")
        self.problem = ""
        self._reasons.clear()
        self.successes += 1
        self.last_success = time.time()
        self.tried.set()

    def _estranged(self) -> None:
        """The operator believes our leaf no more: it was revoked, or the pool made anew. Another leaf may help."""
        now = asyncio.get_running_loop().time()
        if now >= self._estranged_until:
            self._estranged_until = now + ESTRANGED
            _log.warning("the operator does not believe this leaf; another one is asked for")
            self._keeper.renew_now(lambda: None)

    def _failed(self, reason: str) -> None:
        self.failures += 1
        self.problem = reason
        self.tried.set()
        if reason not in self._reasons and len(self._reasons) < MOST_REASONS:
            self._reasons.add(reason)
            _log.warning("%s; going on with what is there, and asking again", reason)


def channel_gauges(channel: Channel | None) -> dict[str, tuple[str, float]]:
    """What metrics show of a channel, and of a process that has none."""
    text = "Questions to the operator over the control channel, by outcome."
    return {
        "rserpool_channel_questions_total|outcome=answered": (text, channel.successes if channel else 0),
        "rserpool_channel_questions_total|outcome=failed": (text, channel.failures if channel else 0),
        "rserpool_channel_last_answer_timestamp_seconds": (
            "When the operator answered last; 0: never.",
            channel.last_success if channel else 0.0,
        ),
    }
