"""A store with as many statements as one likes, in the shapes that proxies write, made by one seed.

The records are put into the store as they are: no proxy, no ingest, no chains that would hold. The index is made by its
own code, in its own pieces.
"""

import base64
import json
import random
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from control.store.migrate import migrate
from control.times import SECOND

SESSION = 1_000
"""Statements of one session."""
AT_THE_SAME_TIME = 8
"""Sessions, whose statements come by turns."""
PEOPLE, TARGETS, TABLES, SCHEMAS, PREPARED = 400, 120, 400, 8, 5_000
SEED = 20_261_122
BEGIN = 1_790_000_000 * SECOND
DAYS = 90
HOUR = 3_600 * SECOND
AT_ONCE = 40_000
RARE = 100_000
"""One statement in so many has what is looked for as rare."""
TOLD_S = 30.0
RARE_PERSON = "nadia"
"""Has one session, in the midst of it all."""
_PREV = base64.b64encode(bytes(32)).decode()
_DRAWN = 1 << 16
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Said:
    """A statement and what came of it."""

    sql: str
    tag: str
    rows: int
    sqlstate: str | None = None
    parameters: str = ""


def _zipf(amount: int) -> Sequence[int]:
    """Numbers below `amount`, each as often as its rank says: what is drawn from."""
    weights = [1 / (rank + 1) for rank in range(amount)]
    return random.Random(SEED).choices(range(amount), weights, k=_DRAWN)


_PEOPLE, _TARGETS, _TABLES, _PREPARED = (_zipf(amount) for amount in (PEOPLE, TARGETS, TABLES, PREPARED))


class Filling:
    """So many statements over three months."""

    def __init__(self, amount: int) -> None:
        self.amount = amount
        self._apart = DAYS * 24 * HOUR // amount
        self._rare_session = self.session(amount // 2)[0]

    def fill(self, path: Path, say: Say) -> None:
        """A fresh store of them in the file `path`."""
        migrate(path)
        store = sqlite3.connect(path, isolation_level=None)
        # A store that is made for a measurement may be lost.
        for pragma in ("journal_mode = WAL", "synchronous = OFF", "cache_size = -200000"):
            store.execute(f"PRAGMA {pragma}")
        store.execute("INSERT INTO proxies (name, joined_at, last_seen_at) VALUES ('edge', 0, 0)")
        leaf, known, source = 0, 0, random.Random(SEED)
        began = told = time.monotonic()
        for first in range(0, self.amount, AT_ONCE):
            numbers = range(first, min(first + AT_ONCE, self.amount))
            store.execute("BEGIN")
            sessions = range(known, max(self.session(number)[0] for number in numbers[-SESSION:]) + 1)
            known = max(known, sessions.stop)
            store.executemany(_SESSION, [self._session(number) for number in sessions])
            rows = ((*row, leaf + place) for place, row in enumerate(self._rows(numbers, source)))
            store.executemany("INSERT INTO records (session, seq, line, leaf) VALUES (?, ?, ?, ?)", rows)
            store.execute("COMMIT")
            leaf += 2 * len(numbers)
            if time.monotonic() - told > TOLD_S:
                told = time.monotonic()
                say(f"filled: {leaf // 2} statements, {leaf / 2 / (told - began):.0f} a second")
        store.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        store.close()

    def at(self, number: int) -> int:
        """When the statement began."""
        return BEGIN + number * self._apart

    def session(self, number: int) -> tuple[int, int]:
        """The session of a statement, and its place there."""
        group, place = divmod(number, SESSION * AT_THE_SAME_TIME)
        return group * AT_THE_SAME_TIME + place % AT_THE_SAME_TIME, place // AT_THE_SAME_TIME

    def person(self, session: int) -> str:
        """Whose session that is."""
        return RARE_PERSON if session == self._rare_session else person(_PEOPLE[session * 40_503 % _DRAWN])

    def _session(self, number: int) -> tuple[object, ...]:
        began = self.at(number * SESSION)
        own = self.person(number), target(_TARGETS[number * 30_011 % _DRAWN])
        return number + 1, f"session-{number}", *own, began, SESSION, 2 * SESSION

    def _rows(self, numbers: range, source: random.Random) -> Iterator[tuple[int, int, bytes]]:
        for number in numbers:
            (session, place), at = self.session(number), self.at(number)
            said = statement(number, source)
            base = f'"v":1,"session":"session-{session}"'
            kind = "execute" if said.parameters else "query"
            yield (
                session + 1,
                2 * place,
                (
                    f'{{"type":"statement.start",{base},"seq":{2 * place},"at":{at},"prev":"{_PREV}",'
                    f'"statement":{place + 1},"kind":"{kind}","sql":{json.dumps(said.sql)}{said.parameters},'
                    f'"state":"I","transaction":{place + 1}}}'
                ).encode(),
            )
            tag = f'"tags":["{said.tag}"],' if said.tag else ""
            rows = f'"rows":{said.rows},' if said.rows else ""
            failed = f',"sqlstate":"{said.sqlstate}","message":"it failed"' if said.sqlstate else ""
            yield (
                session + 1,
                2 * place + 1,
                (
                    f'{{"type":"statement.end",{base},"seq":{2 * place + 1},"at":{at + 250_000},"prev":"{_PREV}",'
                    f'"statement":{place + 1},{tag}{rows}"duration":{250_000 + number % 997},'
                    f'"bytes_in":{len(said.sql)},"bytes_out":60{failed},"state":"I"}}'
                ).encode(),
            )


def person(number: int) -> str:
    """Somebody; the lower the number, the more they do."""
    return f"dba{number % PEOPLE}"


def target(number: int) -> str:
    """Where something is done; the lower the number, the more."""
    return f"target{number % TARGETS}"


def table(number: int) -> str:
    """A table, its schema with it; the lower the number, the more is done to it."""
    return f"schema{number % SCHEMAS}.table_{number}"


_SESSION = (
    "INSERT INTO sessions (number, id, proxy, person, target, database, state, started_at, statements, bytes_in,"
    " bytes_out, records, head, faults) VALUES (?, ?, 'edge', ?, ?, 'db', 'ended', ?, ?, 0, 0, ?, '', 0)"
)
_LONG = tuple(
    f"SELECT id, name FROM {table(number)} WHERE id IN ({', '.join(map(str, range(5_000 + number)))})"
    for number in range(20)
)
_FAILURES = ("42501", "23505", "42P01", "57014")
_COMMANDS = (
    ("GRANT SELECT ON {0} TO app_{1}", "GRANT"),
    ("ALTER TABLE {0} ADD COLUMN extra_{1} integer", "ALTER TABLE"),
    ("CREATE INDEX ix_{1} ON {0} (id)", "CREATE INDEX"),
    ("DROP INDEX schema1.ix_{1}", "DROP INDEX"),
    ("REVOKE ALL ON {0} FROM app_{1}", "REVOKE"),
)


def _prepared(number: int) -> tuple[str, str]:
    """What applications say again and again, with other values each time; and the tag that it ends with."""
    name = table(_TABLES[number * 7_919 % _DRAWN])
    columns = ", ".join(f"column_{number % 7 + one}" for one in range(number % 9 + 2))
    match number % 4:
        case 0:
            return f"UPDATE {name} SET column_{number % 11} = $1, updated_at = now() WHERE id = $2", "UPDATE 1"
        case 1:
            return f"INSERT INTO {name} (id, note, column_{number % 13}) VALUES ($1, $2, default)", "INSERT 0 1"
        case _:
            return f"SELECT {columns} FROM {name} AS t WHERE t.id = $1 AND t.kind_{number} <> $2 LIMIT 10", "SELECT 1"


_SAID_AGAIN = tuple(_prepared(number) for number in range(PREPARED))


def statement(number: int, source: random.Random) -> Said:
    """What somebody may have said: much of the same, much with other values in it, and now and then something rare."""
    if number % RARE == RARE // 2:
        return Said(f"DROP TABLE forgotten_{number}", "DROP TABLE", 0)
    if number % RARE == RARE // 4:
        return Said(f"SELECT * FROM {table(number % TABLES)}, secret_salaries", "SELECT 250000", 250_000)
    kind, drawn = source.random(), source.getrandbits(40)
    one, name = drawn % 10_000_000, table(_TABLES[drawn & _DRAWN - 1])
    failed = _FAILURES[drawn % 4] if kind * 1_000 % 1 < 0.02 else None
    if kind < 0.7:
        sql, tag = _SAID_AGAIN[_PREPARED[drawn >> 20 & _DRAWN - 1]]
        given = f',"parameters":[{{"type":23,"value":{one}}},{{"type":25,"value":"customer {one % 9_973}"}}]'
        return Said(sql, "" if failed else tag, 0 if failed else 1, sqlstate=failed, parameters=given)
    if kind < 0.85:
        sql = f"UPDATE pgbench_accounts SET abalance = abalance + {one % 999} WHERE aid = {one};"
        return Said(sql, "" if failed else "UPDATE 1", 0 if failed else 1, sqlstate=failed)
    if kind < 0.97:
        sql = f"SELECT id, name, created_at FROM {name} WHERE note = 'about {one}' ORDER BY 3"
        return Said(sql, "" if failed else "SELECT 1", 0 if failed else 1, sqlstate=failed)
    return _unusual(kind, one, name, failed)


def _unusual(kind: float, one: int, name: str, failed: str | None) -> Said:
    if kind < 0.9995:
        rows = 0 if failed else int(10_000 / (one % 10_000 + 1) * 3)
        return Said(f"SELECT * FROM {name}", "" if failed else f"SELECT {rows}", rows, sqlstate=failed)
    if kind < 0.99955:
        return Said(_LONG[one % len(_LONG)], "SELECT 12", 12)
    if kind < 0.9999:
        sql, tag = _COMMANDS[one % len(_COMMANDS)]
        return Said(sql.format(name, one), "" if failed else tag, 0, sqlstate=failed)
    return Said(f"SELECT salary FROM hr.employees WHERE id = {one}", "SELECT 1", 1)
