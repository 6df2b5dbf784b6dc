# SPDX-License-Identifier: Apache-2.0
"""Our octets as an independent dissector sees them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rserpool.wire import encode, ppid_of
from support.samples import SAMPLES
from support.wireshark import dissect, flatten, tell

pytestmark = pytest.mark.tool("tshark", hint="apt-get install tshark")


@pytest.mark.rfc("RFC 5354 4: messages are written and read as their figures show them")
def test_wireshark_shows_every_message_of_ours_field_by_field_and_complains_of_none(tmp_path: Path) -> None:
    layers = dissect([(ppid_of(m), encode(m)) for m in SAMPLES], tmp_path)
    assert len(layers) == len(SAMPLES)
    for message, layer in zip(SAMPLES, layers, strict=True):
        name = ppid_of(message).name.lower()
        assert "_ws.malformed" not in layer, (message, layer)
        assert "_ws.expert" not in json.dumps(layer), (message, layer)
        seen = [row for row in flatten(layer[name]) if "padding" not in row[1]]
        assert seen == tell(message), message
