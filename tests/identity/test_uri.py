# SPDX-License-Identifier: Apache-2.0
"""An identity has one spelling; whatever has another is not read as one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rserpool.asap.authorisation import Role
from rserpool.identity import IdentityError, LeafIdentity

UID = "0f8fad5b-d9cb-469f-a165-70867728950e"
GOOD = f"spiffe://cluster.local/ns/demo/pool/echo/element/{UID}"
LABEL63 = "a" * 63
DOMAIN253 = ".".join(["a" * 63] * 3 + ["a" * 61])

label = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", fullmatch=True)
domain = st.lists(label, min_size=1, max_size=4).map(".".join).filter(lambda d: len(d) <= 253)
identities = st.builds(
    LeafIdentity,
    trust_domain=domain,
    namespace=label,
    pool=label,
    role=st.sampled_from([Role.REGISTRAR, Role.ELEMENT, Role.USER]),
    pod_uid=st.uuids().map(str),
)

BAD = [
    # another scheme, or the same one written otherwise
    "",
    "spiffe://",
    GOOD.removeprefix("spiffe://"),
    GOOD.removeprefix("spiffe:"),
    GOOD.replace("spiffe", "SPIFFE"),
    GOOD.replace("spiffe", "Spiffe"),
    GOOD.replace("spiffe", "https"),
    GOOD.replace("spiffe", "urn:spiffe"),
    GOOD.replace("://", ":/"),
    GOOD.replace("://", ":///"),
    GOOD.replace("://", ":"),
    GOOD.replace("/", "\\"),
    # userinfo, port, query, fragment
    GOOD.replace("cluster.local", "admin@cluster.local"),
    GOOD.replace("cluster.local", "admin:secret@cluster.local"),
    GOOD.replace("cluster.local", "cluster.local:443"),
    GOOD.replace("cluster.local", "cluster.local:"),
    GOOD.replace("cluster.local", "[fd00::1]"),
    GOOD + "?",
    GOOD + "?role=registrar",
    GOOD + "#",
    GOOD + "#registrar",
    GOOD + ";v=1",
    # the trust domain
    GOOD.replace("cluster.local", ""),
    GOOD.replace("cluster.local", "."),
    GOOD.replace("cluster.local", "cluster.local."),
    GOOD.replace("cluster.local", ".cluster.local"),
    GOOD.replace("cluster.local", "cluster..local"),
    GOOD.replace("cluster.local", "-cluster.local"),
    GOOD.replace("cluster.local", "cluster-.local"),
    GOOD.replace("cluster.local", "Cluster.local"),
    GOOD.replace("cluster.local", "cluster_a.local"),
    GOOD.replace("cluster.local", "*.local"),
    GOOD.replace("cluster.local", "a" * 64),
    GOOD.replace("cluster.local", DOMAIN253 + "a"),
    # percent-encoding
    GOOD.replace("echo", "ech%6f"),
    GOOD.replace("/pool/", "%2fpool%2f"),
    GOOD.replace("/pool/", "/%70ool/"),
    GOOD.replace("demo", "demo%00"),
    GOOD.replace("demo", "demo%2e"),
    GOOD.replace("cluster.local", "cluster%2elocal"),
    # segments: empty, more, less, in another order
    GOOD + "/",
    GOOD + "//",
    "/" + GOOD,
    GOOD.replace("/ns", "//ns"),
    GOOD.replace("/echo/", "//"),
    GOOD.replace("/demo/", "//"),
    GOOD.replace("/element/", "/element//"),
    GOOD.replace("/pool/echo", ""),
    GOOD.replace("/ns/demo", ""),
    GOOD.replace("/element", ""),
    GOOD.replace(f"/{UID}", ""),
    GOOD.replace(UID, ""),
    GOOD.replace("/ns/demo/pool/echo", "/pool/echo/ns/demo"),
    GOOD + "/extra",
    GOOD.replace("/element/", "/element/registrar/"),
    GOOD.replace("/echo/", "/echo/pool/other/"),
    GOOD.replace("/echo/", "/./"),
    GOOD.replace("/echo/", "/../"),
    GOOD.replace("/echo/", "/other/../echo/"),
    GOOD.replace("/ns/", "/NS/"),
    GOOD.replace("/ns/", "/namespace/"),
    GOOD.replace("/pool/", "/Pool/"),
    GOOD.replace("/pool/", "/pools/"),
    # names that are no labels
    GOOD.replace("demo", "Demo"),
    GOOD.replace("demo", "-demo"),
    GOOD.replace("demo", "demo-"),
    GOOD.replace("demo", "de.mo"),
    GOOD.replace("demo", "de_mo"),
    GOOD.replace("demo", "de mo"),
    GOOD.replace("echo", "ECHO"),
    GOOD.replace("echo", "echo."),
    GOOD.replace("echo", "ec:ho"),
    GOOD.replace("echo", "*"),
    GOOD.replace("echo", "a" * 64),
    # roles
    GOOD.replace("/element/", "/Element/"),
    GOOD.replace("/element/", "/elements/"),
    GOOD.replace("/element/", "/admin/"),
    GOOD.replace("/element/", "/anonymous/"),
    GOOD.replace("/element/", "/unverified/"),
    GOOD.replace("/element/", "/ELEMENT/"),
    GOOD.replace("/element/", "/element,registrar/"),
    # UIDs
    GOOD.upper().replace("SPIFFE", "spiffe"),
    GOOD.replace(UID, UID.upper()),
    GOOD.replace(UID, UID.replace("-", "")),
    GOOD.replace(UID, "{" + UID + "}"),
    GOOD.replace(UID, UID[:-1]),
    GOOD.replace(UID, UID + "0"),
    GOOD.replace(UID, UID.replace("0f8f", "gf8f")),
    GOOD.replace(UID, "0f8fad5bd-9cb-469f-a165-70867728950e"),
    GOOD.replace(UID, "echo-0"),
    GOOD.replace(UID, f"urn:uuid:{UID}"),
    # what is not seen: white space, control characters, look-alikes
    GOOD + "\n",
    GOOD + "\r\n",
    GOOD + "\0",
    GOOD + " ",
    " " + GOOD,
    "\n" + GOOD,
    GOOD.replace("demo", "demo\n"),
    GOOD.replace("demo", "demo\0"),
    GOOD.replace("demo", "de\tmo"),
    GOOD + "\n" + GOOD,
    GOOD.replace("demo", "dem\u043e"),  # Cyrillic o
    GOOD.replace("echo", "\uff45cho"),  # full-width e
    GOOD.replace("echo", "e\u0301cho"),  # combining accent
    GOOD.replace("cluster", "cl\u00fcster"),
    GOOD.replace("spiffe", "\u017fpiffe"),  # long s
    GOOD.replace("/ns/", "\u2215ns/"),  # division slash
    GOOD.replace("0f8f", "\u0660f8f"),  # Arabic-Indic zero
    GOOD.replace("demo", "demo\u200b"),  # zero width space
    GOOD.replace("demo", "demo\udc80"),  # a lone surrogate
    # length
    "a" * 513,
    GOOD + "a" * 500,
    GOOD.replace("cluster.local", "a." * 300 + "a"),
]


def spelled(uri: str) -> str:
    return ascii(uri)[:60]


@given(identity=identities)
def test_every_identity_is_read_as_it_was_written(identity: LeafIdentity) -> None:
    assert LeafIdentity.parse(str(identity)) == identity


@given(uri=st.from_regex(r"spiffe://[a-z.]{1,9}/ns/[a-z-]{1,5}/pool/[a-z.-]{1,5}/(user|registrar)/[0-9a-f-]{36}"))
def test_what_is_read_is_written_the_same(uri: str) -> None:
    try:
        identity = LeafIdentity.parse(uri)
    except IdentityError:
        return
    assert str(identity) == uri


@given(text=st.text(max_size=600))
def test_arbitrary_text_raises_nothing_but_an_identity_error(text: str) -> None:
    with pytest.raises(IdentityError):
        LeafIdentity.parse(text)


@given(data=st.data(), at=st.integers(0, len(GOOD)), char=st.characters())
def test_one_character_more_never_makes_the_same_identity(data: st.DataObject, at: int, char: str) -> None:
    try:
        other = LeafIdentity.parse(GOOD[:at] + char + GOOD[at:])
    except IdentityError:
        return
    assert other != LeafIdentity.parse(GOOD)


def test_an_identity_is_read_into_its_parts() -> None:
    assert LeafIdentity.parse(GOOD) == LeafIdentity(
        trust_domain="cluster.local", namespace="demo", pool="echo", role=Role.ELEMENT, pod_uid=UID
    )


@pytest.mark.parametrize("role", ["registrar", "element", "user"])
def test_the_role_is_what_the_certificate_says(role: str) -> None:
    assert LeafIdentity.parse(GOOD.replace("element", role)).role is Role(role)


@pytest.mark.parametrize(
    "uri",
    [
        f"spiffe://a/ns/b/pool/c/user/{UID}",
        f"spiffe://0.1-2/ns/3/pool/4-5/user/{UID}",
        f"spiffe://{LABEL63}/ns/{LABEL63}/pool/{LABEL63}/registrar/{UID}",
        f"spiffe://{DOMAIN253}/ns/{LABEL63}/pool/{LABEL63}/registrar/{UID}",
        f"spiffe://ns/ns/ns/pool/pool/element/{UID}",
        GOOD.replace(UID, "00000000-0000-0000-0000-000000000000"),
    ],
    ids=spelled,
)
def test_names_as_short_long_or_odd_as_kubernetes_allows_are_read(uri: str) -> None:
    assert str(LeafIdentity.parse(uri)) == uri


@pytest.mark.parametrize("uri", BAD, ids=spelled)
def test_whatever_is_spelled_otherwise_is_no_identity(uri: str) -> None:
    with pytest.raises(IdentityError) as raised:
        LeafIdentity.parse(uri)
    text = str(raised.value)
    assert len(text) < 900
    assert "\n" not in text
    assert "\0" not in text
    assert "spiffe://TRUST-DOMAIN/ns/NAMESPACE/pool/POOL/registrar|element|user/POD-UID" in text


def test_the_table_of_bad_ones_holds_no_good_one_and_none_twice() -> None:
    assert GOOD not in BAD
    assert len(set(BAD)) == len(BAD) >= 100


def test_the_error_shows_what_was_there_but_not_all_of_something_long() -> None:
    with pytest.raises(IdentityError, match="'spiffe://x' is not "):
        LeafIdentity.parse("spiffe://x")
    with pytest.raises(IdentityError) as raised:
        LeafIdentity.parse("b" * 100_000)
    assert "b" * 80 + "..." in str(raised.value)
    assert "b" * 81 not in str(raised.value)


@pytest.mark.parametrize(
    "uri", ["spiffe://" + "a-" * 100_000, "spiffe://" + "a." * 250 + "/ns/", GOOD[:40] + "-" * 470], ids=spelled
)
def test_text_made_to_be_slow_is_refused_quickly(uri: str) -> None:
    for _ in range(200):
        with pytest.raises(IdentityError):
            LeafIdentity.parse(uri)
