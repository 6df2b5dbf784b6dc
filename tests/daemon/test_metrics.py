# SPDX-License-Identifier: Apache-2.0
"""What both daemons count: every refusal by its threat, under names that dashboards rely on, with one log line beside."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest
from prometheus_client.parser import text_string_to_metric_families

from rserpool import __version__
from rserpool.asap.events import Event, HuntChanged, Ignored, Lagged, Malformed, Refused
from rserpool.daemon.metrics import THREATS, DaemonMetrics
from rserpool.transport.http import HttpServer, Target, ask
from support.rig_identity import LOOPBACK

PEER = "spiffe://cluster.local/ns/demo/pool/echo/element/0f8fad5b-d9cb-469f-a165-70867728950e at tcp:10.0.0.9:4711"
Samples = dict[tuple[str, tuple[str, ...]], float]


@dataclass
class Rig:
    """A daemon's metrics, whose gauges and clock a test sets."""

    now: float = 0.0
    gauges: dict[str, tuple[str, float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.metrics = DaemonMetrics(self.read, logging.getLogger("rserpool.test"), lambda: self.now)

    def read(self) -> Mapping[str, tuple[str, float]]:
        return self.gauges

    def scrape(self) -> tuple[Samples, str, str]:
        """What a Prometheus on the network sees: samples, text, content type."""

        async def run() -> tuple[str, str]:
            server = HttpServer({("GET", "/metrics"): self.metrics.serve})
            port = await server.listen(LOOPBACK, 0)
            answer = await ask(Target(host=str(LOOPBACK), port=port), "GET", "/metrics")
            await server.close()
            return answer.body.decode(), answer.content_type

        text, content_type = asyncio.run(run())
        families = text_string_to_metric_families(text)
        samples = {(s.name, tuple(s.labels.values())): s.value for family in families for s in family.samples}
        return samples, text, content_type


@pytest.fixture
def rig() -> Rig:
    return Rig()


def refused(threat: str, peer: str = PEER, what: str = "ASAP Registration", reason: str = "because") -> Refused:
    return Refused(threat=threat, peer=peer, what=what, reason=reason)


def test_every_threat_is_there_from_the_start(rig: Rig) -> None:
    """An alert on a counter that appears with its first increment misses that one."""
    assert tuple(f"2.{n}" for n in range(1, 17)) == THREATS
    samples, _, content_type = rig.scrape()
    assert [samples["rserpool_refusals_total", (threat, "message")] for threat in THREATS] == [0.0] * 16
    assert content_type.startswith("text/plain")


def test_a_refusal_is_counted_under_its_threat_and_under_no_other(rig: Rig) -> None:
    for n, threat in enumerate(THREATS):
        for _ in range(n + 1):
            assert rig.metrics.count(refused(threat))
    samples, _, _ = rig.scrape()
    assert [samples["rserpool_refusals_total", (threat, "ASAP Registration")] for threat in THREATS] == [
        float(n) for n in range(1, 17)
    ]


def test_a_refusal_is_one_line_a_minute_with_the_peer_and_the_threat_and_all_are_counted(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    for port in range(5000):
        rig.now = port / 50
        rig.metrics.count(refused("2.3", PEER.replace("4711", str(port))))
    first, second = caplog.records
    assert first.getMessage() == "refused ASAP Registration: because"
    assert first.levelno == logging.WARNING
    assert (vars(first)["threat"], vars(first)["peer"]) == ("2.3", PEER.replace("4711", "0"))
    assert vars(second)["unlogged_before"] == 2999
    assert rig.scrape()[0]["rserpool_refusals_total", ("2.3", "ASAP Registration")] == 5000.0


@pytest.mark.parametrize(
    ("event", "sample", "line"),
    [
        (Malformed(peer=PEER, offset=4, reason="short"), ("rserpool_malformed_total", ()), "not a message: offset 4"),
        (Ignored(peer=PEER, what="late", reason="r"), ("rserpool_ignored_total", ("late",)), "ignored late: r"),
        (Lagged(3.5), ("rserpool_lag_seconds_total", ()), "the process did not run for 3.5 s"),
    ],
)
def test_other_events_are_counted_and_written_too(
    rig: Rig, caplog: pytest.LogCaptureFixture, event: Event, sample: tuple[str, tuple[str, ...]], line: str
) -> None:
    caplog.set_level(logging.INFO)
    assert rig.metrics.count(event)
    assert rig.scrape()[0][sample] == (3.5 if isinstance(event, Lagged) else 1.0)
    assert line in caplog.text


def test_a_flood_of_malformed_octets_is_one_line(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    for n in range(1000):
        rig.metrics.count(Malformed(peer=f"10.0.0.9:{n}", offset=0, reason=f"octet {n}"))
    assert len(caplog.records) == 1
    assert rig.scrape()[0]["rserpool_malformed_total", ()] == 1000.0


def test_an_event_of_one_daemon_only_is_left_to_it(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    assert not rig.metrics.count(HuntChanged(found=False))
    assert caplog.records == []


def test_gauges_are_read_at_each_scrape_and_labelled_ones_are_one_family(rig: Rig) -> None:
    rig.gauges = {"rserpool_a": ("A.", 1.0), "rserpool_b|state=x": ("B.", 2.0), "rserpool_b|state=y": ("B.", 3.0)}
    samples, text, _ = rig.scrape()
    assert samples["rserpool_a", ()] == 1.0
    assert (samples["rserpool_b", ("x",)], samples["rserpool_b", ("y",)]) == (2.0, 3.0)
    assert text.count("# TYPE rserpool_b gauge") == 1
    rig.gauges = {"rserpool_a": ("A.", 4.0), "rserpool_c_total": ("C.", 5.0)}
    samples, text, _ = rig.scrape()
    assert (samples["rserpool_a", ()], samples["rserpool_c_total", ()]) == (4.0, 5.0)
    assert "# TYPE rserpool_c_total counter" in text


def test_the_names_are_an_interface(rig: Rig) -> None:
    """docs/metrics.md lists them; a change here is a change there, and in somebody's dashboard."""
    samples, text, _ = rig.scrape()
    assert {name for name, _ in samples if name.startswith("rserpool_")} == {
        "rserpool_build_info",
        "rserpool_lag_seconds_total",
        "rserpool_malformed_total",
        "rserpool_refusals_total",
    }
    assert "# TYPE rserpool_ignored counter" in text.replace("rserpool_ignored_total", "rserpool_ignored")
    assert ("rserpool_build_info", (__version__,)) in samples
    assert ("process_resident_memory_bytes", ()) in samples
    assert not any(name.endswith("_created") for name, _ in samples)


def test_two_daemons_in_one_process_count_apart() -> None:
    one, other = Rig(), Rig()
    one.metrics.count(refused("2.1"))
    assert ("rserpool_refusals_total", ("2.1", "ASAP Registration")) not in other.scrape()[0]
