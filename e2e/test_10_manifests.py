# SPDX-License-Identifier: Apache-2.0
"""The API server refuses the manifests that we refuse, at the same field, in words that say what to write.

Everything is a dry run with strict fields, as kubectl asks for; only what must be there to be changed is created.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.cluster import REPOSITORY, Cluster
from harness.kubectl import KubectlError, get, kubectl
from harness.serverpools import Api, Verdict, manifest
from rserpool.pool import ManifestError, Problem
from rserpool.pool.manifest import read_text
from rserpool.pool.model import ServerPool

DEFINITION: Final = REPOSITORY / "crds" / "serverpools.rserpool.io.yaml"
TABLE: Final = REPOSITORY / "tests" / "pool" / "manifests"
GOOD: Final = sorted((TABLE / "good").iterdir())
BAD: Final = sorted((TABLE / "bad").iterdir())
NO_YAML: Final = "the object provided is unrecognized"

OTHERWISE: Final[dict[str, tuple[int, str]]] = {
    # What is no YAML, or stands for no JSON, is refused as a whole, before there are fields.
    "alias-of-itself": (400, "anchor 'a' value contains itself"),
    "alias-of-nothing": (400, "unknown anchor 'port' referenced"),
    "boolean-that-is-none": (400, "cannot decode !!str `maybe` as a !!bool"),
    "bracket-left-open": (400, NO_YAML),
    "half-a-character": (400, "invalid Unicode character escape code"),
    "indentation-broken": (400, NO_YAML),
    "integer-that-is-empty": (400, "cannot decode !!null `` as a !!int"),
    "limit-not-a-number": (400, "unsupported value: NaN"),
    "not-utf-8": (400, "invalid leading UTF-8 octet"),
    "port-that-is-a-template": (400, "invalid map key"),
    "tab-for-indentation": (400, "found character that cannot start any token"),
    # A field that stands there twice is named without what it stands in.
    "label-twice": (400, 'key "team" already set in map'),
    "port-twice": (400, 'key "port" already set in map'),
    "spec-twice": (400, 'key "spec" already set in map'),
    # Kubernetes' own fields are looked at before those of a custom resource, in Kubernetes' own words.
    "annotation-without-quotes": (400, "cannot unmarshal number into Go struct field ObjectMeta"),
    "metadata-as-text": (400, "cannot unmarshal string into Go value of type v1.ObjectMeta"),
    "namespace-in-upper-case": (404, 'namespaces "Demo" not found'),
    "namespace-too-long": (404, "not found"),
    "no-api-version": (400, "the API version in the data () does not match"),
    "no-metadata": (422, "metadata.name: Required value"),
    "version-of-the-future": (404, "404 page not found"),
}
"""What the API server says of a bad manifest whose field it does not name as we do: status and words."""
INSIDE: Final = {
    "elements-as-a-list", "network-policy-by-a-mapping", "spec-as-a-list", "tolerations-as-a-mapping",
}  # fmt: skip
"""A mapping for something else: strict decoding names the field in it that it does not know."""
TAKEN: Final = {
    "status-as-text",  # whoever creates an object has no say in its status, so it is dropped unread
    "up-command-blank",  # a definition can say nothing of annotations; this one is for `rserpool up` alone
}
REFUSED: Final = {
    "dates-are-text": (400, "unsupported value: +Inf"),  # an annotation that says .inf, which JSON cannot
    "json-form": (422, "a valid label must be"),  # a face as a label's value; labels are Kubernetes' business
}
"""What it says of a good one."""
LIKELY: Final = (
    "name-too-long", "no-port", "port-in-quotes", "unknown-in-elements", "policy-misspelt", "duration-without-a-unit",
    "replicas-ten", "exec-probe", "udp-without-health", "leaf-too-short",
)  # fmt: skip


@pytest.fixture(scope="module")
def api(cluster: Cluster, namespace: str) -> Iterator[Api]:
    """The API server, with our definition in force."""
    name = "serverpools.rserpool.io"
    if not kubectl("get", "crd", name, "--ignore-not-found"):
        kubectl("apply", "--server-side", "-f", str(DEFINITION))
    kubectl("wait", "--for=condition=Established", f"crd/{name}")
    [served] = get("crd", name)["spec"]["versions"]
    [written] = yaml.safe_load(DEFINITION.read_text())["spec"]["versions"]
    assert served["schema"] == written["schema"], "the cluster has the definition of this checkout"
    command = ["kubectl", "proxy", "--port=0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=cluster.environment()) as proxy:
        assert proxy.stdout is not None
        try:
            with closing(Api(int(proxy.stdout.readline().rpartition(":")[2]), namespace)) as found:
                yield found
        finally:
            proxy.terminate()


@pytest.fixture(scope="module")
def pool(api: Api) -> str:
    """A ServerPool that is there; paused, so that nobody works on it."""
    document = manifest("fixed", paused=True, elements={"port": 7007})
    assert api.create(json.dumps(document).encode(), dry=False).accepted
    return "fixed"


def documents(file: Path, namespace: str) -> list[bytes]:
    """The ServerPools of a file, each as it is sent, in the namespace of this test."""
    text = re.sub(rb"(?m)^# .*\n|  # here$", b"", file.read_bytes())
    text = re.sub(rb'(namespace"?: "?)(demo|d{1,63})\b', rb"\g<1>" + namespace.encode(), text)
    parts = re.split(rb"(?m)^(?:---|\.\.\.)(?: .*)?$", text)
    return [part for part in parts if b"ServerPool" in part and b"apps/v1" not in part]


def sent(api: Api, file: Path) -> list[Verdict]:
    """What the API server says of each ServerPool of a file, at the address that it names."""
    verdicts = []
    for text in documents(file, api.namespace):
        version = re.search(rb"apiVersion: rserpool.io/(\w+)", text)
        namespace = re.search(rb"(?m)^  namespace: ([\w-]+)", text)
        verdicts.append(
            api.create(
                text,
                version=version[1].decode() if version else "v1alpha1",
                namespace=namespace[1].decode() if namespace else "",
            )
        )
    return verdicts


def field(file: Path) -> str:
    """The field at fault, as the file itself says."""
    return next(
        line.removeprefix("# field:").strip()
        for line in file.read_text(errors="replace").splitlines()
        if line.startswith("# field:")
    )


@pytest.mark.parametrize("file", GOOD, ids=lambda f: f.stem)
def test_a_good_manifest_is_accepted(api: Api, file: Path) -> None:
    verdicts = sent(api, file)
    if file.stem in REFUSED:
        [verdict] = verdicts
        assert verdict.status == REFUSED[file.stem][0]
        assert REFUSED[file.stem][1] in verdict.message
        return
    assert [v.message for v in verdicts if not v.accepted] == []
    # What the API server has filled in is what we would.
    for verdict, text in zip(verdicts, documents(file, api.namespace), strict=True):
        [stored] = read_text(json.dumps({**verdict.body, "status": None}), "the API server")
        [read] = read_text(text.decode(), file.name)
        assert stored.pool.spec == read.pool.spec


@pytest.mark.parametrize("file", BAD, ids=lambda f: f.stem)
def test_a_bad_manifest_is_refused_at_the_same_field(api: Api, file: Path) -> None:
    refused = [verdict for verdict in sent(api, file) if not verdict.accepted]
    if file.stem in TAKEN:
        assert refused == []
        return
    [verdict] = refused
    if file.stem in OTHERWISE:
        status, words = OTHERWISE[file.stem]
        assert (verdict.status, words in verdict.message) == (status, True), verdict.message
    elif file.stem in INSIDE:
        [named] = verdict.fields
        assert re.match(rf"{re.escape(field(file))}[.\[]", named)
    else:
        assert verdict.fields == {field(file)}, verdict.message


def test_every_exception_is_a_manifest_of_the_table() -> None:
    assert {*OTHERWISE, *INSIDE, *TAKEN, *LIKELY} <= {file.stem for file in BAD}
    assert set(REFUSED) <= {file.stem for file in GOOD}


def test_the_ten_likeliest_mistakes_are_refused_by_kubectl_with_the_field_and_what_to_write(
    api: Api, record_property: Any
) -> None:
    for name in LIKELY:
        file = TABLE / "bad" / f"{name}.yaml"
        [text] = documents(file, api.namespace)
        with pytest.raises(KubectlError) as caught:
            kubectl("create", "--dry-run=server", "-f", "-", input=text.decode())
        assert field(file) in caught.value.message
        assert "evaluating rule" not in caught.value.message
        record_property("figure", f"{name}: {' '.join(caught.value.message.split())}")


@pytest.mark.parametrize(
    ("at", "patch"),
    [
        ("spec.poolHandle", {"poolHandle": "other"}),
        ("spec.policy.type", {"policy": {"type": "Random"}}),
        ("spec.elements.protocol", {"elements": {"protocol": "SCTP"}}),
        ("spec.security.mode", {"security": {"mode": "Insecure"}}),
        ("spec.security.enrolment", {"security": {"enrolment": "PodCertificate", "signer": {"type": "Embedded"}}}),
    ],
)
def test_what_cannot_be_changed_is_refused_with_what_to_do(api: Api, pool: str, at: str, patch: dict[str, Any]) -> None:
    verdict = api.change(pool, {"spec": patch})
    assert verdict.fields == {at}
    assert "cannot be changed; delete and re-create the ServerPool" in verdict.message


@pytest.mark.parametrize(
    "patch",
    [
        {"poolHandle": "fixed"},
        {"poolHandle": ""},
        {"policy": None},
        {"policy": {"type": "RoundRobin"}},
        {"security": None},
        {"security": {"mode": "Secure", "enrolment": "Token"}},
        {"elements": {"protocol": None, "port": 7008}},
        {"paused": None, "registrars": {"replicas": 5}, "timers": {"profile": "RFC"}},
    ],
    ids=str,
)
def test_a_default_that_is_written_out_or_removed_is_no_change_and_everything_else_may_be_one(
    api: Api, pool: str, patch: dict[str, Any]
) -> None:
    assert api.change(pool, {"spec": patch}).message == ""


def test_a_handle_that_was_given_cannot_be_removed(api: Api) -> None:
    document = manifest("handled", paused=True, elements={"port": 7007}, poolHandle="other")
    assert api.create(json.dumps(document).encode(), dry=False).accepted
    for handle in (None, "", "handled"):
        assert api.change("handled", {"spec": {"poolHandle": handle}}).fields == {"spec.poolHandle"}
    assert api.change("handled", {"spec": {"poolHandle": "other", "version": "1"}}).accepted


def test_the_longest_lists_cost_the_api_server_no_more_than_it_allows(api: Api) -> None:
    accounts = [f"{n:063}" for n in range(100)]
    revoked = [f"{n:064}" for n in range(256)]
    document = manifest(
        elements={"port": 7007, "serviceAccounts": accounts},
        users={"serviceAccounts": accounts},
        security={"revoked": revoked},
    )
    assert api.create(json.dumps(document).encode()).message == ""
    document["spec"]["security"]["revoked"][-1] = revoked[0]
    assert api.create(json.dumps(document).encode()).fields == {"spec.security.revoked"}


def test_a_list_of_pools_shows_what_the_design_says(api: Api, pool: str) -> None:
    path = f"/apis/rserpool.io/v1alpha1/namespaces/{api.namespace}/serverpools"
    accept = "application/json;as=Table;g=meta.k8s.io;v=v1"
    table = api.ask("GET", path, None, "application/json", accept).body
    columns = {column["name"]: column["priority"] for column in table["columnDefinitions"]}
    assert [name for name, priority in columns.items() if priority == 0] == [
        "Name", "Handle", "Policy", "Registrars", "Wanted", "Elements", "Matched", "Ready", "Age",
    ]  # fmt: skip
    assert [name for name, priority in columns.items() if priority] == ["CA-Expiry", "Transports", "Reason", "Version"]
    [row] = [dict(zip(columns, r["cells"], strict=True)) for r in table["rows"] if r["cells"][0] == pool]
    assert (row["Policy"], row["Wanted"]) == ("RoundRobin", 3)


DURATIONS: Final = st.sampled_from(
    [
        "0s", "0ms", "1ms", "399ms", "450ms", "451ms", "900ms", "1s", "9.999s", "10s", "30.5s", "61s", "59m", "1h",
        "1h1ms", "24h", "4380h", "4380h1ms", "876000h", "876000h1ms", "999999h999999h99999h", "3999999999s999999h9h",
        "2147483647s", "2147483648s", "2147483647.5s", "1.5h", "0.001h", "0.0001h", "1.5ms", "3500ms", "٣s", "", "1d",
        "-5s", "+5s", ".5s", "5.s", "30m1h", "5", "5ns", "5h\n", "000000000000000001s", "00000000000000000001s", 5,
    ]
)  # fmt: skip
HEALTH: Final[st.SearchStrategy[Any]] = st.sampled_from(
    [
        None, {}, {"tcpSocket": {}}, {"httpGet": {}}, {"tcpSocket": {"port": 5}, "httpGet": {}}, {"exec": {}},
        {"tcpSocket": {}, "httpGet": {"port": 5}}, {"exec": {}, "tcpSocket": {}, "httpGet": {}},
    ]
)  # fmt: skip
HANDLES: Final = st.sampled_from(["", "x", "x" * 32, "x" * 33, "ä" * 16, "ä" * 17, "ä" * 127, "ä" * 128, "x" * 256])
SIGNERS: Final = st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from(["CertManager", "Embedded", "IssuerRef"]),
        "issuerRef": st.sampled_from([None, {"name": "x"}, {"name": "X"}, {}]),
        "caBundle": st.sampled_from([None, "", "x", "x" * 65537]),
    },
)
TIMERS: Final = ("heartbeatCycle", "maxTimeLastHeard", "takeoverTimeout", "registrationLife")
NUMBERS: Final = st.sampled_from([0, 0.01, 0.009, 1, 1.5, 1e6, 1000001, -1, 10**20, "1", True])
SPECS: Final = st.fixed_dictionaries(
    {
        "elements": st.fixed_dictionaries(
            {"port": st.just(7007) | NUMBERS},
            optional={
                "protocol": st.sampled_from(["TCP", "SCTP", "UDP"]),
                "health": HEALTH,
                "drain": DURATIONS,
                "serviceAccounts": st.lists(st.sampled_from(["a", "b", "A", 7]), max_size=3),
                "loadDegradation": NUMBERS,
            },
        )
    },
    optional={
        "poolHandle": HANDLES,
        "dialect": st.sampled_from(["RFC", "RSPLIB"]),
        "controlChannel": st.booleans(),
        "transport": st.fixed_dictionaries({"order": st.lists(st.sampled_from(["SCTP", "TCP"]), max_size=3)}),
        "timers": st.fixed_dictionaries(
            {}, optional={"profile": st.sampled_from(["Fast", "RFC"]), **dict.fromkeys(TIMERS, DURATIONS)}
        ),
        "security": st.fixed_dictionaries(
            {},
            optional={
                "mode": st.sampled_from(["Secure", "Insecure"]),
                "leafDuration": DURATIONS,
                "ca": st.fixed_dictionaries({"duration": DURATIONS}),
                "signer": SIGNERS,
            },
        ),
        "limits": st.fixed_dictionaries({}, optional={"registrationsPerSecond": NUMBERS, "elements": NUMBERS}),
    },
)


@settings(max_examples=500, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(spec=SPECS, name=st.sampled_from(["echo", "n" * 33, "n" * 40, "n" * 41, "a.b", "7"]))
def test_any_manifest_has_the_same_verdict_and_the_same_fields(api: Api, spec: dict[str, Any], name: str) -> None:
    text = json.dumps(manifest(name, **spec))
    problems: tuple[Problem, ...] = ()
    try:
        read_text(text, "")
    except ManifestError as e:
        problems = e.problems
    verdict = api.create(text.encode())
    ours, theirs = (
        {named.partition("[")[0] for named in found} for found in ({p.field for p in problems}, verdict.fields)
    )
    assert verdict.accepted == (not problems), verdict.message
    assert bool(ours & theirs) == bool(ours)
    if verdict.complete:
        assert ours <= theirs
    if in_order(text):  # else we do not look further, while the API server tries the rules that it can
        assert theirs <= ours
    assert "evaluating rule" not in verdict.message


def in_order(text: str) -> bool:
    """Whether each field for itself is."""

    def given(value: Any) -> Any:
        return {k: given(v) for k, v in value.items() if v is not None} if isinstance(value, dict) else value

    try:
        ServerPool.model_validate_json(json.dumps(given(json.loads(text))), by_alias=True, by_name=False)
    except ValueError:
        return False
    return True
