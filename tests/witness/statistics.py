"""Whether pg_stat_statements counted what is on record: the calls of each query, and its rows.

The server has a row for each query id; a record has none. Both are brought together by libpg_query's fingerprint, which
sees what a query id sees (the query's tree without its constants), so that several ids may have one fingerprint.

What is left out on both sides, since the server counts something else, or at another time (contrib/pg_stat_statements):

- `_OTHERWISE`: control of transactions, which it counts in one protocol or version and not in the other; PREPARE and
  its kin, where it counts the query that was prepared; cursors, whose query it counts when they are closed;
- a query whose portal may have been open when its transaction failed: what an error takes away is not counted;
- a query that was suspended, or that may have failed at its commit.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

import postgast

from tests.harness.witness import Recorded

COUNTED = """
SELECT query, calls::int, rows::int FROM pg_stat_statements
WHERE dbid = (SELECT oid FROM pg_database WHERE datname = $1) AND userid = $2::regrole AND toplevel
"""
_OTHERWISE = re.compile(
    r"(?:\s|--[^\n]*|/\*.*?\*/)*(?:begin|start|end|commit|rollback|abort|savepoint|release|prepare|execute|deallocate"
    r"|declare|discard)\b",
    re.IGNORECASE | re.DOTALL,
)
_PLACEHOLDER = re.compile(r"\$\d+")
_WITH_ROWS = ("SELECT", "INSERT", "UPDATE", "DELETE", "MERGE", "COPY", "FETCH")
_AT_COMMIT = ("23", "40")
"""Classes of what a commit can fail with: the statement before it was counted."""
_SHOWN = 200


@dataclass(slots=True)
class Count:
    """How often a query was executed."""

    text: str
    calls: int = 0
    rows: int = 0


Counts = Mapping[str, Count]
"""By fingerprint."""


def counted(rows: Iterable[Sequence[object]]) -> Counts:
    """What the server says, in rows as COUNTED has them."""
    found: dict[str, Count] = {}
    for text, calls, number in rows:
        assert isinstance(text, str)
        if not _OTHERWISE.match(text):
            _add(found, text, calls=int(str(calls)), rows=int(str(number)))
    return found


def on_record(sessions: Iterable[Sequence[Recorded]]) -> tuple[Counts, set[str]]:
    """What the records say, and the fingerprints of what cannot be compared."""
    found: dict[str, Count] = {}
    doubtful: set[str] = set()
    for statements in sessions:
        for one in statements:
            for text, tag in zip(_parts(one.text), one.tags, strict=False):
                if not _OTHERWISE.match(text):
                    _add(found, text, calls=1, rows=_rows(tag))
        doubtful.update(map(_fingerprint, _doubtful(statements)))
    return found, doubtful


def differences(server: Counts, records: Counts, doubtful: set[str]) -> Iterator[str]:
    """What the two do not have alike."""
    for key in sorted({*server, *records} - doubtful):
        nothing = Count(text=(server.get(key) or records[key]).text)
        there, here = server.get(key, nothing), records.get(key, nothing)
        if (there.calls, there.rows) != (here.calls, here.rows):
            yield (
                f"pg_stat_statements counted {there.calls} calls and {there.rows} rows, on record are {here.calls} and "
                f"{here.rows}: {nothing.text[:_SHOWN]!r}"
            )


def _doubtful(statements: Sequence[Recorded]) -> Iterator[str]:
    """The texts of a session that an error may have kept from being counted, or that were suspended."""
    open_portals: list[str] = []
    last: Recorded | None = None
    for one in statements:
        if last is not None and last.idle and last.round != one.round:
            open_portals.clear()
        last = one
        if one.suspended or not one.ended:
            yield one.text
        if one.sqlstate is not None:
            yield from open_portals
        if (one.sqlstate or "")[:2] in _AT_COMMIT:
            yield from _parts(one.text)
        if one.kind == "execute":
            open_portals.append(one.text)


def _parts(text: str) -> list[str]:
    """The statements in a text."""
    try:
        return [str(part) for part in postgast.split(text)]
    except postgast.PgQueryError:
        return [text]


def _fingerprint(text: str) -> str:
    for sql in (text, _PLACEHOLDER.sub("'1'", text)):  # PostgreSQL 18 shows `SET x = $1`, which is no SQL
        with suppress(postgast.PgQueryError):
            return str(postgast.fingerprint(sql).hex)
    return text.strip(" \n\t;")


def _add(found: dict[str, Count], text: str, *, calls: int, rows: int) -> None:
    one = found.setdefault(_fingerprint(text), Count(text=text))
    one.calls += calls
    one.rows += rows


def _rows(tag: str) -> int:
    verb, _, number = tag.partition(" ")
    return int(number.rsplit(" ", 1)[-1]) if verb in _WITH_ROWS and number else 0
