"""What the proxy recorded of a suite: every session's chain checked, and held against PostgreSQL's own log.

Reads the journal of a proxy that has ended, and its server's log, line by line: a suite leaves some hundred megabytes.
"""

import csv
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from proxy.contract import record, verification
from proxy.contract.record import AuthRefused, RecordError, SessionEnd
from proxy.contract.verification import ChainError
from proxy.identity import load_or_create
from tests.harness import witness
from tests.harness.serverlog import LogLine, entries
from tests.harness.witness import Logged, Recorded
from tests.suites.legs import Legs

_LISTED = 20
BYTES = "latin-1"
"""Reads a text that is not UTF-8: no byte of it fails, and what is ASCII in it is that in most encodings."""
_REPLICATION = frozenset(
    (
        "IDENTIFY_SYSTEM",
        "READ_REPLICATION_SLOT",
        "BASE_BACKUP",
        "CREATE_REPLICATION_SLOT",
        "DROP_REPLICATION_SLOT",
        "START_REPLICATION",
        "TIMELINE_HISTORY",
    )
)
"""Tags of a WAL sender's commands, which `log_statement` does not log."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What is on record."""

    sessions: int
    refused: int
    """Connections that were not let in."""
    statements: int
    records: int
    executed: int
    """Statements that PostgreSQL's own log has of these sessions."""
    faults: tuple[str, ...]
    """Sessions whose chain or signature does not hold, or that have no end; statements that are on record alone, or not
    on record."""
    legs: Legs = field(default_factory=Legs)
    """Whether the proxy passed on what it was given."""

    @property
    def whole(self) -> bool:
        """Whether nothing is wrong with it."""
        return not self.faults and not self.legs.different

    def __str__(self) -> str:
        counts = f"{self.sessions:,} sessions, {self.statements:,} statements, {self.records:,} records"
        refused = f", {self.refused:,} connections refused" if self.refused else ""
        log = f"PostgreSQL's log has {self.executed:,} statements, each on record"
        said = "\n".join(self.faults) or f"every chain and signature holds; {log}"
        return f"{counts}{refused}; {said}\nbytes:   " + ("\n".join(self.legs.different[:_LISTED]) or str(self.legs))


class _Journal:
    """One pass over a journal."""

    def __init__(self, state: Path) -> None:
        self._key = load_or_create(state).public_key()
        self._running: dict[str, list[bytes]] = {}
        self.recorded: dict[str, list[Recorded]] = {}
        """The statements of each session, under its id in PostgreSQL's log."""
        self.sessions = self.refused = self.statements = self.records = 0
        self.faults: list[str] = []
        for line in _lines(state / "journal"):
            self._read(line)
        self.faults += [f"session {session} has no end" for session in self._running]

    def _read(self, line: bytes) -> None:
        one = record.decode(line)
        self._running.setdefault(one.session, []).append(line)
        self.records += 1
        if isinstance(one, SessionEnd | AuthRefused):
            lines = self._running.pop(one.session)
            self.sessions += isinstance(one, SessionEnd)
            self.refused += isinstance(one, AuthRefused)
            for session in witness.read_journal(map(record.decode, lines), lambda _: BYTES):
                self.statements += len(session.statements)
                self.recorded[session.key] = [*session.statements.values()]
            try:
                verification.verify_chain(lines, self._key)
            except (ChainError, RecordError) as error:
                self.faults.append(f"session {one.session}: {error}")


def examine(state: Path, log: Path, user: str, legs: Legs) -> Evidence:
    """What stands in the journal below the proxy's state folder, and whether it has all that `log` has of `user`."""
    journal = _Journal(state)
    executed = witness.read_log(_logged(log, user))
    return Evidence(
        sessions=journal.sessions,
        refused=journal.refused,
        statements=journal.statements,
        records=journal.records,
        executed=sum(not one.refused for session in executed.values() for one in session),
        faults=(*journal.faults, *_unlike(executed, journal.recorded)),
        legs=legs,
    )


def _unlike(executed: Mapping[str, list[Logged]], recorded: Mapping[str, list[Recorded]]) -> Iterator[str]:
    """What was executed and is not on record in its place, and what has ended well on record alone."""
    for session in {**executed, **recorded}:
        logged, records = executed.get(session, []), recorded.get(session, [])
        for one in witness.compare(logged, records, alike).unrecorded:
            yield f"backend {session} ran this unrecorded: {one}"
        for record_alone in unlogged(logged, records):
            yield f"backend {session} knows nothing of this on record: {record_alone}"


def unlogged(logged: Sequence[Logged], recorded: Iterable[Recorded]) -> Iterator[Recorded]:
    """What has ended well and is not in PostgreSQL's log in its place.

    What failed may be there or not: some errors come before a statement is logged, and errors are not in a suite's log.
    """
    at = 0
    for one in recorded:
        by_name_alone = one.kind == "execute" and not one.text
        if one.sqlstate is not None or not one.tags or by_name_alone or _REPLICATION.issuperset(one.tags):
            continue
        found = next((place for place in range(at, len(logged)) if alike(logged[place], one)), None)
        if found is None:
            yield one
        else:
            at = found + 1


def alike(logged: Logged, one: Recorded) -> bool:
    """Without the errors, which are not in a suite's log; and what there is of the text in every encoding.

    The log has the server's encoding, the record the client's.
    """
    if (logged.kind, logged.function) != (one.kind, one.function):
        return False
    text = replace(one, text=_comparable(one.text))
    return witness.same_text(_comparable(logged.text), text)


def _comparable(text: str) -> str:
    return text.encode("ascii", "ignore").decode()


def _lines(journal: Path) -> Iterator[bytes]:
    for segment in sorted(journal.glob("*.ndjson")):
        with segment.open("rb") as file:
            yield from (line.rstrip(b"\n") for line in file)


def _logged(log: Path, user: str) -> Iterator[LogLine]:
    """What the log has of a user who came over TCP: the unix socket is the harness's own."""
    csv.field_size_limit(sys.maxsize)
    with log.open(newline="", errors="replace") as file:
        for line in entries(file):
            if line.user == user and not line.local:
                yield line
