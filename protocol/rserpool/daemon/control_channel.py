# SPDX-License-Identifier: Apache-2.0
"""What is said over the control channel: one question, one answer, JSON both.

A process says which versions are in force in it and how it is; the operator answers with those parts whose version
differs. Versions are opaque. Whatever comes back is read in full or not at all, and is bounded.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

from rserpool.asap.authorisation import Role
from rserpool.daemon.vault import Tables, settings_of
from rserpool.identity.revoked import LEAF_REVOKED, MOST_REVOKED

CONTROL: Final = "/v1/control"
MOST_ANSWER: Final = 2 * 1024 * 1024
"""Octets of an answer."""
LONGEST_VERSION: Final = 256
LONGEST_MESSAGE: Final = 300
MOST_PODS: Final = 20_000
"""Pods in a list of those that ended."""
_UID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_SERIAL: Final = re.compile(r"[0-9a-fA-F]{1,40}")


class ChannelError(Exception):
    """The operator gave no answer that can be used; the text says why, in one line.

    Attributes:
        hung_up: it was reached, and ended the connection instead of answering.
        revoked: it does not accept this process's leaf any more, and another one may help.
    """

    def __init__(self, message: str, *, hung_up: bool = False, revoked: bool = False) -> None:
        super().__init__(message)
        self.hung_up = hung_up
        self.revoked = revoked


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """The versions in force in this process; empty: none yet."""

    settings: str = ""
    bundle: str = ""
    ended: str = ""
    renew: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the pool shall be, as tables of sections and keys."""

    version: str
    tables: Tables


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """The authorities to trust from now on, PEM."""

    version: str
    pem: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """All pods of the scope that are gone or revoked, by UID, and all leaves that were revoked, by serial number."""

    version: str
    pod_uids: tuple[str, ...]
    serials: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the operator says; ``None`` for each part that is as it was.

    Attributes:
        renew: the version of an order to obtain a new leaf now.
    """

    settings: Settings | None = None
    bundle: Bundle | None = None
    ended: Ended | None = None
    renew: str | None = None

    @property
    def versions(self) -> frozenset[tuple[str, str]]:
        """Part and version of everything it says."""
        parts = {"settings": self.settings, "bundle": self.bundle, "ended": self.ended}
        told = {(name, part.version) for name, part in parts.items() if part is not None}
        return frozenset(told | ({("renew", self.renew)} if self.renew is not None else set()))


def question(role: Role, wait: float, loaded: Loaded, state: Mapping[str, object]) -> bytes:
    """The body of a question.

    Args:
        role: of this process.
        wait: seconds for which the operator may wait for news before it answers.
        loaded: what is in force here.
        state: how this process is.
    """
    body = {"role": role.value, "wait": wait, "loaded": asdict(loaded), "transports": ["TCP"], "state": dict(state)}
    return json.dumps(body).encode()


def read_answer(status: int, body: bytes) -> Answer:
    """Read an answer; what a newer operator says beyond this is not for us.

    Raises:
        ChannelError: a refusal, or no answer as it should be.
    """
    if len(body) > MOST_ANSWER:
        raise ChannelError("the operator's answer is too long")
    try:
        fields = json.loads(body)
        if not isinstance(fields, dict):
            raise ValueError("no object")  # noqa: TRY301 - what is no answer is judged below, in one place
        if status != 200:
            message = f"the operator refuses: {one_line(_text(fields, 'message', LONGEST_MESSAGE * 10))}"
            raise ChannelError(message, revoked=fields.get("reason") == LEAF_REVOKED)
        return _answer(fields)
    except (ValueError, RecursionError) as e:
        why = f": {one_line(str(e))}" if status == 200 and type(e) is ValueError else ""
        raise ChannelError(f"the operator answered {status}, not as it should{why}") from None


def _answer(fields: dict[str, Any]) -> Answer:
    settings = bundle = ended = renew = None
    if "settings" in fields:
        version, tables = settings_of(fields["settings"])
        json.dumps(tables, ensure_ascii=False).encode()  # half a character, which JSON can say, is none of ours
        settings = Settings(version=_version({"version": version}), tables=tables)
    if "bundle" in fields:
        bundle = Bundle(version=_version(fields["bundle"]), pem=_text(fields["bundle"], "pem", MOST_ANSWER).encode())
    if "ended" in fields:
        ended = _ended(fields["ended"])
    if "renew" in fields:
        renew = _version(fields["renew"])
    return Answer(settings=settings, bundle=bundle, ended=ended, renew=renew)


def _ended(part: object) -> Ended:
    uids, serials = (part.get("pod_uids"), part.get("serials", [])) if isinstance(part, dict) else (None, None)
    if not isinstance(uids, list) or len(uids) > MOST_PODS:
        raise ValueError(f"ended must list at most {MOST_PODS} pod_uids")
    if not isinstance(serials, list) or len(serials) > MOST_REVOKED:
        raise ValueError(f"ended must list at most {MOST_REVOKED} serials")
    if not all(isinstance(entry, str) for entry in (*uids, *serials)):
        raise ValueError("ended lists what is no text")
    sound = tuple(uid for uid in uids if _UID.fullmatch(uid))  # no certificate names any other
    numbers = tuple(int(serial, 16) for serial in serials if _SERIAL.fullmatch(serial))
    return Ended(version=_version(part), pod_uids=sound, serials=numbers)


def _version(part: object) -> str:
    version = _text(part, "version", LONGEST_VERSION)
    if not version or not version.isprintable():
        raise ValueError("a version must be printable, and not empty")
    return version


def _text(part: object, key: str, most: int) -> str:
    value = part.get(key) if isinstance(part, dict) else None
    if not isinstance(value, str) or len(value) > most or not _encodes(value):
        raise ValueError(f"{key} must be text of at most {most} characters")
    return value


def _encodes(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:  # half a character, which JSON can say
        return False
    return True


def one_line(text: str) -> str:
    """What somebody else said, fit for a line of ours."""
    line = "".join(c if c.isprintable() else " " for c in text)
    return line if len(line) <= LONGEST_MESSAGE else line[:LONGEST_MESSAGE] + "..."
