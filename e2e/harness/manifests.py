# SPDX-License-Identifier: Apache-2.0
"""Manifests that several tests use."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from harness.kubectl import Manifest

POD_SECURITY: dict[str, Any] = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
CONTAINER_SECURITY: dict[str, Any] = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}
"""What restricted Pod Security wants, and a read-only root file system, which it does not."""


def job(name: str, image: str, command: Sequence[str], *, node: str | None = None) -> Manifest:
    """A Job that runs a command once."""
    container = {"name": "main", "image": image, "command": list(command), "securityContext": CONTAINER_SECURITY}
    pod: Manifest = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "securityContext": POD_SECURITY,
        "containers": [container],
    }
    if node is not None:
        pod["nodeName"] = node
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name},
        "spec": {"backoffLimit": 0, "template": {"spec": pod}},
    }


def issuer(name: str, *, secret: str = "") -> Manifest:
    """A cert-manager Issuer: of the CA in a Secret, or one whose certificates sign themselves."""
    spec: dict[str, Any] = {"ca": {"secretName": secret}} if secret else {"selfSigned": {}}
    return {"apiVersion": "cert-manager.io/v1", "kind": "Issuer", "metadata": {"name": name}, "spec": spec}


def certificate(name: str, issuer: str) -> Manifest:
    """A CA, in a Secret of that name."""
    spec = {
        "isCA": True,
        "commonName": name[:64],
        "secretName": name,
        "privateKey": {"algorithm": "ECDSA", "size": 256},
        "usages": ["cert sign", "crl sign"],
        "issuerRef": {"name": issuer, "kind": "Issuer"},
    }
    return {"apiVersion": "cert-manager.io/v1", "kind": "Certificate", "metadata": {"name": name}, "spec": spec}
