# SPDX-License-Identifier: Apache-2.0
"""However TCP cuts a stream of TLS records, all that was said is read, in order, and nothing waits for what comes later."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from rserpool.asap.authorisation import Role
from rserpool.transport.tls import TlsEngine, _Records, make_context
from support.rig_transport import credentials

CONTEXT = make_context(credentials(Role.REGISTRAR), require_certificate=True)


def pair() -> tuple[TlsEngine, TlsEngine]:
    """Two sides whose handshake is done."""
    client, server = TlsEngine(CONTEXT, server=False), TlsEngine(CONTEXT, server=True)
    client.start()
    while not (client.established and server.established):
        server.feed(client.outgoing())
        client.feed(server.outgoing())
    return client, server


@given(
    said=st.lists(st.binary(min_size=1, max_size=40), min_size=1, max_size=6),
    cuts=st.lists(st.integers(1, 60), max_size=20),
)
def test_what_is_complete_is_read_at_once(said: list[bytes], cuts: list[int]) -> None:
    client, server = pair()
    ends, stream = list[int](), b""
    for piece in said:
        client.write(piece)
        stream += client.outgoing()
        ends.append(len(stream))
    at, heard = 0, list[bytes]()
    for cut in [*cuts, len(stream)]:
        heard += server.feed(stream[at : at + cut])
        at = min(at + cut, len(stream))
        assert heard == said[: sum(end <= at for end in ends)]


def test_more_than_a_record_holds_is_read_whole() -> None:
    client, server = pair()
    said = bytes(range(256)) * 400
    client.write(said)
    assert b"".join(server.feed(client.outgoing())) == said


def test_a_goodbye_behind_the_last_word_is_heard_with_it() -> None:
    client, server = pair()
    client.write(b"last")
    client.close()
    assert server.feed(client.outgoing()) == [b"last"]
    assert server.closed_by_peer


@given(lengths=st.lists(st.integers(0, 30), min_size=1, max_size=8), cuts=st.lists(st.integers(1, 40), max_size=20))
def test_records_are_counted_however_they_are_cut(lengths: list[int], cuts: list[int]) -> None:
    stream = b"".join(b"\x17\x03\x03" + length.to_bytes(2) + bytes(length) for length in lengths)
    ends = [sum(5 + length for length in lengths[: n + 1]) for n in range(len(lengths))]
    records, at = _Records(), 0
    for cut in [*cuts, len(stream)]:
        piece = stream[at : at + cut]
        if not piece:
            break
        complete = sum(at < end <= at + len(piece) for end in ends)
        at += len(piece)
        assert records.feed(piece) == complete + (at not in ends)
