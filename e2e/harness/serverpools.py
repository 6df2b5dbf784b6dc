# SPDX-License-Identifier: Apache-2.0
"""ServerPools as the API server judges them, in its own words rather than in kubectl's."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from typing import Any
from urllib.parse import quote


def manifest(name: str = "echo", **spec: Any) -> dict[str, Any]:
    """A ServerPool."""
    return {"apiVersion": "rserpool.io/v1alpha1", "kind": "ServerPool", "metadata": {"name": name}, "spec": spec}


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What the API server made of a manifest."""

    status: int
    body: dict[str, Any]

    @property
    def accepted(self) -> bool:
        return self.status in (200, 201)

    @property
    def message(self) -> str:
        return str(self.body.get("message", ""))

    @property
    def fields(self) -> set[str]:
        """The fields it named."""
        causes = self.body.get("details", {}).get("causes", []) if self.status == 422 else []
        return {str(cause["field"]) for cause in causes if cause["field"] != "<nil>"} | set(
            re.findall(r'unknown field "([^"]+)"', self.message)
        )

    @property
    def complete(self) -> bool:
        """Whether all rules were tried: not with a field that is missing or of another type."""
        return self.status == 422 and "some validation rules were not checked" not in self.message


class Api:
    """The API server's ServerPools, through `kubectl proxy`: a process for each manifest would take minutes."""

    def __init__(self, port: int, namespace: str) -> None:
        self._connection = HTTPConnection("127.0.0.1", port, timeout=30)
        self.namespace = namespace

    def close(self) -> None:
        self._connection.close()

    def ask(self, method: str, path: str, body: bytes | None, kind: str, accept: str = "application/json") -> Verdict:
        try:
            self._connection.request(method, path, body, {"Content-Type": kind, "Accept": accept})
            with self._connection.getresponse() as answer:
                text = answer.read().decode()
        except (OSError, HTTPException):
            self._connection.close()  # the next request opens it anew
            raise
        try:
            return Verdict(status=answer.status, body=json.loads(text))
        except ValueError:
            return Verdict(status=answer.status, body={"message": text.strip()})

    def create(self, text: bytes, *, version: str = "v1alpha1", namespace: str = "", dry: bool = True) -> Verdict:
        kind = "application/json" if text.lstrip().startswith(b"{") else "application/yaml"
        path = f"/apis/rserpool.io/{version}/namespaces/{quote(namespace or self.namespace)}/serverpools"
        return self.ask("POST", f"{path}?fieldValidation=Strict{'&dryRun=All' if dry else ''}", text, kind)

    def change(self, name: str, patch: dict[str, Any]) -> Verdict:
        path = f"/apis/rserpool.io/v1alpha1/namespaces/{self.namespace}/serverpools/{name}"
        kind = "application/merge-patch+json"
        return self.ask("PATCH", f"{path}?fieldValidation=Strict&dryRun=All", json.dumps(patch).encode(), kind)
