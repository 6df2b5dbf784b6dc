# SPDX-License-Identifier: Apache-2.0
"""One probe of a real application: Kubernetes' tcpSocket and httpGet, and what each makes of one that is ill."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

import pytest

from rserpool.transport.http import MOST_BODY
from rserpool_sidecar.config import HealthSection
from rserpool_sidecar.health import anywhere, http_get, tcp_socket
from support.rig_health import HERE, OK, Application, full, nobody
from support.rig_identity import LOOPBACK, quickly


def get(application: Application, **section: Any) -> str:
    """Probe an application that is up by httpGet: why it is not healthy."""

    async def run() -> str:
        async with application.running():
            here = ip_address(application.host)
            return await http_get(here, application.port, HealthSection(probe="httpGet", **section))()

    return quickly(run())


def connect(application: Application) -> str:
    async def run() -> str:
        async with application.running():
            return await tcp_socket(HERE, application.port, 1.0)()

    return quickly(run())


# -- an application that may be in more than one place


def test_an_application_that_hides_on_the_loopback_address_is_found_there() -> None:
    async def run() -> list[str]:
        async with Application(host="127.0.0.1").running() as hidden:
            section = HealthSection(probe="httpGet")
            by_port = [tcp_socket(address, hidden.port, 1.0) for address in (HERE, LOOPBACK)]
            by_http = [http_get(address, hidden.port, section) for address in (HERE, LOOPBACK)]
            return [await anywhere(probes, 1.0)() for probes in (by_port, by_http)]

    assert quickly(run()) == ["", ""]


def test_where_it_should_be_is_named_if_it_is_nowhere() -> None:
    async def run() -> str:
        with nobody() as port:
            return await anywhere([tcp_socket(HERE, port, 1.0), tcp_socket(LOOPBACK, port, 1.0)], 1.0)()

    assert "connection refused" in quickly(run())


def test_an_application_that_is_there_and_accepts_nobody_is_not_looked_for_elsewhere() -> None:
    asked: list[str] = []

    async def elsewhere() -> str:
        asked.append("elsewhere")
        return ""

    async def run() -> str:
        with full() as port:
            return await anywhere([tcp_socket(HERE, port, 1.0), elsewhere], 1.0)()

    assert "accepts no connection within 1 s" in quickly(run())
    assert asked == []


# -- tcpSocket


def test_a_port_that_accepts_is_healthy_and_nothing_is_said_to_it() -> None:
    application = Application(answer=None)
    assert connect(application) == ""
    assert application.heard == []


def test_a_port_nobody_listens_on_is_told_with_its_number_and_reason() -> None:
    with nobody() as port:
        assert quickly(tcp_socket(HERE, port, 1.0)()) == f"port {port}: connection refused"


def test_a_port_that_accepts_nobody_fails_at_the_timeout() -> None:
    with full() as port:
        assert quickly(tcp_socket(HERE, port, 0.25)()) == f"port {port} accepts no connection within 0.25 s"


def test_an_address_that_is_not_ours_is_a_failure_and_not_an_end_of_the_sidecar() -> None:
    assert quickly(tcp_socket(ip_address("192.0.2.1"), 7, 1.0)()).startswith("port 7: ")


# -- httpGet


@pytest.mark.parametrize("status", [200, 201, 204, 299, 301, 302, 307, 399])
def test_success_and_redirection_are_healthy(status: int) -> None:
    """Redirections are not followed: they may lead out of the pod."""
    head = f"HTTP/1.1 {status} X\r\nlocation: http://192.0.2.1/\r\n"
    assert get(Application(answer=head.encode() + b"content-length: 0\r\n\r\n")) == ""


@pytest.mark.parametrize("status", [400, 401, 404, 429, 500, 503, 599])
def test_an_error_is_told_with_path_port_and_status(status: int) -> None:
    application = Application(answer=f"HTTP/1.1 {status} X\r\ncontent-length: 0\r\n\r\n".encode())
    assert get(application, path="/health?full=1") == (
        f"GET /health?full=1 on port {application.port} answered {status}"
    )


def test_an_application_that_accepts_and_never_answers_fails_at_the_timeout() -> None:
    """Hung: for tcpSocket it is healthy, its kernel accepts."""
    hung = Application(answer=None)
    assert connect(hung) == ""
    assert get(hung, timeout=0.25) == f"GET / on port {hung.port}: no answer within 0.25 s"


def test_slow_is_healthy_as_long_as_it_is_within_the_timeout() -> None:
    assert get(Application(delay=0.9)) == ""
    assert "no answer within 1 s" in get(Application(delay=1.1))


@pytest.mark.parametrize(
    "answer",
    [
        b"220 mail ready\r\n",
        b"SSH-2.0-OpenSSH_9.9\r\n",
        b"\x15\x03\x01\x00\x02\x02\x46",
        b"HTTP/1.1 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n",
        b"",
    ],
    ids=["mail", "SSH", "TLS", "no status", "bad length", "nothing"],
)
def test_a_port_of_another_protocol_is_not_healthy(answer: bytes) -> None:
    application = Application(answer=answer, closes=True)
    assert get(application).startswith(f"GET / on port {application.port}: ")


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.0 200 OK\r\n\r\nuntil the end",
        b"HTTP/1.1 200 OK\r\n\r\nuntil the end",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n" + OK,
        b"HTTP/1.1 100 Continue\r\n\r\n" + OK,
        OK.replace(b"content-length: 0\r\n\r\n", b"content-length: 300000\r\n\r\n" + b"x" * 300_000),
    ],
    ids=["HTTP/1.0", "to the end", "chunked", "early hints", "continue", "a page"],
)
def test_every_shape_of_a_good_answer_is_healthy(answer: bytes) -> None:
    assert get(Application(answer=answer, closes=True)) == ""


def test_an_answer_without_end_is_not_read_without_end() -> None:
    endless = b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * (17 * MOST_BODY)
    assert "too long" in get(Application(answer=endless))


def test_what_is_asked_is_a_get_of_that_path_with_these_headers() -> None:
    application = Application()
    assert get(application, path="/health?full=1", headers=("X-Probe: a: b", "User-Agent: kube-probe/1.30")) == ""
    first, *headers = application.heard[0].decode().lower().strip().split("\r\n")
    assert first == "get /health?full=1 http/1.1"
    assert {"x-probe: a: b", "user-agent: kube-probe/1.30"} <= set(headers)
    assert sum(line.startswith("host:") for line in headers) == 1


@pytest.mark.parametrize("name", ["Host", "host", "HOST"])
def test_a_host_of_ones_own_is_asked_for(name: str) -> None:
    """Virtual hosts: Kubernetes' httpHeaders are mostly used for this."""
    application = Application()
    assert get(application, headers=(f"{name}: echo.example.com",)) == ""
    assert application.heard[0].lower().count(b"host:") == 1
    assert b"host: echo.example.com\r\n" in application.heard[0].lower()


@pytest.mark.parametrize("header", ["Connection: keep-alive", "Content-Length: 5", "X-Twice: 1"])
def test_no_header_ends_the_sidecar(header: str) -> None:
    get(Application(), headers=(header, header))


def test_an_ipv6_address_is_named_as_http_wants_it() -> None:
    """Go's and nginx' servers answer 400 to a bare one."""
    application = Application(host="::1")
    assert get(application) == ""
    host = next(line for line in application.heard[0].lower().split(b"\r\n") if line.startswith(b"host:"))
    assert host in (b"host: [::1]", f"host: [::1]:{application.port}".encode())
