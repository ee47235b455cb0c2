"""Queries: the index for searches. It is no evidence: the records are, and it can be made anew from them.

A statement is found by its terms (who, where, which command, which table, ...), each with its statements in the log's
order, and by the trigrams of its text, kept by SQLite's FTS5. Both are gone through piece by piece, from the newest on,
so that no query takes long whatever is asked for.
"""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import sqlalchemy as sa

from control.store.engine import Transaction
from control.store.records import IN_ONE_QUERY
from control.store.tables import blocks, indexing, postings, records, sessions, statements, terms

BLOCK = 4_096
"""Leaves in one row of `blocks`."""
CLEARED_AT_ONCE = 20_000
TRIGRAM = 3
TRIGRAMS = 12
"""Looked up for one text, at most: more find hardly less."""
TEXTS = "statement_texts"

_COLUMNS = tuple(column.name for column in statements.columns)

Term = tuple[str, str]
"""Kind and name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cursor:
    """Where the index goes on."""

    next: int
    clearing: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A statement as the index has it. `id` is the leaf of the record that says it."""

    id: int
    session: int
    statement: int | None
    kind: str
    at: int
    class_: str | None = None
    names: Mapping[str, object] | None = None
    """What else is to be shown: further classes, tables, functions."""
    label: str | None = None
    rows: int | None = None
    duration: int | None = None
    sqlstate: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """What a statement's end adds."""

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

    entries: list[Entry] = field(default_factory=list)
    texts: list[tuple[int, str]] = field(default_factory=list)
    """By the entry's id, folded."""
    terms: dict[Term, set[int]] = field(default_factory=dict)
    """The ids of the entries that have it."""
    ends: list[End] = field(default_factory=list)
    """Of statements in earlier pieces."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A record, as the index reads it."""

    leaf: int
    session: int
    line: bytes
    """Its beginning alone, where it is long."""
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which statements are looked for: those with every term, the text, and between these bounds."""

    terms: Sequence[int]
    """Their numbers, the rarest first."""
    text: str | None = None
    """Folded, of TRIGRAM characters at least."""
    since: int | None = None
    until: int | None = None
    rows_over: int | None = None


async def cursor(tx: Transaction) -> Cursor:
    """Where the index goes on."""
    row = (await tx.connection.execute(sa.select(indexing))).one()
    return Cursor(next=row.next, clearing=row.clearing)


async def move(tx: Transaction, to: Cursor) -> None:
    """The index goes on there."""
    await tx.connection.execute(sa.update(indexing).values(next=to.next, clearing=to.clearing))


async def newest(tx: Transaction) -> int:
    """The newest leaf of the log, -1 where it is empty."""
    leaf: int | None = await tx.connection.scalar(sa.select(sa.func.max(records.c.leaf)))
    return -1 if leaf is None else leaf


async def lines(tx: Transaction, first: int, *, most: int, size: int, longest: int) -> Sequence[Line]:
    """The log from the leaf `first` on: at most so many records, and bytes or else one; of a long one its beginning."""
    length = sa.func.length(records.c.line).label("size")
    behind = sa.select(records.c.leaf, length).where(records.c.leaf >= first).order_by(records.c.leaf).limit(most)
    last, total = first - 1, 0
    for row in await tx.connection.execute(behind):
        total += min(row.size, longest)
        if total > size and last >= first:
            break
        last = row.leaf
    start = sa.func.substr(records.c.line, 1, longest).label("line")
    chosen = sa.select(records.c.leaf, records.c.session, start, length).where(records.c.leaf.between(first, last))
    return [
        Line(leaf=row.leaf, session=row.session, line=row.line, size=row.size)
        for row in await tx.connection.execute(chosen.order_by(records.c.leaf))
    ]


async def people(tx: Transaction, numbers: Collection[int]) -> Mapping[int, tuple[str | None, str | None]]:
    """The person and the target of each of these sessions."""
    found: dict[int, tuple[str | None, str | None]] = {}
    wanted = list(numbers)
    for start in range(0, len(wanted), IN_ONE_QUERY):
        query = sa.select(sessions.c.number, sessions.c.person, sessions.c.target)
        part = query.where(sessions.c.number.in_(wanted[start : start + IN_ONE_QUERY]))
        found |= {row.number: (row.person, row.target) for row in await tx.connection.execute(part)}
    return found


async def add(tx: Transaction, piece: Piece) -> None:
    """Take a piece of the log in."""
    if piece.entries:
        await _insert(tx, "statements", _COLUMNS, [_row(entry) for entry in piece.entries])
        await _widen(tx, piece.entries)
    if piece.texts:
        await _insert(tx, TEXTS, ("rowid", "text"), piece.texts)
    found = {term: set(ids) for term, ids in piece.terms.items()}
    for end in piece.ends:
        for number in await _finish(tx, end):
            for term in end.terms:
                found.setdefault(term, set()).add(number)
    await _post(tx, found)


async def _widen(tx: Transaction, entries: Sequence[Entry]) -> None:
    """Have the blocks say between which times these are."""
    bounds: dict[int, tuple[int, int]] = {}
    for entry in entries:
        first, last = bounds.get(entry.id // BLOCK, (entry.at, entry.at))
        bounds[entry.id // BLOCK] = min(first, entry.at), max(last, entry.at)
    for number, (first, last) in bounds.items():
        row = (await tx.connection.execute(sa.select(blocks).where(blocks.c.number == number))).first()
        if row is None:
            values = {"number": number, "first_at": first, "last_at": last}
            await tx.connection.execute(sa.insert(blocks).values(values))
        elif first < row.first_at or last > row.last_at:
            values = {"first_at": min(first, row.first_at), "last_at": max(last, row.last_at)}
            await tx.connection.execute(sa.update(blocks).where(blocks.c.number == number).values(values))


async def _finish(tx: Transaction, end: End) -> Sequence[int]:
    """What is known of a statement now; the ids that it has in the index."""
    own = (statements.c.session == end.session) & (statements.c.statement == end.statement)
    found = (await tx.connection.execute(sa.select(statements.c.id).where(own))).scalars().all()
    values: dict[str, object] = {"rows": end.rows, "duration": end.duration, "sqlstate": end.sqlstate}
    await tx.connection.execute(sa.update(statements).where(own).values(values))
    if end.class_ is not None:
        nameless = own & statements.c["class"].is_(None)
        await tx.connection.execute(sa.update(statements).where(nameless).values({"class": end.class_}))
    return found


async def _post(tx: Transaction, found: Mapping[Term, Collection[int]]) -> None:
    numbers = await term_numbers(tx, found)
    if new := sorted(found.keys() - numbers.keys()):
        await _insert(tx, "terms", ("kind", "name", "statements"), [(*term, 0) for term in new])
        numbers |= await term_numbers(tx, new)
    # In the order of the key. A term may come twice: by a statement's text, and by what PostgreSQL called it.
    rows = sorted((numbers[term][0], one) for term, ids in found.items() for one in ids)
    if rows:
        await _insert(tx, "postings", ("term", "statement"), rows)
        counts = [(len(ids), numbers[term][0]) for term, ids in found.items()]
        await tx.connection.exec_driver_sql("UPDATE terms SET statements = statements + ? WHERE number = ?", counts)


async def term_numbers(tx: Transaction, wanted: Iterable[Term]) -> dict[Term, tuple[int, int]]:
    """The number of each term that there is, and how many statements have it, about."""
    by_kind: dict[str, list[str]] = {}
    for kind, name in wanted:
        by_kind.setdefault(kind, []).append(name)
    found: dict[Term, tuple[int, int]] = {}
    for kind, names in by_kind.items():
        for start in range(0, len(names), IN_ONE_QUERY):
            own = (terms.c.kind == kind) & terms.c.name.in_(names[start : start + IN_ONE_QUERY])
            for row in await tx.connection.execute(sa.select(terms).where(own)):
                found[row.kind, row.name] = (row.number, row.statements)
    return found


async def clear(tx: Transaction) -> bool:
    """Clear a part of the index away. Whether there is nothing left."""
    for table, key in ((postings, postings.c.statement), (statements, statements.c.id)):
        low = await tx.connection.scalar(sa.select(key).order_by(table.primary_key.columns[0]).limit(1))
        if low is not None:
            return await _clear_some(tx, table)
    data = sa.table(f"{TEXTS}_data", sa.column("id"))
    # Its own words for it would take it all at once, with everybody waiting.
    some = sa.select(data.c.id).order_by(data.c.id.desc()).limit(CLEARED_AT_ONCE // 10)
    gone = await tx.connection.execute(sa.delete(data).where(data.c.id.in_(some)))
    if gone.rowcount >= CLEARED_AT_ONCE // 10:
        return False
    await tx.connection.execute(sa.text(f"INSERT INTO {TEXTS} ({TEXTS}) VALUES ('delete-all')"))  # noqa: S608 ours
    await tx.connection.execute(sa.delete(blocks))
    await tx.connection.execute(sa.delete(terms))
    return True


async def _clear_some(tx: Transaction, table: sa.Table) -> bool:
    key = table.primary_key.columns
    if len(key) == 1:
        some = sa.select(key[0]).order_by(key[0]).limit(CLEARED_AT_ONCE)
        await tx.connection.execute(sa.delete(table).where(key[0].in_(some)))
        return False
    first = sa.select(sa.func.min(postings.c.term)).scalar_subquery()
    some = sa.select(postings.c.statement).where(postings.c.term == first)
    some = some.order_by(postings.c.statement).limit(CLEARED_AT_ONCE)
    own = (postings.c.term == first) & postings.c.statement.in_(some)
    await tx.connection.execute(sa.delete(postings).where(own))
    return False


async def bounds(tx: Transaction, wanted: Wanted) -> tuple[int, int] | None:
    """The leaves between which everything is that may fit the times; None where nothing is."""
    query = sa.select(sa.func.min(blocks.c.number), sa.func.max(blocks.c.number))
    if wanted.since is not None:
        query = query.where(blocks.c.last_at >= wanted.since)
    if wanted.until is not None:
        query = query.where(blocks.c.first_at < wanted.until)
    low, high = (await tx.connection.execute(query)).one()
    return None if low is None else (low * BLOCK, high * BLOCK + BLOCK - 1)


async def count(tx: Transaction, term: int, low: int, high: int, *, most: int) -> int:
    """How many statements between two leaves have the term; beyond `most` it is not counted."""
    own = (postings.c.term == term) & postings.c.statement.between(low, high)
    some = sa.select(postings.c.statement).where(own).limit(most + 1).subquery()
    return (await tx.connection.execute(sa.select(sa.func.count()).select_from(some))).scalar_one()


async def find(tx: Transaction, wanted: Wanted, low: int, high: int, *, limit: int, by_text: bool) -> Sequence[Entry]:
    """The newest of those between two leaves that fit, but for the text: that is what its trigrams say.

    `by_text`: whether the text is looked up at all, or left to whoever reads the records.
    """
    rest = list(wanted.terms)
    if by_text and wanted.text is not None:
        texts = sa.table(TEXTS, sa.column("rowid"), sa.column("text"))
        own = sa.text(f"{TEXTS} MATCH :match").bindparams(match=_match(wanted.text))
        source = sa.select(texts.c.rowid.label("id")).where(own, texts.c.rowid.between(low, high))
        ids = source.order_by(texts.c.rowid.desc()).subquery("found")
        query = sa.select(statements).join_from(ids, statements, statements.c.id == ids.c.id)
        query = query.order_by(ids.c.id.desc())
    elif rest:
        first = postings.alias("first")
        query = sa.select(statements).join_from(first, statements, statements.c.id == first.c.statement)
        query = query.where(first.c.term == rest.pop(0), first.c.statement.between(low, high))
        query = query.order_by(first.c.statement.desc())
    else:
        query = sa.select(statements).where(statements.c.id.between(low, high)).order_by(statements.c.id.desc())
    for term in rest:
        other = postings.alias()
        query = query.where(sa.exists().where(other.c.term == term, other.c.statement == statements.c.id))
    if wanted.since is not None:
        query = query.where(statements.c.at >= wanted.since)
    if wanted.until is not None:
        query = query.where(statements.c.at < wanted.until)
    if wanted.rows_over is not None:
        query = query.where(statements.c.rows > wanted.rows_over)
    return [_entry(row) for row in await tx.connection.execute(query.limit(limit))]


async def texts_of(tx: Transaction, leaves: Sequence[int], *, longest: int) -> Mapping[int, tuple[int, bytes | None]]:
    """These records, by their leaves: their seq and their lines, None where one is longer."""
    found: dict[int, tuple[int, bytes | None]] = {}
    line = sa.case((sa.func.length(records.c.line) <= longest, records.c.line)).label("line")
    for start in range(0, len(leaves), IN_ONE_QUERY):
        wanted = records.c.leaf.in_(leaves[start : start + IN_ONE_QUERY])
        query = sa.select(records.c.leaf, records.c.seq, line).where(wanted)
        found |= {row.leaf: (row.seq, row.line) for row in await tx.connection.execute(query)}
    return found


def _match(text: str) -> str:
    """What finds the texts that have the trigrams of `text`: some of them that cover it, where it has many."""
    starts = [*range(0, len(text) - TRIGRAM + 1, TRIGRAM), len(text) - TRIGRAM][-TRIGRAMS:]
    quoted = {'"' + text[start : start + TRIGRAM].replace('"', '""') + '"' for start in starts}
    return " AND ".join(sorted(quoted))


async def _insert(tx: Transaction, table: str, columns: Sequence[str], rows: Sequence[tuple[object, ...]]) -> None:
    """Many rows, past SQLAlchemy, which takes longer over each than SQLite. Those that are there already stay."""
    quoted, marks = ", ".join(f'"{name}"' for name in columns), ", ".join("?" * len(columns))
    insert = f"INSERT OR IGNORE INTO {table} ({quoted}) VALUES ({marks})"  # noqa: S608 names of ours
    await tx.connection.exec_driver_sql(insert, rows)


def _row(entry: Entry) -> tuple[object, ...]:
    names = None if entry.names is None else json.dumps(entry.names)
    return (
        entry.id,
        entry.session,
        entry.statement,
        entry.kind,
        entry.at,
        entry.class_,
        names,
        entry.label,
        entry.rows,
        entry.duration,
        entry.sqlstate,
    )


def _entry(row: sa.Row[tuple[object, ...]]) -> Entry:
    values = dict(row._mapping)  # noqa: SLF001 SQLAlchemy's public name for it
    values["class_"] = values.pop("class")
    return Entry(**values)
