# SPDX-License-Identifier: Apache-2.0
"""`rserpool report`: everything that helps is in the archive, and no secret, wherever it may have stood."""

from __future__ import annotations

import base64
import io
import json
import secrets
import stat
import subprocess
import sys
import tarfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from cli.cluster_samples import dump, element, event, pod, registrar, server_pool
from cli.fake_kubectl import FORBIDDEN, NOT_FOUND, FakeCluster
from rserpool.asap.authorisation import Role
from rserpool.authority import EmbeddedAuthority, make_request
from rserpool.identity import LeafIdentity
from rserpool_cli.cluster.report.archive import Archive
from rserpool_cli.cluster.report.certificates import SHOW_LEAF, decode
from rserpool_cli.errors import CommandError
from rserpool_cli.main import main
from rserpool_operator import names

Capture = pytest.CaptureFixture[str]
NOW = datetime(2026, 11, 25, 21, tzinfo=UTC)
POD_UID = "0f8fad5b-d9cb-469f-a165-70867728950e"
AUTHORITY = EmbeddedAuthority.create("a pool", NOW, life=timedelta(days=90), leaf_life=timedelta(hours=24))
IDENTITY = LeafIdentity(
    trust_domain="cluster.local", namespace="demo", pool="echo", role=Role.REGISTRAR, pod_uid=POD_UID
)
MADE = make_request(IDENTITY)
LEAF = AUTHORITY.sign(IDENTITY, MADE.request, NOW).decode()
KEY = MADE.key.private_bytes(
    serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
).decode()


def encoded(value: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


class Hidden:
    """Secrets of every kind, made anew for each test."""

    def __init__(self) -> None:
        another = ec.generate_private_key(ec.SECP256R1())
        self.old_key = another.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
        ).decode()
        self.token = ".".join(
            (encoded({"alg": "RS256"}), encoded({"sub": secrets.token_hex(8)}), secrets.token_urlsafe(64))
        )
        self.cookie_key = base64.b64encode(secrets.token_bytes(32)).decode()
        self.password = secrets.token_urlsafe(12)
        self.database = f"postgres://app:{secrets.token_urlsafe(9)}@db/app"
        self.argument = secrets.token_hex(9)
        self.sealed = secrets.token_hex(12)

    def needles(self) -> set[str]:
        """What must not be found: each secret, its parts, and its other spellings."""
        found = {self.token, *self.token.split("."), self.cookie_key, self.password, self.database, self.argument}
        for key in (KEY, self.old_key):
            body = [line for line in key.splitlines() if "-----" not in line]
            der = base64.b64decode("".join(body))
            found |= {*(line[:24] for line in body), der.hex()[:24], base64.b64encode(key.encode()).decode()[60:110]}
        return found | {self.sealed, base64.b64encode(self.sealed.encode()).decode()}


@pytest.fixture
def hidden() -> Hidden:
    return Hidden()


@pytest.fixture
def echo(cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, hidden: Hidden) -> FakeCluster:
    """A pool of two registrars and two members, with secrets wherever somebody could have put one."""
    cluster.answer_in_process(monkeypatch)
    monkeypatch.chdir(tmp_path)
    told = server_pool()
    told["metadata"]["annotations"] = {"kubectl.kubernetes.io/last-applied-configuration": hidden.password}
    cluster.says("get serverpools.rserpool.io echo", told)
    cluster.says("get statefulsets.apps,services,configmaps", [config_map(AUTHORITY.bundle.decode())])
    cluster.says("component=registrar", [ours(registrar(0), "registrar"), ours(registrar(1), "registrar", restarts=2)])
    cluster.says("get pods -l rserpool.io/pool=echo", [member("app-a", hidden), member("app-b", hidden)])
    cluster.says(
        "get events", [event("Pod", "app-a", 1, "Failed", f"said {hidden.token}"), event("Pod", "z", 1, "No", "")]
    )
    cluster.says("version -o json", {"serverVersion": {"gitVersion": "v1.37.0"}})
    for name in ("echo-registrar-0", "echo-registrar-1"):
        cluster.says(f"exec {name} .* rserpool dump", dump(name, element(1), element(2)))
    cluster.says("exec app-. .* rserpool dump", {"x": {"registered": True, "cookie_keys": hidden.cookie_key}})
    cluster.says("exec .* python3", LEAF)
    cluster.says("get --raw .*/proxy/metrics", 'rserpool_serving 1.0\nrserpool_refusals_total{threat="2.3"} 0.0\n')
    cluster.says("logs ", log(hidden))
    cluster.says(
        "get deployments.apps -A",
        [{"kind": "Deployment", "metadata": {"name": "rserpool-operator", "namespace": "sys"}}],
    )
    cluster.says("get deployments.apps,pods", [operator_pod()])
    cluster.says(
        "get leases", {"kind": "Lease", "metadata": {"name": "rserpool-operator"}, "spec": {"holderIdentity": "o"}}
    )
    cluster.says("get certificates.cert-manager.io", [])
    cluster.says("get secrets", "NAME      TYPE     DATA   AGE\necho-g1   Opaque   2      5d\n")
    cluster.says("get secrets .*(-o|--output|yaml|json)", hidden.sealed)
    return cluster


def log(hidden: Hidden) -> str:
    """What a careless program could have written."""
    lines = [
        "serving, with an empty handlespace",
        f"cannot load {KEY}",
        json.dumps({"message": f"as JSON {hidden.old_key}", "level": "error"}),
        f"Authorization: Bearer {hidden.token}",
        f"token {hidden.token} was refused",
        f'{{"cookieKey": "{hidden.cookie_key}", "level": "info"}}',
        f"keys are {hidden.cookie_key} and no more",
        f"password={hidden.password} user=a",
        f'"dbPassword": "{hidden.password}"',
        base64.b64encode(hidden.old_key.encode()).decode(),
        "element 0x00000001 of pool echo registered, home 0x0000000a",
        f"spiffe://cluster.local/ns/demo/pool/echo/element/{POD_UID} at tcp:10.0.0.9:4711",
        f"begun and never ended {hidden.old_key[:-40]}",
    ]
    return "".join(f"2026-11-25T20:00:00.1Z {line}\n" for line in lines)


def ours(manifest: dict[str, Any], container: str, restarts: int = 0) -> dict[str, Any]:
    """A registrar's pod with the container as the operator makes it."""
    environment = [
        {"name": "RSERPOOL_SECURITY_AUTHORITY", "value": AUTHORITY.bundle.decode()},
        {"name": "RSERPOOL_SECURITY_URL", "value": "https://rserpool-operator.sys.svc:8443/v1/enrol"},
    ]
    ports = [{"name": "http", "containerPort": 8080}]
    manifest["spec"]["containers"] = [{"name": container, "image": "node:1", "env": environment, "ports": ports}]
    running = {"name": container, "state": {"running": {}}, "restartCount": restarts}
    manifest["status"]["containerStatuses"] = [running]
    return manifest


def member(name: str, hidden: Hidden) -> dict[str, Any]:
    """A member whose application has secrets where it should not."""
    found = pod(name, "10.0.1.1")
    found["metadata"]["annotations"] = {"team/note": hidden.password, "rserpool.io/injected": "0.1.0"}
    found["spec"]["initContainers"][0] |= {
        "image": "node:1",
        "ports": [{"name": "rserpool-http", "containerPort": 18081}],
    }
    found["spec"]["containers"] = [
        {
            "name": "main",
            "image": "app:7",
            "env": [{"name": "DATABASE", "value": hidden.database}],
            "args": ["--with", hidden.argument],
            "livenessProbe": {"exec": {"command": ["ask", hidden.argument]}},
        }
    ]
    return found


def operator_pod() -> dict[str, Any]:
    found = ours(registrar(7), "operator")
    found["metadata"] |= {"name": "rserpool-operator-1", "namespace": "sys"}
    return found


def config_map(bundle: str) -> dict[str, Any]:
    metadata = {"name": "rserpool.echo.demo", "namespace": "demo", "managedFields": [{"manager": "x"}]}
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": metadata,
        "data": {"bundle.pem": bundle, "handle": "echo\n"},
    }


def made(*words: str, status: int = 0) -> dict[str, str]:
    """The files of the report that was written, without their folder."""
    assert main(["report", "demo/echo", "-o", "r.tar.gz", *words]) == status
    with tarfile.open("r.tar.gz") as archive:
        entries = archive.getmembers()
        assert len({e.name.split("/")[0] for e in entries}) == 1
        assert all(e.isfile() and e.mode == 0o600 for e in entries)
        read = {e.name.partition("/")[2]: archive.extractfile(e) for e in entries}
        return {name: file.read().decode() for name, file in read.items() if file is not None}


@pytest.mark.usefixtures("echo")
def test_the_archive_has_all_that_is_promised() -> None:
    files = made()
    both = [("registrar", f"echo-registrar-{n}") for n in (0, 1)] + [("rserpool-sidecar", f"app-{n}") for n in "ab"]
    for container, name in both:
        assert f"logs/{container}/{name}.log" in files
        assert files[f"metrics/{container}/{name}.txt"].startswith("rserpool_serving 1.0")
        assert f"dumps/{container}/{name}.json" in files
        (leaf,) = json.loads(files[f"certificates/leaf.{container}.{name}.json"])
        assert any(str(IDENTITY) in extension for extension in leaf["extensions"])
    assert "logs/registrar/echo-registrar-1.previous.log" in files, "it restarted"
    assert "logs/registrar/echo-registrar-0.previous.log" not in files
    assert {"logs/operator/rserpool-operator-1.log", "metrics/operator/rserpool-operator-1.txt"} <= set(files)
    assert json.loads(files["serverpool.json"])["spec"]["registrars"] == {"replicas": 2}
    assert files["status.txt"].startswith("demo/echo: Ready for ")
    assert [e["reason"] for e in json.loads(files["events.json"])] == ["Failed"]
    assert json.loads(files["pods/versions.json"])["serverVersion"] == {"gitVersion": "v1.37.0"}
    assert json.loads(files["pods/versions.json"])["registrars"] == ["node:1"]
    assert json.loads(files["operator/lease.json"])["spec"]["holderIdentity"] == "o"
    assert "echo-g1" in files["operator/secrets.txt"]
    for name in ("bundle.rserpool.echo.demo", "installation"):
        (authority,) = json.loads(files[f"certificates/{name}.json"])
        assert "BEGIN CERTIFICATE" in authority["pem"]
    contents = json.loads(files["contents.json"])
    assert (contents["notRead"], contents["cut"]) == ({}, {})
    assert set(contents["files"]) == set(files) - {"contents.json"}


@pytest.mark.usefixtures("echo")
def test_no_secret_is_in_it_wherever_it_stood(hidden: Hidden, capsys: Capture) -> None:
    files = made()
    everything = "\n".join([*files, *files.values(), capsys.readouterr().out])
    assert [needle for needle in hidden.needles() if needle in everything] == []
    assert "PRIVATE KEY" not in everything
    text = files["logs/registrar/echo-registrar-0.log"]
    assert text.count("[redacted]") >= 9
    # what helps is still there
    assert "serving, with an empty handlespace" in text
    assert f"element/{POD_UID} at tcp:10.0.0.9:4711" in text
    assert "element 0x00000001 of pool echo registered, home 0x0000000a" in text


def test_every_secret_of_this_test_would_be_found(
    echo: FakeCluster, hidden: Hidden, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The search finds what it looks for, if nothing is taken out."""
    monkeypatch.setattr("rserpool_cli.cluster.report.archive.redact", lambda text: text)
    monkeypatch.setattr("rserpool_cli.cluster.report.archive.redact_object", lambda value: value)
    echo.says("exec .* python3", KEY + LEAF)
    everything = "".join(made().values())
    for secret in (hidden.token, hidden.cookie_key, hidden.password, KEY.splitlines()[1][:24]):
        assert secret in everything
    for secret in (hidden.database, hidden.argument, hidden.sealed):
        assert secret not in everything, "this never comes near the archive"


def test_secrets_are_asked_for_as_a_table_only(echo: FakeCluster) -> None:
    made()
    asked = echo.calls("secret")
    assert [words[words.index("get") :] for words in asked] == [
        ["get", "secrets", "-l", "rserpool.io/server-pool=echo,rserpool.io/server-pool-namespace=demo"]
    ]


def test_nothing_is_written_to_the_cluster(echo: FakeCluster) -> None:
    made()
    verbs = {next(w for w in words if w in ("get", "exec", "logs", "version")) for words in echo.calls()}
    assert verbs == {"get", "exec", "logs", "version"}
    commands = {tuple(words[words.index("--") + 1 :]) for words in echo.calls(" -- ")}
    assert commands == {("rserpool", "dump"), ("python3", "-SEc", SHOW_LEAF)}


def test_logs_are_bounded_where_they_are_made(echo: FakeCluster) -> None:
    made("--lines", "7")
    calls = echo.calls("logs ")
    assert len(calls) == 6
    assert all("--tail=7" in words and any(w.startswith("--limit-bytes=") for w in words) for words in calls)


def test_of_many_sidecars_those_in_trouble_are_looked_at(echo: FakeCluster, hidden: Hidden) -> None:
    ill = member("app-z", hidden)
    ill["status"]["conditions"] = [{"type": "Ready", "status": "False"}]
    echo.says("get pods -l rserpool.io/pool=echo", [*(member(f"app-{n}", hidden) for n in range(5)), ill])
    files = made("--sidecars", "1")
    assert [name for name in files if name.startswith("logs/rserpool-sidecar/")] == ["logs/rserpool-sidecar/app-z.log"]
    assert "5 more sidecars were left out" in json.loads(files["contents.json"])["notRead"]["sidecars"]


def test_the_port_of_a_sidecars_metrics_is_the_pods_own(echo: FakeCluster) -> None:
    made()
    assert echo.calls("get --raw /api/v1/namespaces/demo/pods/app-a:18081/proxy/metrics")
    assert echo.calls("get --raw /api/v1/namespaces/demo/pods/echo-registrar-0:8080/proxy/metrics")


def test_what_may_not_be_read_is_named_and_the_rest_is_there(echo: FakeCluster, capsys: Capture) -> None:
    for asked in ("get secrets", "get deployments.apps,pods", "get leases", "get certificates", "exec", "get --raw"):
        echo.says(asked, error=FORBIDDEN.format("things"))
    echo.says("get deployments.apps -A", error=FORBIDDEN.format("deployments.apps"))
    files = made()
    told = json.loads(files["contents.json"])["notRead"]
    assert {"operator/secrets.txt", "operator/objects.json", "dumps/registrar/echo-registrar-0.json"} <= set(told)
    assert all("Forbidden" in why or "forbidden" in why for why in told.values())
    assert "logs/registrar/echo-registrar-0.log" in files
    assert echo.calls("^-n sys get secrets"), "the operator's namespace follows from what registrars are told"
    out = capsys.readouterr().out
    assert "  not in it: operator/secrets.txt: kubectl: " in out


def test_a_container_that_does_not_run_is_asked_for_its_log_only(echo: FakeCluster) -> None:
    broken = ours(registrar(0), "registrar", restarts=3)
    broken["status"]["containerStatuses"][0]["state"] = {"waiting": {"reason": "CrashLoopBackOff"}}
    echo.says("component=registrar", [broken])
    files = made()
    assert "logs/registrar/echo-registrar-0.previous.log" in files
    assert "metrics/registrar/echo-registrar-0.txt" not in files
    assert json.loads(files["contents.json"])["notRead"]["registrar/echo-registrar-0"] == "it does not run"


def test_an_insecure_pool_has_no_leaves(echo: FakeCluster) -> None:
    echo.says("get serverpools.rserpool.io echo", server_pool(security={"mode": "Insecure"}))
    assert not [name for name in made() if name.startswith("certificates/leaf")]


@pytest.mark.usefixtures("echo")
def test_the_file_is_its_owners_alone_and_none_is_overwritten(tmp_path: Path, capsys: Capture) -> None:
    made()
    assert stat.S_IMODE((tmp_path / "r.tar.gz").stat().st_mode) == 0o600
    before = (tmp_path / "r.tar.gz").read_bytes()
    assert main(["report", "demo/echo", "-o", "r.tar.gz"]) == 1
    assert "r.tar.gz is there already: choose another name with -o" in capsys.readouterr().err
    assert (tmp_path / "r.tar.gz").read_bytes() == before
    assert main(["report", "demo/echo", "-o", "no/such/folder.tar.gz"]) == 1
    assert "no such file or directory" in capsys.readouterr().err


@pytest.mark.usefixtures("echo")
def test_without_a_name_the_file_says_which_pool_and_when(tmp_path: Path) -> None:
    assert main(["report", "demo/echo"]) == 0
    (found,) = tmp_path.glob("*.tar.gz")
    assert found.name.startswith("rserpool-report-demo-echo-20")


def test_of_a_pool_that_is_not_there_nothing_is_written(echo: FakeCluster, tmp_path: Path) -> None:
    echo.says("get serverpools.rserpool.io (echo|-A)", error=NOT_FOUND.format("echo"))
    assert main(["report", "demo/echo"]) == 4
    assert list(tmp_path.glob("*.tar.gz")) == []


@pytest.mark.usefixtures("echo")
def test_the_plugin_has_the_command_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "argv", ["/usr/local/bin/kubectl-rserpool"])
    assert main(["report", "demo/echo", "-o", "p.tar.gz"]) == 0
    assert (tmp_path / "p.tar.gz").exists()


@pytest.mark.parametrize("words", [["--lines", "-1"], ["--sidecars", "many"]])
def test_bounds_are_numbers(words: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["report", "demo/echo", *words])
    assert ended.value.code == 2


def test_what_is_too_much_is_cut_and_said(tmp_path: Path) -> None:
    path = tmp_path / "a.tar.gz"
    with Archive(path, "f", NOW, most=100) as archive:
        archive.text("first", "x " * 40 + "the end")
        archive.text("second", "y " * 30)
        archive.text("third", "z")
    with tarfile.open(path) as made_:
        entries = {e.name: e.size for e in made_.getmembers()}
        told = json.loads((made_.extractfile("f/contents.json") or io.BytesIO()).read())
    assert {name: size for name, size in entries.items() if "contents" not in name} == {"f/first": 87, "f/second": 13}
    assert told["cut"] == {"second": "the last 13 of 60 octets"}
    assert told["notRead"] == {"third": "the archive is full"}


def test_a_report_that_fails_leaves_no_file(tmp_path: Path) -> None:
    path = tmp_path / "a.tar.gz"

    def begun(archive: Archive) -> None:
        archive.text("first", "x")
        raise CommandError("the cluster is gone")

    with pytest.raises(CommandError, match="the cluster is gone"), Archive(path, "f", NOW) as archive:
        begun(archive)
    assert not path.exists()


def test_the_program_that_shows_a_leaf_shows_no_key(tmp_path: Path) -> None:
    identity = tmp_path / "identity.pem"
    identity.write_text(KEY + LEAF)
    program = SHOW_LEAF.replace(f"{names.IDENTITY}/identity.pem", str(identity))
    assert program != SHOW_LEAF
    done = subprocess.run([sys.executable, "-SEc", program], capture_output=True, text=True, timeout=60, check=True)
    assert "PRIVATE" not in done.stdout
    assert [c["sha256"] for c in decode(done.stdout)] == [c["sha256"] for c in decode(LEAF)]
    assert not any(line in done.stdout for line in KEY.splitlines()[1:-1])


def test_what_is_no_certificate_is_not_shown() -> None:
    assert decode(KEY) == []
    assert decode("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----") == [
        {"error": "it cannot be read (ValueError)"}
    ]
