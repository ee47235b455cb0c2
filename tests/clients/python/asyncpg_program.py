"""asyncpg's side of the conversation, and of the ends, on asyncio's loop or on uvloop. See README.md above."""

import asyncio
import io
import os
import ssl
import sys
from collections.abc import AsyncIterator
from typing import TypeAlias

import asyncpg
import uvloop

from tests.clients.python.speaking import hear, say, told

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
CANCEL_AFTER_S = 0.3
VALUES = (41, "it's Zoë\\;", 1.5, True, b"\0\xff", None)


async def connect() -> Connection:
    """A connection by the environment's variables, the token from standard input."""
    say("loaded")
    token = await asyncio.to_thread(hear)
    direct = os.environ.get("PGSSLNEGOTIATION") == "direct"
    context = ssl.create_default_context(cafile=os.environ["PGSSLROOTCERT"])
    if direct:
        context.set_alpn_protocols(["postgresql"])
    return await asyncpg.connect(password=token, ssl=context, direct_tls=direct)


async def count(connection: Connection) -> str:
    """How many rows the table has."""
    return str(await connection.fetchval("SELECT count(*) FROM t"))


async def converse() -> None:
    """The whole conversation."""
    connection = await connect()
    await connection.execute("SELECT 'simple'")  # the simple protocol: it gives no rows
    say("simple", await connection.fetchval("SELECT 'simple'"))
    texts = "SELECT concat_ws('|', $1::int8, $2::text, $3::float8, $4::bool, $5::bytea, coalesce($6::text, 'NULL'))"
    say("values", await connection.fetchval(texts, *VALUES))
    await connection.execute("CREATE TABLE t (n int PRIMARY KEY, x text)")
    insert = await connection.prepare("INSERT INTO t VALUES ($1, $2)")
    for number in (1, 2, 3):
        await insert.fetch(number, "x")
    say("prepared", await count(connection))
    say("error", await fail(connection), await count(connection))
    await connection.executemany("INSERT INTO t VALUES ($1)", [(number,) for number in range(100, 120)])
    say("batch", await count(connection))
    say("copy", str(await copy(connection)))
    heard: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    await connection.add_listener("heard", lambda *event: heard.set_result(str(event[3])))
    await connection.execute("NOTIFY heard, 'by me'")
    say("notify", await heard)
    say("cancel", await cancel(connection))
    rows = await connection.fetch("SELECT repeat('x', 1000) FROM generate_series(1, 20000)")
    say("big", str(sum(len(row[0]) for row in rows)))
    await connection.close()


async def fail(connection: Connection) -> str:
    """The SQLSTATE that a transaction failed with; it is rolled back."""
    try:
        async with connection.transaction():
            for number in (4, 1):
                await connection.execute("INSERT INTO t VALUES ($1)", number)
    except asyncpg.PostgresError as error:
        return str(error.sqlstate)
    return ""


async def copy(connection: Connection) -> int:
    """A thousand rows in; the bytes of them that come out."""
    await connection.copy_records_to_table("t", columns=["n"], records=[(number,) for number in range(1000, 2000)])
    out = io.BytesIO()
    await connection.copy_from_query("SELECT n FROM t WHERE n >= 1000 ORDER BY n", output=out)
    return len(out.getvalue())


async def cancel(connection: Connection) -> str:
    """What a query's timeout gives (asyncpg cancels it then, and shows a TimeoutError); the connection goes on."""
    try:
        await connection.fetch("SELECT pg_sleep(60)", timeout=CANCEL_AFTER_S)
    except TimeoutError:
        return "57014"
    return ""


async def idle(connection: Connection) -> None:
    """Nothing, until somebody says that it is time for the next query."""
    say("ready")
    await asyncio.to_thread(hear)
    await connection.fetch("SELECT 1")


async def query(connection: Connection) -> None:
    """A query that goes on."""
    say("ready")
    await connection.fetch("SELECT pg_sleep(60)")


async def slowly() -> AsyncIterator[bytes]:
    """Rows, a few at a time, until somebody says that it is enough."""
    say("ready")
    while not told():
        yield b"x\n" * 10_000
        await asyncio.sleep(0.01)  # what its source takes to give more


async def copy_in(connection: Connection) -> None:
    """Rows from such a source."""
    await connection.execute("CREATE TEMP TABLE t (x text)")
    await connection.copy_to_table("t", source=slowly())


async def copy_out(connection: Connection) -> None:
    """Rows, a few at a time, for ever."""
    begun = asyncio.Event()

    async def take(_: bytes) -> None:
        if not begun.is_set():
            begun.set()
            say("ready")

    slow = "SELECT repeat('x', 10000), pg_sleep(0.01) FROM generate_series(1, 100000)"
    await connection.copy_from_query(slow, output=take)


async def end(state: str) -> None:
    """Come into the state, and say what the library says when it ends."""
    connection = await connect()
    try:
        await {"idle": idle, "query": query, "copy-in": copy_in, "copy-out": copy_out}[state](connection)
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
        fields = [str(getattr(error, name, None) or "") for name in ("sqlstate", "detail", "hint")]
        say("said", type(error).__name__, fields[0], str(error), *fields[1:])
    os._exit(0)  # Whatever else there is to say is not what the person sees.


if __name__ == "__main__":
    factory = uvloop.new_event_loop if sys.argv[2:] == ["uvloop"] else asyncio.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(converse() if sys.argv[1] == "converse" else end(sys.argv[1]))
