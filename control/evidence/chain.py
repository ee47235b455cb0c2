"""Checking what a proxy sends: each session's numbers, chain, end and signature, against what is stored. Pure.

A session's records come in order, possibly again and again (at least once, DESIGN.md 4.5). A line is *new* where it
carries the chain on, *known* where the same bytes are stored under its number, and otherwise a *fault*: it is kept as
such and never takes a record's place. Behind a fault nothing more of its session is looked at, because nothing there
could be trusted to follow on.
"""

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter, eq
from typing import TypeAlias, get_args

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from msgspec.structs import fields

from control.domain.sessions import LARGEST, Session, advance, begin
from proxy.contract.merkle import leaf_hash
from proxy.contract.record import (
    ALONE,
    GENESIS,
    LAST,
    AnyRecord,
    AuthRefused,
    JournalTorn,
    RecordError,
    SessionReaped,
    SessionStart,
    decode,
    decode_all,
    line_hash,
)
from proxy.contract.succession import place, promise
from proxy.contract.verification import ChainError, verify_signature

FIRST = (SessionStart, *ALONE)
"""The types of which a session's first record is."""
ENDS = (SessionStart, *LAST)
"""The first and the last ones: few beside those of statements. What is checked beyond the chain is mostly in these."""
_NUMBERS = {
    kind: tuple(one.name for one in fields(kind) if int in (one.type, *get_args(one.type)))
    for kind in get_args(AnyRecord)
}
"""Each type's whole numbers."""
SHOWN = 64
"""A session id is at most this long."""


class Kind(enum.StrEnum):
    """What is wrong with a line."""

    MALFORMED = "malformed"
    FOREIGN = "foreign"
    BEGINNING = "beginning"
    GAP = "gap"
    CHAIN = "chain"
    REWRITTEN = "rewritten"
    AFTER_END = "after end"
    SIGNATURE = "signature"
    MISSING = "missing"
    """A session that its journal has before this one has not arrived (`control.evidence.journals`)."""


class Line(msgspec.Struct, frozen=True, gc=False):
    """One record as it came. A struct, for it is made in a small part of the time that a frozen dataclass takes."""

    raw: bytes
    record: AnyRecord
    digest: str
    leaf: bytes
    """Its hash as a leaf of the log."""


@dataclass(frozen=True, slots=True)
class Flaw:
    """A line that is a fault, and why."""

    kind: Kind
    detail: str
    session: str
    seq: str
    raw: bytes


Parsed: TypeAlias = tuple[Sequence[Line], Flaw | None]
"""The lines of a body, up to the first one that is no record; and that one."""


def parse(body: bytes) -> Parsed:
    """The lines of a body. What is usual is seen of all of them together, for they come by the thousand."""
    raws = [raw for raw in body.split(b"\n") if raw]
    try:
        records = decode_all(raws)
    except RecordError:
        return _parse_each(raws)
    if not _all_usual(records):
        return _parse_each(raws)
    return list(map(Line, raws, records, map(line_hash, raws), map(leaf_hash, raws))), None


def _parse_each(raws: Sequence[bytes]) -> Parsed:
    """As `parse`, one after the other: this is what finds out which line it is, and what is wrong with it."""
    lines: list[Line] = []
    for raw in raws:
        try:
            record = decode(raw)
        except RecordError as error:
            return lines, Flaw(Kind.MALFORMED, str(error), "", "", raw)
        if (oddity := _oddity(record)) is not None:
            return lines, Flaw(Kind.MALFORMED, oddity, record.session[:SHOWN], str(record.seq), raw)
        lines.append(Line(raw, record, line_hash(raw), leaf_hash(raw)))
    return lines, None


def _oddity(record: AnyRecord) -> str | None:
    """What no proxy of ours would write, though it has the form of a record."""
    if not _is_id(record.session):
        return "the session's id is no id"
    if isinstance(record, ENDS) and not _is_place(record):
        return "its place in its journal is no place"
    for name in _NUMBERS[type(record)]:
        value = getattr(record, name)
        if value is not None and not 0 <= value <= LARGEST:
            return f"{name} is out of range"
    return None


def _all_usual(records: Sequence[AnyRecord]) -> bool:
    """Whether `_oddity` finds nothing in any of these."""
    if not all(map(_is_id, {record.session for record in records})):
        return False
    by_kind: dict[type[AnyRecord], list[AnyRecord]] = {}
    for record in records:
        by_kind.setdefault(type(record), []).append(record)
    for kind, alike in by_kind.items():
        if kind in ENDS and not all(map(_is_place, alike)):
            return False
        for name in _NUMBERS[kind]:
            values = list(map(attrgetter(name), alike))
            if None in values:
                values = [value for value in values if value is not None]
            if values and not (min(values) >= 0 and max(values) <= LARGEST):
                return False
    return True


def _is_id(session: str) -> bool:
    return 1 <= len(session) <= SHOWN and session.isascii() and session.isprintable()


def _is_place(record: AnyRecord) -> bool:
    """Whether a session's first or last record says a place in its journal that may be one, if any."""
    entry = place(record) or promise(record)
    return entry is None or (0 < len(entry.journal) <= SHOWN and 0 <= entry.number <= LARGEST)


class Ledger:
    """One session's chain while a batch is taken in: `take` each line in order, then store `new` and `session`."""

    def __init__(
        self,
        *,
        proxy: str,
        keys: Sequence[Ed25519PublicKey],
        session: Session | None,
        stored: Mapping[int, bytes],
    ) -> None:
        self._proxy = proxy
        self._keys = keys
        self._stored = dict(stored)
        self._session = session
        self._pending: list[AnyRecord] = []
        """What is new and not in the summary yet."""
        self._expected, self._head = (0, GENESIS) if session is None else (session.records, session.head)
        self._complete = session is not None and session.complete
        self.new: list[Line] = []
        self.ends: list[Line] = []
        """The new ones that are of `ENDS`."""
        self.known = 0
        self.flaw: Flaw | None = None
        self.reaped: SessionReaped | None = None
        """What the proxy has ended for another one, where this is such a record and a new one."""

    @property
    def session(self) -> Session | None:
        """The summary, with all that was taken."""
        if self._pending:
            assert self._session is not None
            self._session = advance(self._session, self._pending, self._head)
            self._pending = []
        return self._session

    def take_all(self, lines: Sequence[Line]) -> None:
        """Judge the session's next lines: as `take` does one by one, but what carries the chain on is seen at once."""
        begin = 0
        for at in [at for at, line in enumerate(lines) if type(line.record) in ENDS]:
            self._take_run(lines[begin:at])
            self.take(lines[at])
            begin = at + 1
        self._take_run(lines[begin:])

    def _take_run(self, run: Sequence[Line]) -> None:
        """Lines that are none of `ENDS`."""
        if not self._carries_on(run):
            for line in run:
                self.take(line)
        elif run:
            self._pending += [line.record for line in run]
            self._stored |= {line.record.seq: line.raw for line in run}
            self._expected += len(run)
            self._head = run[-1].digest
            self.new += run

    def _carries_on(self, run: Sequence[Line]) -> bool:
        """Whether `take` would find each of these, which are none of `ENDS`, to be new and right."""
        if self.flaw is not None or self._complete or self._session is None:
            return False
        seqs = range(self._expected, self._expected + len(run))
        heads = [self._head, *[line.digest for line in run]]
        return all(map(eq, [line.record.seq for line in run], seqs)) and all(
            map(eq, [line.record.prev for line in run], heads)
        )

    def take(self, line: Line) -> None:
        """Judge the session's next line."""
        if self.flaw is not None:
            return
        if line.record.seq < self._expected:
            self._take_again(line)
        elif (wrong := self._wrong(line)) is not None:
            self._refuse(line, *wrong)
        else:
            self._take_new(line)

    def _take_again(self, line: Line) -> None:
        if self._stored.get(line.record.seq) == line.raw:
            self.known += 1
        else:
            self._refuse(line, Kind.REWRITTEN, "another record is stored under its number")

    def _take_new(self, line: Line) -> None:
        record = line.record
        if self._session is None:
            assert isinstance(record, SessionStart | AuthRefused | SessionReaped | JournalTorn)  # `_wrong` saw to it
            self._session = begin(record, self._proxy)
        self._pending.append(record)
        self._expected += 1
        self._head = line.digest
        self._stored[record.seq] = line.raw
        self.new.append(line)
        if isinstance(record, ENDS):
            self.ends.append(line)
        if isinstance(record, LAST):
            self._complete = self.session is not None and self.session.complete
        if isinstance(record, SessionReaped):
            self.reaped = record

    def _wrong(self, line: Line) -> tuple[Kind, str] | None:
        """Why the line cannot be the session's next one."""
        record = line.record
        if self._complete:
            return Kind.AFTER_END, "the session has ended"
        if record.seq != self._expected:
            return Kind.GAP, f"expected record {self._expected}"
        if record.prev != self._head:
            return Kind.CHAIN, "its prev is not the hash of the record before it"
        if (self._session is None) != isinstance(record, FIRST):
            return Kind.BEGINNING, "a session begins with session.start, or its one record stands alone"
        return self._forged(line) if isinstance(record, ENDS) else None

    def _forged(self, line: Line) -> tuple[Kind, str] | None:
        """Why it is not this proxy's, where it says so itself: a session's first and last records do."""
        record = line.record
        if isinstance(record, SessionStart) and record.proxy != self._proxy:
            return Kind.FOREIGN, "another proxy's session"
        if isinstance(record, LAST) and not any(_signed_by(line.raw, key) for key in self._keys):
            return Kind.SIGNATURE, "not signed by a key of this proxy"
        return None

    def _refuse(self, line: Line, kind: Kind, detail: str) -> None:
        self.flaw = Flaw(kind, detail, line.record.session, str(line.record.seq), line.raw)


def _signed_by(line: bytes, key: Ed25519PublicKey) -> bool:
    try:
        verify_signature(line, key)
    except ChainError:
        return False
    return True


def by_session(lines: Sequence[Line]) -> Mapping[str, Sequence[Line]]:
    """The lines of each session, in order."""
    sessions: dict[str, list[Line]] = {}
    for line in lines:
        sessions.setdefault(line.record.session, []).append(line)
    return sessions
