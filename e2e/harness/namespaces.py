# SPDX-License-Identifier: Apache-2.0
"""Namespaces of the tests: new ones, under restricted Pod Security."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

from harness.api import ApiError
from harness.kubectl import KubectlError, apply, kubectl
from harness.secrecy import SEARCHED, look

LABEL: Final = "rserpool.io/e2e"


@contextmanager
def fresh(name: str, **labels: str) -> Iterator[str]:
    """A namespace whose name begins with `name`; deleted at the end without waiting for it, kept with KEEP set.

    Before that all that is in it is searched for secrets.

    Underscores in the names of `labels` stand for hyphens; they are prefixed by ``rserpool.io/``.

    Raises:
        AssertionError: some text in it tells a secret; says where.
    """
    full = f"{name.replace('_', '-').strip('-')[:50]}-{secrets.token_hex(2)}"
    marks = {f"rserpool.io/{key.replace('_', '-')}": value for key, value in labels.items()}
    marks |= {LABEL: "true", "pod-security.kubernetes.io/enforce": "restricted"}
    apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": full, "labels": marks}})
    found: list[str] = []
    try:
        yield full
    finally:
        with suppress(KubectlError, ApiError):  # a test that broke the cluster has failed already
            found = look(full)
            SEARCHED.leaks += found
        if not os.environ.get("KEEP"):
            kubectl("delete", "namespace", full, "--wait=false", "--ignore-not-found")
    assert found == []
