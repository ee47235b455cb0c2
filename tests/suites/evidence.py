"""What the proxy recorded of a suite: every session's chain checked, and held against PostgreSQL's own log.

Reads the journal of a proxy that has ended, and its server's log, line by line: a suite leaves some hundred megabytes.
"""

import base64
import csv
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from proxy.contract import record, verification
from proxy.contract.record import AuthRefused, RecordError, SessionEnd, SessionStart, StatementStart
from proxy.contract.verification import ChainError
from proxy.identity import load_or_create
from tests.harness.serverlog import LogLine, entries
from tests.suites.legs import Legs

_SHOWN = 200
_LISTED = 20


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
    """Sessions whose chain or signature does not hold, or that have no end; statements without a record."""
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
        self._pids: dict[str, int] = {}
        self.recorded: Counter[tuple[int, str]] = Counter()
        """By the backend's pid and the statement's text, as `_comparable` has it."""
        self.masked: Counter[int] = Counter()
        """How many statements of a backend are recorded without a secret of theirs."""
        self.sessions = self.refused = self.statements = self.records = 0
        self.faults: list[str] = []
        for line in _lines(state / "journal"):
            self._read(line)
        self.faults += [f"session {session} has no end" for session in self._running]

    def _read(self, line: bytes) -> None:
        one = record.decode(line)
        self._running.setdefault(one.session, []).append(line)
        self.records += 1
        if isinstance(one, SessionStart):
            self._pids[one.session] = one.backend_pid
        elif isinstance(one, StatementStart):
            self.statements += 1
            pid = self._pids[one.session]
            self.masked[pid] += one.masked
            text = base64.b64decode(one.sql_base64).decode("ascii", "ignore") if one.sql_base64 else one.sql
            self.recorded[pid, _comparable(text)] += 1
        elif isinstance(one, SessionEnd | AuthRefused):
            self.sessions += isinstance(one, SessionEnd)
            self.refused += isinstance(one, AuthRefused)
            try:
                verification.verify_chain(self._running.pop(one.session), self._key)
            except (ChainError, RecordError) as error:
                self.faults.append(f"session {one.session}: {error}")


def examine(state: Path, log: Path, user: str, legs: Legs) -> Evidence:
    """What stands in the journal below the proxy's state folder, and whether it has all that `log` has of `user`."""
    journal = _Journal(state)
    executed = Counter((line.pid, _comparable(line.statement or "")) for line in _logged(log, user))
    return Evidence(
        sessions=journal.sessions,
        refused=journal.refused,
        statements=journal.statements,
        records=journal.records,
        executed=executed.total(),
        faults=(*journal.faults, *_unrecorded(executed - journal.recorded, journal.masked)),
        legs=legs,
    )


def _unrecorded(missing: Counter[tuple[int, str]], masked: Counter[int]) -> Iterator[str]:
    """What was executed and is not on record, not even as a statement with a secret, whose text is another one."""
    for (pid, text), count in missing.items():
        excused = min(count, masked[pid])
        masked[pid] -= excused
        if count > excused:
            yield f"backend {pid} ran this unrecorded, {count - excused} times: {text[:_SHOWN]}"


def _comparable(text: str) -> str:
    """What there is of a text in every encoding: the log has the server's, the record the client's."""
    return text.encode("ascii", "ignore").decode()


def _lines(journal: Path) -> Iterator[bytes]:
    for segment in sorted(journal.glob("*.ndjson")):
        with segment.open("rb") as file:
            yield from (line.rstrip(b"\n") for line in file)


def _logged(log: Path, user: str) -> Iterator[LogLine]:
    """What the log has of a user's statements that came over TCP: the unix socket is the harness's own."""
    csv.field_size_limit(sys.maxsize)
    with log.open(newline="", errors="replace") as file:
        for line in entries(file):
            if line.user == user and line.statement is not None and not line.local:
                yield line
