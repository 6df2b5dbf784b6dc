# SPDX-License-Identifier: Apache-2.0
"""The golden messages: the project's vectors and rsplib's captures."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rserpool.wire import Ppid

DATA = Path(__file__).parent.parent / "wire" / "data"


@dataclass(frozen=True)
class Vector:
    id: str
    ppid: Ppid
    octets: bytes
    accept: tuple[bytes, ...]

    def __str__(self) -> str:
        return self.id


@dataclass(frozen=True)
class Capture:
    id: str
    name: str
    ppid: Ppid
    octets: bytes
    fields: dict[str, Any]
    tshark: dict[str, Any]

    def __str__(self) -> str:
        return self.id


def vectors() -> list[Vector]:
    return [
        Vector(v["id"], Ppid(v["ppid"]), bytes.fromhex(v["hex"]), tuple(bytes.fromhex(a) for a in v.get("accept", [])))
        for v in json.loads((DATA / "vectors.json").read_text())
    ]


def captures() -> list[Capture]:
    messages = json.loads((DATA / "rsplib-wire.json").read_text())["messages"]
    return [
        Capture(m["id"], m["name"], Ppid(m["ppid"]), bytes.fromhex(m["hex"]), m["fields"], m["tshark"]["fields"])
        for m in messages
    ]
