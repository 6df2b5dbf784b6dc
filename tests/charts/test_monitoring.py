# SPDX-License-Identifier: Apache-2.0
"""Alerts and dashboard look at what is really exported, and each alert says what to do. Rendered: e2e/test_06_monitoring.py."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from charts import promql
from charts.exported import SCRAPE, labels_of, of_daemons, of_operator, values_of
from rserpool_cli.main import build_parser
from rserpool_operator import names

REPOSITORY: Final = Path(__file__).parents[2]
CHART: Final = REPOSITORY / "charts" / "rserpool"
RULES: Final[dict[str, Any]] = yaml.safe_load((CHART / "rules" / "rserpool.yaml").read_text())
ALERTS: Final[dict[str, Any]] = {rule["alert"]: rule for group in RULES["groups"] for rule in group["rules"]}
DASHBOARD: Final[dict[str, Any]] = json.loads((CHART / "dashboards" / "rserpool.json").read_text())
PANELS: Final[list[Any]] = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
RUNBOOK: Final = (REPOSITORY / "docs" / "runbook.md").read_text()


def sections() -> dict[str, str]:
    """The runbook's sections by their headings."""
    _, *found = re.split(r"^### (\S+)\n", RUNBOOK, flags=re.MULTILINE)
    texts = [re.split(r"^## ", text, flags=re.MULTILINE)[0] for text in found[1::2]]
    return dict(zip(found[::2], texts, strict=True))


def queries() -> Iterator[tuple[str, str]]:
    """What the dashboard asks, by panel."""
    for panel in PANELS:
        for target in panel["targets"]:
            yield panel["title"], target["expr"].replace("$__rate_interval", "5m")


def looked_at() -> Iterator[tuple[str, promql.Node]]:
    """All expressions, by where they stand."""
    for name, rule in ALERTS.items():
        yield name, promql.parse(rule["expr"])
    for title, text in queries():
        yield title, promql.parse(text)


def test_every_metric_and_label_that_is_looked_at_is_exported() -> None:
    for where, node in looked_at():
        try:
            promql.result(node, labels_of)
        except ValueError as e:
            pytest.fail(f"{where}: {e}", pytrace=False)


def test_every_value_that_is_looked_for_can_occur() -> None:
    never: list[str] = []
    for where, node in looked_at():
        for selector in promql.selectors(node):
            for label, operator, text in selector.matchers:
                there = values_of(selector.metric, label)
                if there is None or text.startswith("$"):
                    assert label in SCRAPE | {"pool"}, (where, label)
                    continue
                wanted = text.split("|") if operator in ("=~", "!~") else [text]
                never += [f"{where}: {selector.metric}{{{label}={word}}}" for word in wanted if word not in there]
    assert never == []


def test_what_is_exported_is_told_apart_from_what_the_scrape_says() -> None:
    """A metric with a label `pod` of its own would come as `exported_pod`; the operator's may, its PodMonitor keeps them."""
    for name, labels in of_daemons().labels.items():
        assert not labels & (SCRAPE | {"pool"}), name
    for name, labels in of_operator().labels.items():
        assert not labels & (SCRAPE - {"namespace"}), name


def test_every_alert_has_its_section_and_every_section_its_alert() -> None:
    assert list(sections()) == list(ALERTS), "in the same order"
    anchors = [name.lower() for name in ALERTS]
    assert len(set(anchors)) == len(anchors)


@pytest.mark.parametrize("name", ALERTS)
def test_a_section_says_what_it_means_where_to_look_and_what_to_do(name: str) -> None:
    parts = re.findall(r"^\*\*(Meaning|Look|Do)\.\*\* (.{20,})", sections()[name], re.MULTILINE)
    assert [part for part, _ in parts] == ["Meaning", "Look", "Do"]


def test_the_commands_in_the_runbook_are_there_with_their_options() -> None:
    parsers = next(a for a in build_parser()._actions if isinstance(a, argparse._SubParsersAction)).choices
    found = re.findall(r"`(?:kubectl )?rserpool ([a-z-]+)([^`]*)`", RUNBOOK)
    assert len(found) > 20
    for command, rest in found:
        assert command in parsers, command
        options = {option for action in parsers[command]._actions for option in action.option_strings}
        assert set(re.findall(r"(?<!\S)--?[a-z][a-z-]*", rest)) <= options, (command, rest)


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_says_how_grave_it_is_and_of_what_it_speaks(name: str) -> None:
    rule = ALERTS[name]
    assert name.startswith("RSerPool")
    assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
    assert rule["labels"] in ({"severity": "critical"}, {"severity": "warning"})
    assert set(rule["annotations"]) == {"summary", "description"}
    assert re.fullmatch(r"[1-9][0-9]*[mh]", rule.get("for", "1m"))
    told = promql.result(promql.parse(rule["expr"]), labels_of)
    for text in rule["annotations"].values():
        assert text.endswith("."), text
        assert set(re.findall(r"\$labels\.(\w+)", text)) <= told, (text, told)
        assert re.findall(r"\{\{ *([^}]*?) *\}\}", text) == [
            part
            for part in re.findall(r"\{\{ *([^}]*?) *\}\}", text)
            if part.startswith(("$labels.", "$value", "printf"))
        ]


def test_panels_do_not_overlap_and_have_their_own_numbers() -> None:
    numbers = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(numbers)) == len(numbers)
    places = [(panel["title"], panel["gridPos"]) for panel in DASHBOARD["panels"]]
    for (title, a), (other, b) in combinations(places, 2):
        beside = a["x"] + a["w"] <= b["x"] or b["x"] + b["w"] <= a["x"]
        above = a["y"] + a["h"] <= b["y"] or b["y"] + b["h"] <= a["y"]
        assert beside or above, (title, other)
    assert all(place["x"] + place["w"] <= 24 for _, place in places)


def test_the_dashboard_asks_the_source_that_is_chosen_and_its_legends_name_labels_that_come_out() -> None:
    variables = {variable["name"]: variable for variable in DASHBOARD["templating"]["list"]}
    assert variables["datasource"]["type"] == "datasource"
    for panel in PANELS:
        for target in panel["targets"]:
            assert target["datasource"]["uid"] == panel["datasource"]["uid"] == "${datasource}"
            told = promql.result(promql.parse(target["expr"].replace("$__rate_interval", "5m")), labels_of)
            assert set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])) <= told, panel["title"]
            assert set(re.findall(r"\$(\w+)", target["expr"])) <= {*variables, "__rate_interval"}
    for name in ("namespace", "pool"):
        asked = re.fullmatch(r"label_values\((.*), (\w+)\)", variables[name]["query"]["query"])
        assert asked is not None
        assert asked[2] in promql.result(promql.parse(asked[1]), labels_of)


def test_the_monitors_look_for_the_labels_and_ports_that_pods_have() -> None:
    text = (CHART / "templates" / "podmonitors.yaml").read_text()
    injection = (REPOSITORY / "operator" / "rserpool_operator" / "admission" / "injection.py").read_text()
    assert f"key: {names.POOL_LABEL}," in text
    assert f"regex: {names.SIDECAR}," in text
    assert "port: rserpool-http" in text
    assert '"rserpool-http": (http,)' in injection
    for label in (names.POOL_LABEL, names.OWNER_LABEL):
        assert f"__meta_kubernetes_pod_label_{re.sub('[^a-zA-Z0-9]', '_', label)}]" in text
    (jobs,) = re.findall(r'job=~"\.\*/rserpool-\(([^)]*)\)"', ALERTS["RSerPoolNotScraped"]["expr"])
    assert re.findall(r"^  name: rserpool-(\w+)$", text, re.MULTILINE) == jobs.split("|")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("sum(rserpool_serving", "',' is missing"),
        ("rate(rserpool_lag_seconds_total)", "rate is given something else"),
        ("rserpool_lag_seconds_total[5m] > 1", "takes no range"),
        ("median(rserpool_serving)", "median is no function"),
        ("rserpool_serving == ", "is no name"),
        ('rserpool_serving{pool~"a"}', ">>>"),
        ("rserpool_serving)", "'' is missing"),
    ],
)
def test_what_is_no_expression_is_refused(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=re.escape(reason)):
        promql.parse(text)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("rserpool_servng", "nobody exports rserpool_servng"),
        ("sum by (pol) (rserpool_serving)", "no label pol"),
        ('rserpool_elements{status="known"}', "no label status"),
        ("sum by (pool) (rserpool_operator_leading)", "no label pool"),
        ("rserpool_serving and on (state) rserpool_elements", "no label state"),
        ('rserpool_elements{state="own"} - rserpool_serving', "never match"),
    ],
)
def test_what_looks_at_nothing_is_found_out(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        promql.result(promql.parse(text), labels_of)
