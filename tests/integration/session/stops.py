"""What a session can be doing when its grant ends, and how to bring it there.

What runs goes on for long, or up to the time in the setting `work.until` where a session has one: so that it can come
to its end when it is let finish.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from proxy.contract.record import Outcome
from tests.harness.wire import FLUSH, SYNC, Wire, message, one_by_one, query

ROWS = 1_000
_LEFT = "coalesce(current_setting('work.until', true)::float8, 1e12) - extract(epoch FROM clock_timestamp())::float8"


def _nap(seconds: float) -> str:
    return f"pg_sleep(greatest(0, least({seconds}, {_LEFT})))"


SLOW_UPDATE = f"UPDATE work SET n = -n WHERE {_nap(0.1)} IS NOT NULL"
"""100 s for ROWS rows."""
TRAP = f"""DO $$ BEGIN
    INSERT INTO work VALUES (-1);
    WHILE {_LEFT} > 0 LOOP
        BEGIN
            PERFORM {_nap(60)};
        EXCEPTION WHEN query_canceled THEN
            INSERT INTO work VALUES (-2);
        END;
    END LOOP;
END $$"""
TRAP_OTHERS = f"""DO $$ BEGIN
    INSERT INTO work VALUES (-1);
    WHILE {_LEFT} > 0 LOOP
        BEGIN
            PERFORM {_nap(0.1)};
            PERFORM 1 / 0;
        EXCEPTION WHEN query_canceled OR OTHERS THEN
            UPDATE work SET n = -2 WHERE n = -1;
        END;
    END LOOP;
END $$"""
PROCEDURE = f"""CREATE PROCEDURE {{schema}}.in_steps() LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO work VALUES (-1);
    COMMIT;
    INSERT INTO work VALUES (-2);
    PERFORM {_nap(100)};
    COMMIT;
END $$"""
"""What one of the cases calls."""
IN_ONE_MESSAGE = f"BEGIN; SELECT {_nap(100)}; UPDATE work SET n = -n; COMMIT"
SEVERAL = f"UPDATE work SET n = -n; SELECT {_nap(100)}; INSERT INTO work VALUES (-1)"
ENDLESS = """COPY (SELECT repeat('x', 1000)
    FROM generate_series(1, coalesce(current_setting('work.rows', true)::int, 10000000))) TO STDOUT"""
READABLE = 30_000
"""`work.rows`: more than what lies between the client and PostgreSQL takes, and soon read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """What becomes of a state in which something runs, where that may end (end mode `finish`), and does in time."""

    changed: int
    """How many rows are below zero then, and how many above."""
    unchanged: int = ROWS
    go_on: bytes = b""
    """What it takes of the client."""


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
    finished: Finished | None = None
    """None: nothing runs that could."""


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
    statements = ("UPDATE work SET n = -n", f"SELECT {_nap(60)}", "UPDATE work SET n = -n - 1")
    wire.send(b"".join(one_by_one(sql) for sql in statements) + SYNC)


async def _answered(wire: Wire) -> None:
    wire.send(one_by_one("UPDATE work SET n = -n") + FLUSH)
    await wire.until("C")


async def _pipeline(wire: Wire) -> None:
    statements = ("INSERT INTO work VALUES (-1)", f"SELECT {_nap(60)}", "INSERT INTO work VALUES (-2)")
    wire.send(b"".join(one_by_one(sql) + SYNC for sql in statements))


async def _extended(wire: Wire) -> None:
    wire.send(one_by_one(SLOW_UPDATE) + SYNC)


async def _lock(wire: Wire) -> None:
    wire.send(query("UPDATE work SET n = -n; SELECT pg_advisory_lock(4711)"))


CASES = (
    Case(name="idle", begin=_idle, waits="idle", outcomes=frozenset({"nothing open"})),
    Case(name="idle in transaction", begin=_in_transaction, waits="idle in transaction"),
    Case(name="idle in failed transaction", begin=_failed_transaction, waits="idle in transaction (aborted)"),
    Case(name="a running UPDATE", begin=_update, finished=Finished(changed=ROWS, unchanged=0)),
    Case(
        name="a running UPDATE by the extended protocol", begin=_extended, finished=Finished(changed=ROWS, unchanged=0)
    ),
    Case(name="DO that traps query_canceled", begin=_trap, finished=Finished(changed=1)),
    Case(name="DO that traps OTHERS", begin=_trap_others, finished=Finished(changed=1)),
    Case(name="client_connection_check_interval = 0", begin=_unchecked, finished=Finished(changed=ROWS, unchanged=0)),
    Case(name="several statements in one Query", begin=_several, finished=Finished(changed=ROWS + 1, unchanged=0)),
    Case(
        name="a procedure that commits",
        begin=_procedure,
        # Which of its transactions were committed, nobody says before it is done.
        outcomes=frozenset({"unknown", "partly committed"}),
        event="PgSleep",
        changed=1,
        finished=Finished(changed=2),
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
        finished=Finished(changed=ROWS, unchanged=0),
    ),
    Case(name="waiting for a lock", begin=_lock, event="advisory", finished=Finished(changed=ROWS, unchanged=0)),
    Case(
        name="COPY in",
        begin=_copy_in,
        event="ClientRead",
        copies=("in",),
        finished=Finished(changed=100, go_on=message("c")),
    ),
    Case(
        name="COPY out to a client that does not read",
        begin=_copy_out,
        event="ClientWrite",
        copies=("out",),
        finished=Finished(changed=0),
    ),
    # Its second UPDATE makes each n of 1 to ROWS one less than it was.
    Case(name="a pipelined batch", begin=_batch, finished=Finished(changed=0, unchanged=ROWS - 1)),
    Case(name="answered, but with no Sync yet", begin=_answered),
    Case(
        name="a pipeline of several transactions",
        begin=_pipeline,
        event="PgSleep",
        outcomes=frozenset({"unknown", "partly committed"}),
        changed=1,
        finished=Finished(changed=2),
    ),
)
