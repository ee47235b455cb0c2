"""What goes into the index: a piece of the log at a time, all of it within one block."""

import sqlite3
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from control.recent import Recent
from control.store.index.places import BLOCK, BLOCK_BITS, merge, pack
from control.store.records import IN_ONE_QUERY

BLOCKS_BITS = 24
"""Of a posting's key: the block, below the number of its term."""
KNOWN = 100_000
"""Numbers of terms and shapes that are remembered, of each."""

Term = tuple[str, str]
"""Kind and name."""
Row = list[object]
"""A statement: id, session, statement, kind, at, the digest of its shape, class, rows, duration, sqlstate."""
ID, CLASS, ROWS, DURATION, SQLSTATE = 0, 6, 7, 8, 9
"""Places in a row."""


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """What a statement's end adds to what an earlier piece has of it."""

    session: int
    statement: int
    rows: int
    duration: int
    sqlstate: str | None
    terms: Collection[Term]
    class_: str | None
    """PostgreSQL's own word for it, where the text has none."""


@dataclass(slots=True, kw_only=True)
class Piece:
    """A piece of the log as it goes into the index."""

    rows: list[Row] = field(default_factory=list)
    shapes: dict[bytes, bytes] = field(default_factory=dict)
    """What the rows' shapes are, by their digests."""
    texts: list[tuple[int, str]] = field(default_factory=list)
    """By the statement's id, folded: what is new in its block of its text and its values."""
    repeats: dict[int, list[int]] = field(default_factory=dict)
    """By the id of the first statement in the block with a text: the others with the same."""
    places: dict[Term, list[int]] = field(default_factory=dict)
    """The ids of the statements that have a term."""
    begun: list[tuple[int, int, int]] = field(default_factory=list)
    """What has not ended: session, statement, id."""
    ends: list[End] = field(default_factory=list)
    """Of statements in earlier pieces."""
    over: set[int] = field(default_factory=set)
    """Sessions that have ended, and whatever was running in them."""
    first_at: int = 0
    last_at: int = 0


class Writer:
    """Takes pieces in. After a failure another one has to: it remembers numbers that may be gone with a transaction."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._terms: Recent[Term, int] = Recent(KNOWN)
        self._shapes: Recent[bytes, int] = Recent(KNOWN)

    def add(self, piece: Piece, *, fresh: bool) -> None:
        """Take a piece in, within a transaction. `fresh`: it is the first one of its block."""
        added = dict(piece.places)
        self._add_rows(piece)
        self._connection.executemany("INSERT INTO texts (rowid, text) VALUES (?, ?)", piece.texts)
        self._put("repeats", "id", {first: _within(ids) for first, ids in piece.repeats.items()}, fresh=fresh)
        self._connection.executemany("INSERT INTO begun VALUES (?, ?, ?)", piece.begun)
        late = self._finish(piece.ends)
        self._connection.executemany("DELETE FROM begun WHERE session = ?", ((number,) for number in piece.over))
        numbers = self._term_numbers({*added, *(term for term, _ in late)})
        if piece.rows:
            block = _block(piece.rows[0][ID])
            self._widen(block, piece)
            own = {numbers[term] << BLOCKS_BITS | block: _within(ids) for term, ids in added.items()}
            self._put("postings", "key", own, fresh=fresh)
        earlier: dict[int, list[int]] = {}
        for term, one in late:
            earlier.setdefault(numbers[term] << BLOCKS_BITS | _block(one), []).append(one & BLOCK - 1)
        self._put("postings", "key", earlier, fresh=False)

    def _add_rows(self, piece: Piece) -> None:
        numbers = self._shape_numbers(piece.shapes)
        rows = ((*row[:5], numbers[row[5]], *row[6:]) for row in piece.rows)  # type: ignore[index] # a digest
        self._connection.executemany("INSERT INTO statements VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)

    def _put(self, table: str, key: str, sets: Mapping[int, Collection[int]], *, fresh: bool) -> None:
        """Add to sets, in the order of their keys."""
        there = {} if fresh else self._there(table, key, list(sets))
        packed = [
            (number, merge(there[number], places) if number in there else pack(places))
            for number, places in sorted(sets.items())
        ]
        insert = f"INSERT OR REPLACE INTO {table} ({key}, places) VALUES (?, ?)"  # noqa: S608 names of ours
        self._connection.executemany(insert, packed)

    def _there(self, table: str, key: str, wanted: Sequence[int]) -> dict[int, bytes]:
        found: dict[int, bytes] = {}
        for part in _parts(wanted):
            marks = ",".join("?" * len(part))
            query = f"SELECT {key}, places FROM {table} WHERE {key} IN ({marks})"  # noqa: S608 names of ours
            found.update(self._connection.execute(query, part))
        return found

    def _finish(self, ends: Iterable[End]) -> list[tuple[Term, int]]:
        """What is known now of statements in earlier pieces; the terms that this adds, and to which."""
        added = []
        for end in ends:
            own = (end.session, end.statement)
            found = self._connection.execute("SELECT id FROM begun WHERE session = ? AND statement = ?", own)
            for (number,) in found.fetchall():
                self._connection.execute(
                    "UPDATE statements SET rows = ?, duration = ?, sqlstate = ?, class = coalesce(class, ?)"
                    " WHERE id = ?",
                    (end.rows, end.duration, end.sqlstate, end.class_, number),
                )
                added += [(term, int(number)) for term in end.terms]
            self._connection.execute("DELETE FROM begun WHERE session = ? AND statement = ?", own)
        return added

    def _widen(self, block: int, piece: Piece) -> None:
        """Have the block say between which times its statements are."""
        self._connection.execute(
            "INSERT INTO blocks VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET"
            " first_at = min(first_at, excluded.first_at), last_at = max(last_at, excluded.last_at)",
            (block, piece.first_at, piece.last_at),
        )

    def _shape_numbers(self, shapes: Mapping[bytes, bytes]) -> dict[bytes, int]:
        found: dict[bytes, int] = {}
        for digest, parsed in shapes.items():
            number = self._shapes.get(digest)
            if number is None:
                values = (parsed, digest)
                self._connection.execute("INSERT OR IGNORE INTO shapes (parsed, digest) VALUES (?, ?)", values)
                row = self._connection.execute("SELECT number FROM shapes WHERE digest = ?", (digest,)).fetchone()
                number = int(row[0])
                self._shapes.put(digest, number)
            found[digest] = number
        return found

    def _term_numbers(self, wanted: Iterable[Term]) -> dict[Term, int]:
        found: dict[Term, int] = {}
        for term in wanted:
            number = self._terms.get(term)
            if number is None:
                self._connection.execute("INSERT OR IGNORE INTO terms (kind, name) VALUES (?, ?)", term)
                own = self._connection.execute("SELECT number FROM terms WHERE kind = ? AND name = ?", term)
                number = int(own.fetchone()[0])
                self._terms.put(term, number)
            found[term] = number
        return found


def _block(number: object) -> int:
    assert isinstance(number, int)
    return number >> BLOCK_BITS


def _within(ids: Iterable[int]) -> set[int]:
    return {one & BLOCK - 1 for one in ids}


def _parts(wanted: Sequence[int]) -> Iterable[Sequence[int]]:
    for start in range(0, len(wanted), IN_ONE_QUERY):
        yield wanted[start : start + IN_ONE_QUERY]
