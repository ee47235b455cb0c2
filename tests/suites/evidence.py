"""What the proxy recorded of a suite: every session's chain checked, and what there is counted.

Reads the journal of a proxy that has ended, line by line: a suite leaves some hundred megabytes.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from proxy.contract import record
from proxy.contract.record import AuthRefused, ChainError, RecordError, SessionEnd, StatementStart
from proxy.identity import load_or_create


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What is on record."""

    sessions: int
    refused: int
    """Connections that were not let in."""
    statements: int
    records: int
    faults: tuple[str, ...]
    """Sessions whose chain or signature does not hold, or that have no end."""

    def __str__(self) -> str:
        counts = f"{self.sessions:,} sessions, {self.statements:,} statements, {self.records:,} records"
        refused = f", {self.refused:,} connections refused" if self.refused else ""
        return f"{counts}{refused}; " + ("\n".join(self.faults) or "every chain and signature holds")


def examine(state: Path) -> Evidence:
    """What stands in the journal below the proxy's state folder."""
    key = load_or_create(state).public_key()
    running: dict[str, list[bytes]] = {}
    sessions = refused = statements = records = 0
    faults: list[str] = []
    for line in _lines(state / "journal"):
        one = record.decode(line)
        running.setdefault(one.session, []).append(line)
        records += 1
        statements += isinstance(one, StatementStart)
        refused += isinstance(one, AuthRefused)
        if isinstance(one, SessionEnd | AuthRefused):
            sessions += isinstance(one, SessionEnd)
            try:
                record.verify_chain(running.pop(one.session), key)
            except (ChainError, RecordError) as error:
                faults.append(f"session {one.session}: {error}")
    faults += [f"session {session} has no end" for session in running]
    return Evidence(sessions=sessions, refused=refused, statements=statements, records=records, faults=tuple(faults))


def _lines(journal: Path) -> Iterator[bytes]:
    for segment in sorted(journal.glob("*.ndjson")):
        with segment.open("rb") as file:
            yield from (line.rstrip(b"\n") for line in file)
