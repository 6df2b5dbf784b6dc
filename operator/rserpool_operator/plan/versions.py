# SPDX-License-Identifier: Apache-2.0
"""How contents that processes are told are named, so that they can say which they have loaded."""

from __future__ import annotations

import hashlib
import json


def version_of(text: object) -> str:
    """A short version of some contents: equal exactly if the contents are."""
    return hashlib.sha256(json.dumps(text, sort_keys=True).encode()).hexdigest()[:16]
