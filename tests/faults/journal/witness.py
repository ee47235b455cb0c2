"""Holding control's books against PostgreSQL's own log: what is missing, what is there twice, what is not in order.

It only reads. Every statement of the campaign is another one, so none can stand for another.
"""

import csv
import hashlib
import itertools
import re
import sqlite3
import time
from collections import Counter
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from proxy.contract.record import LAST, StatementStart, decode
from proxy.contract.verification import ChainError, verify_chain
from proxy.identity import load_or_create
from tests.faults.accounts import is_session
from tests.faults.journal.stand import Stand
from tests.harness.postgres import Cluster
from tests.harness.serverlog import entries
from tests.harness.waiting import eventually_sync

Statement: TypeAlias = tuple[str, bytes]
"""Its mark, and the digest of its text and values: there are too many to keep them whole."""
FIELD_BYTES = 1 << 30
"""The longest entry of the log: some statements are longer than what the module csv takes by itself."""
_MARK = re.compile(r"mark \d+")
_SHOWN = 5
_SESSIONS = """
SELECT sessions.proxy, sessions.id, records.line FROM records JOIN sessions ON sessions.number = records.session
ORDER BY records.session, records.seq
"""


@dataclass(slots=True, kw_only=True)
class Books:
    """What control has."""

    statements: Counter[Statement] = field(default_factory=Counter)
    lines: Counter[bytes] = field(default_factory=Counter)
    """By their digests."""
    sessions: int = 0
    unended: int = 0
    broken: int = 0
    """Chains that do not hold."""
    faults: int = 0
    missing: int = 0
    """Places of the log that no record has."""

    @property
    def disorder(self) -> int:
        """What is not as it should be."""
        return self.unended + self.broken + self.faults + self.missing


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """What the books are worth."""

    executed: int
    recorded: int
    lost: int
    """Statements that PostgreSQL executed and control has no record of."""
    doubled: int
    """Statements that are recorded more than once, records stored more than once, statements executed twice."""
    leftover: int
    """Sessions without an end, chains that do not hold, faults, and places of the log that are missing."""


def look(stand: Stand) -> Findings:
    """All that was done so far, once everything is shipped."""
    ran = _executed(stand.cluster)
    books = _read(stand)
    missing = ran - books.statements
    _say(f"{ran.total()} statements executed, {books.statements.total()} recorded; {books.sessions} sessions:")
    _say(
        f"{books.unended} without an end, {books.broken} broken, {books.faults} faults, {books.missing} gaps in the log"
    )
    if missing:
        _say(f"LOST, of {missing.total()}: {', '.join(mark for mark, _ in list(missing)[:_SHOWN])}")
    return Findings(
        executed=ran.total(),
        recorded=books.statements.total(),
        lost=missing.total(),
        doubled=_extra(books.statements) + _extra(books.lines) + _extra(ran),
        leftover=books.disorder,
    )


def _extra(counted: Counter[Statement] | Counter[bytes]) -> int:
    return counted.total() - len(counted)


def _executed(cluster: Cluster) -> Counter[Statement]:
    marker = f"the end of the log at {time.time_ns()}"
    cluster.psql(f"SELECT '{marker}'")
    log = cluster.data / "log" / "postgresql.csv"
    eventually_sync(lambda: marker in _tail(log), within=60)
    csv.field_size_limit(FIELD_BYTES)
    with log.open(errors="replace", newline="") as file:
        found = (
            _statement(sql, line.parameters)
            for line in entries(file)
            if is_session(line.user) and (sql := line.statement) is not None
        )
        return Counter(one for one in found if one is not None)


def _tail(log: Path) -> str:
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - 10_000))
        return file.read().decode(errors="replace")


def _statement(sql: str, values: tuple[str | None, ...]) -> Statement | None:
    """What it is counted as; None where it is not one of the campaign's."""
    whole = repr((sql, values))
    mark = _MARK.search(whole)
    return None if mark is None else (mark[0], _digest(whole.encode()))


def _digest(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=16).digest()


def _read(stand: Stand) -> Books:
    keys = {str(site.kind): load_or_create(site.proxy.state).public_key() for site in stand.sites}
    books = Books()
    with closing(sqlite3.connect(f"file:{stand.control.database}?mode=ro", uri=True)) as database:
        for (proxy, _), rows in itertools.groupby(database.execute(_SESSIONS), key=lambda row: row[:2]):
            _take(books, [row[2] for row in rows], keys[proxy])
        faults = database.execute("SELECT proxy, session, seq, kind, detail FROM faults").fetchall()
        books.missing = int(database.execute("SELECT max(leaf) + 1 - count(*) FROM records").fetchone()[0])
    books.faults = len(faults)
    for fault in faults[:_SHOWN]:
        _say(f"FAULT {fault}")
    return books


def _take(books: Books, lines: list[bytes], key: Ed25519PublicKey) -> None:
    """One session's records."""
    records = [decode(line) for line in lines]
    books.lines.update(map(_digest, lines))
    books.sessions += 1
    books.unended += not isinstance(records[-1], LAST)
    for record in records:
        if isinstance(record, StatementStart):
            values = tuple(None if one.value is None else str(one.value) for one in record.parameters or ())
            if (statement := _statement(record.sql, values)) is not None:
                books.statements[statement] += 1
    try:
        verify_chain(lines, key)
    except ChainError as error:
        books.broken += 1
        _say(f"BROKEN {records[0].session}: {error}")


def _say(text: str) -> None:
    print(f"journal: {text}", flush=True)  # noqa: T201 a command speaks to its caller
