# SPDX-License-Identifier: Apache-2.0
"""Where the registrars of a pool are, and whom to trust: given, or found."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final

from rserpool.identity.parsing import certificates_from_pem
from rserpool.wire import Address

MOUNTED: Final = Path("/var/run/rserpool")
"""Where a pool user's pod finds its pool."""
STATE: Final = "state.json"


class ScopeError(ValueError):
    """No pool to use was given or found; the text says what to give."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """One pool's registrars, and how to believe them.

    Attributes:
        registrars: host and port of each.
        bundle: trusted authorities, PEM; ``None`` only in a pool without security.
        bundle_file: where they came from, and come from again when the pool's authority is replaced.
        namespace, pool, trust_domain: whose certificates registrars must have; empty: whoever the bundle vouches for.
        control_channel: the pool's elements speak frames, cookies and user data, on the port they are registered with
            (``spec.controlChannel``). It is told, never guessed.
        local: address to speak from; ``None`` for any.
        origin: where this was found, for people.
        sockets: control sockets of registrars that run on this machine, by their names.
    """

    registrars: tuple[tuple[str, int], ...]
    bundle: bytes | None
    bundle_file: Path | None = None
    namespace: str = ""
    pool: str = ""
    trust_domain: str = ""
    control_channel: bool = False
    local: Address | None = None
    origin: str = "given"
    sockets: Mapping[str, Path] = field(default_factory=dict)


def runtime_directory() -> Path:
    """Where pools that run on this machine leave their state; only their owner can read it."""
    base = os.environ.get("XDG_RUNTIME_DIR")
    return Path(base) / "rserpool" if base else Path(tempfile.gettempdir()) / f"rserpool-{os.getuid()}"


def find_scope(environ: Mapping[str, str] = os.environ, mounted: Path = MOUNTED) -> Scope:
    """Find the pool to use: the environment, then what is mounted, then the one that runs here.

    Raises:
        ScopeError: there is none, or more than one.
    """
    if "RSERPOOL_REGISTRARS" in environ:
        return _from_environment(environ)
    if (mounted / "registrars").is_file():
        return _from_mount(mounted)
    running = list(running_pools())
    if len(running) == 1:
        return running[0]
    if running:
        names = ", ".join(sorted(f"{scope.namespace}/{scope.pool}" for scope in running))
        raise ScopeError(f"several pools run on this machine ({names}); name registrars and bundle of one")
    raise ScopeError(
        "no pool was found: name its registrars and its bundle, set RSERPOOL_REGISTRARS and RSERPOOL_BUNDLE,"
        " or start one with `rserpool up`"
    )


def _from_environment(environ: Mapping[str, str]) -> Scope:
    bundle = environ.get("RSERPOOL_BUNDLE")
    if bundle is None:
        raise ScopeError("RSERPOOL_REGISTRARS is set, but not RSERPOOL_BUNDLE: name the file to trust")
    framed = _truth(environ.get("RSERPOOL_CONTROL_CHANNEL", "false"), "RSERPOOL_CONTROL_CHANNEL")
    places = environ["RSERPOOL_REGISTRARS"].split(",")
    return make_scope(places, Path(bundle), origin="environment", control_channel=framed)


def _from_mount(mounted: Path) -> Scope:
    places = _text(mounted / "registrars").split()
    insecure = (mounted / "insecure").is_file()  # whoever could put that there could as well put another bundle there
    framed = mounted / "control-channel"
    return make_scope(
        places,
        None if insecure else mounted / "bundle.pem",
        origin=str(mounted),
        control_channel=framed.is_file() and _truth(_text(framed), str(framed)),
    )


def _text(file: Path) -> str:
    try:
        return file.read_text()
    except (OSError, UnicodeDecodeError) as e:
        reason = e.strerror if isinstance(e, OSError) else "it is not UTF-8 text"
        raise ScopeError(f"{file} cannot be read: {reason}") from None


def _truth(text: str, what: str) -> bool:
    """Yes or no and nothing between: whoever guessed wrong would speak without frames to who expects them."""
    word = text.strip().lower()
    if word not in {"true", "false"}:
        raise ScopeError(f"{what} is {word!r}; write true or false")
    return word == "true"


def make_scope(
    places: list[str] | tuple[str, ...],
    bundle: Path | None,
    *,
    origin: str = "given",
    control_channel: bool = False,
) -> Scope:
    """A scope from what people write.

    Args:
        places: ``host:port`` of each registrar.
        bundle: file with the authorities to trust; ``None`` in a pool without security.
        origin: where this came from.
        control_channel: the pool's elements speak frames.

    Raises:
        ScopeError: a place cannot be read, or the bundle cannot.
    """
    try:
        registrars = tuple(_place(place.strip()) for place in places if place.strip())
        pem = bundle.read_bytes() if bundle is not None else None
    except OSError as e:
        raise ScopeError(f"the bundle {bundle} cannot be read: {e.strerror}") from None
    except ValueError as e:
        raise ScopeError(str(e)) from None
    if pem is not None and not _holds_certificates(pem):
        raise ScopeError(f"the bundle {bundle} holds no certificate that can be read; write PEM")
    if not registrars:
        raise ScopeError("no registrar was named; write host:port")
    return Scope(registrars=registrars, bundle=pem, bundle_file=bundle, origin=origin, control_channel=control_channel)


def _holds_certificates(pem: bytes) -> bool:
    try:
        return bool(certificates_from_pem(pem))
    except ValueError:
        return False


def _place(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    bare = host.removeprefix("[").removesuffix("]")
    if (
        not bare
        or (":" in bare and host == bare)
        or not port.isascii()
        or not port.isdigit()
        or not 1 <= int(port) <= 65535
    ):
        raise ValueError(f"{text!r} is no place; write host:port")
    return bare, int(port)


def running_pools() -> Iterator[Scope]:
    """The pools that `rserpool up` runs on this machine."""
    for state in running_states():
        bundle = state["bundle"]
        yield Scope(
            registrars=tuple((r["address"], r["asap_port"]) for r in state["registrars"]),
            bundle=bundle.encode() if bundle else None,
            namespace=state["namespace"],
            pool=state["pool"],
            trust_domain=state["trust_domain"],
            control_channel=state.get("control_channel") is True,
            local=ip_address(state["client"]) if state["client"] else None,
            origin=state["directory"],
            sockets={r["name"]: Path(r["socket"]) for r in state["registrars"]},
        )


def running_states() -> Iterator[dict[str, Any]]:
    """What each of them has written down about itself; those that are gone are passed over."""
    directory = runtime_directory()
    try:
        if directory.stat().st_uid != os.getuid():  # somebody else's word for where to go and whom to trust
            return
        folders = sorted(directory.iterdir())
    except OSError:
        return
    for folder in folders:
        try:
            state = json.loads((folder / STATE).read_text())
            os.kill(state["pid"], 0)
        except (OSError, ValueError, KeyError, TypeError):
            continue
        yield state
