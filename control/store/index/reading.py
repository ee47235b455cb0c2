"""Looking through the index: which statements have these terms, this text, this time, from the newest on.

A question goes from block to block, by the rarest of its terms, so that none takes longer than the log is long; what it
costs in a block is bounded, whatever is asked for. A text is looked up by its trigrams over as many blocks at once as
that is quick for, or read in the records where the other terms leave few.
"""

import bisect
import operator
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import Final

import msgspec

from control.evidence.parsed import Parsed
from control.store.index.places import BLOCK, BLOCK_BITS, common, unpack, within
from control.store.index.writing import BLOCKS_BITS, Term
from control.store.records import IN_ONE_QUERY

TRIGRAM: Final = 3
TRIGRAMS: Final = 12
"""Looked up for one text, at most: more find hardly less."""
FEW: Final = 64
"""Records of a block that are read rather than looked up by their text."""
MANY: Final = 20_000
"""Found in several blocks by their text at once."""
WIDEST: Final = 64
QUICK_S: Final = 0.1
_HIGHEST: Final = (1 << BLOCKS_BITS) - 1
_LATEST: Final = 2**63 - 1
_decode = msgspec.msgpack.Decoder(Parsed).decode

Judge = Callable[[bytes], tuple[bool, bool]]
"""Whether the text is in a record's SQL, and whether it is in its values."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which statements are looked for: those with every term, the text, and between these bounds."""

    terms: Sequence[Term]
    """At least one."""
    text: str | None = None
    """Folded, of TRIGRAM characters at least."""
    since: int | None = None
    until: int | None = None
    rows_over: int | None = None
    before: int | None = None
    """The newest that may be found."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A statement as the index has it. `id` is the leaf of the record that says it."""

    id: int
    session: int
    statement: int | None
    kind: str
    at: int
    class_: str | None
    rows: int | None
    duration: int | None
    sqlstate: str | None
    parsed: Parsed
    seq: int
    line: bytes | None
    """The record, where it is not too long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Block:
    """A block that may have some of it."""

    number: int
    sets: Sequence[bytes]
    """Of each term, which have it."""
    bounds: tuple[int, int]
    """Between which times its statements are."""

    @property
    def first(self) -> int:
        """Its first leaf."""
        return self.number << BLOCK_BITS

    @property
    def few(self) -> bool:
        """Whether so few have the rarest term that their records can be read."""
        return min(map(len, self.sets)) <= 2 * FEW


class Look:
    """One look through the index, in one state of it."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        wanted: Wanted,
        *,
        judge: Judge,
        late: Callable[[], bool],
        longest: int,
    ) -> None:
        """`late` is asked again and again, and ends the look where it says so. Longer records do not have a text."""
        self._connection = connection
        self._wanted = wanted
        self._judge = judge
        self._late = late
        self._longest = longest
        self._judged: dict[int, tuple[bool, bool]] = {}

    def run(self, limit: int) -> tuple[list[int], int | None]:
        """The ids of the newest that fit, at most so many; and the newest that is not looked at, if there is one."""
        found: list[int] = []
        lowest = 0
        for place, fits in self._places():
            lowest = place
            if fits:
                found.append(place)
                if len(found) == limit:
                    break
            if self._late():
                break
        else:
            return found, None
        return found, lowest - 1 if lowest else None

    def _places(self) -> Iterator[tuple[int, bool]]:
        """What was looked at, newest first, and whether it fits; with ends of blocks among it, which never do."""
        blocks = self._blocks()
        if self._wanted.text is None:
            for block in blocks:
                yield from ((one, True) for one in self._narrowed(block, common(block.sets)))
                yield block.first, False
            return
        width = 1
        while window := list(islice(blocks, width)):
            began = time.monotonic()
            documents = self._documents(window)
            took = time.monotonic() - began
            if len(documents) > MANY and len(window) > 1:  # not all that there are: the last block's are not whole
                whole = [block for block in window if block.number > documents[-1] >> BLOCK_BITS] or window[:1]
                blocks = chain(window[len(whole) :], blocks)
                if len(whole) == 1:
                    documents = self._documents(whole)
                window, width = whole, len(whole)
            for block in window:
                start = bisect.bisect_left(documents, 1 - BLOCK - block.first, key=operator.neg)
                end = bisect.bisect_right(documents, -block.first, key=operator.neg)
                yield from self._with_text(block, documents[start:end])
                yield block.first, False
            if took < QUICK_S:
                width = min(2 * width, WIDEST)
            elif took > 2 * QUICK_S:
                width = max(1, width // 2)

    def _blocks(self) -> Iterator[_Block]:
        """The blocks that have every term, newest first."""
        wanted = self._wanted
        high = _HIGHEST if wanted.before is None else wanted.before >> BLOCK_BITS
        spans = {
            number: (first, last)
            for number, first, last in self._connection.execute(
                "SELECT number, first_at, last_at FROM blocks WHERE number <= ? AND last_at >= ? AND first_at < ?",
                (high, wanted.since or 0, _LATEST if wanted.until is None else wanted.until),
            )
        }
        terms = [self._number(term) for term in wanted.terms]
        if not spans or None in terms:
            return
        keys = [((term or 0) << BLOCKS_BITS) for term in terms]
        between = (min(spans), max(spans))
        rarest, *others = sorted(keys, key=lambda key: self._weight(key, *between))
        rows = self._connection.execute(
            "SELECT key, places FROM postings WHERE key BETWEEN ? AND ? ORDER BY key DESC",
            (rarest | between[0], rarest | between[1]),
        )
        for key, places in rows:
            number = key & _HIGHEST
            bounds = spans.get(number)
            if bounds is None:
                continue
            sets = [places, *self._sets(others, number)]
            if len(sets) == len(keys):
                yield _Block(number=number, sets=sets, bounds=bounds)

    def _number(self, term: Term) -> int | None:
        row = self._connection.execute("SELECT number FROM terms WHERE kind = ? AND name = ?", term).fetchone()
        return None if row is None else int(row[0])

    def _weight(self, key: int, low: int, high: int) -> int:
        """How much there is of a term between two blocks."""
        query = "SELECT coalesce(sum(length(places)), 0) FROM postings WHERE key BETWEEN ? AND ?"
        (weight,) = self._connection.execute(query, (key | low, key | high)).fetchone()
        return int(weight)

    def _sets(self, keys: Sequence[int], block: int) -> Iterator[bytes]:
        for key in keys:
            row = self._connection.execute("SELECT places FROM postings WHERE key = ?", (key | block,)).fetchone()
            if row is None:
                return
            yield row[0]

    def _narrowed(self, block: _Block, places: Sequence[int]) -> list[int]:
        """The ids of those that fit in what terms do not say, newest first."""
        wanted = self._wanted
        most = _LATEST if wanted.before is None else wanted.before
        ids = [one for place in reversed(places) if (one := block.first + place) <= most]
        since, until = wanted.since or 0, _LATEST if wanted.until is None else wanted.until
        if not ids or (since <= block.bounds[0] and until > block.bounds[1] and wanted.rows_over is None):
            return ids
        own, values = "at >= ? AND at < ?", [since, until]
        if wanted.rows_over is not None:
            own, values = f"{own} AND rows > ?", [*values, wanted.rows_over]
        fit: set[int] = set()
        # Few are looked up one by one, of many it is cheaper to pass over the rest.
        for part in _parts(ids) if len(ids) < IN_ONE_QUERY else ():
            query = f"SELECT id FROM statements WHERE id IN ({_marks(part)}) AND {own}"  # noqa: S608 ours
            fit.update(one for (one,) in self._connection.execute(query, (*part, *values)))
        if len(ids) >= IN_ONE_QUERY:
            query = f"SELECT id FROM statements WHERE id BETWEEN ? AND ? AND {own}"  # noqa: S608 ours
            fit.update(one for (one,) in self._connection.execute(query, (ids[-1], ids[0], *values)))
        return [one for one in ids if one in fit]

    def _documents(self, window: Sequence[_Block]) -> list[int]:
        """What is in the index of texts for these blocks, newest first: the ids whose text may be it."""
        assert self._wanted.text is not None
        looked_up = [block for block in window if not block.few]
        if not looked_up:
            return []
        query = "SELECT rowid FROM texts WHERE texts MATCH ? AND rowid BETWEEN ? AND ? ORDER BY rowid DESC LIMIT ?"
        first, last = looked_up[-1].first, looked_up[0].first + BLOCK - 1
        most = BLOCK if len(window) == 1 else MANY + 1
        rows = self._connection.execute(query, (_match(self._wanted.text), first, last, most))
        return [one for (one,) in rows]

    def _with_text(self, block: _Block, documents: Sequence[int]) -> Iterator[tuple[int, bool]]:
        if block.few:
            for one in self._narrowed(block, common(block.sets)):
                yield one, any(self._has(one))
            return
        own, first_of = set(documents), self._repeats(block, documents)
        places = sorted(within({one & BLOCK - 1 for one in own | first_of.keys()}, block.sets))
        for one in self._narrowed(block, places):
            fits = one in own and any(self._has(one))
            yield one, fits or (one in first_of and self._has(first_of[one])[0])

    def _repeats(self, block: _Block, documents: Sequence[int]) -> dict[int, int]:
        """Which statements have the SQL of one of these."""
        own = set(documents)
        rows: Iterable[tuple[int, bytes]] = ()
        if len(documents) > IN_ONE_QUERY:  # to pass over the others is cheaper than to look for each
            query = "SELECT id, places FROM repeats WHERE id BETWEEN ? AND ?"
            rows = self._connection.execute(query, (documents[-1], documents[0]))
        elif documents:
            query = f"SELECT id, places FROM repeats WHERE id IN ({_marks(documents)})"  # noqa: S608 marks alone
            rows = self._connection.execute(query, documents)
        return {block.first + place: one for one, places in rows if one in own for place in unpack(places)}

    def _has(self, one: int) -> tuple[bool, bool]:
        """Whether the text is in the SQL, or in the values, of the record that is this leaf."""
        if (known := self._judged.get(one)) is None:
            query = "SELECT line FROM books.records WHERE leaf = ? AND length(line) <= ?"
            row = self._connection.execute(query, (one, self._longest)).fetchone()
            known = self._judged[one] = (False, False) if row is None else self._judge(row[0])
        return known


def entries(connection: sqlite3.Connection, ids: Sequence[int], *, longest: int) -> list[Entry]:
    """These statements, in this order. Those that are gone are left out."""
    found: dict[int, Entry] = {}
    for part in _parts(ids):
        query = (
            "SELECT id, statements.session, statement, kind, at, class, rows, duration, sqlstate, parsed, seq,"  # noqa: S608
            " CASE WHEN length(line) <= ? THEN line END FROM statements JOIN shapes ON number = shape"
            f" JOIN books.records ON leaf = id WHERE id IN ({_marks(part)})"
        )
        for row in connection.execute(query, (longest, *part)):
            number, session, statement, kind, at, class_, rows, duration, sqlstate, parsed, seq, line = row
            found[number] = Entry(
                id=number,
                session=session,
                statement=statement,
                kind=kind,
                at=at,
                class_=class_,
                rows=rows,
                duration=duration,
                sqlstate=sqlstate,
                parsed=_decode(parsed),
                seq=seq,
                line=line,
            )
    return [found[one] for one in ids if one in found]


def newest(connection: sqlite3.Connection) -> int:
    """The newest leaf of the log, -1 where it is empty."""
    (leaf,) = connection.execute("SELECT max(leaf) FROM books.records").fetchone()
    return -1 if leaf is None else int(leaf)


def _match(text: str) -> str:
    """What finds the texts that have the trigrams of `text`: some of them that cover it, where it has many."""
    starts = [*range(0, len(text) - TRIGRAM + 1, TRIGRAM), len(text) - TRIGRAM][-TRIGRAMS:]
    quoted = {'"' + text[start : start + TRIGRAM].replace('"', '""') + '"' for start in starts}
    return " AND ".join(sorted(quoted))


def _marks(values: Sequence[object]) -> str:
    return ",".join("?" * len(values))


def _parts(values: Sequence[int]) -> Iterator[Sequence[int]]:
    for start in range(0, len(values), IN_ONE_QUERY):
        yield values[start : start + IN_ONE_QUERY]
