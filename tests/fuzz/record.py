"""Seeds: what real clients and a real PostgreSQL say to each other, as inputs of the targets.

`python -m tests.fuzz.record FOLDER` starts a PostgreSQL, has psql, psycopg and asyncpg work with it through a tap on
its unix socket (in clear), and writes FOLDER/TARGET/*. What comes of it in the corpora is up to `tests.fuzz.minimise`.
"""

import asyncio
import contextlib
import hashlib
import ssl
import struct
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import psycopg

from tests.fuzz.targets.bind import TYPES
from tests.fuzz.turns import Turn, messages, write
from tests.harness.certs import Authority
from tests.harness.postgres import Cluster
from tests.harness.processes import run

LONGEST = 6_000
"""Bytes of a seed."""
SCRIPT = """\\set ON_ERROR_STOP off
select 1; select 2; selec 3; create table t (a int, b text); insert into t values (1, 'x');
begin; savepoint s; select 1/0; rollback to s; commit;
copy t from stdin;
2\ty
\\.
copy t to stdout; copy t from stdin;
no\ty
\\.
do $$ begin raise notice 'hello'; end $$; listen c; notify c; set timezone to 'UTC';
alter role postgres connection limit 9;
prepare p as select $1::int; execute p (1); deallocate p; select lo_create(0) \\bind \\g
"""


class Tap:
    """Between a client and PostgreSQL: every chunk of every connection, in the order in which it came."""

    def __init__(self, upstream: Path) -> None:
        self._upstream = upstream
        self.heard: list[list[Turn]] = []

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection (asyncio.start_unix_server)."""
        heard: list[Turn] = []
        self.heard.append(heard)
        theirs, ours = await asyncio.open_unix_connection(str(self._upstream))
        await asyncio.gather(_pass(reader, ours, heard, by_client=True), _pass(theirs, writer, heard, by_client=False))


async def _pass(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, heard: list[Turn], *, by_client: bool
) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(4_096):
            heard.append(Turn(by_client=by_client, data=data))
            writer.write(data)
    writer.close()


async def record(cluster: Cluster, folder: Path) -> list[list[Turn]]:
    """Have the clients work; what was said on each of their connections."""
    with tempfile.TemporaryDirectory() as listening:
        name = f".s.PGSQL.{cluster.port}"
        tap = Tap(cluster.folder / name)
        server = await asyncio.start_unix_server(tap.connected, f"{listening}/{name}")
        script = folder / "script.sql"
        script.write_text(SCRIPT)
        environment = {"PGHOST": listening, "PGPORT": str(cluster.port), "PGUSER": cluster.superuser}
        surroundings = {**environment, "PGPASSWORD": cluster.password, "PATH": "/usr/bin:/bin"}
        psql: list[str | Path] = ["psql", "-X", "-d", "postgres", "-f", script]
        await asyncio.to_thread(run, psql, environment=surroundings, check=False)
        await asyncio.to_thread(_psycopg, cluster, listening)
        await _asyncpg(cluster, listening)
        server.close()
    return tap.heard


def _psycopg(cluster: Cluster, host: str) -> None:
    at = f"host={host} port={cluster.port} user={cluster.superuser} password={cluster.password} dbname=postgres"
    with psycopg.connect(at, autocommit=True, prepare_threshold=1) as connection:
        for value in (1, 2, None):
            connection.execute("select %s::int, %s::text", (value, "it's"))
        with contextlib.suppress(psycopg.Error):
            connection.execute("select 1 / %s::int", (0,))
        with connection.pipeline():
            for value in range(3):
                connection.execute("insert into t values (%s, %s)", (value, "z"))
            with contextlib.suppress(psycopg.Error), connection.pipeline():
                connection.execute("select 1 / %s", (0,))
                connection.execute("select 1")
        with connection.transaction(), connection.cursor("c") as named:
            named.execute("select * from generate_series(1, 20)")
            named.fetchmany(3)
        with connection.cursor() as cursor, cursor.copy("copy t from stdin (format binary)") as copy:
            copy.set_types(["int4", "text"])
            copy.write_row((7, "x"))
        with (
            contextlib.suppress(psycopg.Error),
            connection.cursor() as cursor,
            cursor.copy("copy t from stdin") as copy,
        ):
            copy.write("x")


async def _asyncpg(cluster: Cluster, host: str) -> None:
    connection = await asyncpg.connect(
        host=host, port=cluster.port, user=cluster.superuser, password=cluster.password, database="postgres"
    )
    literals = {
        "int2": 1,
        "int8": 2**40,
        "float4": 0.1,
        "float8": -1e300,
        "numeric": "12345.670",
        "bool": "true",
        "text": "'a'",
        "jsonb": "'{}'",
        "uuid": "'0b4d5f5e-0000-4000-8000-000000000000'",
        "date": "'2026-11-22'",
        "time": "'23:59:59.5'",
        "timestamp": "'infinity'",
        "timestamptz": "'2026-11-22 07:00+00'",
        "bytea": "'abc'",
        "int4[]": "'{{1,NULL},{3,4}}'",
        "text[]": """'{"a b",NULL,"NULL"}'""",
    }
    for type_, literal in literals.items():
        value = await connection.fetchval(f"select {literal}::{type_}")
        await connection.fetchval(f"select $1::{type_}", value)
        await connection.fetchval(f"select $1::{type_}", None)
    async with connection.transaction():
        async for _ in connection.cursor("select * from generate_series(1, 9)", prefetch=2):
            pass
    await connection.copy_records_to_table("t", records=[(1, "x")])
    with contextlib.suppress(asyncpg.PostgresError):
        await connection.executemany("insert into t values ($1, 1 / $1)", [(1,), (0,)])
    await connection.close()


def seeds(heard: list[Turn]) -> Iterator[tuple[str, bytes]]:
    """The inputs that a connection makes, each with its target's name."""
    server = b"".join(turn.data for turn in heard if not turn.by_client)
    client = b"".join(turn.data for turn in heard if turn.by_client)
    first = int.from_bytes(client[:4])
    login = list(messages(client[first:]))
    yield "startup", client[:first] + b"p" + struct.pack("!i", 10) + b"token\0"
    yield "scram", b"\0" + b"".join(_login(login, messages(server)))
    ready = next(at for at, turn in enumerate(heard) if not turn.by_client and turn.data.endswith(b"Z\0\0\0\5I"))
    conversation = heard[ready + 1 :]
    for at in range(0, len(conversation), 8):
        said = write(conversation[at : at + 24])
        if len(said) <= LONGEST:
            yield "tracker", said
            yield "framing", said
    types: dict[bytes, tuple[int, ...]] = {}
    for message in login:
        if message[:1] == b"P":
            name, _, rest = message[5:].partition(b"\0")
            oids = rest.partition(b"\0")[2]
            types[name] = struct.unpack(f"!{len(oids[2:]) // 4}I", oids[2:])
        elif message[:1] == b"B" and len(message) <= LONGEST:
            known = [TYPES.index(oid) if oid in TYPES else 0 for oid in types.get(message[5:].split(b"\0")[1], ())]
            yield "bind", bytes([len(known) & 7, *known[:7]]) + message[5:]


def _login(client: list[bytes], server: list[bytes]) -> Iterator[bytes]:
    """The server's messages up to ReadyForQuery; what depends on the nonce is what it is said to be."""
    nonce = client[0].partition(b"r=")[2]
    for message in server:
        body = message[5:].replace(nonce, b"{nonce}")
        if body[:4] == b"\0\0\0\x0c":
            body = body[:6] + b"{proof}"
        yield message[:1] + struct.pack("!H", len(body)) + body
        if message[:1] == b"Z":
            return


def hellos() -> Iterator[bytes]:
    """ClientHello messages of OpenSSL's."""
    for name, protocols in [("", []), ("db.example.test", ["postgresql"]), ("localhost", ["http/1.1", "postgresql"])]:
        context = ssl.create_default_context()
        context.check_hostname = False
        if protocols:
            context.set_alpn_protocols(protocols)
        outgoing = ssl.MemoryBIO()
        with contextlib.suppress(ssl.SSLWantReadError):
            context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=name or None).do_handshake()
        yield outgoing.read()


def main(folder: Path) -> None:
    """Record."""
    folder.mkdir(exist_ok=True)
    with Cluster(Authority(folder)) as cluster:
        heard = asyncio.run(record(cluster, folder))
    found = [one for connection in heard for one in seeds(connection)]
    for target, data in [*found, *(("startup", hello) for hello in hellos())]:
        (folder / target).mkdir(exist_ok=True)
        (folder / target / hashlib.sha1(data).hexdigest()).write_bytes(data)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
