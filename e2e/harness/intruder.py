# SPDX-License-Identifier: Apache-2.0
"""Somebody who asks for what he may not have: a program that is run in pods, and pods to run it in.

What it says is encoded by our own codec; TLS is the standard library's. It never prints a key, a token or a request.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Final

from harness.apps import SIDECAR, idle, run_python
from harness.kubectl import Manifest, exec_in, kubectl

OPERATOR: Final = "rserpool-operator.rserpool-system.svc"
LEADER: Final = "rserpool-operator-leader.rserpool-system.svc"
AUDIENCE: Final = "rserpool.io/enrolment"
TOKEN: Final = "/run/rserpool/token/token"
TOKENS: Final = "/run/tokens"
"""Where a stranger has its own: ``token`` for enrolment, ``other`` for another audience."""
IDENTITY: Final = "/run/rserpool/identity/identity.pem"
LOOT: Final = "/run/loot"
"""Where a stranger keeps what it has stolen."""

PRELUDE: Final = r"""
import http.client, json, os, signal, socket, ssl, sys
from datetime import UTC, datetime, timedelta
from functools import cache
from ipaddress import ip_address
from cryptography.hazmat.primitives import serialization as s
from rserpool.asap.authorisation import Role
from rserpool.authority import EmbeddedAuthority, make_request
from rserpool.identity import LeafIdentity, pe_identifiers
from rserpool.wire import RFC, Framer, PoolElement, Ppid, TcpTransport, asap, decode, encode, enrp, policies

OWN = socket.gethostbyname(socket.gethostname())

def identity(of):
    return LeafIdentity(trust_domain="cluster.local", namespace=of["namespace"], pool=of["pool"],
                        role=Role(of["role"]), pod_uid=of["uid"])

@cache
def own_authority():
    return EmbeddedAuthority.create("rserpool", datetime.now(UTC), life=timedelta(days=1), leaf_life=timedelta(hours=1))

def forged(of, hosts=()):
    made = make_request(identity(of), hosts)
    key = made.key.private_bytes(s.Encoding.PEM, s.PrivateFormat.PKCS8, s.NoEncryption())
    return key + own_authority().sign(identity(of), made.request, datetime.now(UTC), hosts)

def show(context, pem):
    descriptor = os.memfd_create("leaf")  # in memory: nothing can be written here
    os.write(descriptor, pem)
    context.load_cert_chain(f"/proc/self/fd/{descriptor}")
"""
"""What these programs begin with."""

PROGRAM: Final = (
    PRELUDE
    + r"""
signal.alarm(50)

def context(leaf):
    found = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    found.check_hostname, found.verify_mode = False, ssl.CERT_NONE
    pem = forged(leaf) if isinstance(leaf, dict) else open(leaf, "rb").read() if leaf else b""
    if pem:
        show(found, pem)
    return found

def post(host, path, leaf, headers, body):
    connection = http.client.HTTPSConnection(host, 8443, timeout=20, context=context(leaf))
    connection.request("POST", path, json.dumps(body), {"content-type": "application/json", **headers})
    response = connection.getresponse()
    told = json.loads(response.read())
    message = told.get("message", "")
    if body["role"] == "registrar" and "settings" in told:  # an element's have keys of cookies in them
        message = json.dumps(told["settings"]["tables"])
    return {"status": response.status, "reason": told.get("reason", ""), "message": message}

def enrol(to, claim, csr, token=None, token_file=None, leaf=None, dns=()):
    made = make_request(identity(csr), dns)
    body = {k: claim[k] for k in ("namespace", "pool", "role")} | {"request": made.request.decode()}
    if leaf is not None:
        return post(to, "/v1/renew", leaf, {}, body)
    found = [p for p in (token_file, "/run/rserpool/token/token", "/run/tokens/token") if p and os.path.exists(p)]
    text = token or open(found[0]).read().strip()
    return post(to, "/v1/enrol", None, {"authorization": f"Bearer {text}"}, body)

def control(to, role, leaf, more):
    body = {"role": role, "wait": 0, "loaded": {}, "transports": [], "state": {}} | more
    return post(to, "/v1/control", leaf, {}, body)

def api(path):
    token = open("/run/rserpool/token/token").read().strip()
    connection = http.client.HTTPSConnection(os.environ["KUBERNETES_SERVICE_HOST"], timeout=20, context=context(None))
    connection.request("GET", path, headers={"authorization": f"Bearer {token}"})
    response = connection.getresponse()
    return {"status": response.status, "reason": json.loads(response.read()).get("reason", "")}

def dial(to, port, service, handle, uid, tls=True, leaf=None):
    ppid = Ppid[service]
    own = TcpTransport(port=7007, address=ip_address(OWN))
    element = PoolElement(identifier=pe_identifiers(uid)[0], home=0, life=30, transport=own,
                          policy=policies.RoundRobin(), asap_transport=TcpTransport(port=3864, address=own.address))
    message = (asap.Registration(pool_handle=handle.encode(), element=element) if ppid is Ppid.ASAP
               else enrp.Presence(sender=0x0BADCAFE, reply_required=True, checksum=0))
    sock = socket.create_connection((to, port), 20)
    if tls:
        sock = context(leaf).wrap_socket(sock)
    sock.sendall(encode(message, RFC))
    framer = Framer()
    while octets := sock.recv(65536):
        for told in framer.feed(octets):
            answer = decode(told, ppid, RFC)
            causes = [int(c.code) for c in getattr(answer, "error", ())]
            return {"answer": type(answer).__name__, "causes": causes, "rejected": getattr(answer, "reject", None)}
    return {"fate": "closed"}

def attempt(do, **how):
    try:
        return {"enrol": enrol, "control": control, "api": api, "dial": dial}[do](**how)
    except ssl.SSLError as e:
        return {"fate": e.reason or str(e)}
    except ConnectionError as e:
        return {"fate": type(e).__name__}

print(json.dumps([attempt(**how) for how in json.loads(sys.argv[1])]))
"""
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What an attempt came to.

    Attributes:
        status, reason, message: of the operator's answer.
        fate: how the connection ended, if there was no answer.
        answer, causes: of a registrar.
    """

    status: int = 0
    reason: str = ""
    message: str = ""
    fate: str = ""
    answer: str = ""
    causes: tuple[int, ...] = ()
    rejected: bool | None = field(default=None)


def attempt(namespace: str, pod: str, container: str, *attempts: dict[str, Any]) -> list[Told]:
    """Have a container try these one after another. Five at a time are fewer than the operator slows down."""
    answers = json.loads(run_python(namespace, pod, container, PROGRAM, json.dumps(attempts)))
    told = [Told(**{**answer, "causes": tuple(answer.get("causes", ()))}) for answer in answers]
    assert "ConnectionRefusedError" not in {t.fate for t in told}, "nobody was at the door to refuse anything"
    return told


def who(namespace: str, pool: str, uid: str, role: str = "element") -> dict[str, str]:
    """An identity."""
    return {"namespace": namespace, "pool": pool, "role": role, "uid": uid}


def enrol(of: dict[str, str], **how: Any) -> dict[str, Any]:
    """Ask for a certificate of that identity, with the pod's own token; `csr` is what the request itself says."""
    return {"do": "enrol", "claim": of, "csr": of, "to": OPERATOR, **how}


def control(role: str = "element", leaf: str | dict[str, str] = IDENTITY, **more: Any) -> dict[str, Any]:
    """Ask the leader for news; a leaf that is no path is forged. `more` stands in the body as well.

    What a registrar is told comes back as the message.
    """
    return {"do": "control", "to": LEADER, "role": role, "leaf": leaf, "more": more}


def api(path: str) -> dict[str, Any]:
    """Show the token for enrolment to the API server."""
    return {"do": "api", "path": path}


def dial(
    to: str, uid: str, port: int = 3864, service: str = "ASAP", handle: str = "echo", **how: Any
) -> dict[str, Any]:
    """Register at a registrar, or (ENRP) be one."""
    return {"do": "dial", "to": to, "port": port, "service": service, "handle": handle, "uid": uid, **how}


def stranger(name: str, account: str = "default", **labels: str) -> Manifest:
    """A pod that no webhook has changed, with a token for enrolment and one for another audience, and room for loot."""
    pod = idle(name, **labels)
    sources = [
        {"serviceAccountToken": {"audience": AUDIENCE, "expirationSeconds": 3600, "path": "token"}},
        {"serviceAccountToken": {"audience": "somebody-else", "expirationSeconds": 3600, "path": "other"}},
    ]
    spec = pod["spec"]
    spec["serviceAccountName"] = account
    spec["volumes"] = [
        {"name": "tokens", "projected": {"sources": sources}},
        {"name": "loot", "emptyDir": {"medium": "Memory"}},
    ]
    spec["containers"][0]["volumeMounts"] = [
        {"name": "tokens", "mountPath": TOKENS, "readOnly": True},
        {"name": "loot", "mountPath": LOOT},
    ]
    return pod


def carry_off(namespace: str, pod: str, container: str, to: str) -> str:
    """Take key and leaf out of a container in which one may `exec`, to a stranger; returns where they are then."""
    place = f"{LOOT}/{pod}.pem"
    found = exec_in(pod, container, "cat", IDENTITY, namespace=namespace)
    write = ("exec", "-i", to, "-c", "main", "--", "sh", "-c", f"umask 077; cat >{place}")
    kubectl("-n", namespace, *write, input=found)
    return place


@dataclass(frozen=True, kw_only=True)
class Members:
    """Members of pool echo, any of which may be compromised.

    Attributes:
        home: the pool's namespace.
        members: their pods.
    """

    home: str
    members: list[Manifest]

    def uid(self, number: int = 0) -> str:
        return str(self.members[number]["metadata"]["uid"])

    def name(self, number: int = 0) -> str:
        return str(self.members[number]["metadata"]["name"])

    def as_member(self, *attempts: dict[str, Any], number: int = 0) -> list[Told]:
        """From within a member's sidecar: it is compromised."""
        return attempt(self.home, self.name(number), SIDECAR, *attempts)
