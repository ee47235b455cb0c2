"""The sessions of a journal, one behind the other: whether one is missing as a whole. Pure.

The first record of each session says its place in its journal (`proxy.contract.record.Entry`), and each signed end how
many sessions the journal has begun by then. A place that does not follow on the one before it means that a session is
missing: removed on the way, or from the proxy's disk. Where what was found is kept is the caller's.
"""

from dataclasses import dataclass

from proxy.contract.record import ALONE, AnyRecord, Entry, SessionEnd, SessionStart


@dataclass(frozen=True, slots=True, kw_only=True)
class Break:
    """A place that is not the one that was due."""

    found: Entry
    due: Entry

    @property
    def missing(self) -> int:
        """How many sessions are missing between them; 0 where it is another fault."""
        return max(0, self.found.number - self.due.number)

    def __str__(self) -> str:
        """In words, of the session that was found there."""
        if self.missing:
            return f"{self.missing} sessions before it in its journal have not arrived"
        if self.found.number < self.due.number:
            return f"another session was number {self.found.number} of its journal"
        return "the session before it in its journal is another one than arrived"


def place(record: AnyRecord) -> Entry | None:
    """Where the session that begins with this record stands in its journal; None for other records, and old ones."""
    return record.entry if isinstance(record, (SessionStart, *ALONE)) else None


def promise(record: AnyRecord) -> Entry | None:
    """What this record says that the journal's next session will have; None where it says nothing of it."""
    return record.next_entry if isinstance(record, SessionEnd) else None


def beginning(journal: str) -> Entry:
    """The place of a journal's first session."""
    return Entry(journal=journal, number=0, prev="")


def behind(entry: Entry, digest: str) -> Entry:
    """The place behind the session that has `entry` in a first record of this hash (`proxy.contract.chain`)."""
    return Entry(journal=entry.journal, number=entry.number + 1, prev=digest)


def check_place(found: Entry, due: Entry) -> Break | None:
    """What is wrong with a session's place where `due` was to follow; None where nothing is."""
    return None if found == due else Break(found=found, due=due)


def holds(promised: Entry, reached: Entry) -> bool:
    """Whether a journal that has got to `reached` has all that began before a session's end promised this."""
    if promised.number == reached.number:
        return promised.prev == reached.prev
    return promised.number < reached.number
