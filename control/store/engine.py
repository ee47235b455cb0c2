"""Opening the database, and its transactions.

SQLite with a write-ahead log: readers never wait, one writer at a time. `write` begins IMMEDIATE, because a transaction
that reads first and writes later can fail half-way (sqlite.org/lang_transaction.html), and queues inside the process,
so that writers take their turn and do not spin on the busy timeout; that one remains for the other process, the
`curfew-control` command. `synchronous=FULL`: what was acknowledged is on disk, because the sender then forgets it.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from control.store.signals import Signals

DatabaseError = SQLAlchemyError
"""What every query raises where the database does not do its work."""

BUSY_TIMEOUT_MS = 10_000
CONNECTIONS = 8
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

    def __init__(self, engine: AsyncEngine, signals: Signals) -> None:
        self._engine = engine
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

    async def close(self) -> None:
        """Close every connection."""
        await self._engine.dispose()


def open_store(path: Path) -> Store:
    """The store in the SQLite file `path`, whose schema is up to date (see `migrate`). Connects when first used."""
    engine = create_async_engine(
        sa.URL.create("sqlite+aiosqlite", database=str(path)),
        pool_size=CONNECTIONS,
        hide_parameters=True,  # a failing statement's values are no matter for the log
    )
    event.listen(engine.sync_engine, "connect", _prepare)
    event.listen(engine.sync_engine, "begin", _begin)
    return Store(engine, Signals())


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
