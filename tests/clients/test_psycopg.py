"""psycopg with libpq 18: pipelines, COPY, cursors, notifications, cancel, direct TLS, protocol 3.2."""

import asyncio

import psycopg
import pytest
from psycopg import sql
from psycopg.rows import scalar_row

from proxy.contract.record import Cancel, StatementEnd, StatementStart
from tests.clients.stand import Connection, Stand
from tests.conftest import MakeProxy
from tests.harness.postgres import Cluster
from tests.harness.waiting import eventually


async def sleeping(stand: Stand) -> None:
    """Wait until somebody in the stand's database sleeps."""
    statement = "SELECT FROM pg_stat_activity WHERE datname = $1 AND wait_event = 'PgSleep'"

    async def sleeps() -> bool:
        return bool(await stand.cluster.sql(statement, stand.database))

    await eventually(sleeps)


async def test_values(stand: Stand) -> None:
    """What is bound, in text and in binary, is in the record as PostgreSQL itself logs it."""
    async with await stand.psycopg() as connection:
        await connection.execute("CREATE TABLE t (a int, b text, c float8, d bool)")
        row = (41, "it's \\ Zoë\n", 1.5, True)
        for binary in (False, True):
            async with connection.cursor(binary=binary) as cursor:
                await cursor.execute("INSERT INTO t VALUES (%s, %s, %s, NULL)", row[:3])
                await cursor.execute("SELECT a, b, c FROM t WHERE a = %b", (41,))
                assert await cursor.fetchone() == row[:3]
    records = await stand.records()
    inserts = [one for one in records if isinstance(one, StatementStart) and one.sql.startswith("INSERT")]
    values = [[value.value for value in one.parameters or ()] for one in inserts]
    assert [[str(value) for value in bound] for bound in values] == [["41", "it's \\ Zoë\n", "1.5"]] * 2
    await stand.assert_recorded()


async def test_pipeline(stand: Stand) -> None:
    """Many statements without waiting; an error skips up to the Sync, and the record says which were skipped."""
    async with await stand.psycopg() as connection:
        await connection.execute("CREATE TABLE t (n int)")
        async with connection.pipeline():
            for number in range(500):
                await connection.execute("INSERT INTO t VALUES (%s)", (number,))
        async with connection.cursor(row_factory=scalar_row) as cursor:
            assert await (await cursor.execute("SELECT count(*) FROM t")).fetchone() == 500
        with pytest.raises(psycopg.errors.DivisionByZero):
            await fail_in_a_pipeline(connection)
        async with connection.cursor(row_factory=scalar_row) as cursor:
            assert await (await cursor.execute("SELECT count(*) FROM t")).fetchone() == 500
    ends = [one for one in await stand.records() if isinstance(one, StatementEnd)]
    assert sum(one.tags == ["INSERT 0 1"] for one in ends) == 500
    assert [one.sqlstate for one in ends if one.sqlstate] == ["22012"]
    assert sum(one.skipped for one in ends) == 1
    await stand.assert_recorded()


async def fail_in_a_pipeline(connection: Connection) -> None:
    """An error, and something behind it."""
    async with connection.pipeline():
        await connection.execute("SELECT 1/0")
        await connection.execute("INSERT INTO t VALUES (-1)")


async def give_up_copying(cursor: psycopg.AsyncCursor[tuple[object, ...]]) -> None:
    """A client's own error in the middle of its COPY: CopyFail."""
    async with cursor.copy("COPY t FROM STDIN") as copy:
        await copy.write_row((1, "x"))
        raise ZeroDivisionError


async def test_copy(stand: Stand) -> None:
    """Both ways, as text and in binary, and one that the client gives up."""
    async with await stand.psycopg() as connection:
        await connection.execute("CREATE TABLE t (n int, x text)")
        async with connection.cursor() as cursor:
            for form in ("TEXT", "BINARY"):
                async with cursor.copy(f"COPY t FROM STDIN (FORMAT {form})") as copy:
                    if form == "BINARY":
                        copy.set_types(["int4", "text"])
                    for number in range(2_000):
                        await copy.write_row((number, "x" * (number % 50)))
            async with cursor.copy("COPY t TO STDOUT") as copy:
                assert len([row async for row in copy.rows()]) == 4_000
            with pytest.raises(ZeroDivisionError):
                await give_up_copying(cursor)
            await cursor.execute("SELECT count(*) FROM t")
            assert await cursor.fetchone() == (4_000,)
    await stand.assert_recorded()


async def test_server_side_cursor(stand: Stand) -> None:
    """DECLARE, FETCH, CLOSE in a transaction."""
    async with await stand.psycopg() as connection, connection.transaction(), connection.cursor("mine") as cursor:
        await cursor.execute("SELECT n FROM generate_series(1, %s) n", (1_000,))
        assert await cursor.fetchmany(10) == [(number,) for number in range(1, 11)]
        await cursor.scroll(100)
        assert await cursor.fetchone() == (111,)
    await stand.assert_recorded()


async def test_prepared(stand: Stand) -> None:
    """Named statements: prepared once, executed often, deallocated."""
    async with await stand.psycopg() as connection:
        connection.prepared_max = 2
        for number in range(20):
            for text in ("SELECT %s::int", "SELECT %s::int + 1", "SELECT %s::int + 2"):
                await connection.execute(text, (number,), prepare=True)
        await connection.execute("DISCARD ALL")
    await stand.assert_recorded()


async def test_notifications(stand: Stand) -> None:
    """They come while nothing is asked, 8 kB long, and from another session."""
    payload = "x" * 7_999
    async with await stand.psycopg() as listener, await stand.psycopg() as speaker:
        await listener.execute("LISTEN channel")
        await speaker.execute("SELECT pg_notify('channel', %s)", (payload,))
        async with asyncio.timeout(10):
            heard = await anext(listener.notifies())
        assert (heard.channel, heard.payload) == ("channel", payload)
        await listener.execute("UNLISTEN *")
    await stand.assert_recorded()


async def test_notices(stand: Stand) -> None:
    """RAISE arrives, in order."""
    heard: list[str | None] = []
    async with await stand.psycopg() as connection:
        connection.add_notice_handler(lambda notice: heard.append(notice.message_primary))
        await connection.execute("DO $$ BEGIN FOR i IN 1..100 LOOP RAISE NOTICE '%', i; END LOOP; END $$")
    assert heard == [str(number) for number in range(1, 101)]


@pytest.mark.parametrize("way", ["cancel", "cancel_safe"])
@pytest.mark.parametrize("protocol", ["3.0", "3.2"])
async def test_cancel(stand: Stand, way: str, protocol: str) -> None:
    """By the old call, in clear, and by libpq 17's, encrypted; with 4 and with 32 bytes of secret."""
    async with await stand.psycopg(max_protocol_version=protocol, min_protocol_version=protocol) as connection:
        running = asyncio.gather(connection.execute("SELECT pg_sleep(60)"), return_exceptions=True)
        await sleeping(stand)
        if way == "cancel":
            connection.cancel()
        else:
            await connection.cancel_safe(timeout=10)
        (error,) = await running
        assert isinstance(error, psycopg.errors.QueryCanceled)
        assert (await (await connection.execute("SELECT 1")).fetchone()) == (1,)
    assert [one.forwarded for one in await stand.records() if isinstance(one, Cancel)] == [True]


@pytest.mark.parametrize(
    "options",
    [
        {"sslnegotiation": "direct"},
        {"sslnegotiation": "postgres", "gssencmode": "prefer"},
        {"max_protocol_version": "latest"},
        {"min_protocol_version": "3.2"},
        {"require_auth": "password"},
        {"channel_binding": "disable"},
        {"sslmode": "require", "sslcertmode": "disable"},
        {"load_balance_hosts": "random", "target_session_attrs": "read-write"},
        {"options": "-c work_mem=123kB"},
        {"client_encoding": "latin1"},
        {"application_name": "a 'name' \\ of mine"},
        {"keepalives_idle": "1", "tcp_user_timeout": "5000", "connect_timeout": "5"},
    ],
    ids="-".join,
)
async def test_connection_options(stand: Stand, options: dict[str, str]) -> None:
    """What libpq 18 can be asked for works, or reaches PostgreSQL."""
    async with await stand.psycopg(**options) as connection:
        row = await (
            await connection.execute("SELECT current_setting('work_mem'), current_setting('client_encoding')")
        ).fetchone()
        assert row == (
            "123kB" if "options" in options else "4MB",
            "LATIN1" if "client_encoding" in options else "UTF8",
        )
        assert connection.info.backend_pid > 0
        assert connection.pgconn.ssl_in_use
        if "max_protocol_version" in options or "min_protocol_version" in options:
            assert connection.pgconn.full_protocol_version == 30002
        shown = await (await connection.execute("SHOW application_name")).fetchone()
        assert shown == (options.get("application_name", ""),)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"require_auth": "scram-sha-256"}, "requirement"),
        ({"channel_binding": "require"}, "channel binding"),
        ({"sslmode": "disable", "sslrootcert": ""}, "connections to this proxy must use TLS"),
    ],
    ids=["scram", "channel binding", "no TLS"],
)
async def test_what_cannot_be(stand: Stand, options: dict[str, str], says: str) -> None:
    """Clients that refuse a token in clear, or TLS, fail with a clear text and before they have sent it."""
    with pytest.raises(psycopg.OperationalError, match=says):
        await stand.psycopg(**options)


async def test_composed_names(stand: Stand) -> None:
    """Identifiers with anything in them, composed by the client, are recorded as PostgreSQL logs them."""
    name = sql.Identifier('a "quoted" Zoë; -- \t name')
    async with await stand.psycopg() as connection:
        await connection.execute(sql.SQL("CREATE TABLE {} (n int)").format(name))
        await connection.execute(sql.SQL("INSERT INTO {} VALUES ({})").format(name, sql.Literal(1)))
    await stand.assert_recorded()


async def test_huge(make_proxy: MakeProxy, postgres: Cluster, database: str) -> None:
    """A statement of 20 MB and a value of 20 MB go through whole, and into the record."""
    proxy, size = make_proxy(postgres), 20_000_000
    stand = Stand(cluster=postgres, proxy=proxy, database=database, grant="", token=proxy.token())
    async with await stand.psycopg() as connection:
        literal = await connection.execute(f"SELECT length('{'x' * size}')")
        assert await literal.fetchone() == (size,)
        bound = await connection.execute("SELECT length(%s)", ("y" * size,))
        assert await bound.fetchone() == (size,)
        back = await connection.execute("SELECT repeat('z', %s)", (size,))
        assert await back.fetchone() == ("z" * size,)
    starts = [one for one in await stand.records() if isinstance(one, StatementStart)]
    assert len(starts[0].sql) > size
    assert starts[1].parameters is not None
    assert starts[1].parameters[0].value == "y" * size
