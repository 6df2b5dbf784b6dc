# SPDX-License-Identifier: Apache-2.0
"""The channel in its sidecar: what is registered, keys that the operator says and replaces, what people see, the end."""

from __future__ import annotations

import asyncio
import base64
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from rserpool.daemon.control import control
from rserpool.daemon.settings import SettingsError, example, load
from rserpool.session.cookies import CookieKeys
from rserpool.session.frames import control as control_frame
from rserpool.session.frames import data
from rserpool.transport.http import Target, ask
from rserpool.wire import Ppid, TcpTransport, asap, decode
from rserpool_sidecar.config import SidecarSettings
from support.ports import free_port
from support.rig_beside import CA, HTTP, Beside, beside, tables
from support.rig_channel import RawUser, application, user_context
from support.rig_health import HERE
from support.rig_registrar import RegistrarHere

KEY = bytes(range(32))
SECRET = base64.b64encode(KEY).decode()
SLOWLY = {"period": 50}
NEWER = base64.b64encode(bytes(32)).decode()


def channel(*keys: str, **more: Any) -> dict[str, Any]:
    return {"enabled": True, "anonymous": True, "drain": 10, "keys": list(keys), **more}


class Channelled:
    """A sidecar with a channel, as a pod's environment and an operator make it."""

    def __init__(self) -> None:
        self.port, self.local = free_port(str(HERE)), free_port(str(HERE))

    @property
    def environment(self) -> dict[str, Any]:
        return {"channel_port": self.port, "channel_http_port": self.local, "channel_http_address": HERE}

    async def user(self) -> RawUser:
        user = await RawUser.connect(self.port, user_context(trusts=CA, signer=CA))
        user.patience = 1000.0
        return user

    async def seal(self, body: bytes) -> int:
        """Have the only user keep something; the application's part is played from here."""
        metrics = await ask(Target(host=str(HERE), port=HTTP), "GET", "/metrics")
        assert b"rserpool_user_connections 1.0" in metrics.body
        for name in self.daemon.ports:
            answer = await ask(
                Target(host=str(HERE), port=self.local), "POST", f"/v1/connections/{name}/cookie", body=body
            )
            return answer.status
        raise AssertionError("nobody is connected")

    daemon: Any = None


async def registered(rig: Beside, here: Channelled, registrar: RegistrarHere, port: int, *keys: str) -> None:
    rig.server.settings("v1", tables(port, registrar.place, channel=channel(*keys)))
    daemon = await rig.start()
    await rig.until(lambda s: bool(s["registered"]))
    here.daemon = daemon._relay


async def alone(rig: Beside, port: int, *keys: str) -> None:
    """A sidecar with a channel, and no registrar: it is not about registration."""
    rig.server.settings("v1", tables(port, channel=channel(*keys), health=SLOWLY))
    await rig.start()
    await rig.until(lambda s: "users" in s)


async def cookie_of(user: RawUser) -> bytes:
    frame = await user.frame()
    assert frame is not None
    message = decode(frame.payload, Ppid.ASAP)
    assert isinstance(message, asap.Cookie)
    return message.cookie


def test_the_channels_port_is_registered_and_keys_are_replaced_while_users_are_connected(tmp_path: Path) -> None:
    here = Channelled()

    async def test(rig: Beside) -> None:
        async with application() as port, RegistrarHere(CA).running() as registrar:
            await registered(rig, here, registrar, port, f"1:{SECRET}")
            assert [e["transport"] for e in registrar.elements()] == [f"tcp:{HERE}:{here.port}"]
            assert (await rig.status())["healthy"], "the application is probed where it is"
            user = await here.user()
            await user.say(b"x")
            assert await user.heard(1) == b"x"
            assert (await rig.status())["users"] == 1
            assert await here.seal(b"state") == 200
            old = await cookie_of(user)
            assert old[1] == 1
            rig.server.settings("v2", tables(port, registrar.place, channel=channel(f"2:{NEWER}", f"1:{SECRET}")))
            await rig.server.until(lambda q: q["loaded"]["settings"] == "v2")
            assert await here.seal(b"state") == 200
            assert (await cookie_of(user))[1] == 2
            await user.say(b"y")
            assert await user.heard(1) == b"y"
            user.abort()
            again = await here.user()
            await again.send(control_frame(asap.CookieEcho(cookie=old)) + b"".join(data(b"z")))
            assert await again.heard(1) == b"z"
            text = (await ask(Target(host=str(HERE), port=HTTP), "GET", "/metrics")).body.decode()
            assert 'rserpool_cookies_total{outcome="sealed"} 2.0' in text
            assert 'rserpool_cookies_total{outcome="accepted"} 1.0' in text
            again.abort()
            await asyncio.sleep(0)

    beside(tmp_path, test, **here.environment)


@pytest.mark.rfc("RFC 5352 3.9: a business card goes to a user where there is a control channel")
def test_where_the_elements_of_a_business_card_are_is_asked_of_a_registrar(tmp_path: Path) -> None:
    here = Channelled()

    async def test(rig: Beside) -> None:
        async with application() as port, RegistrarHere(CA).running() as registrar:
            await registered(rig, here, registrar, port)
            number = (await rig.status())["pe_identifier"]
            target = Target(host=str(HERE), port=here.local)
            answer = await ask(target, "POST", "/v1/business-card", body=json.dumps([1, number]).encode())
            assert (answer.status, json.loads(answer.body)) == (200, {"sent": 1, "unknown": ["0x00000001"]})
            user = await here.user()
            frame = await user.frame()
            assert frame is not None
            card = decode(frame.payload, Ppid.ASAP)
            assert isinstance(card, asap.BusinessCard)
            (element,) = card.elements
            assert element.identifier == int(number, 16)
            assert element.transport == TcpTransport(port=here.port, address=HERE)
            user.abort()
            await asyncio.sleep(0)
        answer = await ask(target, "POST", "/v1/business-card", body=b"[77]")
        assert answer.status == 503, "the registrar has gone"

    beside(tmp_path, test, **here.environment)


def test_keys_are_in_no_log_no_dump_and_only_in_the_pods_own_folder(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    here = Channelled()
    caplog.set_level("DEBUG")

    async def test(rig: Beside) -> None:
        async with application() as port:
            await alone(rig, port, f"1:{SECRET}")
            told = tables(port, channel=channel(f"1:{SECRET}!", f"1:{SECRET}"), health=SLOWLY)
            rig.server.settings("v2", told)
            await rig.until(lambda _: "cannot be used" in caplog.text)
            shown = json.dumps([await control(rig.socket, "GET", path) for path in ("/dump", "/status")])
            shown += (await ask(Target(host=str(HERE), port=HTTP), "GET", "/metrics")).body.decode()
            shown += repr(rig.daemon._settings) + json.dumps([question for _, question in rig.server.asked])
            assert "keys = (not shown): write a list of ID:KEY" in caplog.text
            for text in (shown, caplog.text):
                assert SECRET not in text
                assert repr(KEY) not in text
        holding = [p for p in tmp_path.rglob("*") if p.is_file() and SECRET in p.read_text(errors="replace")]
        assert [p.name for p in holding] == ["settings.json"]
        assert holding[0].stat().st_mode & 0o777 == 0o600

    beside(tmp_path, test, **here.environment)


@pytest.mark.rfc("RFC 3237 2.7: joining and leaving interrupt nobody")
def test_a_drained_element_is_out_of_the_pool_and_its_users_go_on_until_it_ends(tmp_path: Path) -> None:
    here = Channelled()

    async def test(rig: Beside) -> None:
        async with application() as port, RegistrarHere(CA).running() as registrar:
            await registered(rig, here, registrar, port)
            user = await here.user()
            await user.say(b"x")
            assert await user.heard(1) == b"x"
            await control(rig.socket, "POST", "/drain", timeout=60)
            assert registrar.elements() == []
            await user.say(b"y")
            assert await user.heard(1) == b"y"
            ending = asyncio.ensure_future(rig.end())
            await asyncio.sleep(5)
            await user.say(b"z")
            assert await user.heard(1) == b"z"
            assert not ending.done()
            await user.finish()
            assert await user.rest() == b""
            assert await ending == 0
            user.abort()
            await asyncio.sleep(0)

    beside(tmp_path, test, **here.environment)


def test_the_channel_is_not_switched_off_under_the_pool_users(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    here = Channelled()

    async def test(rig: Beside) -> None:
        async with application() as port:
            await alone(rig, port)
            rig.server.settings("v2", tables(port, health=SLOWLY))
            await rig.until(lambda _: "[channel] enabled: to change that needs a new pod" in caplog.text)
            user = await here.user()
            await user.say(b"x")
            assert await user.heard(1) == b"x"
            user.abort()
            await asyncio.sleep(0)

    beside(tmp_path, test, **here.environment)


def test_a_port_that_is_taken_is_said_and_ends_the_sidecar(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    here = Channelled()

    async def test(rig: Beside) -> None:
        async with application() as taken, RegistrarHere(CA).running() as registrar:
            here.port = rig.more["channel_port"] = taken
            rig.server.settings("v1", tables(taken, registrar.place, channel=channel()))
            await rig.start()
            assert rig.life is not None
            assert await rig.life == 1
            assert f"the control channel's ports {taken} and {here.local}" in caplog.text

    beside(tmp_path, test, **here.environment)


NEEDED = (
    '[pool]\nnamespace = "demo"\nname = "echo"\n[network]\naddress = "10.0.0.8"\n'
    '[registrars]\naddresses = ["registrars.demo.svc:3864"]\n[application]\nport = 7007\n[channel]\n'
)


def read(tmp_path: Path, text: str) -> SidecarSettings:
    (tmp_path / "s.toml").write_text(NEEDED + text)
    return load(SidecarSettings, tmp_path / "s.toml", {})


def test_with_a_channel_its_port_is_registered_and_the_application_may_hide(tmp_path: Path) -> None:
    settings = read(tmp_path, f'enabled = true\nkeys = ["2:{NEWER}", "1:{SECRET}"]\n')
    address = settings.network.address
    assert settings.user_transport == TcpTransport(port=7008, address=address)
    assert [str(a) for a in settings.application_addresses] == ["10.0.0.8", "127.0.0.1"]
    assert settings.channel.keys == CookieKeys((2, bytes(32)), {1: KEY})
    assert SECRET not in repr(settings)
    off = read(tmp_path, "")
    assert off.user_transport == TcpTransport(port=7007, address=address)
    assert off.application_addresses == (address,)
    assert not off.channel.enabled
    assert "keys = []" in example(SidecarSettings)


@pytest.mark.parametrize(
    ("line", "advice"),
    [
        (f'keys = ["{SECRET}"]', "keys = (not shown): write a list of ID:KEY"),
        ('keys = ["1:c2hvcnQ="]', "keys = (not shown): write a list of ID:KEY"),
        (f'keys = ["256:{SECRET}"]', "keys = (not shown): write a list of ID:KEY"),
        (f'keys = ["1:{SECRET}", "1:{NEWER}"]', "keys = (not shown): write a list of ID:KEY"),
        (f'keys = ["1:{SECRET}*"]', "keys = (not shown): write a list of ID:KEY"),
        ("keys = 7", "keys = (not shown): write a list of texts"),
        ('http_address = "10.0.0.8"', "http_address: is for this machine's application only; write a loopback address"),
        ("connections = 0", "connections = 0: write a whole number from 1 to 65536"),
        ('max_age = "0s"', "0 is no time to wait"),
    ],
)
def test_what_cannot_be_is_refused_without_showing_a_key(tmp_path: Path, line: str, advice: str) -> None:
    with pytest.raises(SettingsError) as raised:
        read(tmp_path, line)
    (fault,) = raised.value.lines
    assert advice in fault
    assert SECRET[:20] not in fault


def test_where_there_is_no_channel_nothing_of_it_is_loaded() -> None:
    program = (
        "import sys; from rserpool_sidecar import daemon; "
        "print([m for m in sys.modules if m.startswith(('rserpool_sidecar.channel.', 'rserpool.session.', 'rserpool.asap.user'))])"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "['rserpool.session.cookies', 'rserpool_sidecar.channel.section']"
