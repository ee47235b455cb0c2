"""The same bytes on both legs, both ways, whatever client talks (PROTOCOL.md, row 56)."""

import asyncio
import io
from collections.abc import Callable
from pathlib import Path

import asyncpg
import psycopg
import pytest

from tests.harness.binaries import postgresql_bin
from tests.harness.digest import Heard, Stream, Tapped
from tests.harness.processes import run
from tests.harness.wire import TERMINATE, Wire, message, query

ROWS = 20_000
SCRIPT = r"""
CREATE TABLE words (id int PRIMARY KEY, word text);
INSERT INTO words SELECT n, 'word ' || n FROM generate_series(1, 500) AS n; SELECT 1; SELECT 2;
\copy words TO STDOUT
SELECT 1/0;
DO $$ BEGIN RAISE NOTICE 'noticed'; END $$;
LISTEN ears; NOTIFY ears, 'heard';
PREPARE one (int) AS SELECT word FROM words WHERE id = $1; EXECUTE one (7);
SELECT repeat('x', 3000000);
\d words
DROP TABLE words;
"""


def psql(legs: Tapped, _: Path) -> None:
    """A script of many kinds of statements; an error among them."""
    run([postgresql_bin() / "psql", "-X", "-q"], environment=legs.environment(), text=SCRIPT)


def pgbench(*mode: str) -> Callable[[Tapped, Path], None]:
    """Its tables, and some transactions of four clients."""

    def converse(legs: Tapped, _: Path) -> None:
        program = postgresql_bin() / "pgbench"
        run([program, "-i", "-q"], environment=legs.environment())
        run([program, "-n", "-c", "4", "-t", "5", *mode], environment=legs.environment())

    return converse


def dump_and_restore(legs: Tapped, folder: Path) -> None:
    """pg_dump's COPY out, pg_restore's COPY in."""
    run([postgresql_bin() / "pgbench", "-i", "-q"], environment=legs.environment())
    run([postgresql_bin() / "pg_dump", "-Fc", "-f", folder / "dump"], environment=legs.environment())
    options = ["--clean", "--if-exists", "-d", "orders"]
    run([postgresql_bin() / "pg_restore", *options, folder / "dump"], environment=legs.environment())


def with_asyncpg(legs: Tapped, _: Path) -> None:
    """Prepared statements, a cursor, COPY both ways, an error, a cancelled query."""

    async def converse() -> None:
        connection = await legs.proxy.connect(port=legs.port, host="127.0.0.1", ssl=False)
        await connection.execute("CREATE TABLE many (id int, word text)")
        rows = [(number, f"word {number}") for number in range(ROWS)]
        await connection.copy_records_to_table("many", records=rows)
        out = io.BytesIO()
        await connection.copy_from_table("many", output=out)
        assert out.getvalue().count(b"\n") == ROWS
        async with connection.transaction():
            assert len([row async for row in connection.cursor("SELECT * FROM many", prefetch=700)]) == ROWS
        with pytest.raises(asyncpg.DivisionByZeroError):
            await connection.fetch("SELECT $1::int / 0", 1)
        with pytest.raises(TimeoutError):
            await connection.fetch("SELECT pg_sleep(60)", timeout=0.1)
        await connection.execute("DROP TABLE many")
        await connection.close()

    asyncio.run(converse())


def with_psycopg(legs: Tapped, _: Path) -> None:
    """A pipeline with an error in it, COPY both ways, a server's cursor."""
    password = legs.environment()["PGPASSWORD"]
    conninfo = f"host=127.0.0.1 port={legs.port} user=dba1 dbname=orders sslmode=disable password={password}"
    with psycopg.connect(conninfo, autocommit=True) as connection:
        connection.execute("CREATE TABLE many (id int, word text)")
        with pytest.raises(psycopg.errors.UndefinedTable):
            pipeline(connection)
        with connection.cursor().copy("COPY many FROM STDIN") as copy:
            for number in range(1_000):
                copy.write_row((number, "word"))
        with connection.cursor().copy("COPY many TO STDOUT (FORMAT BINARY)") as copy:
            assert len(list(copy)) > 1_000
        with connection.transaction(), connection.cursor("held") as cursor:
            assert len(cursor.execute("SELECT * FROM many").fetchmany(500)) == 500
        connection.execute("DROP TABLE many")


def pipeline(connection: "psycopg.Connection[tuple[object, ...]]") -> None:
    """Many statements, one of which fails, and one behind it."""
    with connection.pipeline():
        for number in range(100):
            connection.execute("INSERT INTO many VALUES (%s, %s)", (number, "x" * number))
        connection.execute("SELECT * FROM nowhere")
        connection.execute("SELECT 1")


def without_goodbye(legs: Tapped, _: Path) -> None:
    """A client that just closes: the proxy says Terminate for it."""

    async def converse() -> None:
        async with await Wire.plain(legs.port) as wire:
            await wire.log_in(legs.proxy.token())
            await wire.run("SELECT repeat('x', 2000)")
            wire.close()

    asyncio.run(converse())


CONVERSATIONS = {
    "psql": psql,
    "pgbench simple": pgbench("-M", "simple"),
    "pgbench extended": pgbench("-M", "extended"),
    "pgbench prepared": pgbench("-M", "prepared"),
    "pgbench -C": pgbench("-C"),
    "pg_dump and pg_restore": dump_and_restore,
    "asyncpg": with_asyncpg,
    "psycopg": with_psycopg,
    "no Terminate": without_goodbye,
}


@pytest.mark.parametrize("converse", CONVERSATIONS.values(), ids=CONVERSATIONS)
def test_conversations(legs: Tapped, tmp_path: Path, converse: Callable[[Tapped, Path], None]) -> None:
    """What each client says reaches PostgreSQL as it is, and its answers the client."""
    before = said(legs)
    converse(legs, tmp_path)
    assert legs.differences() == []
    assert said(legs) > before + 1_000


def said(legs: Tapped) -> int:
    """How many bytes both sides of all sessions have said so far."""
    return sum(heard.client.count + heard.server.count for heard in legs.client.sessions)


def test_own_notices_are_left_out(legs: Tapped) -> None:
    """A warning of ours goes to the client alone; the rest is the same all the same."""

    async def converse() -> bytes:
        async with await Wire.plain(legs.port) as wire:
            await wire.log_in(legs.proxy.token(lasts_s=63))
            said = [await wire.read(within=10)]
            wire.send(query("SELECT 1") + TERMINATE)
            said += await wire.rest()
            return b"".join(one.kind.encode() for one in said)

    assert asyncio.run(converse()) == b"NTDCZ"
    assert legs.differences() == []


# The taps themselves.


@pytest.mark.parametrize("side", ["client", "server"])
def test_a_difference_is_found(legs: Tapped, tmp_path: Path, side: str) -> None:
    """A byte more, on either side."""
    without_goodbye(legs, tmp_path)
    assert legs.differences() == []
    last = legs.client.sessions[-1]
    stream: Stream = getattr(last, side)
    stream.take(b"x")
    (found,) = legs.differences()
    assert "bytes, at " in found
    assert f"backend {last.pid}" in found
    legs.client.forget(last)


@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_the_login_is_left_out(size: int) -> None:
    """However it is cut: requests for encryption and their answers, the startup packet, passwords, the announcement."""
    client = b"\0\0\0\x08\x04\xd2\x16\x30" + b"\0\0\0\x08\x04\xd2\x16\x2f" + b"\0\0\0\x0f\0\3\0\0user\0a\0"
    client += message("p", b"secret\0") + message("p", b"more") + message("Q", b"SELECT 1\0")
    server = b"NN" + message("R", b"\0\0\0\3") + message("K", b"\0\0\x12\x67abcd") + message("Z", b"I")
    heard = Heard()
    for at in range(0, len(client), size):
        heard.take_client(client[at : at + size])
    for at in range(0, len(server), size):
        heard.take_server(server[at : at + size])
    heard.take_server(message("T"))
    assert (heard.client.kept, heard.server.kept, heard.pid) == (message("Q", b"SELECT 1\0"), message("T"), 4711)
