"""What a session can be doing when its grant ends, and how to bring it there."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from proxy.contract.record import Outcome
from tests.harness.wire import FLUSH, SYNC, Wire, message, one_by_one, query

ROWS = 1_000
SLOW_UPDATE = "UPDATE work SET n = -n WHERE pg_sleep(0.1) IS NOT NULL"
"""100 s for ROWS rows."""
TRAP = """DO $$ BEGIN
    INSERT INTO work VALUES (-1);
    LOOP
        BEGIN
            PERFORM pg_sleep(60);
        EXCEPTION WHEN query_canceled THEN
            INSERT INTO work VALUES (-2);
        END;
    END LOOP;
END $$"""
TRAP_OTHERS = """DO $$ BEGIN
    INSERT INTO work VALUES (-1);
    LOOP
        BEGIN
            PERFORM pg_sleep(0.1);
            PERFORM 1 / 0;
        EXCEPTION WHEN query_canceled OR OTHERS THEN
            INSERT INTO work VALUES (-2);
        END;
    END LOOP;
END $$"""
PROCEDURE = """CREATE PROCEDURE {schema}.in_steps() LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO work VALUES (-1);
    COMMIT;
    INSERT INTO work VALUES (-2);
    PERFORM pg_sleep(100);
    COMMIT;
END $$"""
"""What one of the cases calls."""
IN_ONE_MESSAGE = "BEGIN; SELECT pg_sleep(100); UPDATE work SET n = -n; COMMIT"
SEVERAL = "UPDATE work SET n = -n; SELECT pg_sleep(100); INSERT INTO work VALUES (-1)"
ENDLESS = "COPY (SELECT repeat('x', 1000) FROM generate_series(1, 10000000)) TO STDOUT"


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One thing to be doing."""

    name: str
    begin: Callable[[Wire], Awaitable[None]]
    outcomes: frozenset[Outcome] = frozenset({"rolled back"})
    """What the record may say became of it."""
    waits: str | None = "active"
    """The backend's `state` in pg_stat_activity once it is there."""
    event: str | None = None
    """What the backend waits for by then (`wait_event`), where that matters."""
    copies: tuple[str, ...] = ()
    """The directions of the COPY records that it leaves, each of one that was cut."""
    changed: int = 0
    """How many rows it had rightly changed before the end."""
    prepared: int = 0
    """How many transactions it had prepared for a two-phase commit: they are nobody's session any more, and stay."""


async def _idle(wire: Wire) -> None:
    await wire.run("SELECT 1")


async def _in_transaction(wire: Wire) -> None:
    await wire.run("BEGIN")
    await wire.run("UPDATE work SET n = -n")


async def _failed_transaction(wire: Wire) -> None:
    await _in_transaction(wire)
    await wire.run("SELECT 1/0")


async def _update(wire: Wire) -> None:
    wire.send(query(SLOW_UPDATE))


async def _trap(wire: Wire) -> None:
    wire.send(query(TRAP))


async def _trap_others(wire: Wire) -> None:
    wire.send(query(TRAP_OTHERS))


async def _procedure(wire: Wire) -> None:
    wire.send(query("CALL in_steps()"))


async def _several(wire: Wire) -> None:
    wire.send(query(SEVERAL))


async def _unchecked(wire: Wire) -> None:
    await wire.run("SET client_connection_check_interval = 0")
    wire.send(query(SLOW_UPDATE))


async def _prepared(wire: Wire) -> None:
    await wire.run("BEGIN")
    await wire.run("INSERT INTO work VALUES (-1)")
    await wire.run(f"PREPARE TRANSACTION 'of {wire.pid}'")


async def _held_cursor(wire: Wire) -> None:
    await wire.run("BEGIN")
    await wire.run("DECLARE held CURSOR WITH HOLD FOR SELECT n FROM work")
    await wire.run("COMMIT")
    await wire.run("FETCH 10 FROM held")


async def _listening(wire: Wire) -> None:
    await wire.run("LISTEN news")


async def _in_one_message(wire: Wire) -> None:
    wire.send(query(IN_ONE_MESSAGE))


async def _copy_in(wire: Wire) -> None:
    wire.send(query("COPY work FROM STDIN"))
    await wire.until("G")
    wire.send(message("d", b"-1\n") * 100)


async def _copy_out(wire: Wire) -> None:
    wire.send(query(ENDLESS))


async def _batch(wire: Wire) -> None:
    statements = ("UPDATE work SET n = -n", "SELECT pg_sleep(60)", "UPDATE work SET n = -n - 1")
    wire.send(b"".join(one_by_one(sql) for sql in statements) + SYNC)


async def _answered(wire: Wire) -> None:
    wire.send(one_by_one("UPDATE work SET n = -n") + FLUSH)
    await wire.until("C")


async def _pipeline(wire: Wire) -> None:
    statements = ("INSERT INTO work VALUES (-1)", "SELECT pg_sleep(60)", "INSERT INTO work VALUES (-2)")
    wire.send(b"".join(one_by_one(sql) + SYNC for sql in statements))


async def _extended(wire: Wire) -> None:
    wire.send(one_by_one(SLOW_UPDATE) + SYNC)


async def _lock(wire: Wire) -> None:
    wire.send(query("UPDATE work SET n = -n; SELECT pg_advisory_lock(4711)"))


CASES = (
    Case(name="idle", begin=_idle, waits="idle", outcomes=frozenset({"nothing open"})),
    Case(name="idle in transaction", begin=_in_transaction, waits="idle in transaction"),
    Case(name="idle in failed transaction", begin=_failed_transaction, waits="idle in transaction (aborted)"),
    Case(name="a running UPDATE", begin=_update),
    Case(name="a running UPDATE by the extended protocol", begin=_extended),
    Case(name="DO that traps query_canceled", begin=_trap),
    Case(name="DO that traps OTHERS", begin=_trap_others),
    Case(name="client_connection_check_interval = 0", begin=_unchecked),
    Case(name="several statements in one Query", begin=_several),
    Case(
        name="a procedure that commits",
        begin=_procedure,
        # Which of its transactions were committed, nobody says before it is done.
        outcomes=frozenset({"unknown", "partly committed"}),
        event="PgSleep",
        changed=1,
    ),
    Case(
        name="a prepared transaction", begin=_prepared, waits="idle", outcomes=frozenset({"nothing open"}), prepared=1
    ),
    Case(name="a cursor WITH HOLD", begin=_held_cursor, waits="idle", outcomes=frozenset({"nothing open"})),
    Case(name="LISTEN", begin=_listening, waits="idle", outcomes=frozenset({"nothing open"})),
    Case(
        name="BEGIN to COMMIT in one message",
        begin=_in_one_message,
        # It has no transaction id while it sleeps, so nobody can ask PostgreSQL what became of it.
        outcomes=frozenset({"rolled back", "unknown"}),
    ),
    Case(name="waiting for a lock", begin=_lock, event="advisory"),
    Case(name="COPY in", begin=_copy_in, event="ClientRead", copies=("in",)),
    Case(name="COPY out to a client that does not read", begin=_copy_out, event="ClientWrite", copies=("out",)),
    Case(name="a pipelined batch", begin=_batch),
    Case(name="answered, but with no Sync yet", begin=_answered),
    Case(
        name="a pipeline of several transactions",
        begin=_pipeline,
        event="PgSleep",
        outcomes=frozenset({"unknown", "partly committed"}),
        changed=1,
    ),
)
