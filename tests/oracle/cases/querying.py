"""Simple queries: errors of many kinds, notices, states, notifications, sizes, and a function call."""

import struct

from tests.harness.wire import SYNC, message, query
from tests.oracle.case import Script, add, case
from tests.oracle.talk import Talk


def texts(*sql: str) -> Script:
    """These queries, one after the other, and whether the connection lives."""

    async def script(talk: Talk) -> None:
        await talk.log_in()
        await talk.sql(*sql)
        await talk.alive()

    return script


TABLE = "CREATE TEMP TABLE t (id int)"


def waiting(*sql: str) -> Script:
    """These queries, and then nothing more until PostgreSQL ends it."""

    async def script(talk: Talk) -> None:
        await talk.log_in()
        await talk.sql(*sql)
        await talk.rest()

    return script


def violating(insert: str, name: str) -> Script:
    """A table made and filled in a transaction that fails. No temporary one: its schema's name is in the error."""
    table = f"CREATE TABLE {name} (id int PRIMARY KEY, other int NOT NULL CHECK (other > 0))"
    return texts("BEGIN", table, f"INSERT INTO {name} VALUES (1, 1)", f"INSERT INTO {name} {insert}", "ROLLBACK")


RAISE = """DO $$BEGIN RAISE EXCEPTION 'no: %', chr(228) USING ERRCODE = 'CF001', DETAIL = 'd', HINT = 'h',
    COLUMN = 'c', CONSTRAINT = 'k', DATATYPE = 't', TABLE = 'r', SCHEMA = 's'; END$$"""
NESTED = """DO $$BEGIN PERFORM 1/0; EXCEPTION WHEN division_by_zero THEN RAISE WARNING 'caught %', SQLERRM; END$$"""
KILLED = "SELECT pg_terminate_backend(pg_backend_pid())"

add("error-42601", "syntax", texts("SELEC 1"))
add("error-42P01", "no such table", texts("SELECT * FROM nowhere"))
add("error-42703", "no such column", texts("SELECT nothing FROM pg_class"))
add("error-42883", "no such function, with its hint", texts("SELECT sorcery(1)"))
add("error-42501", "no right", texts("SELECT rolpassword FROM pg_authid"))
add("error-22012", "by zero", texts("SELECT 1/0"))
add("error-22P02", "no number", texts("SELECT 'x'::int"))
add("error-22003", "too large", texts("SELECT 2147483647 + 1"))
add("error-54000", "no such text", texts("SELECT 'a' || chr(0)"))
add("error-23505", "twice", violating("VALUES (1, 2)", "t_23505"))
add("error-23502", "no null", violating("(id) VALUES (2)", "t_23502"))
add("error-23514", "a check", violating("VALUES (2, -1)", "t_23514"))
add("error-25P02", "in a failed transaction", texts("BEGIN", "SELECT 1/0", "SELECT 1", "ROLLBACK"))
add("error-25P01", "no transaction", texts("SAVEPOINT a", "ROLLBACK TO a"))
add("error-25006", "read only", texts("BEGIN READ ONLY", "CREATE TABLE never ()", "COMMIT"))
add("error-25001", "not in a transaction", texts("BEGIN", "VACUUM", "ROLLBACK"))
add("error-26000", "no such statement", texts("EXECUTE nothing"))
add("error-34000", "no such cursor", texts("FETCH nothing"))
add("error-57014", "too slow", texts("SET statement_timeout = '50ms'", "SELECT pg_sleep(10)"))
add("error-0A000", "not made", texts("SELECT count(*) FROM pg_class FOR UPDATE"))
add("error-of-ones-own", "every field there is", texts(RAISE))
add("warning", "a notice before the end", texts(NESTED, "COMMIT", "DROP TABLE IF EXISTS nowhere"))
add("notices", "a hundred of them", texts("DO $$BEGIN FOR i IN 1..100 LOOP RAISE NOTICE '%', i; END LOOP; END$$"))
add("empty-query", "nothing, and nothing but a semicolon", texts("", ";", " ; ; "))
add("several-statements", "one Query, many results", texts("SELECT 1; SELECT 2; SELECT 'a', NULL"))
add("error-amid-several", "what came before it is undone", texts(f"{TABLE}; SELECT 1/0; SELECT 3", "TABLE t"))
add("transaction-amid-several", "its state", texts("SELECT 1; BEGIN; SELECT 2", "SELECT 3; COMMIT; SELECT 4"))
add(
    "setting-by-sql", "ParameterStatus", texts("SET TimeZone = 'Asia/Tokyo'", "SET application_name = 'x'", "RESET ALL")
)
add("role-by-sql", "ParameterStatus, or 42501", texts("SET ROLE postgres", "SET SESSION AUTHORIZATION DEFAULT"))
add(
    "nulls-and-none",
    "columns without rows, rows without columns",
    texts("SELECT", "SELECT NULL, ''", "SELECT 1 LIMIT 0"),
)
add("many-rows", "ten thousand", texts("SELECT generate_series(1, 10000), 'x'"))
add("large-row", "five megabytes", texts("SELECT repeat('x', 5000000), 1"))
add("large-query", "five megabytes", texts(f"SELECT length('{'x' * 5_000_000}')"))
add("backend-killed", "57P01, and closed", texts("BEGIN", KILLED))
add("idle-in-transaction", "25P03, and closed", waiting("BEGIN", "SET idle_in_transaction_session_timeout = 50"))
add("idle", "57P05, and closed", waiting("SET idle_session_timeout = 50"))
add("deep-expression", "54001", texts("SELECT 1" + "+1" * 100_000))


def bytes_of(*data: bytes) -> Script:
    """These messages, and whether the connection lives."""

    async def script(talk: Talk) -> None:
        await talk.log_in()
        talk.send(*data)
        await talk.ready()
        await talk.alive()

    return script


add("query-without-an-end", "08P01", bytes_of(message("Q", b"SELECT 1")))
add("query-with-two-ends", "08P01", bytes_of(message("Q", b"SELECT 1\0SELECT 2\0")))
add("query-of-no-bytes", "08P01", bytes_of(message("Q")))
add("query-of-no-encoding", "22021", bytes_of(message("Q", b"SELECT '\xff\xfe'\0")))


def call(function: int, *arguments: bytes | None, formats: tuple[int, ...] = (), result: int = 0) -> bytes:
    """A FunctionCall."""
    sized = [b"\xff\xff\xff\xff" if one is None else struct.pack("!i", len(one)) + one for one in arguments]
    head = struct.pack(f"!IH{len(formats)}HH", function, len(formats), *formats, len(arguments))
    return message("F", head + b"".join(sized) + struct.pack("!H", result))


INT4PL, INT4DIV, NOWHERE = 177, 154, 999_999
add("function", "as text", bytes_of(call(INT4PL, b"40", b"2")))
add(
    "function-in-binary",
    "arguments and result",
    bytes_of(call(INT4PL, b"\0\0\0\5", b"\0\0\0\2", formats=(1,), result=1)),
)
add("function-of-null", "no result", bytes_of(call(INT4PL, None, b"2")))
add("function-that-fails", "22012", bytes_of(call(INT4DIV, b"1", b"0")))
add("function-that-is-none", "42883", bytes_of(call(NOWHERE, b"1")))
add("function-of-too-few", "08P01", bytes_of(call(INT4PL, b"40")))
add("function-in-a-strange-format", "22023", bytes_of(call(INT4PL, b"40", b"2", formats=(7,))))
add("function-cut-short", "08P01", bytes_of(message("F", struct.pack("!IHH", INT4PL, 0, 2))))
add("function-of-no-bytes", "08P01", bytes_of(message("F")))


@case
async def large_object(talk: Talk) -> None:
    """By function calls, as libpq's lo_* and pgjdbc do it: made, opened, written, read, and undone."""
    create, open_, write, seek, read = 715, 952, 955, 956, 954
    number, mode, descriptor = (4_711).to_bytes(4), (0x60000).to_bytes(4), bytes(4)
    await talk.log_in()
    await talk.sql("BEGIN")
    calls = ((create, number), (open_, number, mode), (write, descriptor, b"\0\1binary\xff"))
    for one in (*calls, (seek, descriptor, bytes(4), bytes(4)), (read, descriptor, (100).to_bytes(4))):
        talk.send(call(one[0], *one[1:], formats=(1,), result=1))
        await talk.ready()
    await talk.sql("ROLLBACK")


@case
async def encoding_changed(talk: Talk) -> None:
    """Texts and errors come in the new one; what it cannot hold is an error of its own."""
    await talk.log_in()
    await talk.sql("SET client_encoding = 'LATIN1'", "SELECT chr(228)", 'SELECT 1 AS "a" FROM nowhere')
    talk.send(message("Q", b"SELECT '\xe4' AS \xe4, nothing_\xe4\0"))
    await talk.ready()
    await talk.sql("SELECT chr(8364)")
    talk.send(message("Q", b"SELECT '\xe4' AS \xe4\0"))
    await talk.ready()


@case
async def function_in_a_failed_transaction(talk: Talk) -> None:
    """25P02, and what goes with it."""
    await talk.log_in()
    await talk.sql("BEGIN", "SELECT 1/0")
    talk.send(call(INT4PL, b"40", b"2"), SYNC)
    await talk.ready(2)
    await talk.alive()


@case
async def notification_to_oneself(talk: Talk) -> None:
    """At the commit, from one's own pid."""
    await talk.encrypted()
    talk.start()
    await talk.authenticate()
    await talk.sql("LISTEN mine", "BEGIN", "NOTIFY mine, 'now'", "COMMIT")
    await talk.sql(f"NOTIFY mine, '{'x' * 7_999}'", f"NOTIFY mine, '{'x' * 8_000}'")


@case
async def notification_while_idle(talk: Talk) -> None:
    """From another connection, between two queries."""
    await talk.log_in()
    await talk.sql("LISTEN theirs")
    other = talk.beside()
    await other.log_in()
    await other.sql("SELECT pg_notify('theirs', 'hello')")
    await talk.until("A")
    await talk.alive()


@case
async def pid(talk: Talk) -> None:
    """The backend's own is what the client was told."""
    await talk.encrypted()
    talk.start()
    await talk.authenticate()
    await talk.sql("SELECT pg_backend_pid()")


@case
async def queries_without_waiting(talk: Talk) -> None:
    """A hundred, and an error among them."""
    await talk.log_in()
    talk.send(*(query(f"SELECT {number}/{number % 10}") for number in range(100)))
    await talk.ready(100)
