# SPDX-License-Identifier: Apache-2.0
"""Takes out of texts and objects what looks like a secret. Pure.

None should get that far: daemons write no secret into a log, and Secrets are never read. This is the second lock. It
would rather take too much.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

REDACTED: Final = "[redacted]"

_KEY: Final = "[A-Z0-9 ]*PRIVATE KEY"
_WORD: Final = (
    r"[\w.-]*(?:password|passwd|passphrase|secret|token|api[_-]?key|private[_-]?key|cookie[_-]?keys?|credentials?)"
)
_NAME: Final = re.compile(_WORD, re.IGNORECASE)
_TEXTS: Final = (
    # a key; also one whose end, or whose beginning, was cut off
    re.compile(rf"-----BEGIN {_KEY}-----.*?(?:-----END {_KEY}-----|\Z)", re.DOTALL),
    re.compile(rf"\A(?:(?!-----BEGIN ).)*?-----END {_KEY}-----", re.DOTALL),
    # the same in base64, as Secrets and `caBundle` have PEM
    re.compile(r"LS0tLS1CRUdJTi(?!BDRVJUSUZJQ0FURS)[A-Za-z0-9+/=]+"),
    # a token of the API server, or any other JWT
    re.compile(r"\beyJ[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]*)?"),
)
_BEARER: Final = re.compile(r"(?i)\b(bearer|basic)(\s+)[A-Za-z0-9._~+/=-]{8,}")
_VALUE: Final = re.compile(rf"(?i)(?<![\w.-])({_WORD})(\\?[\"']?\s*[=:]\s*)(\\?\"[^\"]*\"|'[^']*'|[^\s,;}}\]]+)")
_BLOB: Final = re.compile(
    r"(?<![A-Za-z0-9+/_-])(?=[a-z0-9+/_-]*[A-Z])(?=[A-Z0-9+/_-]*[a-z])(?=[A-Za-z+/_-]*[0-9])[A-Za-z0-9+/_-]{40,}={0,2}"
)
"""What could be 30 random octets or more, in base64: capitals, small letters and digits without a gap."""
_PUBLIC: Final = re.compile(r"-----BEGIN CERTIFICATE-----[^-]*-----END CERTIFICATE-----")


def redact(text: str) -> str:
    """A text without what looks like a key, a token or a password; certificates stay."""
    for pattern in _TEXTS:
        text = pattern.sub(REDACTED, text)
    text = _VALUE.sub(lambda found: f"{found[1]}{found[2]}{REDACTED}", _BEARER.sub(rf"\1\2{REDACTED}", text))
    parts, at = [], 0
    for public in _PUBLIC.finditer(text):
        parts += [_BLOB.sub(REDACTED, text[at : public.start()]), public[0]]
        at = public.end()
    return "".join([*parts, _BLOB.sub(REDACTED, text[at:])])


def redact_object(value: Any) -> Any:
    """An object as JSON has it, likewise; a field whose name says that it is secret loses its value."""
    if isinstance(value, Mapping):
        secret = value.get("kind") == "Secret"
        return {
            key: REDACTED
            if (isinstance(inner, (str, bytes)) and _NAME.fullmatch(str(key))) or (secret and key in _CONTENTS)
            else redact_object(inner)
            for key, inner in value.items()
        }
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, Sequence):
        return [redact_object(inner) for inner in value]
    return value


_CONTENTS: Final = ("data", "stringData")


def plain(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """An object of ours without what only machines read: who manages which field, and what was applied last."""
    metadata = {key: value for key, value in manifest["metadata"].items() if key != "managedFields"}
    if "annotations" in metadata:
        metadata["annotations"] = {k: v for k, v in metadata["annotations"].items() if k not in _APPLIED}
    return {**manifest, "metadata": metadata}


_APPLIED: Final = ("kubectl.kubernetes.io/last-applied-configuration",)


def stranger(pod: Mapping[str, Any], sidecar: str) -> dict[str, Any]:
    """A member's pod: all of its sidecar; of the application only what containers there are, and how they fare.

    Args:
        pod: as Kubernetes has it.
        sidecar: the name of our container.
    """
    found = plain(pod)
    metadata, spec = found["metadata"], found.get("spec") or {}
    metadata["annotations"] = {k: v for k, v in (metadata.get("annotations") or {}).items() if "rserpool.io/" in k}
    kept = {key: spec[key] for key in _OF_PODS if key in spec}
    for group in ("initContainers", "containers", "ephemeralContainers"):
        if group in spec:
            kept[group] = [c if c.get("name") == sidecar else _outline(c) for c in spec[group]]
    return {**found, "metadata": metadata, "spec": kept}


_OF_PODS: Final = (
    "nodeName",
    "serviceAccountName",
    "restartPolicy",
    "hostNetwork",
    "shareProcessNamespace",
    "terminationGracePeriodSeconds",
    "dnsPolicy",
    "securityContext",
)
_OF_CONTAINERS: Final = ("name", "image", "imagePullPolicy", "ports", "resources", "restartPolicy", "volumeMounts")


def _outline(container: Mapping[str, Any]) -> dict[str, Any]:
    return {key: container[key] for key in _OF_CONTAINERS if key in container}
