"""Names and settings that are more than they seem (PROTOCOL.md, T9, T10, T16 and T17)."""

import json

import pytest

from proxy.contract.record import SessionStart, decode
from tests.harness.proxy import Proxy
from tests.harness.wire import Refused, Wire

ODD = {
    "single quote": "o'hara'; DROP TABLE t; --",
    "double quote": 'a"b"',
    "backslash": "a\\' OR 1=1",
    "dollar": "$$a$$",
    "spaces": "  a  ",
    "not ASCII": "Zoë 日本 \u202e",
    "an assignment": "a -c role=postgres",
    "a format": "%s %n {0}",
}
ESCAPE = "\x1b]0;owned\x07\x1b[2Jx\r\ny"


@pytest.mark.parametrize("name", ODD.values(), ids=ODD)
async def test_odd_names_are_names(proxy: Proxy, name: str) -> None:
    """What control has signed reaches the database as it is: no part of a name is ever SQL, or another setting."""
    token = proxy.token(person=name, id=f"grt_{name}")
    async with await Wire.tls(proxy.port, proxy.ca.client_context()) as wire:
        await wire.log_in(token, ("user", name), ("database", "orders"))
        assert await wire.value("SELECT current_setting('curfew.person')") == name
        assert await wire.value("SELECT current_setting('curfew.grant')") == f"grt_{name}"
        assert await wire.value("SELECT session_user") == "curfew_app"
    start = decode((await proxy.session_of(f"grt_{name}"))[0])
    assert isinstance(start, SessionStart)
    assert start.person == name


@pytest.mark.parametrize(
    "database",
    [
        "host=evil.invalid",
        "postgres?host=evil.invalid",
        "postgresql://evil.invalid/postgres",
        "postgres host=evil.invalid port=1",
        "@evil.invalid/postgres",
        "[::1]:1/postgres",
        "../postgres",
        "postgres;",
        "*",
    ],
)
async def test_a_database_is_no_address(proxy: Proxy, database: str) -> None:
    """It is a name, for the one server that the grant leads to: that server does not know it."""
    async with await Wire.tls(proxy.port, proxy.ca.client_context()) as wire:
        with pytest.raises(Refused) as caught:
            await wire.log_in(proxy.token(), ("user", "dba1"), ("database", f"orders/{database}"))
    told = caught.value.fields
    assert (told["C"], told["M"]) == ("3D000", f'database "{database}" does not exist')


@pytest.mark.parametrize(
    "setting",
    [
        ("options", "-c role=postgres"),
        ("options", "-c session_authorization=postgres"),
        ("role", "postgres"),
        ("session_preload_libraries", "/tmp/evil.so"),
        ("options", "-c log_statement=none"),
    ],
    ids=" ".join,
)
async def test_settings_that_take_rights(proxy: Proxy, setting: tuple[str, str]) -> None:
    """The profile's login has no rights to them, and the proxy adds none: PostgreSQL says no."""
    async with await Wire.tls(proxy.port, proxy.ca.client_context()) as wire:
        with pytest.raises(Refused) as caught:
            await wire.log_in(proxy.token(), ("user", "dba1"), ("database", "orders"), setting)
    assert caught.value.fields["C"] in ("42501", "28000")


@pytest.mark.parametrize(
    "parameters",
    [
        (("user", ESCAPE), ("database", "orders")),
        (("user", "dba1"), ("database", ESCAPE)),
        (("user", "dba1"), ("database", "orders"), ("replication", ESCAPE)),
    ],
    ids=["user", "target", "replication"],
)
async def test_nothing_of_ours_acts_on_a_terminal(proxy: Proxy, parameters: tuple[tuple[str, str], ...]) -> None:
    """Neither the client's own terminal, where its words come back to it, nor the operator's, who reads the log."""
    async with await Wire.tls(proxy.port, proxy.ca.client_context()) as wire:
        with pytest.raises(Refused) as caught:
            await wire.log_in(proxy.token(), *parameters)
    assert not {"\x1b", "\x07", "\r"} & set("".join(caught.value.fields.values()))
    assert_harmless(proxy)


@pytest.mark.parametrize(
    "parameters",
    [
        (("user", "dba1"), ("database", f"orders/{ESCAPE}")),
        (("user", "dba1"), ("database", "orders"), (ESCAPE, "1")),
    ],
    ids=["database", "setting"],
)
async def test_what_postgres_says_acts_on_no_operators_terminal(
    proxy: Proxy, parameters: tuple[tuple[str, str], ...]
) -> None:
    """The client gets PostgreSQL's answer to its own words as it came, as without a proxy; the log is harmless."""
    async with await Wire.tls(proxy.port, proxy.ca.client_context()) as wire:
        with pytest.raises(Refused) as caught:
            await wire.log_in(proxy.token(), *parameters)
    assert ESCAPE in caught.value.fields["M"]
    assert_harmless(proxy)


async def test_an_application_name_acts_on_no_terminal(proxy: Proxy) -> None:
    """The record has it exactly, escaped as JSON escapes."""
    token = proxy.token(id="grt_escape")
    async with await Wire.tls(proxy.port, proxy.ca.client_context()) as wire:
        await wire.log_in(token, ("user", "dba1"), ("database", "orders"), ("application_name", ESCAPE))
    start = decode((await proxy.session_of("grt_escape"))[0])
    assert isinstance(start, SessionStart)
    assert start.application_name == ESCAPE
    assert_harmless(proxy)


def assert_harmless(proxy: Proxy) -> None:
    """Every line of the log and of the journal is one JSON object without control characters."""
    lines = [*proxy.log().encode().splitlines(), *proxy.lines()]
    assert lines
    for line in lines:
        assert min(line) >= ord(" ")
        json.loads(line)
