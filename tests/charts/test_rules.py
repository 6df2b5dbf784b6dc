# SPDX-License-Identifier: Apache-2.0
"""The rules' own tests (rules/*.yaml, run by Prometheus in e2e/test_06_monitoring.py): none of the alerts is without its cases."""

from __future__ import annotations

from collections import defaultdict
from functools import cache
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

CHART: Final = Path(__file__).parents[2] / "charts" / "rserpool" / "rules" / "rserpool.yaml"
GROUPS: Final[list[dict[str, Any]]] = yaml.safe_load(CHART.read_text())["groups"]
FILES: Final = sorted((Path(__file__).parent / "rules").glob("*.yaml"))
MINUTES: Final = {"m": 1, "h": 60}


@cache
def cases() -> dict[str, dict[str, list[dict[str, Any]]]]:
    """By file and alert: what it is asked, at each time."""
    found: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for file in FILES:
        by_alert = found.setdefault(file.stem, defaultdict(list))
        for case in yaml.load(file.read_text(), yaml.CSafeLoader)["tests"]:
            for asked in case["alert_rule_test"]:
                by_alert[asked["alertname"]].append({**asked, "name": case["name"], "interval": case["interval"]})
    return found


def minutes(text: str) -> int:
    return int(text[:-1]) * MINUTES[text[-1]]


@pytest.mark.parametrize("alert", [rule["alert"] for group in GROUPS for rule in group["rules"]])
def test_an_alert_has_a_case_in_which_it_fires_and_one_in_which_it_is_silent(alert: str) -> None:
    (group,) = [g["name"].removeprefix("rserpool-") for g in GROUPS if alert in [rule["alert"] for rule in g["rules"]]]
    (rule,) = [rule for g in GROUPS for rule in g["rules"] if rule["alert"] == alert]
    asked = cases()[group][alert]
    fires = [a for a in asked if a["exp_alerts"]]
    silent = [a for a in asked if not a["exp_alerts"] and a["name"].startswith(f"{alert} is silent: ")]
    assert fires, "what makes it fire is not shown"
    assert silent, "what does not is not shown"
    assert all(a["name"].startswith(f"{alert} fires: ") for a in fires)
    for one in silent:
        assert minutes(one["eval_time"]) >= minutes(rule.get("for", "1m")), "it is silent only because it waits"
    for one in fires:
        for wanted in one["exp_alerts"]:
            assert wanted["exp_labels"].items() >= rule["labels"].items()
            assert set(wanted["exp_annotations"]) == {"summary", "description"}
            assert not any("{{" in text for text in wanted["exp_annotations"].values())


def test_the_files_are_one_for_each_group_and_speak_of_its_alerts_alone() -> None:
    wanted = {g["name"].removeprefix("rserpool-"): [rule["alert"] for rule in g["rules"]] for g in GROUPS}
    assert {file: list(alerts) for file, alerts in cases().items()} == wanted, "in the same order"
    for file in FILES:
        (rules,) = yaml.load(file.read_text(), yaml.CSafeLoader)["rule_files"]
        assert (file.parent / rules).resolve() == CHART
