"""Searching all statements of all sessions: who may, and how far one search goes."""

import asyncio
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import msgspec
import structlog

from control.domain.people import Person, Right
from control.domain.results import Failure, Reason, Result, Success
from control.domain.sessions import Session
from control.evidence.indexed import LONG, fold, has_text, magnitudes, said_in
from control.evidence.names import folded
from control.evidence.parsed import Parsed
from control.services import Services
from control.store import sessions, statements
from control.store.engine import DatabaseError, Transaction
from control.store.statements import Entry, Term, Wanted
from proxy.contract.record import RecordError, decode

SEARCH_S = 5.0
"""One search goes on for so long, and answers with what it has: the next one goes on from there."""
FIRST_WIDTH = 1 << 16
WIDEST = 1 << 20
"""How much of the log is looked through in one query: more and more, as long as that is quick."""
FEW = 20_000
"""A term that so few statements have is looked through in one query."""
FEW_TEXTS = 2_000
"""Where their texts have to be read, too."""
QUICK_S = 0.1
AT_ONCE = 128
SHORTEST = statements.TRIGRAM
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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    """Where is looked, and how."""

    wanted: Wanted
    low: int
    high: int
    few: bool
    behind: int


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
    try:
        return await _search(services, query, before=before, limit=limit)
    except DatabaseError:
        async with services.store.read() as tx:
            if (await statements.cursor(tx)).clearing:  # it has begun in the midst of this
                return BEING_MADE
        raise
    finally:
        services.searching.release()


async def _search(services: Services, query: Query, *, before: int | None, limit: int) -> Result[Found]:
    async with services.store.read() as tx:
        cursor = await statements.cursor(tx)
        if cursor.clearing:
            return BEING_MADE
        plan = await _plan(tx, query, before=before, indexed=cursor.next)
    return Success(await _look(services, plan, limit=limit))


def names_of(entry: Entry) -> Parsed:
    """All commands of the statement, and the first of its tables and functions."""
    names = msgspec.convert(entry.names or {}, Parsed)
    return Parsed(
        classes=names.classes or ([entry.class_] if entry.class_ else []),
        tables=names.tables[:NAMES_SHOWN],
        functions=names.functions[:NAMES_SHOWN],
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


async def _plan(tx: Transaction, query: Query, *, before: int | None, indexed: int) -> _Plan:
    """How to look."""
    wanted = await _terms(tx, query)
    known = None if wanted is None else await statements.term_numbers(tx, wanted)
    behind = await statements.newest(tx) + 1 - indexed
    nothing = _Plan(wanted=Wanted(terms=()), low=0, high=-1, few=True, behind=behind)
    if wanted is None or known is None or len(known) < len(wanted):
        return nothing
    narrowed = Wanted(
        terms=(),
        text=None if query.text is None else fold(query.text),
        since=query.since,
        until=query.until,
        rows_over=query.rows_over,
    )
    between = await statements.bounds(tx, narrowed)
    if between is None:
        return nothing
    low, high = between[0], min(between[1], indexed - 1)
    if before is not None:
        high = min(high, before)
    few = FEW if query.text is None else FEW_TEXTS
    counted = sorted(
        [(await statements.count(tx, number, low, high, most=few), number) for number, _ in known.values()]
    )
    return _Plan(
        wanted=replace(narrowed, terms=[number for _, number in counted]),
        low=low,
        high=high,
        few=bool(counted) and counted[0][0] <= few,
        behind=behind,
    )


async def _terms(tx: Transaction, query: Query) -> list[Term] | None:
    """What every statement must have; None where no statement can."""
    terms = [(kind, value) for kind in ("person", "target", "label", "sqlstate") if (value := getattr(query, kind))]
    terms += [(kind, folded(value)) for kind in ("table", "written", "function") if (value := getattr(query, kind))]
    if query.class_ is not None:
        terms.append(("class", " ".join(query.class_.upper().split())))
    if query.session is not None:
        found = await sessions.find(tx, query.session)
        if found is None:
            return None
        terms.append(("session", str(found[0])))
    if query.rows_over is not None and (reached := magnitudes(query.rows_over)):
        terms.append(("rows", str(reached[-1])))
    return terms


async def _look(services: Services, plan: _Plan, *, limit: int) -> Found:
    """Look through the log from the newest on, until there is enough, nothing left, or no time."""
    hits: list[Hit] = []
    position, width = plan.high, FIRST_WIDTH
    deadline = services.watch() + SEARCH_S
    # Once at least: whoever goes on, again and again, comes to the end.
    while position >= plan.low and len(hits) < limit and (position == plan.high or services.watch() < deadline):
        low = plan.low if plan.few else max(plan.low, position - width + 1)
        began = time.monotonic()
        async with services.store.read() as tx:
            found = await statements.find(tx, plan.wanted, low, position, limit=AT_ONCE, by_text=not plan.few)
            took = time.monotonic() - began
            part = await _read(tx, found, plan.wanted.text)
        hits += part
        position = found[-1].id - 1 if len(found) == AT_ONCE else low - 1
        if len(found) < AT_ONCE and took < QUICK_S:
            width = min(2 * width, WIDEST)
        elif took > 2 * QUICK_S:
            width = max(width // 2, FIRST_WIDTH // 16)
    if len(hits) > limit:
        hits = hits[:limit]
        position = hits[-1].entry.id - 1
    return Found(hits=hits, before=position if position >= plan.low else None, behind=plan.behind)


async def _read(tx: Transaction, found: Sequence[Entry], text: str | None) -> list[Hit]:
    """The records of these statements; those that do not have the text are no hits."""
    lines = await statements.texts_of(tx, [entry.id for entry in found], longest=LONG)
    own = await sessions.by_number(tx, {entry.session for entry in found})
    hits = []
    for entry in found:
        seq, line = lines[entry.id]
        try:
            said = None if line is None else said_in(decode(line))
        except RecordError:  # stored by a newer control
            said = None
        if text is not None and (said is None or not has_text(said, text)):
            continue
        sql, masked = ("", False) if said is None else (said.sql, said.masked)
        hit = Hit(entry=entry, session=own[entry.session], seq=seq, sql=sql[:SHOWN], masked=masked, size=len(sql))
        hits.append(hit)
    return hits
