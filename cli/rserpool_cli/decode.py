# SPDX-License-Identifier: Apache-2.0
"""`rserpool decode`: what a message says."""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING, Any

from rserpool.wire import DIALECTS, DecodeError, Ppid, decode_and_report, encode, to_jsonable
from rserpool_cli.errors import CommandError

if TYPE_CHECKING:
    from rserpool_cli.types import Commands


def add_to(commands: Commands) -> None:
    """Declare the command's arguments."""
    parser = commands.add_parser(
        "decode",
        help="decode one ASAP or ENRP message",
        description="Decode one ASAP or ENRP message and print it as JSON.",
    )
    parser.add_argument(
        "--ppid", type=int, choices=[int(p) for p in Ppid], default=int(Ppid.ASAP), help="11 ASAP (default), 12 ENRP"
    )
    parser.add_argument("--dialect", choices=sorted(DIALECTS), default="rfc", help="who wrote it (default: rfc)")
    parser.add_argument(
        "--reencode", action="store_true", help="print nothing but the message encoded again, in lower-case hex"
    )
    parser.add_argument("hex", metavar="HEX", help="the message's octets in hex; white space is ignored; - reads stdin")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Decode and print.

    Raises:
        CommandError: the octets are not one well-formed message.
    """
    dialect = DIALECTS[arguments.dialect]
    text = sys.stdin.read() if arguments.hex == "-" else arguments.hex
    data = _octets(text)
    try:
        decoded = decode_and_report(data, Ppid(arguments.ppid), dialect)
    except DecodeError as e:
        raise CommandError(str(e)) from None
    if arguments.reencode:
        print(encode(decoded.message, dialect).hex())
        return 0
    plain: dict[str, Any] = to_jsonable(decoded.message)
    if decoded.reports:
        plain["report_to_sender"] = [
            {"code": cause.code, "name": str(cause), "info": cause.info.hex()} for cause in decoded.reports
        ]
    print(json.dumps(plain, indent=2, ensure_ascii=False))
    return 0


def _octets(text: str) -> bytes:
    digits = "".join(text.split()).removeprefix("0x").removeprefix("0X")
    if not digits:
        raise CommandError("no octets given; write the message in hex, such as 0500000d00090009506f6f6c31000000")
    bad = next((i for i, c in enumerate(digits) if c not in "0123456789abcdefABCDEF"), None)
    if bad is not None:
        raise CommandError(f"not hex: {digits[bad]!r} at digit {bad + 1}")
    if len(digits) % 2:
        raise CommandError(f"{len(digits)} hex digits: an octet has two, so one is missing")
    return bytes.fromhex(digits)
