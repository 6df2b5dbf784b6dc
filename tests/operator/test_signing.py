# SPDX-License-Identifier: Apache-2.0
"""Leaves are signed by the pool's recorded authority, for exactly the identity decided on; issuers may lie."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from rserpool.asap.authorisation import Role
from rserpool.authority import EmbeddedAuthority, SigningError, make_request
from rserpool.authority.requests import subject_alternative_names
from rserpool.identity.certificates import leaf_of
from rserpool_operator.authorities import AuthorityError, bundle_of, sign, signing
from rserpool_operator.installation_ca import key_pair_of
from rserpool_operator.kube import KubeError, Object, Ref
from rserpool_operator.kube.kinds import CERTIFICATE_REQUEST
from rserpool_operator.observe import read_pool
from rserpool_operator.plan.certificates import key_hash
from rserpool_operator.work_queue import Key
from support.rig_cluster import SYSTEM, Cluster, ca_ref, ca_secret, pool_ref, raw_pool
from support.rig_identity import authority
from support.rig_served import SECOND_UID, identity
from support.rig_world import World

HOSTS = ("echo-registrar-0.echo-peers.demo.svc", "echo.demo.svc")
Answer = Callable[[Object], Object | None]
"""From a CertificateRequest to its status."""


class Signer:
    """A pool with a CA, and whoever signs for it."""

    def __init__(self, kind: str = "CertManager", monkeypatch: pytest.MonkeyPatch | None = None) -> None:
        self.cluster = Cluster()
        self.key: Key = self.cluster.create(raw_pool(security={"signer": {"type": kind}}))
        assert self.cluster.settle(self.key)
        secret = self.cluster.world.objects[ca_ref(self.cluster, self.key)]
        certificate, private = key_pair_of(secret, "the test's")
        self.ca = EmbeddedAuthority(certificate, timedelta(hours=24), private)
        self.seen: list[Object] = []
        self.answer: Answer = self.honest
        if monkeypatch is not None:
            original = World.create

            def create(world: World, kind_: Any, namespace: str, manifest: Object) -> Object:
                made = original(world, kind_, namespace, manifest)
                if kind_ == CERTIFICATE_REQUEST:
                    self.seen.append(manifest)
                    self._say(manifest)
                return made

            monkeypatch.setattr(World, "create", create)

    def _say(self, manifest: Object) -> None:
        status = self.answer(manifest)
        if status is not None:
            ref = Ref(CERTIFICATE_REQUEST, SYSTEM, manifest["metadata"]["name"])
            self.cluster.world.change(ref, lambda live: live.update(status=status))

    def honest(self, manifest: Object) -> Object:
        """What cert-manager's CA issuer does: names and key are the request's."""
        request = x509.load_pem_x509_csr(base64.b64decode(manifest["spec"]["request"]))
        return self.certificate(request.public_key(), request.extensions[0].value)

    def certificate(self, key: Any, names: Any, ca: EmbeddedAuthority | None = None, *more: bytes) -> Object:
        """A certificate of that key with these names."""
        ca = ca or self.ca
        now = datetime.now(UTC)
        signed = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([]))
            .issuer_name(ca.certificate.subject)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(minutes=1))
            .not_valid_after(now + timedelta(hours=1))
            .add_extension(names, critical=True)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(), critical=True)
            .add_extension(
                x509.ExtendedKeyUsage(
                    [x509.oid.ExtendedKeyUsageOID.CLIENT_AUTH, x509.oid.ExtendedKeyUsageOID.SERVER_AUTH]
                ),
                critical=False,
            )
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca._key.public_key()), critical=False)
            .sign(ca._key, hashes.SHA256())
        )
        return _issued(signed.public_bytes(serialization.Encoding.PEM) + b"".join(more))

    def sign(self, request: bytes, role: Role = Role.ELEMENT, hosts: tuple[str, ...] = ()) -> tuple[bytes, bytes]:
        raw = self.cluster.raw(self.key)
        pool, _ = read_pool(raw)
        assert pool is not None
        return asyncio.run(sign(self.cluster.world.kube, raw, pool, SYSTEM, identity(role), request, hosts))

    def left(self) -> list[Object]:
        return self.cluster.world.of(CERTIFICATE_REQUEST)


def _usage() -> x509.KeyUsage:
    off = ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "key_cert_sign")
    return x509.KeyUsage(
        digital_signature=True, **dict.fromkeys((*off, "crl_sign", "encipher_only", "decipher_only"), False)
    )


def _issued(pem: bytes) -> Object:
    return {"certificate": base64.b64encode(pem).decode(), "conditions": [{"type": "Ready", "status": "True"}]}


def _condition(**fields: str) -> Object:
    return {"conditions": [fields]}


@pytest.mark.rfc("RFC 5352 9.2: a registrar's certificate names its host")
@pytest.mark.parametrize("kind", ["Embedded", "CertManager"])
@pytest.mark.parametrize(("role", "hosts"), [(Role.ELEMENT, ()), (Role.REGISTRAR, HOSTS)])
def test_a_leaf_is_for_the_identity_the_key_and_the_hosts_that_were_decided_on(
    kind: str, role: Role, hosts: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    signer = Signer(kind, monkeypatch)
    made = make_request(identity(role), hosts)
    chain, bundle = signer.sign(made.request, role, hosts)
    certificate = x509.load_pem_x509_certificate(chain)
    assert (leaf_of(certificate).identity, leaf_of(certificate).dns_names) == (identity(role), hosts)
    assert certificate.public_key() == made.key.public_key()
    certificate.verify_directly_issued_by(x509.load_pem_x509_certificate(bundle))
    assert bundle == signer.ca.bundle
    assert signer.left() == []


def test_cert_manager_is_asked_for_just_what_the_leaf_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    signer = Signer("CertManager", monkeypatch)
    signer.sign(make_request(identity()).request)
    (asked,) = signer.seen
    assert asked["metadata"]["namespace"] == SYSTEM
    assert asked["metadata"]["name"].startswith(identity().pod_uid)
    assert asked["spec"]["isCA"] is False
    assert set(asked["spec"]["usages"]) == {"digital signature", "client auth", "server auth"}
    assert asked["spec"]["duration"] == "24h0m0s"
    assert asked["spec"]["issuerRef"]["name"] == ca_ref(signer.cluster, signer.key).name


def _own(subject: x509.Name, names: x509.SubjectAlternativeName | None, *more: Any) -> bytes:
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject)
    if names is not None:
        builder = builder.add_extension(names, critical=True)
    for extension in more:
        builder = builder.add_extension(extension, critical=True)
    key = ec.generate_private_key(ec.SECP256R1())
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


EMPTY = x509.Name([])
NAMED = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "admin")])
OWN_NAMES = subject_alternative_names(identity())
_SOUND = make_request(identity()).request
BAD_REQUESTS: dict[str, bytes] = {
    "junk": b"junk",
    "empty": b"",
    "of another pod": make_request(identity(uid=SECOND_UID)).request,
    "of another role": make_request(identity(Role.REGISTRAR)).request,
    "with a host name": make_request(identity(), ("evil.example",)).request,
    "without names": _own(EMPTY, None),
    "with a subject": _own(NAMED, OWN_NAMES),
    "for a CA": _own(EMPTY, OWN_NAMES, x509.BasicConstraints(ca=True, path_length=None)),
}


@pytest.mark.parametrize("kind", ["Embedded", "CertManager"])
@pytest.mark.parametrize("request_", BAD_REQUESTS)
def test_a_request_for_anything_else_never_reaches_an_issuer(
    kind: str, request_: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    signer = Signer(kind, monkeypatch)
    if (kind, request_) == ("Embedded", "with a subject"):
        return  # the embedded authority writes the subject itself: none
    with pytest.raises(SigningError) as raised:
        signer.sign(BAD_REQUESTS[request_])
    assert signer.seen == []
    assert "BEGIN" not in str(raised.value)


def test_the_embedded_authority_gives_no_subject_whatever_was_asked_for() -> None:
    signer = Signer("Embedded")
    try:
        chain, _ = signer.sign(BAD_REQUESTS["with a subject"])
    except SigningError:
        return
    assert list(x509.load_pem_x509_certificate(chain).subject) == []


def lies(signer: Signer) -> dict[str, Answer]:
    def key_of(manifest: Object) -> Any:
        return x509.load_pem_x509_csr(base64.b64decode(manifest["spec"]["request"])).public_key()

    other = authority("another")
    same_name = authority(signer.ca.certificate.subject.rfc4514_string().removeprefix("CN="))
    stolen = ec.generate_private_key(ec.SECP256R1()).public_key()
    return {
        "another key": lambda _: signer.certificate(stolen, OWN_NAMES),
        "another pod": lambda m: signer.certificate(key_of(m), subject_alternative_names(identity(uid=SECOND_UID))),
        "another role": lambda m: signer.certificate(key_of(m), subject_alternative_names(identity(Role.REGISTRAR))),
        "a host name more": lambda m: signer.certificate(
            key_of(m), subject_alternative_names(identity(), ("evil.example",))
        ),
        "another CA": lambda m: signer.certificate(key_of(m), OWN_NAMES, other),
        "another CA of the same name": lambda m: signer.certificate(key_of(m), OWN_NAMES, same_name),
        "another CA, which it adds": lambda m: signer.certificate(key_of(m), OWN_NAMES, other, other.bundle),
        "another CA, which it adds with ours": lambda m: signer.certificate(
            key_of(m), OWN_NAMES, other, other.bundle, signer.ca.bundle
        ),
        "the CA itself": lambda _: _issued(signer.ca.bundle),
        "no certificate": lambda _: _issued(b"hello"),
        "no base64": lambda _: {"certificate": "?"},
    }


@pytest.mark.parametrize("lie", lies(Signer()))
def test_an_issuer_that_lies_is_found_out(lie: str, monkeypatch: pytest.MonkeyPatch) -> None:
    signer = Signer("CertManager", monkeypatch)
    signer.answer = lies(signer)[lie]
    with pytest.raises(AuthorityError) as raised:
        signer.sign(_SOUND)
    assert "BEGIN" not in str(raised.value)
    assert signer.left() == []


@pytest.mark.parametrize(
    ("status", "says"),
    [
        (
            _condition(type="Denied", status="True", reason="cert-manager.io", message="policy says no"),
            "policy says no",
        ),
        (_condition(type="Ready", status="False", reason="Failed", message="no such issuer"), "no such issuer"),
        (_condition(type="Ready", status="False", reason="Denied", message="denied"), "denied"),
        (_condition(type="Ready", status="False", reason="Pending", message="waiting for approval"), "waiting for"),
        (None, "no answer yet"),
    ],
)
def test_an_issuer_that_refuses_or_never_answers_is_named_with_its_words_and_nothing_is_left(
    status: Object | None, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signing, "PATIENCE", 0.03)
    monkeypatch.setattr(signing, "POLL", 0.005)
    signer = Signer("CertManager", monkeypatch)
    signer.answer = lambda _: status
    with pytest.raises(AuthorityError, match=says):
        signer.sign(_SOUND)
    assert signer.left() == []
    signer.answer = signer.honest
    assert signer.sign(_SOUND)


def test_a_cluster_that_lost_its_cert_manager_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    signer = Signer("CertManager", monkeypatch)
    signer.cluster.world.cert_manager = False
    with pytest.raises((AuthorityError, KubeError)) as raised:
        signer.sign(_SOUND)
    assert not isinstance(raised.value, KubeError) or raised.value.status == 404


@pytest.mark.parametrize("kind", ["Embedded", "CertManager"])
@pytest.mark.parametrize("data", [{}, {"tls.crt": "?"}, {"tls.crt": "aGVsbG8="}, None])
def test_nothing_is_signed_by_another_ca_than_the_recorded_one(
    kind: str, data: Object | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    signer = Signer(kind, monkeypatch)
    ref = ca_ref(signer.cluster, signer.key)
    contents = ca_secret(ref.name, SYSTEM, {})["data"] if data is None else data
    signer.cluster.world.change(ref, lambda live: live.update(data=contents))
    raw = signer.cluster.raw(signer.key)
    pool, _ = read_pool(raw)
    assert pool is not None
    with pytest.raises(AuthorityError, match="CALost"):
        signer.sign(_SOUND)
    with pytest.raises(AuthorityError, match="CALost"):
        asyncio.run(bundle_of(signer.cluster.world.kube, raw, pool, SYSTEM))
    signer.cluster.world.remove(ref)
    with pytest.raises(AuthorityError, match="CALost"):
        signer.sign(_SOUND)


def test_a_secret_whose_key_is_not_its_certificates_signs_nothing_and_is_not_shown() -> None:
    signer = Signer("Embedded")
    ref = ca_ref(signer.cluster, signer.key)
    key = ca_secret(ref.name, SYSTEM, {})["data"]["tls.key"]
    signer.cluster.world.change(ref, lambda live: live["data"].update({"tls.key": key}))
    with pytest.raises(AuthorityError) as raised:
        signer.sign(_SOUND)
    assert ref.name in str(raised.value)
    assert "BEGIN" not in str(raised.value)


def phase_of_a_move(signer: Signer, bundle: bytes, **authority: Any) -> None:
    """The pool is on its way from our generation 1 to the user's generation 2, as its status has it."""
    theirs = {
        "type": "IssuerRef",
        "issuerRef": {"name": "ours"},
        "caBundle": base64.b64encode(bundle).decode(),
    }

    def move(raw: Object) -> None:
        kind = raw["spec"]["security"]["signer"]["type"]
        raw["spec"]["security"]["signer"] = theirs
        status = raw["status"]["authority"]
        status |= {"keys": {**status["keys"], "2": key_hash(bundle)}, **authority}
        status["signers"] = {"1": {"type": kind}, "2": theirs}

    signer.cluster.world.change(pool_ref(signer.key), move)


@pytest.mark.parametrize("kind", ["Embedded", "CertManager"])
def test_while_a_move_prepares_the_former_signer_signs_and_its_successor_is_not_asked(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    signer, new = Signer(kind, monkeypatch), authority("the user's")
    phase_of_a_move(signer, new.bundle, next=2)
    chain, bundle = signer.sign(_SOUND)
    x509.load_pem_x509_certificate(chain).verify_directly_issued_by(signer.ca.certificate)
    assert x509.load_pem_x509_certificates(bundle) == [signer.ca.certificate, new.certificate]
    asked = [manifest["spec"]["issuerRef"]["name"] for manifest in signer.seen]
    assert asked == ([] if kind == "Embedded" else [ca_ref(signer.cluster, signer.key).name])
    assert signer.left() == []


def test_a_move_that_activates_has_the_users_issuer_sign_and_believes_no_leaf_of_the_former_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each is told to renew until its leaf is of the new CA: an issuer that goes on with another would have no end."""
    signer, new = Signer("CertManager", monkeypatch), authority("the user's")
    phase_of_a_move(signer, new.bundle, generation=2, former=1)
    with pytest.raises(AuthorityError, match="not signed by an authority of its bundle"):
        signer.sign(_SOUND)
    former = signer.ca
    signer.ca = new
    chain, bundle = signer.sign(_SOUND)
    x509.load_pem_x509_certificate(chain).verify_directly_issued_by(new.certificate)
    assert x509.load_pem_x509_certificates(bundle) == [former.certificate, new.certificate]
    assert {manifest["spec"]["issuerRef"]["name"] for manifest in signer.seen} == {"ours"}
    assert signer.left() == []


def test_a_move_whose_former_ca_is_gone_gives_nobody_half_a_bundle(monkeypatch: pytest.MonkeyPatch) -> None:
    signer, new = Signer("CertManager", monkeypatch), authority("the user's")
    phase_of_a_move(signer, new.bundle, generation=2, former=1)
    signer.cluster.world.remove(ca_ref(signer.cluster, signer.key))
    signer.ca = new
    with pytest.raises(AuthorityError, match="pods still need it"):
        signer.sign(_SOUND)
    assert signer.seen == []


@pytest.mark.parametrize(
    "recorded",
    [
        {"type": "IssuerRef", "issuerRef": {"name": "../ours"}, "caBundle": "?"},
        {"type": "IssuerRef", "issuerRef": {"name": "ours"}, "caBundle": "?"},
        {"type": "Nobody"},
        "Embedded",
        None,
    ],
)
def test_a_recorded_signer_that_makes_no_sense_signs_nothing_else_than_the_spec_says(
    recorded: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    signer = Signer("CertManager", monkeypatch)
    signer.cluster.world.change(
        pool_ref(signer.key), lambda raw: raw["status"]["authority"].update(signers={"1": recorded})
    )
    try:
        chain, _ = signer.sign(_SOUND)
    except AuthorityError as e:
        assert "caBundle holds no certificate" in str(e)
        return
    x509.load_pem_x509_certificate(chain).verify_directly_issued_by(signer.ca.certificate)
