# SPDX-License-Identifier: Apache-2.0
"""What the redaction takes out, and what it leaves: a log without any identity or number would help nobody."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from rserpool_cli.cluster.report.redaction import REDACTED, plain, redact, redact_object, stranger

BODY = "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg"
PUBLIC = f"-----BEGIN CERTIFICATE-----\n{BODY}\n{BODY}\n-----END CERTIFICATE-----\n"
KINDS = ("PRIVATE KEY", "EC PRIVATE KEY", "RSA PRIVATE KEY", "ENCRYPTED PRIVATE KEY", "OPENSSH PRIVATE KEY")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("gap", ["\n", "\\n", "\n2026-11-25T20:00:00Z "], ids=["lines", "escaped", "stamped"])
def test_a_key_is_taken_out_however_its_lines_end(kind: str, gap: str) -> None:
    text = f"before -----BEGIN {kind}-----{gap}ab12{gap}-----END {kind}----- after"
    assert redact(text) == f"before {REDACTED} after"


def test_a_key_that_was_cut_is_taken_out_from_the_cut() -> None:
    assert redact("a log\n-----BEGIN PRIVATE KEY-----\nab12\ncd") == f"a log\n{REDACTED}"
    assert redact("ab12\ncd34\n-----END PRIVATE KEY-----\nthe rest") == f"{REDACTED}\nthe rest"


def test_a_certificate_stays_and_a_key_beside_it_does_not() -> None:
    key = f"-----BEGIN PRIVATE KEY-----\n{BODY}\n-----END PRIVATE KEY-----\n"
    assert redact(PUBLIC + key + PUBLIC) == f"{PUBLIC}{REDACTED}\n{PUBLIC}"
    assert redact(base64.b64encode(key.encode()).decode()) == REDACTED


@pytest.mark.parametrize(
    "text",
    [
        "Authorization: Bearer abcdefgh12345678",
        "authorization: basic dXNlcjpwYXNzd29yZA==",
        "password=hunter22, user=a",
        '{"token": "hunter22"}',
        '{\\"token\\": \\"hunter22\\"}',
        "API_KEY='hunter22'",
        "db.password: hunter22",
        "cookie_keys = hunter22",
        "clientSecret=hunter22",
        "a eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJ4In0.c2lnbmF0dXJl b",
        "a eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJ4In0 b",
        f"key {BODY}",
    ],
)
def test_tokens_and_passwords_are_taken_out(text: str) -> None:
    found = redact(text)
    assert REDACTED in found
    for secret in ("hunter22", "abcdefgh12345678", "dXNlcjpwYXNzd29yZA", "eyJzdWIi", "c2lnbmF0dXJl", BODY):
        assert secret not in found


@pytest.mark.parametrize(
    "text",
    [
        "refused ASAP Registration: PE identifier 0x0f8fad5b at tcp:[fd00::1]:4711",
        "spiffe://cluster.local/ns/demo/pool/echo/element/0f8fad5b-d9cb-469f-a165-70867728950e is revoked",
        "image registry.example/team/rserpool-node@sha256:" + "0123456789abcdef" * 4,
        "enrolment: the bearer token is of another audience",
        "the leaf was renewed; it is valid until 2026-11-26T21:00:00+00:00",
        'rserpool_refusals_total{threat="2.3",what="ASAP Registration"} 12.0',
        "/apis/rserpool.io/v1alpha1/namespaces/demo/serverpools/echo/status",
        "RSERPOOL_SECURITY_TOKEN_FILE=/run/rserpool/token/token",
        "statefulsets.apps/echo-registrar FailedCreate ReplicaSetCreateErrorBecauseOfSomethingElse",
    ],
)
def test_what_helps_stays(text: str) -> None:
    assert redact(text) == text


def test_fields_are_judged_by_their_name_and_their_contents() -> None:
    told = {"a": {"token": "x", "tokens": 3, "port": 1, "ok": True, "none": None}, "list": ["Bearer abcdefgh1234", "b"]}
    assert redact_object(told) == {
        "a": {"token": REDACTED, "tokens": 3, "port": 1, "ok": True, "none": None},
        "list": [f"Bearer {REDACTED}", "b"],
    }


def test_a_secret_has_its_name_and_nothing_else() -> None:
    told = {
        "kind": "Secret",
        "metadata": {"name": "a"},
        "data": {"k": "YQ=="},
        "stringData": {"k": "a"},
        "type": "Opaque",
    }
    assert redact_object([told]) == [{**told, "data": REDACTED, "stringData": REDACTED}]


def test_of_an_application_only_the_outline_is_shown() -> None:
    sidecar = {"name": "s", "image": "node:1", "env": [{"name": "A", "value": "b"}]}
    application = {
        "name": "main",
        "image": "app:1",
        "env": [{"name": "P", "value": "x"}],
        "command": ["x"],
        "args": ["x"],
    }
    pod: dict[str, Any] = {
        "metadata": {"name": "p", "annotations": {"rserpool.io/injected": "1", "other": "x"}, "managedFields": ["x"]},
        "spec": {
            "initContainers": [sidecar, application],
            "containers": [application],
            "nodeName": "n",
            "volumes": [{"name": "v", "hostPath": {"path": "/x"}}],
        },
        "status": {"phase": "Running"},
    }
    outline = {"name": "main", "image": "app:1"}
    assert stranger(pod, "s") == {
        "metadata": {"name": "p", "annotations": {"rserpool.io/injected": "1"}},
        "spec": {"nodeName": "n", "initContainers": [sidecar, outline], "containers": [outline]},
        "status": {"phase": "Running"},
    }
    assert "managedFields" in pod["metadata"], "the original is left alone"


def test_what_only_machines_read_is_left_out() -> None:
    applied = "kubectl.kubernetes.io/last-applied-configuration"
    told = {"metadata": {"name": "a", "annotations": {applied: "{}", "b": "c"}, "managedFields": []}}
    assert plain(told) == {"metadata": {"name": "a", "annotations": {"b": "c"}}}
