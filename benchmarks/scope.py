# SPDX-License-Identifier: Apache-2.0
"""A pool of real registrar processes with certificates from files, and any number of elements in one more process.

`rserpool up` runs a sidecar beside each element; a thousand of those do not fit a machine. Here the elements are the
product's own machines over its own transport, each with its address, its certificate and its association.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO, Any, Final

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from figures import processor_time
from rserpool.asap.authorisation import Role
from rserpool.authority import EmbeddedAuthority, make_request
from rserpool.daemon.control import ControlError, control
from rserpool.daemon.settings import render
from rserpool.identity import LeafIdentity
from rserpool.transport.http import HttpError, Target, ask
from rserpool.transport.tls import Credentials
from rserpool_cli.up.loopback import Addresses, Place, claim

DAEMON: Final = (sys.executable, "-OO", "-m", "rserpool_registrar")
"""As `rserpool up` runs it."""
LIFE: Final = timedelta(days=1)
PATIENCE: Final = 300.0
NAMESPACE, POOL, DOMAIN = "bench", "echo", "bench.local"
_SETPRIV: Final = shutil.which("setpriv") if sys.platform == "linux" else None


@dataclass(frozen=True, slots=True)
class Leaf:
    """An identity with its certificate and key, PEM."""

    identity: LeafIdentity
    chain: bytes
    key: bytes

    def credentials(self, bundle: bytes) -> Credentials:
        """For a transport."""
        return credentials(self.chain, self.key, bundle)


def credentials(chain: bytes, key: bytes, bundle: bytes) -> Credentials:
    """What a transport takes, from PEM."""
    loaded = serialization.load_pem_private_key(key, password=None)
    assert isinstance(loaded, ec.EllipticCurvePrivateKey)
    return Credentials.from_pem(chain, bundle, loaded)


@dataclass(slots=True)
class Registrar:
    """One registrar process."""

    place: Place
    socket: Path
    process: subprocess.Popen[bytes]

    def ask(self, path: str) -> dict[str, Any] | None:
        """Ask its control socket; ``None`` if it does not answer."""
        try:
            answer = asyncio.run(control(self.socket, "GET", path, timeout=5.0))
        except ControlError:
            return None
        return answer if isinstance(answer, dict) and "server_id" in answer else None

    def is_serving(self) -> bool:
        """Whether elements and users are let in."""
        return (self.ask("/status") or {}).get("phase") == "serving"

    def counts(self) -> dict[str, int]:
        """How many elements it knows, owns, and has an association to, by its metrics: they cost it least."""
        try:
            answer = asyncio.run(
                ask(Target(host=str(self.place.address), port=self.place.ports["http"]), "GET", "/metrics")
            )
        except HttpError:
            return {}
        found = re.findall(r'^rserpool_elements\{state="(\w+)"\} (\d+)', answer.body.decode(), re.MULTILINE)
        return {name: int(value) for name, value in found}

    @property
    def cpu(self) -> float:
        """Seconds of CPU it has used, user and system."""
        return processor_time(self.process.pid)

    def end(self) -> None:
        """End it, and see it end."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


class Scope:
    """One pool's registrars and elements.

    Args:
        folder: for its files.
        addresses: of this machine, its own.
        secure: TLS everywhere, else nowhere.
    """

    def __init__(self, folder: Path, addresses: Addresses, *, secure: bool) -> None:
        self.folder = folder
        self.addresses = addresses
        self.secure = secure
        self.registrars: list[Registrar] = []
        self.timers: dict[str, object] = {}
        """Registrars' ``[timers]``, where they are not the Fast profile's."""
        self.authority = EmbeddedAuthority.create("bench", datetime.now(UTC), life=LIFE, leaf_life=LIFE)
        self._ended: list[Callable[[], None]] = []

    def leaf(self, role: Role) -> Leaf:
        """A new identity of this pool, certified."""
        identity = LeafIdentity(
            trust_domain=DOMAIN, namespace=NAMESPACE, pool=POOL, role=role, pod_uid=str(uuid.uuid4())
        )
        made = make_request(identity)
        chain = self.authority.sign(identity, made.request, datetime.now(UTC))
        key = made.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return Leaf(identity, chain, key)

    def start(self, count: int, command: Sequence[str] = DAEMON, environment: dict[str, str] | None = None) -> None:
        """Start that many registrars, and wait until they serve."""
        places = [self.addresses.place(1, i, asap=3864, enrp=9902, http=8080) for i in range(count)]
        for index, place in enumerate(places):
            self.registrars.append(self._start(index, place, places, command, environment or {}))
        for registrar in self.registrars:
            self.wait("all registrars serve", registrar.is_serving)

    def join(self, command: Sequence[str] = DAEMON, environment: dict[str, str] | None = None) -> Registrar:
        """Start one registrar more, which finds those that are there; does not wait for it."""
        index = len(self.registrars)
        places = [self.addresses.place(1, i, asap=3864, enrp=9902, http=8080) for i in range(index + 1)]
        self.registrars.append(self._start(index, places[-1], places, command, environment or {}))
        return self.registrars[-1]

    def _start(
        self, index: int, place: Place, places: list[Place], command: Sequence[str], environment: dict[str, str]
    ) -> Registrar:
        short = self.folder / f"r{index}"
        tables: dict[str, dict[str, object]] = {
            "pool": {"namespace": NAMESPACE, "name": POOL, "trust_domain": DOMAIN},
            "network": {
                "address": str(place.address),
                "asap_port": place.ports["asap"],
                "enrp_port": place.ports["enrp"],
                "http_port": place.ports["http"],
                "loopback": True,
            },
            "peers": {"addresses": [f"{p.address}:{p.ports['enrp']}" for p in places]},
            "security": {"mode": "Insecure"},
            "limits": {"registrations_per_second": 1e6, "resolutions_per_second": 1e6},
            "control": {"socket": f"{short}.sock"},
            "timers": self.timers,
        }
        if self.secure:
            leaf = self.leaf(Role.REGISTRAR)
            files = {"chain": leaf.chain, "key": leaf.key, "bundle": self.authority.bundle}
            tables["security"] = {"mode": "Secure", "source": "files", "pod_uid": leaf.identity.pod_uid}
            for name, content in files.items():
                Path(f"{short}.{name}").write_bytes(content)
                tables["security"][f"{name}_file"] = f"{short}.{name}"
        Path(f"{short}.toml").write_text(render(tables))
        with Path(f"{short}.log").open("ab") as log:
            process = run([*self.on_host(1, index), *command, "--config", f"{short}.toml"], environment, log)
        registrar = Registrar(place, Path(f"{short}.sock"), process)
        self._ended.append(registrar.end)
        return registrar

    def on_host(self, kind: int, index: int) -> tuple[str, ...]:
        """What runs a process where it belongs: nothing, if all is on this host."""
        del kind, index
        return ()

    def element_place(self, group: int, index: int) -> Place:
        """Where an element is."""
        del group
        return self.addresses.place(2, index, asap=3864)

    def elements(
        self, count: int, a_second: float = 100.0, *, group: int = 0, first: int = 0, life: int | None = None
    ) -> Elements:
        """Start a process with that many elements; they are started one after the other.

        Args:
            count: how many.
            a_second: of them are started.
            group: tells apart several such processes.
            first: index of its first element's place.
            life: Registration Life, in seconds; ``None``: the Fast profile's.
        """
        places = [self.element_place(group, first + i) for i in range(count)]
        leaves = [self.leaf(Role.ELEMENT) for _ in places]
        job = {
            "secure": self.secure,
            "a_second": a_second,
            "life": life,
            "bundle": self.authority.bundle.decode(),
            "registrars": [[str(r.place.address), r.place.ports["asap"]] for r in self.registrars],
            "elements": [
                {
                    "address": str(place.address),
                    "port": place.ports["asap"],
                    "uid": leaf.identity.pod_uid,
                    "chain": leaf.chain.decode(),
                    "key": leaf.key.decode(),
                }
                for place, leaf in zip(places, leaves, strict=True)
            ],
        }
        file = self.folder / f"elements{group}.json"
        file.write_text(json.dumps(job))
        elements = Elements(count, file, self.on_host(2, group))
        self._ended.append(elements.end)
        return elements

    def wait(self, what: str, condition: Callable[[], object], pause: float = 0.05) -> float:
        """Look until it is so; returns the seconds."""
        began = time.monotonic()
        while not condition():
            if time.monotonic() - began > PATIENCE:
                raise SystemExit(f"not within {PATIENCE:g} s: {what}\n{self.story()}")
            time.sleep(pause)
        return time.monotonic() - began

    def registered(self, count: int) -> float:
        """Wait until all registrars know that many elements, and their homes have associations to them."""

        def there() -> bool:
            counts = [r.counts() for r in self.registrars if r.process.poll() is None]
            known = all(c.get("known") == count for c in counts)
            return known and sum(c["attached"] for c in counts) == count

        return self.wait(f"{count} elements are registered", there, 0.2)

    def story(self) -> str:
        """What can be told when something went wrong."""
        parts = [f"{r.socket.name}: {r.counts()}" for r in self.registrars]
        parts += [f"-- {log.name}\n{log.read_text()[-1500:]}" for log in sorted(self.folder.glob("*.log"))]
        return "\n".join(parts)

    def end(self) -> None:
        """End all processes, the last one first."""
        while self._ended:
            self._ended.pop()()


class Elements:
    """A process with many elements."""

    def __init__(self, count: int, file: Path, where: Sequence[str] = ()) -> None:
        self.count = count
        self.said: dict[str, float] = {}
        command = [*where, sys.executable, "-OO", str(Path(__file__).parent / "elements.py"), str(file)]
        self._process = run(command, {})
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        """Its process."""
        return self._process.pid

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.said = json.loads(line)

    def end(self) -> None:
        """End it at once: nobody deregisters."""
        self._process.kill()
        self._process.wait()
        self._reader.join()
        assert self._process.stdout is not None
        self._process.stdout.close()


def run(command: Sequence[str], environment: dict[str, str], log: IO[bytes] | None = None) -> subprocess.Popen[bytes]:
    """Run a process that does not outlive this one, not even if this one is killed (Linux).

    Args:
        command: what to run.
        environment: added to ours.
        log: where its output goes; without one its standard output can be read.
    """
    leash = [_SETPRIV, "--pdeathsig", "KILL"] if _SETPRIV is not None else []
    return subprocess.Popen(
        [*leash, *command],
        env={**os.environ, **environment},
        start_new_session=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE if log is None else log,
        stderr=log,
    )


@contextlib.contextmanager
def scope(*, secure: bool = True) -> Iterator[Scope]:
    """A pool's folder, addresses and authority; all that was started in it ends with it."""
    with tempfile.TemporaryDirectory(prefix="rsp-") as folder, claim() as addresses:
        made = Scope(Path(folder), addresses, secure=secure)
        try:
            yield made
        finally:
            made.end()
