# SPDX-License-Identifier: Apache-2.0
"""A leaner interpreter for the process of which there is one beside every application.

Python's own ``ssl`` and ``_hashlib`` load a second copy of OpenSSL beside the one that pyOpenSSL brings: four MiB in
every sidecar, for nothing. This must run before anything imports asyncio.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec
from types import ModuleType

_BUILTIN_SHA = ("_sha256", "_sha2")


class _NamesOnly(ModuleType):
    """A module whose every name is there, to be named in annotations and defaults, and is good for nothing."""

    def __getattr__(self, name: str) -> object:
        if name.startswith("__"):
            raise AttributeError(name)
        return object


def without_second_openssl() -> None:
    """Make ``ssl`` unavailable to this process, as in a Python that was built without it.

    Does nothing where it would not work: where ssl is loaded already, or hashes are OpenSSL's only.
    """
    if "ssl" in sys.modules or not any(find_spec(name) for name in _BUILTIN_SHA):
        return
    unavailable: dict[str, ModuleType | None] = {"ssl": None, "_ssl": None, "_hashlib": None}
    sys.modules.update(unavailable)  # type: ignore[arg-type] # None is how Python spells "there is none"
    import asyncio  # noqa: F401, PLC0415 - it goes on without ssl if there is none

    # prometheus_client imports ssl for servers and push gateways, which nobody uses here
    sys.modules["ssl"] = _NamesOnly("ssl")
    import prometheus_client  # noqa: F401, PLC0415

    sys.modules.update({"ssl": None})  # type: ignore[dict-item]
