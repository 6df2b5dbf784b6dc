# SPDX-License-Identifier: Apache-2.0
"""`rserpool report` on a cluster: all is in it that is promised, and none of the cluster's secrets."""

from __future__ import annotations

import base64
import json
import os
import re
import sys
import tarfile
from pathlib import Path

import pytest

from harness import apps
from harness.cluster import SYSTEM
from harness.command import rserpool
from harness.kubectl import apply, exec_in, get, kubectl

PASSWORD = "correct-horse-battery-staple"
Files = dict[str, str]


@pytest.fixture(scope="module")
def home(namespace: str) -> str:
    """A namespace with a pool of three registrars and two elements, whose application is told a password."""
    application = apps.echo(replicas=2)
    (container,) = application["spec"]["template"]["spec"]["containers"]
    container.setdefault("env", []).append({"name": "DATABASE_PASSWORD", "value": PASSWORD})
    apply([apps.pool(), application], namespace=namespace)
    apps.until_ready(namespace)
    apps.until_pods_ready(namespace, "echo", 2)
    apps.until_members(namespace, "echo", 2)
    return namespace


@pytest.fixture(scope="module")
def report(home: str, tmp_path_factory: pytest.TempPathFactory) -> Files:
    """The files of a report, without their folder."""
    path = tmp_path_factory.mktemp("report") / "report.tar.gz"
    told = rserpool("report", f"{home}/echo", "-o", str(path))
    assert told.startswith(f"{path}: ")
    assert "not in it" not in told.replace("not in it: operator/authorities.json", ""), told
    return read(path)


def read(path: Path) -> Files:
    with tarfile.open(path) as archive:
        opened = {entry.name.partition("/")[2]: archive.extractfile(entry) for entry in archive.getmembers()}
        return {name: file.read().decode() for name, file in opened.items() if file is not None}


def test_it_has_logs_metrics_dumps_and_leaves_of_everybody(home: str, report: Files) -> None:
    members = [p["metadata"]["name"] for p in apps.pods(home, "echo")]
    operators = [p["metadata"]["name"] for p in get("pods", "-n", SYSTEM, "-l", "app.kubernetes.io/component=operator")]
    everybody = [
        *(("registrar", f"echo-registrar-{n}") for n in range(3)),
        *((apps.SIDECAR, name) for name in members),
        *(("operator", name) for name in operators),
    ]
    for container, name in everybody:
        assert report[f"logs/{container}/{name}.log"], name
        assert "rserpool_build_info" in report[f"metrics/{container}/{name}.txt"]
    for container, name in everybody[: -len(operators)]:
        assert json.loads(report[f"dumps/{container}/{name}.json"])
        (leaf, *_) = json.loads(report[f"certificates/leaf.{container}.{name}.json"])
        assert any(f"/ns/{home}/pool/echo/" in extension for extension in leaf["extensions"])
    assert "rserpool_operator_leading 1.0" in "".join(t for n, t in report.items() if n.startswith("metrics/operator/"))


def test_it_has_the_pool_its_status_its_events_and_its_authorities(home: str, report: Files) -> None:
    assert json.loads(report["serverpool.json"])["metadata"]["namespace"] == home
    assert report["status.txt"].startswith(f"{home}/echo: Ready for ")
    assert json.loads(report["events.json"])
    assert "StatefulSet" in {o["kind"] for o in json.loads(report["objects.json"])}
    assert "Deployment" in {o["kind"] for o in json.loads(report["operator/objects.json"])}
    assert json.loads(report["operator/lease.json"])["spec"]["holderIdentity"]
    for name in (f"bundle.rserpool.echo.{home}", "installation"):
        (authority,) = json.loads(report[f"certificates/{name}.json"])
        assert "BEGIN CERTIFICATE" in authority["pem"]
    assert json.loads(report["pods/versions.json"])["serverVersion"]


def test_none_of_the_clusters_secrets_is_in_it(home: str, report: Files) -> None:
    everything = "\n".join([*report, *report.values()])
    needles = {PASSWORD, "PRIVATE KEY"}
    for secret in get("secrets", "-n", SYSTEM):
        for name, value in (secret.get("data") or {}).items():
            if not name.endswith((".crt", ".pem", "ca")) or "key" in name:
                text = base64.b64decode(value).decode(errors="replace")
                needles |= {value[:60], *(line[:40] for line in text.splitlines() if len(line) > 20)}
    places = [("echo-registrar-0", "registrar"), (apps.pods(home, "echo")[0]["metadata"]["name"], apps.SIDECAR)]
    for pod, container in places:
        read_both = "print(open('/run/rserpool/token/token').read(),open('/run/rserpool/identity/identity.pem').read())"
        token, _, identity = exec_in(pod, container, "python3", "-c", read_both, namespace=home).partition(" ")
        key = identity.partition("-----END PRIVATE KEY-----")[0]
        needles |= {token, token.split(".")[2], *(line for line in key.splitlines()[1:] if line)}
    # a private key has the public one at its end, which may fill lines just as it does in the certificate
    shown = "".join(re.findall("-----BEGIN CERTIFICATE-----([^-]+)", everything.replace("\\n", "\n"))).split()
    public = "".join(shown)
    secret = {needle for needle in needles if needle and needle not in public}
    assert len(secret) > 8
    assert [needle[:12] for needle in secret if needle in everything] == []


def test_the_plugin_makes_one_too_and_overwrites_nothing(
    home: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "kubectl-rserpool"
    program.write_text(f"#!{sys.executable}\nimport sys\nfrom rserpool_cli.main import main\nsys.exit(main())\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    path = tmp_path / "report.tar.gz"
    kubectl("rserpool", "report", f"{home}/echo", "-o", str(path), "--sidecars", "1", timeout=150)
    files = read(path)
    assert len([name for name in files if name.startswith(f"logs/{apps.SIDECAR}/") and "previous" not in name]) == 1
    assert "1 more sidecars were left out" in json.loads(files["contents.json"])["notRead"]["sidecars"]
    assert "is there already" in rserpool("report", f"{home}/echo", "-o", str(path), status=1)


def test_who_may_only_read_pods_is_told_what_is_missing(home: str, tmp_path: Path) -> None:
    kubectl("create", "serviceaccount", "reader", "-n", home)
    kubectl(
        "create", "role", "reader", "-n", home, "--verb=get,list", "--resource=serverpools.rserpool.io,pods,pods/log"
    )
    kubectl("create", "rolebinding", "reader", "-n", home, "--role=reader", f"--serviceaccount={home}:reader")
    token = kubectl("create", "token", "reader", "-n", home).strip()
    view = json.loads(kubectl("config", "view", "--raw", "--minify", "--flatten", "-o", "json"))
    view["users"] = [{"name": view["users"][0]["name"], "user": {"token": token}}]
    config = tmp_path / "kubeconfig"
    config.write_text(json.dumps(view))
    path = tmp_path / "report.tar.gz"
    told = rserpool("report", f"{home}/echo", "--kubeconfig", str(config), "-o", str(path))
    assert "not in it: events.json: " in told
    files = read(path)
    missing = json.loads(files["contents.json"])["notRead"]
    assert {"objects.json", "events.json", "dumps/registrar/echo-registrar-0.json", "operator/objects.json"} <= set(
        missing
    )
    assert files["logs/registrar/echo-registrar-0.log"]
    assert token not in "".join(files.values()) + told
