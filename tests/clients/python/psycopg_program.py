"""psycopg's side of the conversation, and of the ends. See README.md beside the folders of programs."""

import os
import sys
import threading
import time
from typing import LiteralString, TypeAlias

import psycopg

from tests.clients.python.speaking import hear, say, told

Connection: TypeAlias = "psycopg.Connection[tuple[object, ...]]"
CANCEL_AFTER_S = 0.3
VALUES = (41, "it's Zoë\\;", 1.5, True, b"\0\xff", None)


def connect() -> Connection:
    """A connection by libpq's own environment variables, the token from standard input."""
    say("loaded")
    return psycopg.connect(password=hear(), autocommit=True)


def one(connection: Connection, statement: LiteralString, *values: object) -> str:
    """The one value of the one row."""
    row = connection.execute(statement, values or None).fetchone()
    assert row is not None
    return str(row[0])


def count(connection: Connection) -> str:
    """How many rows the table has."""
    return one(connection, "SELECT count(*) FROM t")


def converse() -> None:
    """The whole conversation."""
    connection = connect()
    say("simple", one(connection, "SELECT 'simple'"))
    texts = "SELECT concat_ws('|', %s::int8, %s::text, %s::float8, %s::bool, %s::bytea, coalesce(%s::text, 'NULL'))"
    say("values", one(connection, texts, *VALUES))
    connection.execute("CREATE TABLE t (n int PRIMARY KEY, x text)")
    for number in (1, 2, 3):
        connection.execute("INSERT INTO t VALUES (%s, %s)", (number, "x"), prepare=True)
    say("prepared", count(connection))
    say("error", fail(connection), count(connection))
    with connection.pipeline(), connection.cursor() as cursor:
        for number in range(100, 120):
            cursor.execute("INSERT INTO t VALUES (%s)", (number,))
    say("batch", count(connection))
    say("copy", str(copy(connection)))
    connection.execute("LISTEN heard")
    connection.execute("NOTIFY heard, 'by me'")
    say("notify", next(connection.notifies(timeout=10)).payload)
    say("cancel", cancel(connection))
    rows = connection.execute("SELECT repeat('x', 1000) FROM generate_series(1, 20000)")
    say("big", str(sum(len(str(row[0])) for row in rows)))
    connection.close()


def fail(connection: Connection) -> str:
    """The SQLSTATE that a transaction failed with; it is rolled back."""
    try:
        with connection.transaction():
            for number in (4, 1):
                connection.execute("INSERT INTO t VALUES (%s)", (number,))
    except psycopg.Error as error:
        return error.sqlstate or ""
    return ""


def copy(connection: Connection) -> int:
    """A thousand rows in; the bytes of them that come out."""
    with connection.cursor() as cursor:
        with cursor.copy("COPY t (n) FROM STDIN") as into:
            for number in range(1000, 2000):
                into.write_row((number,))
        with cursor.copy("COPY (SELECT n FROM t WHERE n >= 1000 ORDER BY n) TO STDOUT") as out:
            return sum(len(chunk) for chunk in out)


def cancel(connection: Connection) -> str:
    """The SQLSTATE of a query that was cancelled; the connection goes on."""
    timer = threading.Timer(CANCEL_AFTER_S, connection.cancel_safe)
    timer.start()
    try:
        connection.execute("SELECT pg_sleep(60)")
    except psycopg.errors.QueryCanceled as error:
        return error.sqlstate or ""
    finally:
        timer.join()
    return ""


def idle(connection: Connection) -> None:
    """Nothing, until somebody says that it is time for the next query."""
    say("ready")
    hear()
    connection.execute("SELECT 1")


def query(connection: Connection) -> None:
    """A query that goes on."""
    say("ready")
    connection.execute("SELECT pg_sleep(60)")


def copy_in(connection: Connection) -> None:
    """Rows, a few at a time, until somebody says that it is enough."""
    connection.execute("CREATE TEMP TABLE t (x text)")
    with connection.cursor() as cursor, cursor.copy("COPY t FROM STDIN") as into:
        say("ready")
        while not told():
            into.write("x\n" * 10_000)
            time.sleep(0.01)  # what its source takes to give more


def copy_out(connection: Connection) -> None:
    """Rows, a few at a time, for ever."""
    slow = "COPY (SELECT repeat('x', 10000), pg_sleep(0.01) FROM generate_series(1, 100000)) TO STDOUT"
    with connection.cursor() as cursor, cursor.copy(slow) as out:
        out.read()
        say("ready")
        for _ in out:
            pass


def end(state: str) -> None:
    """Come into the state, and say what the library says when it ends."""
    connection = connect()
    try:
        {"idle": idle, "query": query, "copy-in": copy_in, "copy-out": copy_out}[state](connection)
    except psycopg.Error as error:
        diagnostics = error.diag
        fields = (diagnostics.message_detail or "", diagnostics.message_hint or "")
        say("said", type(error).__name__, error.sqlstate or "", str(error), *fields)
    connection.close()
    os._exit(0)  # Whatever else there is to say is not what the person sees.


if __name__ == "__main__":
    converse() if sys.argv[1] == "converse" else end(sys.argv[1])
