# SPDX-License-Identifier: Apache-2.0
"""What an application says of its load, over a real port: numbers, metrics, nonsense, too much, nothing."""

from __future__ import annotations

import asyncio
import string
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rserpool.transport.http import HttpServer, Request, Response
from rserpool_sidecar.load.asking import MOST_METRICS, MOST_NUMBER, MOST_SAMPLES, UnmeasuredError, asked, metric, number
from rserpool_sidecar.load.section import LoadSection
from support.rig_health import HERE, Application, nobody
from support.rig_identity import quickly

METRICS = """\
# HELP busy_ratio How busy it is.
# TYPE busy_ratio gauge
busy_ratio{pool="web",worker="1"} 0.25
busy_ratio{pool="jobs",worker="1"} 0.5 1712345678000
busy_ratio_total{pool="web"} 17
# TYPE latency_seconds histogram
latency_seconds_bucket{le="+Inf"} 3
escaped{path="C:\\\\x \\"y\\""} 1
plain 1e-1
broken{ 0.3
nan NaN
"""


def measured(answer: bytes | Response, **section: Any) -> float | None:
    """What comes of one answer of an application on a real port."""

    async def scenario() -> float | None:
        async def handle(_: Request) -> Response:
            return answer if isinstance(answer, Response) else Response(body=answer)

        rules = LoadSection(**{"source": "http"} | section)
        server = HttpServer({("GET", rules.place.partition("?")[0]): handle})
        port = await server.listen(HERE, 0)
        try:
            return await asked([HERE], port, rules)()
        finally:
            await server.close()

    return asyncio.run(scenario())


@pytest.mark.parametrize("body", [b"0.25", b" 0.25\n", b'{"load": 0.25}', b'{"load": 0.25, "since": 3}', b"25e-2"])
def test_a_number_or_json_with_one_is_the_load(body: bytes) -> None:
    assert measured(body) == 0.25
    assert measured(body, path="/busy?x=1") == 0.25


@pytest.mark.parametrize(
    "body",
    [b"", b"busy", b"1.01", b"-0.1", b"NaN", b"Infinity", b"true", b"null", b"[0.5]", b'{"load": "0.5"}', b"{}", b"\xff",
     b"[" * 4000, b"1" * 4000, b"0." + b"0" * MOST_NUMBER],
)  # fmt: skip
def test_anything_else_is_no_measurement(body: bytes) -> None:
    with pytest.raises(UnmeasuredError, match=r"^GET /load on port \d+: ") as failure:
        measured(body)
    assert len(str(failure.value)) < 200


def test_an_answer_that_is_no_success_is_no_measurement() -> None:
    with pytest.raises(UnmeasuredError, match="answered 503"):
        measured(Response(status=503, body=b"0.5"))


def test_a_metric_is_read_with_the_labels_that_were_named() -> None:
    for wanted, value in {
        'busy_ratio{pool="web"}': 0.25,
        'busy_ratio{worker="1",pool="jobs"}': 0.5,
        "plain": 0.1,
        "plain{}": 0.1,
        'escaped{path="C:\\\\x \\"y\\""}': 1.0,
    }.items():
        assert measured(METRICS.encode(), source="prometheus", metric=wanted) == value


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        ("busy_ratio", "2 metrics are busy_ratio; name labels"),
        ('busy_ratio{pool="none"}', "there is no metric"),
        ("absent", "there is no metric absent"),
        ("nan", "no number from 0 to 1"),
        ("busy_ratio_total", "no number from 0 to 1"),
        ("broken", "not in Prometheus' text format"),
    ],
)
def test_a_metric_that_is_not_there_once_or_no_fraction_is_no_measurement(wanted: str, words: str) -> None:
    with pytest.raises(UnmeasuredError, match=words):
        metric(METRICS, wanted)


def test_metrics_without_end_are_not_read() -> None:
    text = 'm{a="b"} 0.5\n' * (MOST_SAMPLES + 1)
    with pytest.raises(UnmeasuredError, match="more than 1000 lines"):
        metric(text, "m")
    with pytest.raises(UnmeasuredError, match="too long"):
        measured(b"# \n" * (MOST_METRICS // 3 + 1), source="prometheus", metric="m")


@given(st.one_of(st.text(max_size=200), st.text(alphabet='m{}="\\,_ 01.eN#a\n' + string.ascii_letters, max_size=60)))
def test_no_text_is_anything_but_a_fraction_or_no_measurement(text: str) -> None:
    for read in (number, lambda t: metric(t, "m"), lambda t: metric("m" + t, 'm{a="b"}')):
        try:
            assert 0 <= read(text) <= 1
        except UnmeasuredError as e:
            assert "\n" not in str(e)


def test_an_application_that_is_away_or_silent_is_no_measurement_in_time() -> None:
    async def scenario() -> None:
        with nobody() as port, pytest.raises(UnmeasuredError, match=f"on port {port}: "):
            await asked([HERE], port, LoadSection(source="http"))()
        async with Application(answer=None).running() as application:
            with pytest.raises(UnmeasuredError, match=r"no answer within 0\.05 s"):
                await asked([HERE], application.port, LoadSection(source="http", timeout=0.05))()

    quickly(scenario())


def test_where_the_application_listens_is_found_among_its_addresses() -> None:
    async def scenario() -> None:
        async with Application(answer=b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n0.5").running() as application:
            elsewhere = HERE + 1
            assert await asked([elsewhere, HERE], application.port, LoadSection(source="http"))() == 0.5

    quickly(scenario())
