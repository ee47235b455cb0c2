"""Checking what a proxy sends: each session's numbers, chain, end and signature, against what is stored. Pure.

A session's records come in order, possibly again and again (at least once, DESIGN.md 4.5). A line is *new* where it
carries the chain on, *known* where the same bytes are stored under its number, and otherwise a *fault*: it is kept as
such and never takes a record's place. Behind a fault nothing more of its session is looked at, because nothing there
could be trusted to follow on.
"""

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from control.domain.sessions import LARGEST, Session, advance, begin
from proxy.contract.merkle import leaf_hash
from proxy.contract.record import (
    GENESIS,
    LAST,
    AnyRecord,
    AuthRefused,
    JournalTorn,
    RecordError,
    SessionReaped,
    SessionStart,
    decode,
    line_hash,
)
from proxy.contract.verification import ChainError, verify_signature

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


@dataclass(frozen=True, slots=True)
class Line:
    """One record as it came."""

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
    entry = getattr(record, "entry", None) or getattr(record, "next_entry", None)
    if entry is not None and not (0 < len(entry.journal) <= SHOWN and 0 <= entry.number <= LARGEST):
        return "its place in its journal is no place"
    for name in record.__struct_fields__:
        value = getattr(record, name)
        if isinstance(value, int) and not 0 <= value <= LARGEST:
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
        self.session = session
        self.new: list[Line] = []
        self.known = 0
        self.flaw: Flaw | None = None
        self.reaped: SessionReaped | None = None
        """What the proxy has ended for another one, where this is such a record and a new one."""

    def take(self, line: Line) -> None:
        """Judge the session's next line."""
        if self.flaw is not None:
            return
        seq = line.record.seq
        if self.session is not None and seq < self.session.records:
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
        if self.session is None:
            assert isinstance(
                line.record, SessionStart | AuthRefused | SessionReaped | JournalTorn
            )  # `_wrong` saw to it
            self.session = begin(line.record, self._proxy)
        self.session = advance(self.session, line.record, line.digest)
        self._stored[line.record.seq] = line.raw
        self.new.append(line)
        if isinstance(line.record, SessionReaped):
            self.reaped = line.record

    def _wrong(self, line: Line) -> tuple[Kind, str] | None:
        """Why the line cannot be the session's next one."""
        record, session = line.record, self.session
        expected, head = (0, GENESIS) if session is None else (session.records, session.head)
        foreign = isinstance(record, SessionStart) and record.proxy != self._proxy
        last = isinstance(record, LAST)
        unsigned = last and not any(_signed_by(line.raw, key) for key in self._keys)
        checks = (
            (session is not None and session.complete, Kind.AFTER_END, "the session has ended"),
            (record.seq != expected, Kind.GAP, f"expected record {expected}"),
            (record.prev != head, Kind.CHAIN, "its prev is not the hash of the record before it"),
            (
                (session is None) != isinstance(record, SessionStart | AuthRefused | SessionReaped | JournalTorn),
                Kind.BEGINNING,
                "a session begins with session.start; auth.refused, session.reaped and journal.torn stand alone",
            ),
            (foreign, Kind.FOREIGN, "another proxy's session"),
            (unsigned, Kind.SIGNATURE, "not signed by a key of this proxy"),
        )
        return next(((kind, detail) for wrong, kind, detail in checks if wrong), None)

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
