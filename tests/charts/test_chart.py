# SPDX-License-Identifier: Apache-2.0
"""What can be said of the chart without Helm. What it renders is tested in e2e/test_05_chart.py."""

from __future__ import annotations

import copy
import dataclasses
import importlib.util
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import jsonschema
import pytest
import yaml

import rserpool
from rserpool_operator import names
from rserpool_operator.config import OperatorSettings

REPOSITORY = Path(__file__).parents[2]
CHART = REPOSITORY / "charts" / "rserpool"
TEMPLATES = sorted((CHART / "templates").glob("*"))
VALUES: dict[str, Any] = yaml.safe_load((CHART / "values.yaml").read_text())
SCHEMA: dict[str, Any] = json.loads((CHART / "values.schema.json").read_text())
LEFT_TO_THEIR_DEFAULTS = {
    "RSERPOOL_INSTALLATION_SERVICE",
    "RSERPOOL_INSTALLATION_LEADER_SERVICE",
    "RSERPOOL_INSTALLATION_WEBHOOK",
    "RSERPOOL_SERVER_ADDRESS",
    "RSERPOOL_SERVER_HTTPS_PORT",
    "RSERPOOL_SERVER_HTTP_PORT",
    "RSERPOOL_LEASE_NAME",
}
"""Names and ports that the templates write down as they are in the code."""


def template(name: str) -> str:
    return (CHART / "templates" / name).read_text()


def test_the_chart_has_the_version_of_the_package() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert (chart["version"], chart["appVersion"]) == (rserpool.__version__, rserpool.__version__)


def test_the_page_is_what_the_comments_say() -> None:
    assert (CHART / "README.md").read_text() == readme().page()


def test_a_value_without_a_comment_is_refused_with_its_line() -> None:
    with pytest.raises(ValueError, match=r"values.yaml:3: image.tag: write a comment"):
        list(readme().values("image:\n  # not for the table\n  tag: x\n"))


def test_a_comment_of_several_lines_is_one_text_and_one_above_a_mapping_covers_it() -> None:
    (row,) = readme().values("# -- First\n# second.\nnode:\n  a: 1\n  b: [x]\n")
    assert (row.key, row.default, row.meaning) == ("node", '{"a": 1, "b": ["x"]}', "First second.")


def test_the_schema_is_one_and_takes_the_defaults() -> None:
    jsonschema.Draft7Validator.check_schema(SCHEMA)
    assert faults(VALUES) == []


def test_the_schema_and_the_defaults_have_the_same_keys() -> None:
    assert set(keys_of_schema(SCHEMA)) - {"global"} == set(keys_of_values(VALUES, SCHEMA))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("replica", 2),
        ("image.repository", "registry.example"),
        ("image.registry", "https://registry.example/team"),
        ("image.registry", "registry.example/team:0.1.0"),
        ("image.tag", 1.0),
        ("replicas", 0),
        ("resources", {"requests": {"cpu": "1"}, "limits": {}}),
        ("resources.limits.memory", "64MB"),
        ("watch.namespaces", "demo"),
        ("watch.namespaces", ["kube-system"]),
        ("watch.namespaces", ["demo", "demo"]),
        ("webhook.failurePolicy", "Ignore"),
        ("lease.duration", "0s"),
        ("lease.duration", 10),
        ("log.level", "trace"),
        ("podLabels", {"rserpool.io/pool": "echo"}),
        ("podLabels", {"app.kubernetes.io/name": "x"}),
        ("tolerations", [{"key": "a", "operater": "Exists"}]),
        ("validatingAdmissionPolicies.exemptGroups", ["it's"]),
        ("podDisruptionBudget.maxUnavailable", 0),
        ("monitoring.enabled", True),
        ("monitoring.podMonitors.interval", "30"),
        ("monitoring.podMonitors.labels", {"app.kubernetes.io/name": "x"}),
        ("monitoring.rules.labels", {"release": 1}),
        ("monitoring.rules.runbookUrl", "https://docs.example/runbook#it"),
        ("monitoring.rules.runbookUrl", "a b"),
        ("monitoring.dashboard.annotations", ["grafana_folder"]),
    ],
)
def test_what_is_misspelt_or_impossible_is_refused_where_it_stands(path: str, value: object) -> None:
    *above, last = path.split(".")
    changed = copy.deepcopy(VALUES)
    part = changed
    for key in above:
        part = part[key]
    part[last] = value
    assert faults(changed), path


def test_the_operator_is_told_what_it_reads_and_nothing_else() -> None:
    told = set(re.findall(r"RSERPOOL_[A-Z_]+", template("_helpers.tpl"))) | LEFT_TO_THEIR_DEFAULTS
    assert told == set(variables())


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name)
def test_no_template_gives_a_right_with_which_more_could_be_got(path: Path) -> None:
    text = re.sub(r"\{\{-? ?/\*.*?\*/ ?-?\}\}", "", path.read_text(), flags=re.DOTALL)
    rules = "\n".join(line for line in text.splitlines() if re.match(r"\s*-?\s*(verbs|apiGroups|resources):", line))
    if path.name == "policies.yaml":  # what these name they forbid
        assert "kind: ClusterRole" not in text
        assert "kind: Role" not in text
        return
    found = re.findall(r"\b(bind|escalate|impersonate|approve|sign|proxy)\b|/exec|/attach|/portforward|\*", rules)
    ours = re.findall(r"resources: \[signers\]\s+resourceNames: \[(.*)\]\s+verbs: \[sign\]", text)
    assert found == ["sign"] * len(ours)
    assert set(ours) <= {names.SIGNER}


def test_every_rule_of_the_operator_is_justified() -> None:
    lines = template("rbac.yaml").splitlines()
    rules = [number for number, line in enumerate(lines) if line.lstrip().startswith("- apiGroups:")]
    unjustified = [
        lines[number + 1].strip()
        for number in rules
        if not lines[number - 1].lstrip().startswith("#")
        # The second half of a pair: the first has the comment.
        and not (lines[number - 1].lstrip().startswith("verbs:") and lines[number + 1] == lines[number - 2])
    ]
    assert len(rules) > 10
    assert unjustified == []


def test_secrets_are_named_in_one_rule_of_one_role() -> None:
    lines = [line for line in template("rbac.yaml").splitlines() if not line.lstrip().startswith("#")]
    assert sum("secrets" in line for line in lines) == 1
    assert not any("secrets" in line for line in template("userroles.yaml").splitlines())


def test_who_may_edit_pools_may_not_write_their_status_which_says_whom_a_pool_trusts() -> None:
    resources = re.findall(r"^ +resources: (.*)$", template("userroles.yaml"), re.MULTILINE)
    assert resources == ["[serverpools]"]


def test_names_in_the_templates_are_those_of_the_code() -> None:
    settings = {variable: default for variable, default in variables().items() if default is not None}
    assert f'rserpool.name" -}}}}{settings["RSERPOOL_INSTALLATION_WEBHOOK"]}{{{{' in template("_helpers.tpl")
    services = re.findall(r"^  name: (.*)$", template("services.yaml"), re.MULTILINE)
    assert services == [settings["RSERPOOL_INSTALLATION_SERVICE"], settings["RSERPOOL_INSTALLATION_LEADER_SERVICE"]]
    assert f'{names.LEADER_LABEL}: "true"' in template("services.yaml")
    assert f'"elements" "{names.POOL_LABEL}" "users" "{names.USES_LABEL}"' in template("webhook.yaml")
    assert f"resourceNames: [{settings['RSERPOOL_LEASE_NAME']}]" in template("rbac.yaml")
    assert f"resourceNames: [serverpools.{names.GROUP}]" in template("rbac.yaml")
    assert f"'{names.AUDIENCE}'" in template("policies.yaml")
    assert names.registrar_set("POOL") + "-N" in template("policies.yaml")
    assert f"runAsUser: {names.NODE_USER}" in template("_helpers.tpl")
    for port in (settings["RSERPOOL_SERVER_HTTPS_PORT"], settings["RSERPOOL_SERVER_HTTP_PORT"]):
        assert f"containerPort: {port}," in template("deployment.yaml")


def faults(values: object) -> list[str]:
    return [f"{e.json_path}: {e.message}" for e in jsonschema.Draft7Validator(SCHEMA).iter_errors(values)]


def variables() -> dict[str, object]:
    """The operator's variables, each with its default as it would stand in a file."""
    found: dict[str, object] = {}
    for part in dataclasses.fields(OperatorSettings):
        for field in dataclasses.fields(part.metadata["section"]):
            default = field.metadata["default"]
            name = f"RSERPOOL_{part.name}_{field.name}".upper()
            found[name] = None if default is dataclasses.MISSING else default
    return found


def keys_of_schema(schema: dict[str, Any], above: str = "") -> Iterator[str]:
    for key, part in schema.get("properties", {}).items():
        if "properties" in part:
            yield from keys_of_schema(part, f"{above}{key}.")
        else:
            yield f"{above}{key}"


def keys_of_values(values: dict[str, Any], schema: dict[str, Any], above: str = "") -> Iterator[str]:
    """The keys of the defaults, as deep as the schema has names for them and they have values."""
    for key, value in values.items():
        part = schema.get("properties", {}).get(key, {})
        if not isinstance(value, dict) or "properties" not in part:
            yield f"{above}{key}"
        elif value:
            yield from keys_of_values(value, part, f"{above}{key}.")
        else:  # empty by default: its keys are in the schema only
            yield from keys_of_schema(part, f"{above}{key}.")


def readme() -> ModuleType:
    path = REPOSITORY / "charts" / "readme.py"
    spec = importlib.util.spec_from_file_location("charts_readme", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # a dataclass looks for its module there
    spec.loader.exec_module(module)
    return module
