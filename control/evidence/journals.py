"""A journal's own chain: whether every session that a proxy has begun has arrived. Pure.

The first record of each session says its place in its journal (`proxy.contract.record.Entry`), and each signed end how
many sessions the journal has begun by then. What a proxy ships comes in the journal's order, so a place that does not
follow on the one before it means that a session is missing as a whole: removed on the way, or from the proxy's disk.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from control.evidence.chain import Flaw, Kind, Line
from proxy.contract.record import AuthRefused, Entry, JournalTorn, SessionEnd, SessionReaped, SessionStart


@dataclass(frozen=True, slots=True)
class Followed:
    """Where each journal goes on, and what was missing on the way there."""

    next: Mapping[str, Entry]
    flaws: tuple[Flaw, ...]


def journals_of(lines: Iterable[Line]) -> frozenset[str]:
    """The journals that these records speak of."""
    named = (_place(line) or _promise(line) for line in lines)
    return frozenset(entry.journal for entry in named if entry is not None)


def follow(known: Mapping[str, Entry], lines: Iterable[Line]) -> Followed:
    """Take in records that are new, of one proxy. `known` says where its journals went on until now."""
    following, flaws = dict(known), list[Flaw]()
    lines = list(lines)
    firsts = [(entry, line) for line in lines if (entry := _place(line)) is not None]
    for entry, line in sorted(firsts, key=lambda first: (first[0].journal, first[0].number)):
        expected = following.get(entry.journal) or _beginning(entry.journal)
        if entry != expected:
            flaws.append(_flaw(line, _gap(entry, expected)))
        if entry.number >= expected.number:
            following[entry.journal] = Entry(journal=entry.journal, number=entry.number + 1, prev=line.digest)
    for line in lines:
        if (promised := _promise(line)) is not None:
            reached = following.get(promised.journal) or _beginning(promised.journal)
            wrong = promised.number == reached.number and promised.prev != reached.prev
            if promised.number > reached.number or wrong:
                flaws.append(_flaw(line, f"its journal had {promised.number} sessions by then; {reached.number} came"))
    return Followed(following, tuple(flaws))


def _place(line: Line) -> Entry | None:
    record = line.record
    return record.entry if isinstance(record, SessionStart | AuthRefused | SessionReaped | JournalTorn) else None


def _promise(line: Line) -> Entry | None:
    return line.record.next_entry if isinstance(line.record, SessionEnd) else None


def _beginning(journal: str) -> Entry:
    return Entry(journal=journal, number=0, prev="")


def _gap(entry: Entry, expected: Entry) -> str:
    if entry.number > expected.number:
        return f"{entry.number - expected.number} sessions before it in its journal have not arrived"
    if entry.number < expected.number:
        return f"another session was number {entry.number} of its journal"
    return "the session before it in its journal is another one than arrived"


def _flaw(line: Line, detail: str) -> Flaw:
    return Flaw(Kind.MISSING, detail, line.record.session, str(line.record.seq), line.raw)
