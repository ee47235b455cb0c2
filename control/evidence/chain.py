"""Checking what a proxy sends: each session's numbers, chain, end and signature, against what is stored. Pure.

A session's records come in order, possibly again and again (at least once, DESIGN.md 4.5). A line is *new* where it
carries the chain on, *known* where the same bytes are stored under its number, and otherwise a *fault*: it is kept as
such and never takes a record's place. Behind a fault nothing more of its session is looked at, because nothing there
could be trusted to follow on.
"""

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, get_args

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from msgspec.structs import fields

from control.domain.sessions import LARGEST, Session, advance, begin
from proxy.contract.merkle import leaf_hash
from proxy.contract.record import (
    GENESIS,
    LAST,
    AnyRecord,
    AuthRefused,
    RecordError,
    SessionEnd,
    SessionReaped,
    SessionStart,
    decode,
    line_hash,
)
from proxy.contract.verification import ChainError, verify_signature

FIRST = (SessionStart, AuthRefused, SessionReaped)
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


class Line(NamedTuple):
    """One record as it came. A tuple, for it is made in a third of the time that a frozen dataclass takes."""

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


def parse(body: bytes) -> tuple[Sequence[Line], Flaw | None]:
    """The lines of a body, up to the first one that is no record."""
    lines: list[Line] = []
    for raw in body.split(b"\n"):
        if not raw:
            continue
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
    if not 1 <= len(record.session) <= SHOWN or not record.session.isascii() or not record.session.isprintable():
        return "the session's id is no id"
    if isinstance(record, ENDS):
        entry = record.next_entry if isinstance(record, SessionEnd) else record.entry
        if entry is not None and not (0 < len(entry.journal) <= SHOWN and 0 <= entry.number <= LARGEST):
            return "its place in its journal is no place"
    for name in _NUMBERS[type(record)]:
        value = getattr(record, name)
        if value is not None and not 0 <= value <= LARGEST:
            return f"{name} is out of range"
    return None


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
            assert isinstance(record, SessionStart | AuthRefused | SessionReaped)  # `_wrong` saw to it
            self._session = begin(record, self._proxy)
        self._pending.append(record)
        self._expected += 1
        self._head = line.digest
        self._stored[record.seq] = line.raw
        self.new.append(line)
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
            return Kind.BEGINNING, "a session begins with session.start; auth.refused and session.reaped stand alone"
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
