# SPDX-License-Identifier: Apache-2.0
"""Somebody who stands where registrars are looked for, as one that answers everybody and everything.

What is heard is told, one line for each connection: which port, from where, whether TLS was refused, and each message.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final

from harness.intruder import LOOT, PRELUDE, stranger, who
from harness.kubectl import Manifest, logs
from harness.waiting import NotYet, wait_for

PROGRAM: Final = (
    PRELUDE
    + r"""
import threading, time

signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
mine = json.loads(os.environ["IMPOSTOR"])

def say(**told):
    print(json.dumps(told), flush=True)

def context():
    found = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    if mine["loot"]:
        while not os.path.exists(mine["loot"]):
            time.sleep(0.2)
        show(found, open(mine["loot"], "rb").read())
    else:
        show(found, forged(mine["identity"], mine["hosts"]))
        say(bundle=own_authority().bundle.decode(), address=OWN)
    return found

def answer(asked):
    own = TcpTransport(port=7007, address=ip_address(OWN))
    element = PoolElement(identifier=0x0BADCAFE, home=0x0BADCAFE, life=30000, transport=own,
                          policy=policies.RoundRobin(), asap_transport=TcpTransport(port=3864, address=own.address))
    if isinstance(asked, asap.HandleResolution):
        return asap.HandleResolutionResponse(pool_handle=asked.pool_handle, policy=policies.RoundRobin(),
                                             elements=(element,))
    if isinstance(asked, asap.Registration):
        return asap.RegistrationResponse(pool_handle=asked.pool_handle, pe_identifier=asked.element.identifier)
    return None

def listen(sock, tls, ppid, port, peer):
    sock.settimeout(5)
    try:
        sock = tls.wrap_socket(sock, server_side=True)
    except OSError as e:  # of which ssl's errors are some
        return say(port=port, peer=peer, refused=getattr(e, "reason", None) or type(e).__name__)
    sock.settimeout(None)
    say(port=port, peer=peer, shaken=True)
    framer = Framer()
    while octets := sock.recv(65536):
        for told in framer.feed(octets):
            asked = decode(told, ppid, RFC)
            say(port=port, peer=peer, heard=type(asked).__name__)
            if (reply := answer(asked)) is not None:
                sock.sendall(encode(reply, RFC))

def echo(sock, *_):
    for line in sock.makefile("rb"):
        sock.sendall(b"impostor " + line)

def serve(port, how, *more):
    server = socket.create_server(("", port))
    while True:
        sock, (peer, _) = server.accept()
        threading.Thread(target=how, args=(sock, *more, port, peer), daemon=True).start()

tls = context()
for port, how, *more in ((3864, listen, tls, Ppid.ASAP), (9902, listen, tls, Ppid.ENRP), (7007, echo)):
    threading.Thread(target=serve, args=(port, how, *more), daemon=True).start()
signal.pause()
"""
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """What an impostor was told.

    Attributes:
        refused: who ended the handshake, by port and address.
        shaken: who did not.
        messages: what they said, by name.
    """

    refused: frozenset[tuple[int, str]]
    shaken: frozenset[tuple[int, str]]
    messages: tuple[str, ...]

    @property
    def callers(self) -> frozenset[tuple[int, str]]:
        """Who has come, by port and address."""
        return self.refused | self.shaken


def impostor(name: str, namespace: str, pool: str, ordinal: int, *, loot: str = "") -> Manifest:
    """A pod that DNS takes for a pool's registrar: by its labels, its host name and its subdomain.

    Args:
        name: of the pod.
        namespace: the pool's.
        pool: whose registrar.
        ordinal: which of them.
        loot: the file of a key and leaf it will be given; without it they are of an authority of its own.
    """
    labels = {"rserpool.io/server-pool": pool, "app.kubernetes.io/component": "registrar", "impostor": pool}
    pod = stranger(name, **labels)
    full = f"{pool}-registrar-{ordinal}.{pool}-peers.{namespace}.svc"
    mine: dict[str, Any] = {
        "identity": who(namespace, pool, "00000000-0000-4000-8000-000000000000", "registrar"),
        "hosts": [full, f"{full}.cluster.local"],
        "loot": f"{LOOT}/{loot}.pem" if loot else "",
    }
    spec = pod["spec"]
    spec |= {"hostname": f"{pool}-registrar-{ordinal}", "subdomain": f"{pool}-peers"}
    spec["containers"][0] |= {"command": ["python3", "-c", PROGRAM]}
    spec["containers"][0]["env"].append({"name": "IMPOSTOR", "value": json.dumps(mine)})
    return pod


def introduced(namespace: str, name: str) -> tuple[str, str]:
    """The address of an impostor that has an authority of its own, and that authority's certificate."""

    def told() -> tuple[str, str]:
        lines = _lines(namespace, name)
        if not lines:
            raise NotYet("it has not begun")
        return lines[0]["address"], lines[0]["bundle"]

    return wait_for(told, 30, f"{name} is at work")


def heard(namespace: str, name: str) -> Heard:
    """What it was told until now."""
    lines = _lines(namespace, name)
    return Heard(
        refused=frozenset((line["port"], line["peer"]) for line in lines if "refused" in line),
        shaken=frozenset((line["port"], line["peer"]) for line in lines if "shaken" in line),
        messages=tuple(line["heard"] for line in lines if "heard" in line),
    )


def _lines(namespace: str, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in logs(name, "main", namespace=namespace).splitlines() if line.startswith("{")]
