"""The startup packet: versions, options, names, and what a client may not say about itself."""

import struct

import pytest

from tests.attack.opening import WHO, encrypted_answer, only_error, refused_login
from tests.harness.proxy import Proxy
from tests.harness.wire import (
    PROTOCOL_3_0,
    PROTOCOL_3_2,
    Wire,
    startup,
)


def negotiated(minor: int, *options: str) -> bytes:
    """The body of NegotiateProtocolVersion."""
    return struct.pack("!iI", 0x30000 | minor, len(options)) + b"".join(name.encode() + b"\0" for name in options)


@pytest.mark.parametrize(
    ("version", "options", "expected"),
    [
        (PROTOCOL_3_0, (), None),
        (PROTOCOL_3_2, (), None),
        (0x30001, (), negotiated(0)),
        (0x30003, (), negotiated(2)),
        (0x3270F, ("_pq_.test_protocol_negotiation",), negotiated(2, "_pq_.test_protocol_negotiation")),
        (PROTOCOL_3_0, ("_pq_.x", "_pq_.y"), negotiated(0, "_pq_.x", "_pq_.y")),
        (PROTOCOL_3_2, ("_pq_.x", "_pq_."), negotiated(2, "_pq_.x", "_pq_.")),
        (0x30001, ("_pq_.x", "_pq_.x"), negotiated(0, "_pq_.x", "_pq_.x")),
        (0x3FFFF, (), negotiated(2)),
    ],
    ids=["3.0", "3.2", "3.1", "3.3", "3.9999", "3.0 with options", "3.2 with options", "3.1, one twice", "3.65535"],
)
async def test_versions(proxy: Proxy, version: int, options: tuple[str, ...], expected: bytes | None) -> None:
    """NegotiateProtocolVersion comes once, before authentication, with every option that is not known."""
    async with await Wire.tls(proxy.port, proxy.ca.client_context()) as wire:
        parameters = (*WHO, *((name, "1") for name in options))
        said = await wire.log_in(proxy.token(), *parameters, version=version)
        assert [one.body for one in said if one.kind == "v"] == ([] if expected is None else [expected])
        assert "".join(one.kind for one in said).startswith("RR" if expected is None else "vRR")
        spoken = 0 if expected is None and version == PROTOCOL_3_0 else 2
        if expected is not None:
            spoken = expected[3]
        assert len(wire.secret) == (32 if spoken else 4)
        assert await wire.value("SELECT 1") == "1"


@pytest.mark.parametrize("version", [0x20000, 0x40000, 0x10000], ids=["2.0", "4.0", "1.0"])
async def test_other_major_versions(proxy: Proxy, version: int) -> None:
    """Not negotiable."""
    told = only_error(await encrypted_answer(proxy, startup(*WHO, version=version)))
    assert told["C"] == "0A000"


# Parameters.


@pytest.mark.parametrize(
    ("data", "sqlstate"),
    [
        (startup(("database", "orders")), "28000"),
        (startup(("user", ""), ("database", "orders")), "28000"),
        (startup(("user", "dba1"), ("user", "")), "28000"),
        (struct.pack("!iI", 18, PROTOCOL_3_0) + b"user\0dba1\0", "08P01"),
        (struct.pack("!iI", 23, PROTOCOL_3_0) + b"user\0dba1\0\0more", "08P01"),
        (struct.pack("!iI", 17, PROTOCOL_3_0) + b"user\0dba1", "08P01"),
        (struct.pack("!iI", 8, PROTOCOL_3_0), "08P01"),
        (struct.pack("!iI", 20, PROTOCOL_3_0) + b"user\0dba\xff\xfe\0\0", "28000"),
    ],
    ids=["no user", "empty user", "the last user counts", "no end", "more behind the end", "no value", "8", "no UTF-8"],
)
async def test_bad_startup_packets(proxy: Proxy, data: bytes, sqlstate: str) -> None:
    """Each is told what is wrong, as PostgreSQL tells it, and nobody is asked for a token."""
    assert only_error(await encrypted_answer(proxy, data))["C"] == sqlstate


async def test_the_last_duplicate_counts(proxy: Proxy) -> None:
    """As in PostgreSQL; so the token is held against what counts."""
    async with await Wire.tls(proxy.port, proxy.ca.client_context()) as wire:
        await wire.log_in(
            proxy.token(), ("user", "mallory"), ("user", "dba1"), ("database", "x"), ("database", "orders")
        )
    refused = await refused_login(proxy, ("user", "dba1"), ("user", "mallory"), ("database", "orders"))
    assert refused["C"] == "28P01"


@pytest.mark.parametrize(
    "parameters",
    [
        (("user", "dba1"), ("database", "orders/" + "a" * 64)),
        (("user", "dba1" + "x" * 60), ("database", "orders")),
        (("user", "dba1"),),
        (("user", "dba1"), ("database", "orders/")),
        (("user", "dba1"), ("database", "orders/archive/../postgres")),
    ],
    ids=["64-byte database", "64-byte user", "no database", "empty database", "a path"],
)
async def test_names(proxy: Proxy, parameters: tuple[tuple[str, str], ...]) -> None:
    """A name that PostgreSQL would cut is not the name that was granted; none is ever another one."""
    token = proxy.token(databases=("postgres", "a" * 63))
    if parameters[-1] == ("database", "orders/"):
        async with await Wire.tls(proxy.port, proxy.ca.client_context()) as wire:
            await wire.log_in(token, *parameters)
            assert await wire.value("SELECT current_database()") == "postgres"
        return
    assert (await refused_login(proxy, *parameters, token=token))["C"] == "28P01"


@pytest.mark.parametrize("value", ["true", "database", "1", "on", "yes", "T", "tru"])
async def test_replication(proxy: Proxy, value: str) -> None:
    """Refused unless a profile allows it, however it is asked for; and the person learns what would allow it."""
    told = await refused_login(proxy, *WHO, ("replication", value))
    assert (told["C"], told["D"]) == ("42501", 'Access profile "app" of orders does not allow them.')
    assert told["H"] == 'An operator can: replication = "all" in [targets.orders.access.app].'


@pytest.mark.parametrize("value", ["false", "0", "off", "No", "f", "of"])
async def test_no_replication(proxy: Proxy, value: str) -> None:
    """PostgreSQL's other words for an ordinary session lead to one."""
    async with await Wire.tls(proxy.port, proxy.ca.client_context()) as wire:
        await wire.log_in(proxy.token(), *WHO, ("replication", value))
        assert await wire.value("SELECT backend_type FROM pg_stat_activity WHERE pid = pg_backend_pid()") == (
            "client backend"
        )


@pytest.mark.parametrize("value", ["", "o", "2", "DATABASE", "logical", "truest"])
async def test_replication_that_is_no_word(proxy: Proxy, value: str) -> None:
    """Refused as PostgreSQL does it, before anything else is said."""
    async with await Wire.tls(proxy.port, proxy.ca.client_context()) as wire:
        wire.send(startup(*WHO, ("replication", value)))
        (told,) = await wire.rest()
    assert (told.fields["C"], told.fields["S"]) == ("22023", "FATAL")
    assert told.fields["H"] == 'Valid values are: "false", 0, "true", 1, "database".'


async def test_what_the_client_may_not_say_about_itself(proxy: Proxy) -> None:
    """The upstream identity, the person and the grant are the proxy's to set."""
    mine = (("curfew.person", "mallory"), ("curfew.grant", "grt_forged"), ("session_authorization", "postgres"))
    told = await refused_login(proxy, *WHO, *mine)
    assert told["C"] == "42501"
    async with await Wire.tls(proxy.port, proxy.ca.client_context()) as wire:
        await wire.log_in(proxy.token(id="grt_true"), *WHO, *mine[:2])
        assert await wire.value("SHOW curfew.person") == "dba1"
        assert await wire.value("SELECT current_setting('curfew.grant')") == "grt_true"
        assert await wire.value("SELECT session_user") == "curfew_app"


@pytest.mark.parametrize(
    ("options", "setting", "value"),
    [
        (r"-c search_path=a\,\ b", "search_path", "a, b"),
        ("-csearch_path=x --work_mem=128kB", "work_mem", "128kB"),
        (r"--DateStyle=German\,\ DMY", "DateStyle", "German, DMY"),
        (r"-c application_name=a\\b+c", "application_name", r"a\b+c"),
        ("-c curfew.person=mallory", "curfew.person", "dba1"),
    ],
)
async def test_options(proxy: Proxy, options: str, setting: str, value: str) -> None:
    """`options` reaches PostgreSQL byte for byte, and it alone reads it."""
    async with await Wire.tls(proxy.port, proxy.ca.client_context()) as wire:
        await wire.log_in(proxy.token(), *WHO, ("options", options))
        assert await wire.value(f"SHOW {setting}") == value


async def test_unknown_setting(proxy: Proxy) -> None:
    """PostgreSQL's own refusal comes through, as it words it."""
    told = await refused_login(proxy, *WHO, ("no_such_setting", "1"))
    assert (told["C"], told["M"]) == ("42704", 'unrecognized configuration parameter "no_such_setting"')
    told = await refused_login(proxy, ("user", "dba1"), ("database", "orders/nowhere"))
    assert (told["C"], told["M"]) == ("3D000", 'database "nowhere" does not exist')
