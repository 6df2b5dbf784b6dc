# SPDX-License-Identifier: Apache-2.0
"""Log lines: one a record whatever a peer sent, text or JSON, and few of each peer however often it comes."""

from __future__ import annotations

import io
import json
import logging
import sys
from collections.abc import Callable, Iterator
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rserpool.asap.authorisation import Principal
from rserpool.asap.effects import Endpoint, TransportKind
from rserpool.daemon.logs import PeerLog, identity_of, set_up
from rserpool.identity.decisions import anonymous, unverified
from support.rig_identity import identity

log = logging.getLogger("rserpool.test")
STARTED = 1767225600.25


@pytest.fixture(autouse=True)
def _as_it_was() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    for handler in root.handlers[:]:
        root.removeHandler(handler)
    for handler in handlers:
        root.addHandler(handler)
    root.setLevel(level)


def written(form: str, message: str, *arguments: object, level: int = logging.INFO, **extra: object) -> str:
    """What one record becomes on standard error."""
    stderr, sys.stderr = sys.stderr, io.StringIO()
    try:
        set_up(form=form, level="debug")
        record = log.makeRecord(log.name, level, __file__, 1, message, arguments, None, extra=extra)
        record.created, record.msecs = STARTED, 250.0
        log.handle(record)
        return sys.stderr.getvalue()
    finally:
        sys.stderr = stderr


def test_a_line_of_text_has_time_level_message_and_fields() -> None:
    line = written("text", "refused %s", "X", level=logging.WARNING, peer="a at [::1]:7", threat="2.3", empty="")
    assert line == '2026-01-01T00:00:00.250Z WARNING refused X peer="a at [::1]:7" threat=2.3 empty=""\n'


def test_a_line_of_json_has_the_same() -> None:
    line = written("json", "refused %s", "X", level=logging.WARNING, peer="a", threat="2.3", count=3, at=("b", 1))
    assert json.loads(line) == {
        "time": "2026-01-01T00:00:00.250Z",
        "level": "warning",
        "message": "refused X",
        "peer": "a",
        "threat": "2.3",
        "count": 3,
        "at": ["b", 1],
    }
    assert json.loads(written("json", "m", obj=identity()))["obj"] == str(identity())


@pytest.mark.parametrize("form", ["text", "json"])
@given(sent=st.text(st.characters(), max_size=20))
def test_whatever_a_peer_sent_makes_one_line(form: str, sent: str) -> None:
    line = written(form, "from %s", sent, peer=sent)
    assert line.endswith("\n")
    assert line.count("\n") == 1
    assert not any(ord(c) < 32 for c in line[:-1])
    if form == "json":
        assert json.loads(line)["peer"] == sent


def test_a_peer_cannot_forge_a_line_or_a_field() -> None:
    forged = 'x\n2026-01-01T00:00:00Z ERROR all is lost peer="admin"'
    line = written("text", "not a message: %s", forged, reason=forged + " role=registrar")
    assert line.count("\n") == 1
    fields = line.split(" reason=")[1]
    assert json.loads(fields) == "x?" + forged[2:] + " role=registrar"


def test_an_exception_is_shown_with_its_record(capsys: pytest.CaptureFixture[str]) -> None:
    for form in ("text", "json"):
        set_up(form=form, level="info")
        log.error("failed", exc_info=ValueError("broken"))
    text, _, last = capsys.readouterr().err.rstrip("\n").rpartition("\n")
    assert text.endswith("Z ERROR failed\nValueError: broken")
    assert json.loads(last)["exception"] == "ValueError: broken"


def test_what_is_below_the_level_is_not_written(capsys: pytest.CaptureFixture[str]) -> None:
    set_up(form="text", level="warning")
    log.info("quiet")
    log.warning("loud")
    logging.getLogger("asyncio").info("quiet too")
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("WARNING loud")


# -- limits


class Lines(logging.Handler):
    """Keeps what is logged."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


@pytest.fixture
def lines() -> Iterator[Lines]:
    handler = Lines()
    log.addHandler(handler)
    yield handler
    log.removeHandler(handler)


def test_a_peer_is_written_about_once_a_minute_for_each_subject_and_then_how_often_it_was(lines: Lines) -> None:
    peers = PeerLog(log)
    wrote = [peers.write(logging.ERROR, "a", "2.3", "m", {}, at / 10) for at in range(1300)]
    assert [at for at, yes in enumerate(wrote) if yes] == [0, 600, 1200]
    assert [getattr(record, "unlogged_before", 0) for record in lines.records] == [0, 599, 599]


def test_peers_and_subjects_do_not_silence_each_other(lines: Lines) -> None:
    peers = PeerLog(log)
    told = [(peer, subject) for peer in "ab" for subject in ("2.1", "2.3")]
    assert all(peers.write(logging.ERROR, peer, subject, "m", {"peer": peer}, 0.0) for peer, subject in told)
    assert not any(peers.write(logging.ERROR, peer, subject, "m", {}, 59.9) for peer, subject in told)
    assert [vars(record)["peer"] for record in lines.records] == ["a", "a", "b", "b"]


def test_what_is_remembered_is_bounded_and_the_oldest_is_forgotten_first(lines: Lines) -> None:
    peers = PeerLog(log, most=100)
    for n in range(1000):
        peers.write(logging.ERROR, f"peer {n}", "2.1", "m", {}, 0.0)
    assert len(peers._muted) == 100
    assert not peers.write(logging.ERROR, "peer 999", "2.1", "m", {}, 1.0)
    assert peers.write(logging.ERROR, "peer 0", "2.1", "m", {}, 1.0)
    assert len(lines.records) == 1001


def test_a_level_that_is_not_written_mutes_nothing_else(lines: Lines) -> None:
    log.setLevel(logging.WARNING)
    try:
        PeerLog(log).write(logging.INFO, "a", "ignored", "m", {}, 0.0)
    finally:
        log.setLevel(logging.NOTSET)
    assert lines.records == []


def peer(name: str, *, v6: bool = False, port: int = 4711) -> str:
    """As associations and connections call a peer."""
    address = ip_address("fd00::9" if v6 else "10.0.0.9")
    return f"{name} at {Endpoint(TransportKind.TCP, (address,), port)}"


@pytest.mark.parametrize(
    ("called", "same"),
    [
        (peer(str(identity())), str(identity())),
        (peer(anonymous("10.0.0.9").name), "anonymous at 10.0.0.9"),
        (peer(anonymous("fd00::9").name, v6=True), "anonymous at fd00::9"),
        (peer(unverified("10.0.0.9").name), "10.0.0.9"),
        (peer(unverified("fd00::9").name, v6=True), "fd00::9"),
        ("10.0.0.9:4711", "10.0.0.9"),
        ("[fd00::9]:4711", "[fd00::9]"),
        ("unknown", "unknown"),
        ("", ""),
    ],
)
def test_a_peer_is_the_same_from_connection_to_connection(called: str, same: str) -> None:
    assert identity_of(called) == same


@pytest.mark.parametrize("who", [anonymous, unverified])
def test_two_neighbours_are_not_the_same(who: Callable[[str], Principal]) -> None:
    """Else the noise of one would hide what the other does."""
    for one, other in (("10.0.0.1", "10.0.0.2"), ("fd00::1", "fd00::2"), ("fd00::a", "fd00::1")):
        assert identity_of(peer(who(one).name)) != identity_of(peer(who(other).name))
