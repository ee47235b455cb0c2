"""asyncpg: binary values, cursors, prepared statements, listeners, COPY, timeouts, direct TLS."""

import asyncio
import datetime as dt
import decimal
import io
import uuid

import asyncpg
import pytest

from proxy.contract.record import Cancel, StatementEnd, StatementStart
from tests.clients.stand import Stand

VALUES = {
    "int": 41,
    "int8": -(2**40),
    "text": "it's Zoë",
    "float8": 0.1,
    "bool": True,
    "uuid": uuid.UUID("12345678-1234-5678-1234-567812345678"),
    "date": dt.date(2026, 11, 22),
    "timestamptz": dt.datetime(2026, 11, 22, 1, 2, 3, 456789, tzinfo=dt.UTC),
    "numeric": decimal.Decimal("-12345.678900"),
    "jsonb": '{"a": 1}',
    "int[]": [1, None, 3],
}


@pytest.mark.parametrize(("kind", "value"), VALUES.items(), ids=VALUES)
async def test_binary_values(stand: Stand, kind: str, value: object) -> None:
    """Bound in binary, they come back the same; the record shows them as text, not as bytes."""
    connection = await stand.asyncpg()
    assert await connection.fetchval(f"SELECT $1::{kind}", value) == value
    shown = await connection.fetchval(f"SELECT $1::{kind}::text", value)
    await connection.close()
    started = [one for one in await stand.records() if isinstance(one, StatementStart) and f"$1::{kind}" in one.sql]
    assert len(started) == 2
    for one in started:
        assert one.parameters is not None
        assert one.parameters[0].base64 is None
        recorded = one.parameters[0].value
        if isinstance(recorded, str):
            assert recorded.replace("+00:00", "+00") == shown


async def test_nulls_and_counts(stand: Stand) -> None:
    """NULL is NULL in the record, and not an empty text; the number of rows is the one that PostgreSQL tells."""
    connection = await stand.asyncpg()
    await connection.execute("CREATE TABLE t (a text, b text)")
    await connection.executemany("INSERT INTO t VALUES ($1, $2)", [(None, ""), ("", None), ("NULL", "x")])
    assert len(await connection.fetch("SELECT * FROM t")) == 3
    await connection.close()
    records = await stand.records()
    inserts = [one for one in records if isinstance(one, StatementStart) and one.sql.startswith("INSERT")]
    assert [[value.value for value in one.parameters or ()] for one in inserts] == [
        [None, ""],
        ["", None],
        ["NULL", "x"],
    ]
    ends = [one.rows for one in records if isinstance(one, StatementEnd)]
    assert ends[-1] == 3
    await stand.assert_recorded()


async def test_cursor(stand: Stand) -> None:
    """A portal that is fetched from step by step: each step is on record, and says that there is more."""
    connection = await stand.asyncpg()
    async with connection.transaction():
        numbers = [row["n"] async for row in connection.cursor("SELECT n FROM generate_series(1, 95) n", prefetch=10)]
        cursor = await connection.cursor("SELECT n FROM generate_series(1, 1000) n")
        assert [row["n"] for row in await cursor.fetch(5)] == [1, 2, 3, 4, 5]
        await cursor.forward(90)
        assert (await cursor.fetchrow())["n"] == 96
    await connection.close()
    assert numbers == list(range(1, 96))
    ends = [one for one in await stand.records() if isinstance(one, StatementEnd)]
    assert sum(one.suspended for one in ends) == 9 + 2
    await stand.assert_recorded()


async def test_prepared(stand: Stand) -> None:
    """One Parse, many Executes; a second statement of the same text; a schema change under both."""
    connection = await stand.asyncpg()
    await connection.execute("CREATE TABLE t (n int)")
    insert = await connection.prepare("INSERT INTO t VALUES ($1)")
    for number in range(50):
        await insert.fetch(number)
    select = await connection.prepare("SELECT * FROM t WHERE n = $1")
    assert await select.fetchval(7) == 7
    await connection.execute("ALTER TABLE t ADD COLUMN m int")
    with pytest.raises(asyncpg.InvalidCachedStatementError):
        await select.fetchval(7)
    assert await connection.fetchval("SELECT count(*) FROM t") == 50
    await connection.close()
    await stand.assert_recorded()


async def test_listener(stand: Stand) -> None:
    """Notifications arrive while the connection is idle."""
    listener, speaker = await stand.asyncpg(), await stand.asyncpg()
    heard: asyncio.Queue[object] = asyncio.Queue()
    await listener.add_listener("channel", lambda *event: heard.put_nowait(event[3]))
    for number in range(100):
        await speaker.execute(f"NOTIFY channel, '{number}'")
    async with asyncio.timeout(10):
        assert [await heard.get() for _ in range(100)] == [str(number) for number in range(100)]
    await listener.close()
    await speaker.close()
    await stand.assert_recorded()


async def test_copy(stand: Stand) -> None:
    """Both ways, in binary and as CSV."""
    connection = await stand.asyncpg()
    await connection.execute("CREATE TABLE t (n int, x text)")
    rows = [(number, "x" * (number % 100)) for number in range(5_000)]
    assert await connection.copy_records_to_table("t", records=rows) == "COPY 5000"
    out = io.BytesIO()
    assert await connection.copy_from_query("SELECT * FROM t", output=out, format="csv") == "COPY 5000"
    out.seek(0)
    assert await connection.copy_to_table("t", source=out, format="csv") == "COPY 5000"
    assert await connection.fetchval("SELECT count(*) FROM t") == 10_000
    await connection.close()
    await stand.assert_recorded()


async def test_timeout(stand: Stand) -> None:
    """A timeout cancels by an encrypted CancelRequest, and the connection can be used again."""
    connection = await stand.asyncpg()
    with pytest.raises(TimeoutError):
        await connection.fetch("SELECT pg_sleep(60)", timeout=0.3)
    assert await connection.fetchval("SELECT 1") == 1
    await connection.close()
    records = await stand.records()
    assert [one.forwarded for one in records if isinstance(one, Cancel)] == [True]
    assert next(one.sqlstate for one in records if isinstance(one, StatementEnd)) == "57014"


async def test_cancelled_task(stand: Stand) -> None:
    """The same when the client's task is cancelled, many times over."""
    connection = await stand.asyncpg()
    for _ in range(10):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.02):
                await connection.fetch("SELECT pg_sleep(60)")
        assert await connection.fetchval("SELECT 1") == 1
    await connection.close()
    await stand.records()


@pytest.mark.parametrize(
    "options",
    [{"direct_tls": True}, {"statement_cache_size": 0}, {"server_settings": {"work_mem": "1MB"}}],
    ids="-".join,
)
async def test_connection_options(stand: Stand, options: dict[str, object]) -> None:
    """Direct TLS; no statement cache; settings at the start."""
    context = stand.proxy.ca.client_context()
    context.set_alpn_protocols(["postgresql"])
    connection = await stand.asyncpg(ssl=context, **options)
    assert await connection.fetchval("SHOW work_mem") == ("1MB" if "server_settings" in options else "4MB")
    assert connection.get_server_version().major >= 14
    await connection.close()


async def test_pool(stand: Stand) -> None:
    """A pool of ten with its resets: every session is recorded to its end."""
    options = {"host": "localhost", "port": stand.proxy.port, "user": "dba1", "database": stand.dbname}
    context = stand.proxy.ca.client_context()
    async with asyncpg.create_pool(**options, password=stand.token, ssl=context, min_size=10, max_size=10) as pool:
        answers = await asyncio.gather(*(pool.fetchval("SELECT $1::int", number) for number in range(200)))
    assert answers == list(range(200))
    await stand.assert_recorded()
    ended = [one for one in stand.proxy.sessions().values() if stand.database.encode() in one[0]]
    assert len(ended) == 10


async def test_transactions_are_numbered(stand: Stand) -> None:
    """Statements of one transaction share a number, those outside have one each."""
    connection = await stand.asyncpg()
    await connection.execute("SELECT 1")
    async with connection.transaction():
        await connection.execute("SELECT 2")
        await connection.execute("SELECT 3")
    await connection.execute("SELECT 4")
    await connection.close()
    started = [one for one in await stand.records() if isinstance(one, StatementStart)]
    numbers = {one.sql: one.transaction for one in started}
    assert numbers["SELECT 2"] == numbers["SELECT 3"] == numbers["BEGIN;"]
    assert len({numbers[text] for text in ("SELECT 1", "SELECT 2", "SELECT 4")}) == 3
