"""Searching all statements of all sessions: who may, and how far one search goes."""

import asyncio
import contextlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import structlog

from control.domain.people import Person, Right
from control.domain.results import Failure, Reason, Result, Success
from control.domain.sessions import Session
from control.evidence.indexed import EVERY, LONG, STEPS, fold, magnitude, said_in, where
from control.evidence.names import folded
from control.evidence.parsed import Parsed
from control.services import Services
from control.store import sessions
from control.store.index.file import StaleError, cursor, open_to_read, path_beside
from control.store.index.log import newest_of
from control.store.index.reading import TRIGRAM, Entry, Look, Wanted, entries, newest
from control.tasks import spawn
from proxy.contract.record import Ran, RecordError, StatementPrepare, StatementStart, decode

SEARCH_S = 5.0
"""One search goes on for so long, and answers with what it has: the next one goes on from there."""
SHORTEST = TRIGRAM
SHOWN = 2_000
"""Characters of a statement in an answer. All of it is in its session's timeline."""
NAMES_SHOWN = 100
LONGEST = 1_000
"""Characters of a text that is searched."""
_SQLSTATE = re.compile(r"[0-9A-Z]{2}(?:[0-9A-Z]{3})?", re.ASCII)

BEING_MADE = Failure(Reason.NOT_READY, "the index is being made anew; records and timelines can be read")

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """What is asked for; None does not narrow."""

    text: str | None = None
    person: str | None = None
    target: str | None = None
    session: str | None = None
    class_: str | None = None
    table: str | None = None
    written: str | None = None
    function: str | None = None
    label: str | None = None
    sqlstate: str | None = None
    rows_over: int | None = None
    since: int | None = None
    until: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Hit:
    """A statement that was found, the session it is of, and the record that says it."""

    entry: Entry
    session: Session
    seq: int
    sql: str
    masked: bool
    size: int
    """Of the text, in characters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a search has found. Where there may be more, `before` is where it goes on."""

    hits: Sequence[Hit]
    before: int | None
    behind: int
    """Records that the index does not have yet."""


async def search(services: Services, query: Query, *, asker: Person, before: int | None, limit: int) -> Result[Found]:
    """The newest statements that fit, of those that `asker` may read."""
    faulty = _fault(query)
    if faulty is not None:
        return Failure(Reason.INVALID, faulty)
    if not asker.has(Right.SEE_RECORDS):
        if query.person not in (None, asker.name):
            return Success(Found(hits=(), before=None, behind=0))
        query = replace(query, person=asker.name)
    log.info("statements searched", by=asker.name, **_told(query))
    try:
        async with asyncio.timeout(SEARCH_S):
            await services.searching.acquire()
    except TimeoutError:
        return Failure(Reason.NOT_READY, "too many searches at once; try again")
    # Held until the thread is done, even where nobody waits for it any more.
    looking = spawn("search", _searched(services, query, before=before, limit=limit))
    return await asyncio.shield(looking)


async def _searched(services: Services, query: Query, *, before: int | None, limit: int) -> Result[Found]:
    try:
        wanted = await _wanted(services, query, before=before)
        deadline = services.watch() + SEARCH_S
        books = services.settings.database

        def late() -> bool:
            return services.watch() >= deadline

        looked = await asyncio.to_thread(_look, books, wanted, late, limit)
    finally:
        services.searching.release()
    if isinstance(looked, Failure):
        return looked
    entries, following, behind = looked
    async with services.store.read() as tx:
        own = await sessions.by_number(tx, {entry.session for entry in entries})
    hits = [_hit(entry, own[entry.session]) for entry in entries]
    return Success(Found(hits=hits, before=following, behind=behind))


def _look(
    books: Path, wanted: Wanted | None, late: Callable[[], bool], limit: int
) -> Failure | tuple[Sequence[Entry], int | None, int]:
    """What is found, where it goes on, and how many records the index does not have. None is wanted by nobody."""
    try:
        index = open_to_read(path_beside(books), books)
    except StaleError:
        return BEING_MADE
    if index is None:  # the indexer will make it in a moment
        return (), None, 1 + newest_of(books)
    with contextlib.closing(index):
        index.execute("BEGIN")
        place = cursor(index)
        if place.clearing:
            return BEING_MADE
        behind = newest(index) + 1 - place.next
        if wanted is None:
            return (), None, behind
        text = wanted.text or ""
        ids, following = Look(index, wanted, judge=lambda line: _has(line, text), late=late, longest=LONG).run(limit)
        return entries(index, ids, longest=LONG), following, behind


def _has(line: bytes, text: str) -> tuple[bool, bool]:
    """Whether a folded text is in the SQL of a record, and whether in its values."""
    said = _said(line)
    return (False, False) if said is None else where(said, text)


def _said(line: bytes) -> StatementStart | StatementPrepare | Ran | None:
    try:
        return said_in(decode(line))
    except RecordError:  # stored by a newer control
        return None


def _hit(entry: Entry, session: Session) -> Hit:
    said = None if entry.line is None else _said(entry.line)
    sql, masked = ("", False) if said is None else (said.sql, said.masked)
    return Hit(entry=entry, session=session, seq=entry.seq, sql=sql[:SHOWN], masked=masked, size=len(sql))


def names_of(entry: Entry) -> Parsed:
    """All commands of the statement, and the first of its tables and functions."""
    names = entry.parsed
    return Parsed(
        classes=names.classes or ([entry.class_] if entry.class_ else []),
        tables=names.tables[:NAMES_SHOWN],
        functions=names.functions[:NAMES_SHOWN],
        label=names.label,
    )


def _fault(query: Query) -> str | None:
    """What is wrong with the question."""
    if query.text is not None and not SHORTEST <= len(query.text) <= LONGEST:
        return f"text: must have {SHORTEST} to {LONGEST} characters"
    if query.sqlstate is not None and _SQLSTATE.fullmatch(query.sqlstate) is None:
        return "sqlstate: must be a SQLSTATE, as 42P01, or its class, as 42"
    return None


def _told(query: Query) -> dict[str, object]:
    """A search as the log has it: what is searched for in texts may be a secret itself."""
    told = {name: getattr(query, name) for name in Query.__slots__ if getattr(query, name) is not None}
    if query.text is not None:
        told["text"] = f"{len(query.text)} characters"
    return {f"of_{name.rstrip('_')}": value for name, value in told.items()}


async def _wanted(services: Services, query: Query, *, before: int | None) -> Wanted | None:
    """What every statement must have; None where no statement can."""
    terms = [(kind, value) for kind in ("person", "target", "label", "sqlstate") if (value := getattr(query, kind))]
    terms += [(kind, folded(value)) for kind in ("table", "written", "function") if (value := getattr(query, kind))]
    if query.class_ is not None:
        terms.append(("class", " ".join(query.class_.upper().split())))
    if query.session is not None:
        async with services.store.read() as tx:
            found = await sessions.find(tx, query.session)
        if found is None:
            return None
        terms.append(("session", str(found[0])))
    if query.rows_over is not None and (reached := magnitude(query.rows_over)):
        terms.append(("rows", str(STEPS[reached - 1])))
    return Wanted(
        terms=terms or [EVERY],
        text=None if query.text is None else fold(query.text),
        since=query.since,
        until=query.until,
        rows_over=query.rows_over,
        before=before,
    )
