"""What a recorded session asked of PostgreSQL, round by round, ready to be asked again. Pure.

A round is what one answer "ready for query" ends: a simple query, or the statements of the extended protocol up to a
Sync. Statements of a round share an implicit transaction, and behind an error the rest of it is skipped; so rounds are
what is run again, whole. What the records do not have is said of each statement (`lacks`), never guessed.
"""

import base64
import re
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import msgspec

from proxy.contract.record import (
    AnyRecord,
    Cancel,
    Copy,
    CopyData,
    Outcome,
    Parameter,
    Ran,
    SessionEnd,
    SessionStart,
    StatementEnd,
    StatementPrepare,
    StatementStart,
    TransactionState,
)

CANCELED, NO_SUCH_STATEMENT, NAME_TAKEN, PORTAL_EXISTS = "57014", "26000", "42P05", "42P03"
IN_FAILED_TRANSACTION = "25P02"
FIRST_OWN_OID = 16_384
"""From here on OIDs are given by each database in its own order (FirstNormalObjectId): they mean nothing elsewhere."""
MOST_OPEN = 8_192
"""Of a round of more statements the proxy writes the ends before it knows the state."""
SQL_PORTAL = "portal "
"""What stands before the name of a portal that SQL made (DECLARE CURSOR), where a statement's name would be."""
_OUTSIDE = re.compile(
    r"""'(?:[^']|'')*' | "[^"]*" | --[^\n]* | /\*.*?\*/ | (?<![\w$])(?P<tag>\$(?:[^\W\d]\w*)?\$).*?(?P=tag)""",
    re.DOTALL | re.VERBOSE,
)
_PLACEHOLDER = re.compile(r"(?<![\w$])\$\d")


class CopyPart(msgspec.Struct, frozen=True, kw_only=True):
    """A COPY that a statement did: its data in are the `copy.data` records between two places of the log."""

    direction: str
    size: int
    failed: bool
    first: int
    end: int


class Definition(msgspec.Struct, frozen=True, kw_only=True):
    """A statement that is prepared under a name."""

    name: str
    text: bytes
    types: tuple[int, ...]
    refused: bool = False
    """The name was taken. (Closing one is not on record, so nothing else says that it was not free.)"""


class Statement(msgspec.Struct, frozen=True, kw_only=True):
    """A statement, and how it went."""

    number: int
    kind: str
    sql: str
    text: bytes
    name: str | None
    parameters: tuple[Parameter, ...]
    portal: str
    """The portal to use: one with a name where another Execute goes on with it."""
    continued: bool
    copies: tuple[CopyPart, ...]
    end: StatementEnd | None
    lacks: str | None
    """Why it cannot be run as it was."""

    @property
    def types(self) -> tuple[int, ...]:
        """The types of its parameters, as a Parse says them."""
        return _types(self.parameters)

    @property
    def copies_in(self) -> bool:
        """Whether it took data."""
        return any(part.direction == "in" for part in self.copies)


class Round(msgspec.Struct, frozen=True, kw_only=True):
    """What is sent together and ends with one answer. Times in ns since the epoch."""

    steps: tuple[Definition | Statement, ...]
    began_at: int
    ended_at: int
    cut: bool = False
    """The session ended before it was answered, and nothing of it was committed: it is not to be run."""
    cancel_after_s: float | None = None
    """When a cancel request ended it."""

    @property
    def statements(self) -> list[Statement]:
        """Without the definitions."""
        return [one for one in self.steps if isinstance(one, Statement)]


@dataclass(slots=True, kw_only=True)
class Survey:
    """What a session's records tell only further on than where it is needed."""

    start: SessionStart | None = None
    end: SessionEnd | None = None
    types: dict[int, tuple[int, ...]] = field(default_factory=dict)
    """Of prepared statements, by the number of the record: the types of what was bound to them first."""
    portals: dict[int, int] = field(default_factory=dict)
    """Statements whose portal is executed more than once: the one that made it."""
    refused: set[int] = field(default_factory=set)
    """Statements whose name did not mean what it was just to be given: that was refused in a round of its own."""
    taken: set[int] = field(default_factory=set)
    """Statements before which a name kept its meaning, because it was taken."""
    aborted: set[int] = field(default_factory=set)
    """Statements that found their transaction aborted."""


def survey(records: Iterable[AnyRecord]) -> Survey:
    """Read a session once."""
    found = Survey()
    named: dict[str, int] = {}
    portals = _Portals()
    for record in records:
        match record:
            case SessionStart():
                found.start = record
            case SessionEnd():
                found.end = record
            case StatementPrepare(name=str(name), portal=None):
                named[name] = record.seq
            case StatementStart(kind="execute"):
                _bound(record, found, named)
                portals.take(record, found)
            case StatementEnd(sqlstate="26000"):
                found.refused.add(record.statement)
            case StatementEnd(sqlstate="25P02"):
                found.refused.add(record.statement)
                found.aborted.add(record.statement)
            case StatementEnd(ran=Ran()):
                found.refused.add(record.statement)
                found.taken.add(record.statement)
            case StatementEnd(sqlstate="42P05"):
                found.taken.add(record.statement)
            case _:
                pass
    return found


class _Portals:
    """Which Execute made the portal that another one goes on with. A portal ends with its transaction."""

    def __init__(self) -> None:
        self._transaction = 0
        self._made: dict[int, int] = {}

    def take(self, start: StatementStart, found: Survey) -> None:
        if start.transaction != self._transaction:
            self._transaction = start.transaction
            self._made.clear()
        bound = hash((start.sql, start.name, msgspec.json.encode(start.parameters)))
        if not start.continued:
            self._made[bound] = start.statement
        elif bound in self._made:
            maker = self._made[bound]
            found.portals |= {maker: maker, start.statement: maker}


def _bound(start: StatementStart, found: Survey, named: dict[str, int]) -> None:
    prepared = named.get(start.name) if start.name is not None else None
    if prepared is not None and start.parameters:
        found.types.setdefault(prepared, _types(start.parameters))


def _types(parameters: Iterable[Parameter]) -> tuple[int, ...]:
    return tuple(one.type if one.type < FIRST_OWN_OID else 0 for one in parameters)


def rounds(records: Iterable[tuple[int, AnyRecord]], surveyed: Survey) -> Iterator[Round]:
    """The session's rounds in order. Records come with their place in the log."""
    reader = _Reader(surveyed)
    for place, record in records:
        reader.take(place, record)
        yield from reader.complete()
    yield from reader.rest()


@dataclass(slots=True, kw_only=True)
class _Running:
    """A statement whose records are still being read."""

    start: StatementStart
    end: StatementEnd | None = None
    copies: list[CopyPart] = field(default_factory=list)
    first: int | None = None
    size: int = 0

    @property
    def lacking(self) -> bool:
        """Whether data of its COPYs are missing."""
        return self.size < sum(part.size for part in self.copies if part.direction == "in")


@dataclass(slots=True, kw_only=True)
class _Open:
    steps: list[Definition | _Running] = field(default_factory=list)
    at: int
    canceled_at: int | None = None

    @property
    def running(self) -> list[_Running]:
        return [one for one in self.steps if isinstance(one, _Running)]


class _Reader:
    def __init__(self, surveyed: Survey) -> None:
        self._surveyed = surveyed
        self._open: deque[_Open] = deque()
        self._running: dict[int, _Running] = {}
        self._definitions: list[tuple[int, Definition]] = []
        self._state: TransactionState | None = "I"

    def take(self, place: int, record: AnyRecord) -> None:  # noqa: C901 a branch for each type
        match record:
            case StatementPrepare(name=str(), portal=None) if not record.masked:
                self._definitions.append((record.at, self._definition(record)))
            case StatementStart():
                self._started(record)
            case StatementEnd():
                if record.statement in self._running:
                    self._running.pop(record.statement).end = record
                    self._state = record.state
            case CopyData():
                running = self._running.get(record.statement)
                if running is not None and record.direction == "in":
                    running.first = place if running.first is None else running.first
                    running.size += _decoded(record.base64)
            case Copy():
                self._copied(place, record)
            case Cancel() if record.forwarded and record.statement is not None:
                for one in self._open:
                    if any(running.start.statement == record.statement for running in one.running):
                        one.canceled_at = record.at
            case _:
                pass

    def _definition(self, record: StatementPrepare) -> Definition:
        text = _exact(record)
        return Definition(name=record.name or "", text=text, types=self._surveyed.types.get(record.seq, ()))

    def _started(self, start: StatementStart) -> None:
        asked, self._definitions = self._definitions, []
        aborted = start.state == "E" or start.statement in self._surveyed.aborted
        taken = start.statement in self._surveyed.taken or (self._state == "T" and aborted)
        definitions = [msgspec.structs.replace(one, refused=taken) for _, one in asked]
        if not (start.pipelined and self._open):
            if definitions and (definitions[-1].name != start.name or start.statement in self._surveyed.refused):
                self._open.append(_Open(steps=[*definitions], at=asked[0][0]))
                definitions = []
            self._open.append(_Open(at=start.at))
        running = self._running[start.statement] = _Running(start=start)
        self._open[-1].steps += [*definitions, running]

    def _copied(self, place: int, record: Copy) -> None:
        running = self._running.get(record.statement)
        if running is None:
            return
        first = place if running.first is None else running.first
        part = CopyPart(direction=record.direction, size=record.bytes, failed=record.failed, first=first, end=place)
        running.copies.append(part)
        running.first = None

    def complete(self) -> Iterator[Round]:
        """Rounds of which all is known."""
        while self._open and self._is_complete(self._open[0]):
            yield self._round(self._open.popleft())

    def _is_complete(self, one: _Open) -> bool:
        running = one.running
        if any(statement.end is None for statement in running):
            return False
        return not running or not _unanswered(running) or len(self._open) > 1

    def rest(self) -> Iterator[Round]:
        """Those that the session's end has cut short, and definitions that nothing followed."""
        for one in self._open:
            yield self._round(one)
        if self._definitions:
            yield self._round(_Open(steps=[one for _, one in self._definitions], at=self._definitions[0][0]))

    def _round(self, one: _Open) -> Round:
        unanswered = bool(one.running) and _unanswered(one.running)
        ended = self._surveyed.end
        outcome: Outcome = "unknown" if ended is None else ended.outcome
        unsure = unanswered and outcome in ("unknown", "partly committed")
        ends = [running.start.at + running.end.duration for running in one.running if running.end is not None]
        ended_at = max([one.at, *ends])
        canceled = any(running.end is not None and running.end.sqlstate == CANCELED for running in one.running)
        gave_up = any(part.failed for running in one.running for part in running.copies)
        # Who cancels past the proxy, or by a timeout that is set elsewhere, leaves no record but the error.
        canceled_at = one.canceled_at or (None if gave_up else ended_at)
        steps = [self._statement(step, unsure=unsure) if isinstance(step, _Running) else step for step in one.steps]
        return Round(
            steps=tuple(steps),
            began_at=one.at,
            ended_at=ended_at,
            cut=unanswered and not unsure and outcome != "committed before",
            cancel_after_s=max(0, canceled_at - one.at) / 1e9 if canceled and canceled_at else None,
        )

    def _statement(self, running: _Running, *, unsure: bool) -> Statement:
        start, end = running.start, running.end
        ran: StatementStart | Ran = start if end is None or end.ran is None else end.ran
        root = self._surveyed.portals.get(start.statement)
        return Statement(
            number=start.statement,
            kind=start.kind,
            sql=ran.sql,
            text=_exact(ran),
            name=ran.name,
            parameters=tuple(ran.parameters or ()),
            portal="" if root is None else f"curfew_{root}",
            continued=start.continued,
            copies=tuple(running.copies),
            end=end,
            lacks=_lacks(running, ran, unsure=unsure),
        )


def _unanswered(running: list[_Running]) -> bool:
    """Whether no ReadyForQuery closed the round. Of a very long one, all but the last ends are written before it."""
    ends = [one.end for one in running]
    return None in ends or not (len(ends) >= MOST_OPEN or any(end is not None and end.state for end in ends))


def _lacks(running: _Running, ran: StatementStart | Ran, *, unsure: bool) -> str | None:
    kind, values = running.start.kind, ran.parameters or ()
    skipped = running.end is not None and running.end.skipped
    unrecorded = kind == "execute" and not values and not skipped and has_placeholders(ran.sql)
    reasons = {
        "a function call is not run again": kind == "function",
        "a secret in its text was masked": ran.masked,
        "its parameters were withheld": any(one.withheld for one in values),
        "a secret in its parameters was masked": any(one.masked for one in values),
        "its parameters were not recorded": unrecorded,
        "replication cannot be run again": any(one.direction == "both" for one in running.copies),
        "the data of its COPY was not recorded": running.lacking,
        "whether it was committed is not known": unsure,
    }
    return next((reason for reason, holds in reasons.items() if holds), None)


def has_placeholders(sql: str) -> bool:
    """Whether the text has a `$1`, outside of literals and comments. In doubt, no: PostgreSQL says it then."""
    return "$" in sql and _PLACEHOLDER.search(_OUTSIDE.sub(" ", sql)) is not None


def _exact(record: StatementPrepare | StatementStart | Ran) -> bytes:
    return record.sql.encode() if record.sql_base64 is None else base64.b64decode(record.sql_base64)


def _decoded(text: str) -> int:
    return len(text) // 4 * 3 - text[-2:].count("=")
