# SPDX-License-Identifier: Apache-2.0
"""Secrets in every form in which they might be written, and the search of a text for all of them at once."""

from __future__ import annotations

import ast
import base64
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

SHORTEST: Final = 16
"""Characters, or octets, of a secret. What is shorter may occur by chance."""
FRAMES: Final = {
    "PRIVATE KEY-----": "the frame of a private key",
    "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg": "a private key (PKCS 8, P-256)",
    "MHcCAQEEI": "a private key (SEC 1, P-256)",
}
"""What tells a private key, whosever it is: also that of a process which keeps it in its memory."""

_RUN: Final = re.compile(r"[A-Za-z0-9+/_=.~-]{16,}")
_PRIVATE: Final = re.compile(rb"-----BEGIN [A-Z ]*PRIVATE KEY-----[^-]+-----END [A-Z ]*PRIVATE KEY-----")
_LITERAL: Final = re.compile(r"""b'(?:[^'\\]|\\.){4,}'|b"(?:[^"\\]|\\.){4,}\"""")
_REST: Final = re.compile(r"[A-Za-z0-9+/_-]{24,}|^[A-Za-z0-9+/]+={0,2}$")
_ALIGNMENTS: Final = 3

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey


@dataclass(frozen=True, slots=True)
class Place:
    """Where in a text a secret is.

    Attributes:
        start: offset of the word that has it; in a text that quotes octets, of their literal.
        end: offset behind it.
        line: counted from 1.
        what: which secret, in words that do not tell it.
    """

    start: int
    end: int
    line: int
    what: str


class Known:
    """All secrets so far.

    Each form is known by its first and its last 16 characters, so that one of them is whole if a line ends within.
    """

    def __init__(self) -> None:
        self._parts: dict[str, str] = {}

    def text(self, secret: str, what: str) -> None:
        """A token. Of one with three parts (JWT) only the signature is secret; what is short is not taken."""
        parts = secret.split(".")
        if len(parts) == 3 and secret.startswith("eyJ"):
            secret = parts[2]
        for run in _RUN.findall(secret):
            self._form(run, what)
            self._base64(run.encode(), what)

    def octets(self, secret: bytes, what: str) -> None:
        """A key, as hexadecimal digits, a decimal number, in base64 alone or within a longer structure, and as Python writes it."""
        if len(secret) < SHORTEST:
            return
        self._form(secret.hex(), what)
        self._form(secret.hex().upper(), what)
        self._form(str(int.from_bytes(secret)), what)
        self._base64(secret, what)

    def key(self, key: PrivateKey, what: str) -> None:
        """A private key: of what can be written of it, the part that nobody else may know."""
        match key:
            case ed25519.Ed25519PrivateKey():
                self.octets(key.private_bytes_raw(), what)
            case rsa.RSAPrivateKey():
                numbers = key.private_numbers()
                for number in (numbers.p, numbers.q, numbers.d):
                    self.octets(number.to_bytes((number.bit_length() + 7) // 8), what)
            case _:
                self.octets(key.private_numbers().private_value.to_bytes((key.curve.key_size + 7) // 8), what)

    def pem(self, data: bytes, what: str) -> int:
        """Every private key of a file; returns how many there are. What cannot be read is none."""
        count = 0
        for block in _PRIVATE.findall(data):
            with suppress(ValueError, TypeError, UnsupportedAlgorithm):
                key = serialization.load_pem_private_key(block, None)
                if isinstance(key, PrivateKey):
                    self.key(key, what)
                    count += 1
        return count

    def find(self, text: str) -> Iterator[Place]:
        """Each word of a text that has a secret in it."""
        for frame, what in FRAMES.items():
            at = text.find(frame)
            if at >= 0:
                yield self._place(text, at, at + len(frame), what)
        for run in _RUN.finditer(text):
            yield from self._in(text, run.group(), *run.span())
        for literal in _LITERAL.finditer(text):
            try:
                octets = ast.literal_eval(literal.group())
            except (SyntaxError, ValueError):
                continue
            for form in (octets.hex(), octets.decode("ascii", "replace")):
                yield from self._in(text, form, *literal.span())

    def hidden(self, text: str) -> str:
        """The text without the lines that have a secret; nor those that may be the rest of one, which goes over several."""
        lines = {place.line for place in self.find(text)}
        if not lines:
            return text
        return "".join(
            "(a line with a secret)\n" if number in lines or _REST.search(line) else line
            for number, line in enumerate(text.splitlines(keepends=True), 1)
        )

    def _in(self, text: str, word: str, start: int, end: int) -> Iterator[Place]:
        parts = self._parts
        for at in range(len(word) - SHORTEST + 1):
            what = parts.get(word[at : at + SHORTEST])
            if what is not None:
                yield self._place(text, start, end, what)
                return

    @staticmethod
    def _place(text: str, start: int, end: int, what: str) -> Place:
        return Place(start, end, text.count("\n", 0, start) + 1, what)

    def _form(self, form: str, what: str) -> None:
        if len(form) >= SHORTEST:
            self._parts.setdefault(form[:SHORTEST], what)
            self._parts.setdefault(form[-SHORTEST:], what)

    def _base64(self, secret: bytes, what: str) -> None:
        """As it is within any structure: of what stands before it only the number of octets matters."""
        for before in range(_ALIGNMENTS):
            skipped = -(-before * 4 // 3)
            whole = (before + len(secret)) // 3 * 4
            form = base64.b64encode(b"\0" * before + secret).decode()[skipped:whole]
            self._form(form, what)
            if "+" in form or "/" in form:
                self._form(form.replace("+", "-").replace("/", "_"), what)
