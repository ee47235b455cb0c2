"""Messages of an admitted session: what cannot be trusted ends it, the rest is PostgreSQL's to judge."""

import asyncio
import struct

import pytest

from proxy.contract.record import AnyRecord, SessionEnd, StatementEnd, StatementStart, decode
from tests.conftest import MakeProxy
from tests.harness.postgres import Cluster
from tests.harness.proxy import Proxy, new_grant_id
from tests.harness.wire import (
    COPY_DONE,
    SYNC,
    TERMINATE,
    Message,
    Wire,
    bind,
    execute,
    message,
    one_by_one,
    parse,
    query,
)

BROKEN = {
    "unknown type": message("z", b"x"),
    "a password": message("p", b"token\0"),
    "a backend's message": message("Z", b"I"),
    "a startup packet": struct.pack("!iI", 8, 0x30000),
    "NUL as type": message("\0"),
    "length 3": b"Q" + struct.pack("!i", 3),
    "length 0": b"Q" + struct.pack("!i", 0),
    "negative": b"Q" + struct.pack("!i", -1),
    "most negative": b"d" + struct.pack("!i", -(2**31)),
    "2 GB": b"Q" + struct.pack("!i", 2**31 - 1),
    "2 GB of COPY data": b"d" + struct.pack("!i", 2**31 - 1),
    "a long Execute": b"E" + struct.pack("!i", 10_005),
    "a long Sync": b"S" + struct.pack("!i", 10_005),
    "a long Terminate": b"X" + struct.pack("!i", 2**30),
    "a long CopyFail": b"f" + struct.pack("!i", 10_005),
}


async def records_of(proxy: Proxy, grant: str) -> list[AnyRecord]:
    """The records of the session on `grant`."""
    return [decode(line) for line in await proxy.session_of(grant)]


def texts(records: list[AnyRecord]) -> list[str]:
    """The SQL of every statement."""
    return [one.sql for one in records if isinstance(one, StatementStart)]


def kinds(said: list[Message]) -> str:
    """The types of the messages, as one text."""
    return "".join(one.kind for one in said)


@pytest.mark.parametrize("data", BROKEN.values(), ids=BROKEN)
async def test_broken_framing(proxy: Proxy, data: bytes) -> None:
    """FATAL 08P01, nothing of it reaches PostgreSQL, and the record says why the session ended."""
    grant = new_grant_id()
    async with await Wire.tls(proxy.port, proxy.ca.client_context()) as wire:
        await wire.log_in(proxy.token(id=grant))
        wire.send(data + query("SELECT 'behind it'"))
        said = await wire.rest()
    assert kinds(said) == "E"
    assert (said[0].fields["V"], said[0].fields["C"]) == ("FATAL", "08P01")
    records = await records_of(proxy, grant)
    last = records[-1]
    assert isinstance(last, SessionEnd)
    assert (last.reason, texts(records)) == ("protocol", [])


async def test_whole_messages_before_a_broken_one_are_recorded(proxy: Proxy) -> None:
    """What stands before it in the same segment may have been executed, so it is in the record."""
    grant = new_grant_id()
    async with await Wire.tls(proxy.port, proxy.ca.client_context()) as wire:
        await wire.log_in(proxy.token(id=grant))
        wire.send(query("SELECT 'before it'") + message("z"))
        said = await wire.rest()
    assert said[-1].fields["C"] == "08P01"
    assert texts(await records_of(proxy, grant)) == ["SELECT 'before it'"]


async def test_too_long_for_this_proxy(make_proxy: MakeProxy, postgres: Cluster) -> None:
    """`max_message_bytes` is a limit, and the process has no more memory afterwards than before."""
    small = make_proxy(postgres, options={"max_message_bytes": 65_536})
    async with await Wire.tls(small.port, small.ca.client_context()) as wire:
        await wire.log_in(small.token())
        assert await wire.value(f"SELECT length('{'x' * 65_000}')") == "65000"
        wire.send(query(f"SELECT '{'x' * 65_536}'"))
        assert (await wire.rest())[-1].fields["C"] == "08P01"


@pytest.mark.parametrize(
    ("data", "sqlstate"),
    [
        (message("Q", b"SELECT 1"), "08P01"),
        (message("Q", b"SELECT 1\0SELECT 2\0"), "08P01"),
        (message("Q"), "08P01"),
        (message("P", b"no end") + SYNC, "08P01"),
        (parse("SELECT $1") + message("B", b"\0\0\0\0\0\1\0\0\0\x09abc\0\0") + SYNC, "08P01"),
        (parse("SELECT $1") + message("B", b"\0\0\0\0\0\1\xff\xff\xff\xf0\0\0") + SYNC, "08P01"),
        (parse("SELECT $1::int") + message("B", b"\0\0\xff\xff" + b"\0\1" * 65_535) + SYNC, "08P01"),
        (bind(name="nowhere") + SYNC, "26000"),
        (execute("nowhere") + SYNC, "34000"),
        (message("D", b"X\0") + SYNC, "08P01"),
        (message("C", b"") + SYNC, "08P01"),
        (message("F", b"\0"), "08P01"),
        (query("\u00e9\ud83d".encode("utf-8", "surrogatepass").decode("latin-1")), "42601"),
    ],
    ids=[
        "Query with no end",
        "Query with two ends",
        "empty Query",
        "Parse with no end",
        "Bind with a value too short",
        "Bind with a negative length",
        "Bind with 65,535 formats",
        "Bind of no statement",
        "Execute of no portal",
        "Describe with no end",
        "empty Close",
        "short FunctionCall",
        "odd characters",
    ],
)
async def test_malformed_bodies(proxy: Proxy, data: bytes, sqlstate: str) -> None:
    """They go on as they are; PostgreSQL answers with an ERROR, and the session lives."""
    grant = new_grant_id()
    async with await Wire.tls(proxy.port, proxy.ca.client_context()) as wire:
        await wire.log_in(proxy.token(id=grant))
        wire.send(data)
        said = await wire.until("Z")
        assert next(one for one in said if one.kind == "E").fields["C"] == sqlstate
        assert await wire.value("SELECT 'alive'") == "alive"
    assert texts(await records_of(proxy, grant))[-1] == "SELECT 'alive'"


async def test_text_of_no_encoding(proxy: Proxy) -> None:
    """Bytes that are no UTF-8 are recorded exactly, whatever PostgreSQL makes of them."""
    grant = new_grant_id()
    async with await Wire.tls(proxy.port, proxy.ca.client_context()) as wire:
        await wire.log_in(proxy.token(id=grant))
        wire.send(message("Q", b"SELECT '\xff\xfe'\0"))
        assert next(one for one in await wire.until("Z") if one.kind == "E").fields["C"] == "22021"
    started = next(one for one in await records_of(proxy, grant) if isinstance(one, StatementStart))
    assert (started.sql, started.sql_base64) == ("SELECT '\\xff\\xfe'", "U0VMRUNUICf//ic=")


async def test_behind_terminate(proxy: Proxy, database: str, postgres: Cluster) -> None:
    """PostgreSQL reads nothing behind it; neither does the record have it."""
    grant = new_grant_id()
    async with await Wire.tls(proxy.port, proxy.ca.client_context()) as wire:
        await wire.log_in(proxy.token(id=grant), ("user", "dba1"), ("database", f"orders/{database}"))
        wire.send(query("CREATE TABLE a ()") + TERMINATE + query("CREATE TABLE b ()"))
        await wire.rest()
    records = await records_of(proxy, grant)
    assert texts(records) == ["CREATE TABLE a ()"]
    tables = await postgres.sql("SELECT relname FROM pg_class WHERE relname IN ('a', 'b')", database=database)
    assert [row["relname"] for row in tables] == ["a"]


async def test_messages_within_copy_data(proxy: Proxy, database: str) -> None:
    """What COPY carries is data, however much it looks like messages, and wherever its messages are cut."""
    grant = new_grant_id()
    hostile = query("DROP TABLE copied") + TERMINATE + b"\nQ\0\0\0\5\n"
    async with await Wire.tls(proxy.port, proxy.ca.client_context()) as wire:
        await wire.log_in(proxy.token(id=grant), ("user", "dba1"), ("database", f"orders/{database}"))
        await wire.run("CREATE TABLE copied (body text)")
        wire.send(query("COPY copied FROM STDIN"))
        await wire.until("G")
        line = hostile.replace(b"\0", b"\x01").replace(b"\n", b"") + b"\n"
        for byte in message("d", line):
            wire.send(bytes([byte]))
            await wire.drain()
        wire.send(message("d", line) * 1_000 + COPY_DONE)
        assert "C" in kinds(await wire.until("Z"))
        assert await wire.value("SELECT count(*) FROM copied") == "1001"
    assert len(texts(await records_of(proxy, grant))) == 3


async def test_every_message_byte_by_byte(proxy: Proxy) -> None:
    """However TCP cuts the stream, the same is understood, recorded and answered."""
    grant = new_grant_id()
    script = query("SELECT 1") + parse("SELECT $1::int + 1", "a") + bind("41", name="a") + execute() + SYNC
    async with await Wire.tls(proxy.port, proxy.ca.client_context()) as wire:
        await wire.log_in(proxy.token(id=grant))
        for byte in script:
            wire.send(bytes([byte]))
            await wire.drain()
        assert kinds(await wire.until("Z") + await wire.until("Z")) == "TDCZ12DCZ"
    assert texts(await records_of(proxy, grant)) == ["SELECT 1", "SELECT $1::int + 1"]


async def test_a_hundred_thousand_before_the_first_read(proxy: Proxy) -> None:
    """The client reads nothing at all before everything is sent; then every answer is there, in order."""
    count = 100_000
    async with await Wire.tls(proxy.port, proxy.ca.client_context()) as wire:
        await wire.log_in(proxy.token())
        wire.stop_reading()
        wire.send(
            parse("SELECT $1::int", "s") + b"".join(bind(str(n), name="s") + execute() for n in range(count)) + SYNC
        )
        async with asyncio.timeout(60):
            await wire.drain()
        wire.go_on_reading()
        rows = [one.values[0] for one in await wire.until("Z", within=30) if one.kind == "D"]
    assert rows == [str(n).encode() for n in range(count)]


async def test_pipeline_without_reading(proxy: Proxy) -> None:
    """A client may write megabytes before it reads anything: nothing locks up, and each statement is recorded."""
    grant, count = new_grant_id(), 5_000
    async with await Wire.tls(proxy.port, proxy.ca.client_context()) as wire:
        await wire.log_in(proxy.token(id=grant))
        wire.send(b"".join(one_by_one("SELECT repeat($1, 500)", str(number)) for number in range(count)) + SYNC)
        said = await wire.until("Z", within=30)
    assert kinds(said).count("C") == count
    records = await records_of(proxy, grant)
    starts = [one for one in records if isinstance(one, StatementStart)]
    assert [one.parameters[0].value for one in starts if one.parameters] == [str(number) for number in range(count)]
    assert sum(isinstance(one, StatementEnd) and one.tags == ["SELECT 1"] for one in records) == count
