"""The clients that are witnessed: each does what it is used for, errors included, in a database of its own."""

import asyncio
import datetime as dt
import decimal
import uuid
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import psycopg
from psycopg import pq

from tests.clients.stand import Stand
from tests.harness import roles
from tests.harness.processes import run
from tests.witness import node

_RESTORE_JOBS = "2"
_LIBPQ_ROUNDS = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """A client, and what it does."""

    about: str
    use: Callable[[Stand, Path], Awaitable[None]]
    lacks: Callable[[], str | None] = lambda: None
    """What has to be installed first."""


# psql

_SCRIPT = """\\set who 'Zoë'
\\set n 41
CREATE TABLE t (n int PRIMARY KEY, x text); -- a comment; with a semicolon
INSERT INTO t VALUES (:n, :'who'), (1, E'\\t\\\\'), (2, U&'\\0441'), (3, $q$it's; $q$);
BEGIN; SAVEPOINT s; SELECT 1/0; ROLLBACK TO s; UPDATE t SET x = x || '!'; COMMIT;
SELECT 'SELECT ' || n || ' AS "a b"' FROM t ORDER BY n \\gexec
SELECT n AS n, x AS x FROM t ORDER BY n LIMIT 1 \\gset got_
SELECT :got_n, :'got_x'; /* several */ SELECT 2 \\; SELECT 3; SELECT 4 \\g
SELEC 1;
SELECT * FROM missing;
;
DO $$ BEGIN RAISE LOG 'statement: SELECT forged'; END $$;
PREPARE p (int) AS SELECT $1 + 1; EXECUTE p(1); EXECUTE p(2); DEALLOCATE p;
\\copy t TO 'FOLDER/t.copy'
TRUNCATE t;
\\copy t FROM 'FOLDER/t.copy'
COPY (SELECT 1) TO STDOUT;
COPY t (n) FROM STDIN;
77
78
\\.
COPY t (n) FROM STDIN;
77
\\.
\\if true
SELECT 'yes';
\\else
SELECT 'no';
\\endif
\\d t
\\dt
\\crosstabview
LISTEN c; NOTIFY c, 'payload'; UNLISTEN *;
DECLARE k CURSOR WITH HOLD FOR SELECT n FROM t; FETCH 2 FROM k; MOVE 1 IN k; CLOSE k;
SET client_min_messages = 'debug1'; SHOW work_mem; RESET ALL; DISCARD ALL;
"""


async def psql(stand: Stand, folder: Path) -> None:
    """A script as people write them, one transaction for all (-1), several statements in one -c, cursors by itself."""
    script = _SCRIPT.replace("FOLDER", str(folder))
    await _run(stand, "psql", "-X", "-f", "-", text=script)
    await _run(stand, "psql", "-X", "-c", "SELECT 1; SELECT 2; SELECT 1/0; SELECT 3", check=False)
    for text in ("CREATE TABLE u (n int); INSERT INTO u VALUES (1);", "INSERT INTO u VALUES (2); SELECT 1/0;"):
        await _run(stand, "psql", "-X", "-1", "-v", "ON_ERROR_STOP=1", "-f", "-", text=text, check=False)
    series = "SELECT generate_series(1, 95);\n"
    await _run(stand, "psql", "-X", "-v", "FETCH_COUNT=10", "-f", "-", text=series)
    loop = "".join(f"SELECT {number}, now();\n\\g\n" for number in range(20))
    await _run(stand, "psql", "-X", "-f", "-", text=loop)


async def _run(stand: Stand, program: str, *arguments: str, text: str = "", check: bool = True) -> str:
    return await asyncio.to_thread(stand.run, program, *arguments, text=text, check=check)


# pgbench


def pgbench(mode: str) -> Callable[[Stand, Path], Awaitable[None]]:
    """TPC-B by four clients in one of pgbench's three modes."""

    async def use(stand: Stand, _: Path) -> None:
        await _run(stand, "pgbench", "-i", "-q", "-s", "1")
        await _run(stand, "pgbench", "-n", "-M", mode, "-c", "4", "-j", "2", "-t", "100")
        await _run(stand, "pgbench", "-n", "-M", mode, "-S", "-C", "-c", "2", "-t", "10")

    return use


async def pgbench_pipeline(stand: Stand, folder: Path) -> None:
    """The pipelines that pgbench itself can make."""
    script = folder / "pipeline.sql"
    selects = "SELECT :n;\nSELECT :n + 1;\n" * 10
    script.write_text(f"\\set n random(1, 1000)\n\\startpipeline\n{selects}\\endpipeline\n")
    await _run(stand, "pgbench", "-n", "-M", "extended", "-c", "4", "-t", "20", "-f", str(script))
    await _run(stand, "pgbench", "-n", "-M", "prepared", "-c", "4", "-t", "20", "-f", str(script))


# pg_dump and pg_restore

_SCHEMA = """
CREATE SCHEMA s;
CREATE TYPE s.mood AS ENUM ('sad', 'ok');
CREATE TABLE s.parent (id int PRIMARY KEY, body text, mood s.mood DEFAULT 'ok', at timestamptz DEFAULT '2026-11-22');
CREATE TABLE s.child (id serial PRIMARY KEY, parent int REFERENCES s.parent, x bytea);
INSERT INTO s.parent SELECT n, repeat('Zoë ' || n, n % 50) FROM generate_series(1, 2000) n;
INSERT INTO s.child (parent, x) SELECT n, decode(md5(n::text), 'hex') FROM generate_series(1, 2000) n;
CREATE INDEX ON s.child (parent);
CREATE VIEW s.v AS SELECT * FROM s.parent WHERE id < 10;
CREATE FUNCTION s.f(int) RETURNS int LANGUAGE plpgsql AS $$ BEGIN RETURN $1 + 1; END $$;
COMMENT ON TABLE s.parent IS 'with a ''quote''';
"""


def _set_up(stand: Stand) -> None:
    """Without a trace in what pg_stat_statements counts of the client's role."""
    uncounted = "SET pg_stat_statements.track = 'none'"
    stand.cluster.psql(f"{uncounted}; SET ROLE {roles.APP.user}; {_SCHEMA}", database=stand.database)


async def pg_dump(stand: Stand, folder: Path) -> None:
    """In plain text, as inserts, and by two jobs."""
    _set_up(stand)
    await _run(stand, "pg_dump", "-f", str(folder / "plain"))
    await _run(stand, "pg_dump", "--rows-per-insert=100", "-f", str(folder / "inserts"))
    await _run(stand, "pg_dump", "-F", "d", "-j", _RESTORE_JOBS, "-f", str(folder / "directory"))


async def pg_restore(stand: Stand, folder: Path) -> None:
    """By one job and by two, and psql with a plain dump."""
    _set_up(stand)
    plain, dump = folder / "restore.sql", folder / "restore"
    cluster = stand.cluster
    way: list[str | Path] = [
        "-h",
        str(cluster.folder),
        "-p",
        str(cluster.port),
        "-U",
        cluster.superuser,
        "-d",
        stand.database,
    ]
    for form, path in (("p", plain), ("d", dump)):
        command: list[str | Path] = [stand.programs / "pg_dump", *way, "--no-owner", "-F", form, "-f", path]
        await asyncio.to_thread(run, command, environment={"PGPASSWORD": cluster.password})
    for jobs in ("1", _RESTORE_JOBS):
        stand.cluster.psql("DROP SCHEMA s CASCADE", database=stand.database)
        flags = ("-d", stand.dbname, "--exit-on-error", "--no-owner")
        await _run(stand, "pg_restore", "-j", jobs, *flags, str(dump))
    stand.cluster.psql("DROP SCHEMA s CASCADE", database=stand.database)
    await _run(stand, "psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-f", str(plain))


# libpq, by psycopg

_VALUES = (
    41, 2**40, "it's \\ Zoë\n", 1.5, 0.1, float("inf"), True, None, b"\x00\xff", decimal.Decimal("-1.50"),
    dt.date(2026, 11, 22), dt.datetime(2026, 11, 22, 12, 0, 0, 123),  # noqa: DTZ001 a `timestamp` has no zone
    dt.timedelta(days=1, seconds=5),
    dt.datetime(2026, 11, 22, 12, tzinfo=dt.UTC), dt.time(1, 2, 3), uuid.UUID(int=7), [1, None, 3], ["a b", 'q"', None],
)  # fmt: skip


async def by_psycopg(stand: Stand, _: Path) -> None:
    """Values of many types in both forms, prepared statements, server-side cursors, COPY, an error."""
    async with await stand.psycopg() as connection:
        for binary in (False, True):
            async with connection.cursor(binary=binary) as cursor:
                for value in _VALUES:
                    await cursor.execute("SELECT %s", (value,))
                    if value is not None:
                        await cursor.execute("SELECT %b, %t", (value, value))
        for number in range(20):
            await connection.execute("SELECT %s::int", (number,), prepare=True)
        async with connection.transaction(), connection.cursor("mine") as cursor:
            await cursor.execute("SELECT n FROM generate_series(1, %s) n", (100,))
            await cursor.fetchmany(10)
        async with connection.cursor() as cursor:
            await cursor.execute("CREATE TABLE t (n int, x text)")
            async with cursor.copy("COPY t FROM STDIN") as copy:
                await copy.write_row((1, "x"))
        await _fails(connection, "SELECT 1/0")
        await _fails(connection, "SELECT %s::int", "no number")
        await _fails(connection, "SELEC")


async def _fails(connection: "psycopg.AsyncConnection[tuple[object, ...]]", text: str, *values: object) -> None:
    try:
        await connection.execute(text, values)
    except psycopg.Error:
        return
    raise AssertionError(text)


async def pipelines(stand: Stand, _: Path) -> None:
    """Psycopg's pipelines: many statements without waiting, an error in the middle, in and out of transactions."""
    async with await stand.psycopg() as connection:
        await connection.execute("CREATE TABLE t (n int PRIMARY KEY)")
        async with connection.pipeline():
            for number in range(300):
                await connection.execute("INSERT INTO t VALUES (%s)", (number,))
        for prepare in (False, True):
            try:
                async with connection.pipeline(), connection.transaction():
                    for number in (1000, 7, 1001):
                        await connection.execute("INSERT INTO t VALUES (%s)", (number,), prepare=prepare)
            except psycopg.Error:
                pass
        async with connection.pipeline() as pipeline:
            for number in range(50):
                await connection.execute("SELECT %s::text", (str(number),), prepare=True)
                if number % 10 == 0:
                    await pipeline.sync()


async def libpq(stand: Stand, _: Path) -> None:
    """Libpq's pipeline mode itself: named and unnamed statements, errors, several Syncs on the way."""
    await asyncio.to_thread(_libpq, stand.conninfo())


def _libpq(conninfo: str) -> None:
    connection = pq.PGconn.connect(conninfo.encode())
    try:
        connection.enter_pipeline_mode()
        for number in range(_LIBPQ_ROUNDS):
            name = f"s{number}".encode()
            connection.send_prepare(name, f"SELECT $1::int + {number}".encode())
            connection.send_query_prepared(name, [str(number).encode()])
            text = b"SELECT 1/0" if number % 7 == 3 else b"SELECT $1::text"
            connection.send_query_params(text, [] if number % 7 == 3 else [b"it's"])
            connection.send_query_prepared(name, [None])
            connection.pipeline_sync()
        connection.flush()
        syncs = 0
        while syncs < _LIBPQ_ROUNDS:
            result = connection.get_result()
            syncs += result is not None and result.status == pq.ExecStatus.PIPELINE_SYNC
    finally:
        connection.finish()


async def by_asyncpg(stand: Stand, _: Path) -> None:
    """Binary values, prepared statements, a cursor in steps, many in one go, COPY, an error in a transaction."""
    connection = await stand.asyncpg()
    for kind, value in _ASYNCPG:
        assert await connection.fetchval(f"SELECT $1::{kind}", value) == value
    await connection.execute("CREATE TABLE t (n int PRIMARY KEY, x text)")
    await connection.executemany("INSERT INTO t VALUES ($1, $2)", [(number, f"it's {number}") for number in range(100)])
    statement = await connection.prepare("SELECT * FROM t WHERE n = $1")
    for number in range(20):
        await statement.fetch(number)
    try:
        async with connection.transaction():
            await connection.execute("INSERT INTO t VALUES (1000, 'x')")
            await connection.execute("INSERT INTO t VALUES ($1, 'y')", 7)
    except asyncpg.UniqueViolationError:
        pass
    await connection.copy_records_to_table("t", records=[(2000, "x"), (2001, None)])
    async with connection.transaction():
        assert len([row async for row in connection.cursor("SELECT n FROM t", prefetch=10)]) == 102
    await connection.close()


_ASYNCPG: tuple[tuple[str, object], ...] = (
    ("int", 41), ("bigint", -(2**40)), ("text", "it's \\ Zoë\n"), ("float8", 0.1), ("float4", 1.5), ("bool", True),
    ("text", None), ("bytea", b"\x00\xff"), ("numeric", decimal.Decimal("-1.50")), ("date", dt.date(2026, 11, 22)),
    ("timestamp", dt.datetime(2026, 11, 22, 12, 0, 0, 123)),  # noqa: DTZ001 the type has no zone
    ("timestamptz", dt.datetime(2026, 11, 22, 12, tzinfo=dt.UTC)), ("time", dt.time(1, 2, 3)),
    ("interval", dt.timedelta(days=1, seconds=5)), ("uuid", uuid.UUID(int=7)), ("int[]", [1, None, 3]),
    ("text[]", ["a b", 'q"', "NULL"]), ("json", '{"a": [1]}'), ("jsonb", '{"a": [1]}'), ("point", asyncpg.Point(1, 2)),
    ("int4range", asyncpg.Range(1, 5)), ("bit varying", asyncpg.BitString("101")),
)  # fmt: skip

CLIENTS: Mapping[str, Client] = {
    "psql": Client(about="scripts with everything that psql has", use=psql),
    **{
        f"pgbench-{mode}": Client(about=f"TPC-B, {mode}", use=pgbench(mode))
        for mode in ("simple", "extended", "prepared")
    },
    "pgbench-pipeline": Client(about="pipelines, extended and prepared", use=pgbench_pipeline),
    "psycopg": Client(about="values of many types, cursors, COPY", use=by_psycopg),
    "pipelines": Client(about="psycopg's pipelines", use=pipelines),
    "libpq": Client(about="libpq's pipeline mode", use=libpq),
    "asyncpg": Client(about="binary values, cursors, COPY", use=by_asyncpg),
    "node-postgres": Client(about="values, prepared statements, COPY", use=node.use, lacks=node.lacks),
    "pg_dump": Client(about="plain, as inserts, by two jobs", use=pg_dump),
    "pg_restore": Client(about="by one job, by two, and psql", use=pg_restore),
}
