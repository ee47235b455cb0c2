"""What a search has to find, by reading all there is: no index, and nothing of the service but its parser."""

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from control.evidence.classification import classify
from control.evidence.parsed import Parsed
from control.operations.search import Query
from proxy.contract.record import StatementEnd, StatementStart, decode


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """A statement, and all that is known of it."""

    leaf: int
    session: str
    person: str
    target: str
    start: StatementStart
    end: StatementEnd
    parsed: Parsed


def read(books: Path) -> Sequence[Statement]:
    """All statements in a store that was filled, the newest first."""
    found = []
    begun: dict[tuple[str, int], tuple[int, StatementStart]] = {}
    known: dict[str, Parsed] = {}
    query = (
        "SELECT leaf, id, person, target, line FROM records JOIN sessions ON sessions.number = session ORDER BY leaf"
    )
    with closing(sqlite3.connect(books)) as store:
        for leaf, session, person, target, line in store.execute(query):
            record = decode(line)
            if isinstance(record, StatementStart):
                begun[session, record.statement] = leaf, record
                continue
            assert isinstance(record, StatementEnd)
            first, start = begun.pop((session, record.statement))
            if start.sql not in known:
                known[start.sql] = classify(start.sql.encode())
            found.append(
                Statement(
                    leaf=first,
                    session=session,
                    person=person,
                    target=target,
                    start=start,
                    end=record,
                    parsed=known[start.sql],
                )
            )
    return sorted(found, key=lambda one: -one.leaf)


def fits(query: Query, one: Statement) -> bool:
    """Whether it is what is asked for."""
    start, end, parsed = one.start, one.end, one.parsed
    for wanted, there in ((query.person, one.person), (query.target, one.target), (query.session, one.session)):
        if wanted not in (None, there):
            return False
    words = {*parsed.classes, *(tag.rstrip(" 0123456789") for tag in end.tags)}
    values = "\n".join(str(value.value) for value in start.parameters or ())
    return all(
        (
            query.class_ is None or query.class_.upper() in words,
            query.table is None or any(_ends_with(name, query.table) for name, _ in parsed.tables),
            query.written is None or any(_ends_with(name, query.written) for name, written in parsed.tables if written),
            query.sqlstate is None or (end.sqlstate or "").startswith(query.sqlstate),
            query.rows_over is None or end.rows > query.rows_over,
            query.since is None or start.at >= query.since,
            query.until is None or start.at < query.until,
            query.text is None or query.text.lower() in start.sql.lower() or query.text.lower() in values.lower(),
        )
    )


def _ends_with(name: str, wanted: str) -> bool:
    return f".{name}".endswith(f".{wanted}")
