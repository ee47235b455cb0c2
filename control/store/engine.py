"""Opening the database, and its transactions.

SQLite with a write-ahead log: readers never wait, one writer at a time. `write` begins IMMEDIATE, because a transaction
that reads first and writes later can fail half-way (sqlite.org/lang_transaction.html), and queues inside the process,
so that writers take their turn and do not spin on the busy timeout; that one remains for the other process, the
`curfew-control` command. `synchronous=FULL`: what was acknowledged is on disk, because the sender then forgets it.

What writes much does so in a thread as a whole (`write_as_one`), with the same queries and in the same queue.
"""

import asyncio
import contextlib
import sqlite3
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, cast

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from control.store.direct import Direct, finished
from control.store.signals import Signals

Answer = TypeVar("Answer")

DatabaseError = SQLAlchemyError
"""What every query raises where the database does not do its work."""

BUSY_TIMEOUT_MS = 10_000
CONNECTIONS = 8
MERGE_MS = 2_000
"""How long a last checkpoint waits for whoever reads."""
PRAGMAS = (
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",
    "PRAGMA foreign_keys = ON",
    f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}",
)


@dataclass(frozen=True, slots=True)
class Transaction:
    """One transaction: what every query takes first. `touch` names what waiters are to hear of once it is committed."""

    connection: AsyncConnection
    touched: set[str] = field(default_factory=set)

    def touch(self, topic: str) -> None:
        """Wake whoever waits for `topic` after the commit, and never where it is rolled back."""
        self.touched.add(topic)


class Store:
    """The database of one control service."""

    def __init__(self, engine: AsyncEngine, blocking: sa.Engine, signals: Signals) -> None:
        self._engine = engine
        self._blocking = blocking
        self._turn = asyncio.Lock()
        self.signals = signals

    @asynccontextmanager
    async def read(self) -> AsyncIterator[Transaction]:
        """A transaction that only reads: one state of the database throughout."""
        async with self._engine.connect() as connection, connection.begin():
            yield Transaction(connection)

    @asynccontextmanager
    async def write(self) -> AsyncIterator[Transaction]:
        """A transaction that writes. Committed where the block ends well, and gone as a whole where it raises."""
        async with self._turn, self._engine.connect() as connection:
            await connection.execution_options(immediate=True)
            transaction = Transaction(connection)
            async with connection.begin():
                yield transaction
        self.signals.notify(transaction.touched)

    async def write_as_one(self, work: Callable[[Transaction], Coroutine[Any, Any, Answer]]) -> Answer:
        """As `write`, for much at once: all of `work` in a thread, in which it waits for nothing but its queries.

        Committed when this returns, and gone as a whole where `work` raises. A thread cannot be stopped: who is
        cancelled meanwhile waits until it has ended, so that the turn is given on with the database's own lock.
        """
        async with self._turn:
            done = asyncio.get_running_loop().run_in_executor(None, self._as_one, work)
            try:
                await asyncio.shield(done)
            finally:
                await asyncio.wait([done])
                if done.exception() is None:
                    self.signals.notify(done.result()[0])
        return done.result()[1]

    def _as_one(self, work: Callable[[Transaction], Coroutine[Any, Any, Answer]]) -> tuple[set[str], Answer]:
        """What was touched, and what `work` gives, once that is committed."""
        with self._blocking.connect() as connection:
            connection.execution_options(immediate=True)
            # The cast: queries are written for the asynchronous one, and this is what they use of it.
            transaction = Transaction(cast("AsyncConnection", Direct(connection)))
            with connection.begin():
                answer = finished(work(transaction))
        return transaction.touched, answer

    async def merge(self) -> None:
        """Have all that was written in the file itself, not in the log beside it: then the file alone is a copy.

        SQLite does that itself with the last connection to be closed, but others may have the file open longer than we.
        """
        with contextlib.suppress(SQLAlchemyError, sqlite3.Error):  # then it is in the log, and found there
            await asyncio.to_thread(self._merge)

    def _merge(self) -> None:
        with contextlib.closing(self._blocking.raw_connection()) as connection:
            for pragma in (f"PRAGMA busy_timeout = {MERGE_MS}", "PRAGMA wal_checkpoint(TRUNCATE)"):
                connection.cursor().execute(pragma)

    async def close(self) -> None:
        """Close every connection."""
        await self._engine.dispose()
        self._blocking.dispose()


def open_store(path: Path) -> Store:
    """The store in the SQLite file `path`, whose schema is up to date (see `migrate`). Connects when first used."""
    engine = create_async_engine(
        sa.URL.create("sqlite+aiosqlite", database=str(path)),
        pool_size=CONNECTIONS,
        hide_parameters=True,  # a failing statement's values are no matter for the log
    )
    blocking = sa.create_engine(
        sa.URL.create("sqlite", database=str(path)),
        pool_size=1,  # there is one writer at a time
        max_overflow=0,
        connect_args={"check_same_thread": False},  # whichever thread of the pool has it: one at a time, too
        hide_parameters=True,
    )
    for one in (engine.sync_engine, blocking):
        event.listen(one, "connect", _prepare)
        event.listen(one, "begin", _begin)
    return Store(engine, blocking, Signals())


def _prepare(connection: Any, _record: Any) -> None:  # noqa: ANN401 SQLAlchemy's adapter of a driver's connection
    # The driver's own habit of beginning late would undo the snapshot and the IMMEDIATE; `_begin` begins instead.
    connection.isolation_level = None
    cursor = connection.cursor()
    for pragma in PRAGMAS:
        cursor.execute(pragma)
    cursor.close()


def _begin(connection: sa.Connection) -> None:
    immediate = connection.get_execution_options().get("immediate", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")


async def probe(tx: Transaction) -> None:
    """Write something, to know that the database takes writes: SQLite finds a full or read-only disk no earlier."""
    await tx.connection.exec_driver_sql("PRAGMA user_version = 1")
