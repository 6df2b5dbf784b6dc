# SPDX-License-Identifier: Apache-2.0
"""A leaner interpreter for daemons: a sidecar is beside every application, and a registrar has a memory limit too.

Python's own ``ssl`` and ``_hashlib`` load a second copy of OpenSSL beside the one that pyOpenSSL brings, and what we
import imports servers and clients nobody here uses: megabytes in each process, for nothing. This must run before
anything imports asyncio.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from types import ModuleType
from typing import Final

_BUILTIN_SHA: Final = ("_sha256", "_sha2")
_UNUSED: Final = ("ssl", "typing_extensions", "http.server", "urllib.request", "wsgiref.simple_server")
"""What prometheus_client (servers, push gateways), pyOpenSSL (a decorator) and uvloop (its own TLS) import."""


class _NamesOnly(ModuleType):
    """A module whose every name is there, to be named in annotations and defaults, and is good for nothing."""

    def __getattr__(self, name: str) -> object:
        if name.startswith("__"):
            raise AttributeError(name)
        if name == "deprecated":  # typing_extensions': a decorator
            return lambda *_args, **_options: lambda what: what
        return 0 if name.startswith("SSL_ERROR") else type(name, (), {})


def without_second_openssl(*, uvloop: bool = False) -> None:
    """Make ``ssl`` unavailable to this process, as in a Python that was built without it.

    Does nothing where it would not work: where ssl is loaded already, or hashes are OpenSSL's only.

    Args:
        uvloop: it will be used.
    """
    if "ssl" in sys.modules or not any(find_spec(name) for name in _BUILTIN_SHA):
        return
    unavailable: dict[str, ModuleType | None] = {"ssl": None, "_ssl": None, "_hashlib": None}
    sys.modules.update(unavailable)  # type: ignore[arg-type] # None is how Python spells "there is none"
    import asyncio  # noqa: F401, PLC0415 - it goes on without ssl if there is none

    del sys.modules["ssl"]
    with _names_only():
        import OpenSSL.SSL  # noqa: F401, PLC0415 - loaded here for what it is given
        import prometheus_client  # noqa: F401, PLC0415 - likewise

        if uvloop:
            with contextlib.suppress(ImportError):
                import uvloop as _  # noqa: F401, PLC0415 - likewise
    sys.modules.update({"ssl": None})  # type: ignore[dict-item] # likewise


@contextlib.contextmanager
def _names_only() -> Iterator[None]:
    made = {name: _NamesOnly(name) for name in _UNUSED if name not in sys.modules}
    sys.modules.update(made)
    try:
        yield
    finally:
        for name in made:
            del sys.modules[name]
