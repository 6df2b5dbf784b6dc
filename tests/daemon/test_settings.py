# SPDX-License-Identifier: Apache-2.0
"""One file and the environment; what cannot be used is refused at once, with the line and what to write there."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rserpool.daemon import parsers as parse
from rserpool.daemon.settings import KeyFaultError, SettingsError, example, load, overlay, render, section, setting


@dataclass(frozen=True, kw_only=True)
class Network:
    """Where."""

    address: str = setting(parse.nonempty, "Own address.", example='"10.0.0.7"')
    port: int = setting(parse.port, "Own port.", 3864)


@dataclass(frozen=True, kw_only=True)
class Timers:
    """When."""

    period: float = setting(parse.seconds, "Between two.", "1s")
    names: tuple[str, ...] = setting(parse.texts, "Names.", ())

    def check(self) -> None:
        if self.names and self.period > 5:
            raise KeyFaultError("period", "with names write at most 5s")
        if "all" in self.names:
            raise KeyFaultError("port", "is needed with all")


@dataclass(frozen=True, kw_only=True)
class Settings:
    network: Network = section(Network)
    timers: Timers = section(Timers)


GOOD = '[network]\naddress = "a"\n'


def read(tmp_path: Path, text: str, **environ: str) -> Settings:
    file = tmp_path / "pool.toml"
    file.write_text(text)
    return load(Settings, file, environ)


def faults(tmp_path: Path, text: str, **environ: str) -> list[str]:
    with pytest.raises(SettingsError) as raised:
        read(tmp_path, text, **environ)
    assert str(raised.value) == "\n".join(raised.value.lines)
    return [line.removeprefix(f"{tmp_path}/") for line in raised.value.lines]


def test_what_the_file_leaves_out_is_as_declared(tmp_path: Path) -> None:
    assert read(tmp_path, GOOD) == Settings(network=Network(address="a", port=3864), timers=Timers())
    assert Timers().period == 1.0


def test_the_environment_stands_above_the_file(tmp_path: Path) -> None:
    text = '[network]\naddress = "a"\nport = 1\n[timers]\nperiod = "2s"\n'
    settings = read(tmp_path, text, RSERPOOL_NETWORK_PORT="2", RSERPOOL_TIMERS_NAMES="x, y", PATH="/bin")
    assert settings.network == Network(address="a", port=2)
    assert settings.timers == Timers(period=2.0, names=("x", "y"))


def test_the_environment_is_enough() -> None:
    assert load(Settings, None, {"RSERPOOL_NETWORK_ADDRESS": "a"}).network.address == "a"
    with pytest.raises(SettingsError) as raised:
        load(Settings, None, {})
    assert raised.value.lines == ['environment: [network] address is required: write address = "10.0.0.7"']


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", 'pool.toml: [network] address is required: write address = "10.0.0.7"'),
        ("[network]\n", 'pool.toml:1: [network] address is required: write address = "10.0.0.7"'),
        (GOOD + "prot = 1\n", "pool.toml:3: [network] unknown key 'prot'; did you mean port?"),
        (GOOD + "zzz = 1\n", "pool.toml:3: [network] unknown key 'zzz'; there are address, port"),
        (GOOD + '"zzz" = 1\n', "pool.toml:3: [network] unknown key 'zzz'; there are address, port"),
        (GOOD + "[timer]\n", "pool.toml:3: [timer] unknown section 'timer'; did you mean timers?"),
        (GOOD + "[zzz]\n", "pool.toml:3: [zzz] unknown section 'zzz'; there are network, timers"),
        ("top = 1\n" + GOOD, "pool.toml: [top] unknown section 'top'; there are network, timers"),
        (GOOD + "[[timers]]\n", "pool.toml: [timers] write a table: [timers]"),
        ("timers = 3\n" + GOOD, "pool.toml: [timers] write a table: [timers]"),
        (GOOD + "port = 0\n", "pool.toml:3: port = 0: write a whole number from 1 to 65535"),
        (
            GOOD + "\n\n  [ timers ]  # when\n# period = 3\nnames = ['x']\nperiod = 'soon'\n",
            "pool.toml:8: period = 'soon': write seconds, or a duration such as 500ms, 10s, 5m or 24h",
        ),
        ("[network]\naddress = ' '\n", "pool.toml:2: address = ' ': must not be empty"),
    ],
)
def test_a_fault_names_its_line_and_what_to_write(tmp_path: Path, text: str, fault: str) -> None:
    assert faults(tmp_path, text) == [fault]


def test_a_key_of_the_same_name_in_another_section_is_not_the_place(tmp_path: Path) -> None:
    text = GOOD + "[timers]\nport = 5\n"
    assert faults(tmp_path, text) == ["pool.toml:4: [timers] unknown key 'port'; there are period, names"]


def test_all_faults_are_told_at_once_in_the_files_order(tmp_path: Path) -> None:
    text = "[network]\nport = 'x'\nprot = 1\n[timers]\nperiod = -1\n"
    told = faults(tmp_path, text, RSERPOOL_TIMERS_PERIOD="never")
    assert len(told) == 4
    assert [line.split(": ")[0] for line in told] == [
        "pool.toml:3",
        "pool.toml:1",
        "pool.toml:2",
        "RSERPOOL_TIMERS_PERIOD",
    ]


def test_a_fault_of_the_environment_names_the_variable(tmp_path: Path) -> None:
    assert faults(tmp_path, GOOD, RSERPOOL_NETWORK_PORT="70000") == [
        "RSERPOOL_NETWORK_PORT: port = '70000': write a whole number from 1 to 65535"
    ]


def test_keys_that_contradict_each_other_are_refused_where_one_of_them_stands(tmp_path: Path) -> None:
    table, fault = "[timers]\nnames = ['a']\n", "period: with names write at most 5s"
    assert faults(tmp_path, GOOD + table + "period = 6\n") == [f"pool.toml:5: [timers] {fault}"]
    other = "[timers]\nnames = ['all']\n" + GOOD + "port = 5\n"
    assert faults(tmp_path, other) == ["pool.toml:1: [timers] port: is needed with all"]
    (told,) = faults(tmp_path, GOOD + table + "period = 1\n", RSERPOOL_TIMERS_PERIOD="6")
    assert told.startswith("RSERPOOL_TIMERS_PERIOD: ")
    assert told.endswith(fault)


def test_a_variable_of_a_key_that_does_not_exist_is_refused_like_the_key(tmp_path: Path) -> None:
    """A misspelt override would otherwise leave the default in force, and nobody would know."""
    (told,) = faults(tmp_path, GOOD, RSERPOOL_NETWORK_PROT="7")
    assert told.startswith("RSERPOOL_NETWORK_PROT: ")
    assert "did you mean" in told


def test_variables_that_are_no_settings_are_let_be(tmp_path: Path) -> None:
    """Those of pool users, and those Kubernetes makes of Services called rserpool and rserpool-network."""
    users = {"RSERPOOL_REGISTRARS": "a:1", "RSERPOOL_BUNDLE": "/b"}
    links = {f"RSERPOOL_{name}": "1" for name in ("SERVICE_HOST", "PORT", "PORT_80_TCP_ADDR", "NETWORK_SERVICE_HOST")}
    assert read(tmp_path, GOOD, **users, **links, RSERPOOL_NETWORK_PORT_80_TCP="1").network.address == "a"


def test_a_long_value_is_shown_in_part(tmp_path: Path) -> None:
    (told,) = faults(tmp_path, GOOD + f"port = '{'9' * 5000}'\n")
    assert len(told) < 200


@pytest.mark.parametrize(
    "text", ["[network", "[network]\naddress = \n", GOOD + "address = 'b'\n", GOOD + "[network]\n", "\ufeff" + GOOD]
)
def test_what_is_not_toml_is_refused_with_its_line(tmp_path: Path, text: str) -> None:
    (told,) = faults(tmp_path, text)
    assert told.startswith("pool.toml: not TOML: ")
    assert "line" in told or "end of document" in told


def test_a_file_that_cannot_be_read_is_named_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "latin").write_bytes(b"[network]\naddress = '\xe9'\n")
    for name, reason in (("none", "No such file or directory"), (".", "Is a directory"), ("latin", "not UTF-8 text")):
        with pytest.raises(SettingsError, match=reason) as raised:
            load(Settings, tmp_path / name, {})
        assert str(raised.value).startswith(f"{tmp_path / name}: cannot be read: ")


# -- what is written


@pytest.mark.parametrize("comment_defaults", [True, False])
def test_the_example_is_a_configuration_with_the_defaults(tmp_path: Path, comment_defaults: bool) -> None:
    text = example(Settings, comment_defaults=comment_defaults)
    assert read(tmp_path, text) == Settings(network=Network(address="10.0.0.7"), timers=Timers())
    assert "[network]  # Where." in text
    assert "# Own port." in text
    assert ("# port = 3864" in text) is comment_defaults


values = st.one_of(
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(exclude_categories=["Cs"])),
)


@given(value=st.one_of(values, st.lists(st.text(st.characters(exclude_categories=["Cs"])), max_size=3)))
def test_what_is_rendered_is_read_as_it_was(value: object) -> None:
    """`rserpool up` writes its daemons' files so; a pool handle may be any text, a rate any number."""
    assert tomllib.loads(render({"pool": {"handle": value}})) == {"pool": {"handle": value}}


@pytest.mark.parametrize("value", ["two\nlines", "a\x00b", "tab\t", "\x7f", 'quote" \\', 1234567.0, 0.12345678, 1e300])
def test_odd_text_and_long_numbers_survive_rendering(value: object) -> None:
    assert tomllib.loads(render({"pool": {"handle": value}})) == {"pool": {"handle": value}}


@dataclass(frozen=True, kw_only=True)
class Keys:
    """What nobody is shown."""

    key: int = setting(parse.integer(0, 9), "A key.", 0, secret=True)


@dataclass(frozen=True, kw_only=True)
class Holding:
    keys: Keys = section(Keys)


def test_a_secret_is_in_no_fault_and_no_representation() -> None:
    with pytest.raises(SettingsError) as raised:
        load(Holding, None, {"RSERPOOL_KEYS_KEY": "4711"})
    assert raised.value.lines == ["RSERPOOL_KEYS_KEY: key = (not shown): write a whole number from 0 to 9"]
    held = load(Holding, None, {"RSERPOOL_KEYS_KEY": "7"})
    assert held.keys.key == 7
    assert repr(held) == "Holding(keys=Keys())"
    with pytest.raises(SettingsError) as raised:
        overlay(held, {"keys": {"key": "4711"}}, {})
    assert raised.value.lines == ["[keys] key = (not shown): write a whole number from 0 to 9"]
