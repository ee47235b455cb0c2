"""Sessions to be recorded once and replayed in pieces: together, every kind of message that a client may send.

Each is short, because each is replayed once for every byte of it.
"""

import struct
from collections.abc import Awaitable, Callable, Mapping
from typing import TypeAlias

from tests.harness.wire import (
    COPY_DONE,
    FLUSH,
    SYNC,
    TERMINATE,
    Wire,
    bind,
    execute,
    message,
    one_by_one,
    parse,
    query,
)

Script: TypeAlias = Callable[[Wire], Awaitable[object]]


async def _simple(wire: Wire) -> None:
    await wire.run("CREATE TEMP TABLE t (n int, word text); INSERT INTO t VALUES (1, 'Zoë'); SELECT * FROM t; SELECT 2")
    await wire.run("SELECT 1; SELECT 1/0; SELECT 2")
    await wire.run("")
    wire.send(query("SELECT 'one'") + query("SELECT 'two'") + query("SET application_name = 'three'"))
    for _ in range(3):
        await wire.until("Z")


async def _transactions(wire: Wire) -> None:
    await wire.run("BEGIN")
    await wire.run("SELECT 1/0")
    await wire.run("SELECT 1")
    await wire.run("ROLLBACK; BEGIN; SAVEPOINT s; SELECT 1/0; ROLLBACK TO s")
    await wire.run("COMMIT")


async def _prepared(wire: Wire) -> None:
    describe = message("D", b"Sone\0")
    wire.send(parse("SELECT $1::text, $2::int", name="one", types=[25, 23]) + describe + SYNC)
    await wire.until("Z")
    for values in (("it's Zoë", "1"), (None, "-2")):
        wire.send(bind(*values, name="one") + message("D", b"P\0") + execute() + SYNC)
        await wire.until("Z")
    wire.send(message("C", b"Sone\0") + SYNC)
    await wire.until("Z")


async def _portals(wire: Wire) -> None:
    wire.send(parse("SELECT generate_series(1, 5)") + bind(portal="p") + execute("p", 2) + FLUSH)
    await wire.until("s")
    wire.send(execute("p", 2) + execute("p", 2) + message("C", b"Pp\0") + SYNC)
    await wire.until("Z")


async def _pipeline(wire: Wire) -> None:
    texts = ("SELECT 1", "SELECT 1/0", "SELECT 3")
    wire.send(b"".join(one_by_one(sql) for sql in texts) + SYNC + one_by_one("SELECT $1::text", "4") + SYNC)
    for _ in range(2):
        await wire.until("Z")
    wire.send(parse("SELECT nonsense") + bind() + execute() + SYNC + message("B", b"\0\0\0") + SYNC)
    for _ in range(2):
        await wire.until("Z")


async def _copy_in(wire: Wire) -> None:
    await wire.run("CREATE TEMP TABLE t (n int)")
    for data in (message("d", b"1\n2\n") + message("d", b"3\n") + COPY_DONE, message("f", b"no more\0")):
        wire.send(query("COPY t FROM STDIN"))
        await wire.until("G")
        wire.send(data)
        await wire.until("Z")
    wire.send(query("COPY t FROM STDIN; SELECT count(*) FROM t"))
    await wire.until("G")
    wire.send(message("d", b"bad\n") + message("d", b"4\n") + COPY_DONE)
    await wire.until("Z")


async def _copy_in_extended(wire: Wire) -> None:
    await wire.run("CREATE TEMP TABLE t (word text)")
    wire.send(one_by_one("COPY t FROM STDIN") + SYNC)  # a Sync within COPY is ignored
    await wire.until("G")
    wire.send(message("d", b"S    Q    DROP TABLE t") + message("d") + FLUSH + message("d", b"\n") + COPY_DONE + SYNC)
    await wire.until("Z")


async def _copy_out(wire: Wire) -> None:
    await wire.run("COPY (SELECT n, repeat('x', n) FROM generate_series(1, 9) AS n) TO STDOUT")
    wire.send(one_by_one("COPY (SELECT 1) TO STDOUT (FORMAT BINARY)") + SYNC)
    await wire.until("Z")
    await wire.run("COPY (SELECT 1 / (3 - n) FROM generate_series(1, 5) AS n) TO STDOUT")


async def _function(wire: Wire) -> None:
    pg_sign = struct.pack("!IHHH", 2310, 0, 1, 1) + struct.pack("!i", 1) + b"0" + struct.pack("!H", 0)
    wire.send(message("F", pg_sign))
    await wire.until("Z")
    wire.send(message("F", struct.pack("!IHHH", 4_000_000, 0, 0, 0)))
    await wire.until("Z")


async def _notices(wire: Wire) -> None:
    await wire.run("LISTEN ears")
    await wire.run("NOTIFY ears, 'heard'; DO $$ BEGIN RAISE NOTICE 'noticed'; RAISE WARNING 'warned'; END $$")
    await wire.run("SET client_encoding = 'LATIN1'")
    wire.send(message("Q", b"SELECT '\xeb'\0"))
    await wire.until("Z")


async def _secrets(wire: Wire) -> None:
    await wire.run("ALTER ROLE CURRENT_USER PASSWORD 'hidden' VALID UNTIL 'nonsense'")
    wire.send(one_by_one("SELECT set_config('my.password', $1, false)", "hidden") + SYNC)
    await wire.until("Z")


async def _terminate(wire: Wire) -> None:
    wire.send(query("SELECT 1") + TERMINATE)
    await wire.rest()


SESSIONS: Mapping[str, Script] = {
    "simple queries": _simple,
    "transactions": _transactions,
    "a prepared statement": _prepared,
    "a portal in parts": _portals,
    "a pipeline with errors": _pipeline,
    "COPY in": _copy_in,
    "COPY in, extended": _copy_in_extended,
    "COPY out": _copy_out,
    "function calls": _function,
    "notices": _notices,
    "secrets": _secrets,
    "Terminate": _terminate,
}
