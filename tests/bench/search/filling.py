"""A store with as many statements as one likes, in the shapes that proxies write, made by one seed.

The records are put into the store as they are: no proxy, no ingest, no chains that would hold. The index is made by its
own code, in its own pieces.
"""

import base64
import random
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from control.store.migrate import migrate
from control.times import SECOND

SESSION = 1_000
"""Statements of one session."""
PEOPLE, TARGETS, TABLES, SCHEMAS = 60, 20, 400, 8
SEED = 20_261_122
BEGIN = 1_790_000_000 * SECOND
APART = SECOND // 50
AT_ONCE = 50_000
RARE = 100_000
"""One statement in so many has what is looked for as rare."""
_PREV = base64.b64encode(bytes(32)).decode()


@dataclass(frozen=True, slots=True)
class Said:
    """A statement and what came of it."""

    sql: str
    tag: str
    rows: int
    sqlstate: str | None = None
    parameters: str = ""


def fill(path: Path, amount: int) -> None:
    """A fresh store in the file `path`, with so many statements."""
    migrate(path)
    store = sqlite3.connect(path, isolation_level=None)
    # A store that is made for a measurement may be lost.
    for pragma in ("journal_mode = WAL", "synchronous = OFF", "cache_size = -200000"):
        store.execute(f"PRAGMA {pragma}")
    store.execute("INSERT INTO proxies (name, joined_at, last_seen_at) VALUES ('edge', 0, 0)")
    leaf = 0
    source = random.Random(SEED)
    for first in range(0, amount, AT_ONCE):
        numbers = range(first, min(first + AT_ONCE, amount))
        store.execute("BEGIN")
        sessions = sorted({number // SESSION for number in numbers if number % SESSION == 0})
        store.executemany(_SESSION, [_session(number) for number in sessions])
        rows = [(*row, leaf + place) for place, row in enumerate(_rows(numbers, source))]
        store.executemany("INSERT INTO records (session, seq, line, leaf) VALUES (?, ?, ?, ?)", rows)
        store.execute("COMMIT")
        leaf += len(rows)
    store.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    store.close()


def person(session: int) -> str:
    """Whose session that is."""
    return f"dba{session % PEOPLE}"


def target(session: int) -> str:
    """Where it is."""
    return f"target{session % TARGETS}"


def table(number: int) -> str:
    """A table, its schema with it."""
    return f"schema{number % SCHEMAS}.table_{number}"


def at(number: int) -> int:
    """When the statement began."""
    return BEGIN + number * APART


_SESSION = (
    "INSERT INTO sessions (number, id, proxy, person, target, database, state, started_at, statements, bytes_in,"
    " bytes_out, records, head, faults) VALUES (?, ?, 'edge', ?, ?, 'db', 'ended', ?, ?, 0, 0, ?, '', 0)"
)


def _session(number: int) -> tuple[object, ...]:
    began = at(number * SESSION)
    return number + 1, f"session-{number}", person(number), target(number), began, SESSION, 2 * SESSION


def _rows(numbers: range, source: random.Random) -> Iterator[tuple[int, int, bytes]]:
    for number in numbers:
        session, place = number // SESSION, number % SESSION
        said = statement(number, source)
        head = f'{{"type":"%s","v":1,"session":"session-{session}","seq":%d,"at":{at(number)},"prev":"{_PREV}",'
        sql = said.sql.replace('"', '\\"')
        start = f'"statement":{place + 1},"kind":"query","sql":"{sql}"{said.parameters},"state":"I","transaction":1}}'
        tag = f'"{said.tag}"' if said.tag else ""
        failed = f',"sqlstate":"{said.sqlstate}","message":"it failed"' if said.sqlstate else ""
        end = (
            f'"statement":{place + 1},"tags":[{tag}],"rows":{said.rows},"duration":{250_000 + number % 997},'
            f'"bytes_in":{len(said.sql)},"bytes_out":60{failed},"state":"I"}}'
        )
        yield session + 1, 2 * place, (head % ("statement.start", 2 * place) + start).encode()
        yield session + 1, 2 * place + 1, (head % ("statement.end", 2 * place + 1) + end).encode()


def statement(number: int, source: random.Random) -> Said:
    """What somebody may have said: much of the same, much with other values in it, and now and then something rare."""
    if number % RARE == RARE // 2:
        return Said(f"DROP TABLE forgotten_{number}", "DROP TABLE", 0)
    if number % RARE == RARE // 4:
        return Said(f"SELECT * FROM {table(number % TABLES)}, secret_salaries", "SELECT 250000", 250_000)
    kind, one = source.random(), source.randrange(1, 10_000_000)
    name = table(source.randrange(TABLES))
    if kind < 0.4:
        return Said(f"UPDATE pgbench_accounts SET abalance = abalance + {one % 999} WHERE aid = {one};", "UPDATE 1", 1)
    if kind < 0.7:
        return Said(f"SELECT id, name, created_at FROM {name} WHERE id = {one} ORDER BY 3 LIMIT 10", "SELECT 1", 1)
    if kind < 0.98:
        given = f',"parameters":[{{"type":23,"value":{one}}},{{"type":25,"value":"customer {one % 9_973}"}}]'
        failed = "23505" if kind > 0.95 else None
        sql = f"INSERT INTO {name} (id, customer) VALUES ($1, $2)"
        return Said(sql, "" if failed else "INSERT 0 1", 0 if failed else 1, sqlstate=failed, parameters=given)
    return Said(f"SELECT * FROM {name}", f"SELECT {one % 5_000}", one % 5_000)
