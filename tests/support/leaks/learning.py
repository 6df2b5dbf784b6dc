# SPDX-License-Identifier: Apache-2.0
"""Where keys, tokens and texts are made: functions of libraries that tell the guard of it, whoever calls them."""

from __future__ import annotations

import functools
import io
import logging
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest
from _pytest.raises import RaisesExc
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from support.leaks.guard import GUARD

_REPOSITORY: Final = Path(__file__).parents[3]
_TEMPORARY: Final = Path(tempfile.gettempdir())
_OURS: Final = ("rserpool", "support", "__main__")


def install() -> None:
    """Before anything of the product is imported: it may take the functions by their names."""
    if hasattr(ec.generate_private_key, "__wrapped__"):
        return
    for module, name in ((ec, "generate_private_key"), (rsa, "generate_private_key")):
        setattr(module, name, _learning(getattr(module, name), GUARD.key, "a private key made"))
    _replace(
        ed25519.Ed25519PrivateKey, "generate", staticmethod(_learning(_ed25519(), GUARD.key, "a private key made"))
    )
    for name in ("load_pem_private_key", "load_der_private_key"):
        setattr(serialization, name, _learning(getattr(serialization, name), _loaded, "a private key read"))
    for name, learn in (("token_bytes", GUARD.octets), ("token_urlsafe", GUARD.token), ("token_hex", GUARD.token)):
        setattr(secrets, name, _learning(getattr(secrets, name), learn, "a secret made"))
    _listen()


def _replace(owner: Any, name: str, new: Any) -> None:
    setattr(owner, name, new)


def _ed25519() -> Callable[..., Any]:
    return ed25519.Ed25519PrivateKey.generate


def _learning(original: Callable[..., Any], learn: Callable[[Any, str], None], what: str) -> Callable[..., Any]:
    @functools.wraps(original)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        made = original(*args, **kwargs)
        learn(made, f"{what} at {_where(sys._getframe(1))}")
        return made

    return wrapper


def _loaded(key: Any, what: str) -> None:
    if isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey):
        GUARD.key(key, what)


def _where(frame: Any) -> str:
    path = frame.f_code.co_filename.removeprefix(f"{_REPOSITORY}{os.sep}")
    return f"{path}:{frame.f_lineno}"


def _listen() -> None:
    """Texts that no report shows: what a test took, what it expected, what is below the level of the logs, what is removed."""
    _before(shutil, "rmtree", _removed)
    _after(subprocess.Popen, "communicate", _communicated)
    _before(subprocess.Popen, "__init__", _started)
    _after(pytest.CaptureFixture, "readouterr", _taken)
    _before(RaisesExc, "__exit__", _raised)
    for name, level in (("debug", logging.DEBUG), ("info", logging.INFO)):
        setattr(logging.Logger, name, _heard(getattr(logging.Logger, name), level))


def _before(owner: Any, name: str, tell: Callable[..., None]) -> None:
    original = getattr(owner, name)

    @functools.wraps(original)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        tell(*args, **kwargs)
        return original(*args, **kwargs)

    for extra in ("avoids_symlink_attacks",):
        if hasattr(original, extra):
            setattr(wrapper, extra, getattr(original, extra))
    setattr(owner, name, wrapper)


def _after(owner: Any, name: str, tell: Callable[[Any], None]) -> None:
    original = getattr(owner, name)

    @functools.wraps(original)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        result = original(*args, **kwargs)
        tell(result)
        return result

    setattr(owner, name, wrapper)


def _removed(path: Any, *_: Any, **__: Any) -> None:
    try:
        folder = Path(os.fsdecode(path))
    except TypeError:
        return
    if folder.is_relative_to(_TEMPORARY):
        GUARD.sweep(folder)


def _communicated(result: tuple[Any, Any]) -> None:
    for name, text in zip(("stdout", "stderr"), result, strict=True):
        if text:
            GUARD.note(f"{name} of a program", text if isinstance(text, str) else bytes(text).decode(errors="replace"))


def _started(*_: Any, **kwargs: Any) -> None:
    for stream in (kwargs.get("stdout"), kwargs.get("stderr")):
        name = getattr(stream, "name", None)
        if isinstance(stream, io.IOBase) and isinstance(name, str) and Path(name).is_absolute():
            GUARD.log(Path(name))


def _taken(result: Any) -> None:
    for name, text in (("stdout", result.out), ("stderr", result.err)):
        if text:
            GUARD.note(f"{name} that the test took", text if isinstance(text, str) else text.decode(errors="replace"))


def _raised(_: Any, kind: type[BaseException] | None, error: BaseException | None, *__: Any) -> None:
    if error is not None:
        GUARD.note("an exception that the test expected", exception_text(error))


def exception_text(error: BaseException) -> str:
    """What an exception and those before it say, without the source lines of a traceback."""
    said: list[str] = []
    seen: set[int] = set()
    left: list[BaseException] = [error]
    while left:
        one = left.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        said += [f"{type(one).__name__}: {one}", repr(one.args), *getattr(one, "__notes__", ())]
        left += [e for e in (one.__cause__, one.__context__) if e is not None]
        if isinstance(one, BaseExceptionGroup):
            left += one.exceptions
    return "\n".join(said)


def _heard(original: Callable[..., None], level: int) -> Callable[..., None]:
    """What a logger of ours would have written, had it been turned up."""

    @functools.wraps(original)
    def wrapper(self: logging.Logger, msg: object, *args: object, **kwargs: Any) -> None:
        if self.isEnabledFor(level):
            kwargs["stacklevel"] = kwargs.get("stacklevel", 1) + 1
            original(self, msg, *args, **kwargs)
        elif self.name.startswith(_OURS):
            GUARD.note(f"the log of {self.name}, below its level", str(msg) % args if args else str(msg))

    return wrapper
