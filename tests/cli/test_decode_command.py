# SPDX-License-Identifier: Apache-2.0
"""`rserpool decode`, as its user calls it."""

from __future__ import annotations

import io
import json

import pytest

from rserpool_cli.main import main
from support.wiredata import Capture, captures

RESOLUTION = "0500000d00090009506f6f6c31000000"


def test_a_message_is_printed_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["decode", RESOLUTION]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["name"] == "ASAP_HANDLE_RESOLUTION"
    assert shown["pool_handle"] == "Pool1"


def test_the_payload_protocol_identifier_decides_the_protocol(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["decode", "--ppid", "12", "0500000c0000beefa1b2c3d4"]) == 0
    assert json.loads(capsys.readouterr().out)["name"] == "ENRP_LIST_REQUEST"


@pytest.mark.parametrize("capture", captures()[::7], ids=str)
def test_reencoding_prints_the_same_hex_and_nothing_else(capture: Capture, capsys: pytest.CaptureFixture[str]) -> None:
    octets, ppid = capture.octets, capture.ppid
    assert main(["decode", "--ppid", str(int(ppid)), "--dialect", "rsplib", "--reencode", octets.hex().upper()]) == 0
    captured = capsys.readouterr()
    assert captured.out == octets.hex() + "\n"
    assert captured.err == ""


def test_white_space_and_standard_input_are_accepted(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("0x0500000d 00090009\n506f6f6c 31000000\n"))
    assert main(["decode", "--reencode", "-"]) == 0
    assert capsys.readouterr().out == RESOLUTION + "\n"


@pytest.mark.parametrize(
    ("octets", "reason"),
    [
        ("05000003", "offset 2: Message Length 3 is below 4"),
        ("0f000004", "offset 0: unrecognised ASAP message type 0x0f"),
        ("0500000", "7 hex digits: an octet has two, so one is missing"),
        ("05x00004", "not hex: 'x' at digit 3"),
        ("", "no octets given"),
    ],
)
def test_bad_octets_end_with_status_1_and_one_line(
    octets: str, reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["decode", octets]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(f"rserpool decode: {reason}")
    assert captured.err.count("\n") == 1


def test_what_the_sender_must_be_told_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["decode", "05000014" + "0009000c4563686f506f6f6c" + "c1230004"]) == 0
    report = json.loads(capsys.readouterr().out)["report_to_sender"]
    assert report == [{"code": 1, "name": "UNRECOGNIZED_PARAMETER", "info": "c1230004"}]


def test_a_handle_that_is_not_text_is_shown_in_hex(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["decode", "0500000c00090008ff000102"]) == 0
    assert json.loads(capsys.readouterr().out)["pool_handle"] == "0xff000102"


def test_a_wrong_command_line_ends_with_status_2(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["decode", "--ppid", "13", RESOLUTION])
    assert caught.value.code == 2
    assert "--ppid" in capsys.readouterr().err
