# cython: annotation_typing=False, binding=False
"""One session's records: chains them and hands them to the journal.

It decides when a record must be on its way before anything else happens (`before`) and when it may follow (`after`).
It never looks into a statement (see `proxy.wire.tracker`).
"""

from collections.abc import Callable

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from proxy.contract.chain import Chain
from proxy.contract.record import AuthRefused, CopyData, JournalTorn, Record, SessionEnd, SessionReaped, SessionStart
from proxy.journal import Journal
from proxy.wire import copying
from proxy.wire.steps import Noted, Step


class Recorder:
    """The records of one session."""

    __slots__ = ("_chain", "_journal", "_key")

    def __init__(self, journal: Journal, key: Ed25519PrivateKey, chain: Chain) -> None:
        self._journal = journal
        self._key = key
        self._chain = chain

    def start(self, record: SessionStart) -> None:
        """Write the first record: from now on the session owes an end. Raises JournalError."""
        record.entry = self._journal.next_entry
        self._journal.append_start(self._chain, self._chain.seal(record))

    def before(self, records: list[Noted]) -> None:
        """Write records (one at least), and the starts of statements, which must not go on until they are written.

        Raises JournalError.
        """
        if len(records) == 1:
            self._journal.append(self._started(records[0]))
        else:
            self._journal.append(b"\n".join([self._started(record) for record in records]))

    def _started(self, record: Noted) -> bytes:
        if isinstance(record, Step):
            return self._chain.seal_fields("statement.start", record.start)
        return self._sealed(record)

    def _sealed(self, record: Record) -> bytes:
        if isinstance(record, CopyData):
            return self._chain.seal_fields("copy.data", copying.fields(record))
        return self._chain.seal(record)

    @property
    def recorded(self) -> int:
        """How many records the session has."""
        return self._chain.next_seq

    def sync(self, done: Callable[[Exception | None], None]) -> None:
        """Call `done` once all that was written is on disk, or with what keeps it from there."""
        self._journal.sync(done)

    def settle(self) -> None:
        """Do what was put off so that nobody had to wait for it."""
        self._chain.settle()

    def after(self, records: list[Noted]) -> None:
        """Write records of what has happened, and the ends of statements, with the next write or within milliseconds.

        Raises JournalError.
        """
        for record in records:
            if isinstance(record, Step):
                self._journal.append_lazily(self._ended(record))
            else:
                self._journal.append_lazily(self._sealed(record))

    def write(self) -> None:
        """Write what waits, now. Raises JournalError."""
        self._journal.flush()

    def _ended(self, step: Step) -> bytes:
        return self._chain.seal_fields("statement.end", step.end())

    def refuse(self, record: AuthRefused) -> None:
        """Write the only record of a connection that was not admitted, signed. Raises JournalError."""
        record.entry = self._journal.next_entry
        self._journal.append_only(self._chain.seal_signed(record, self._key))

    def reap(self, record: SessionReaped) -> None:
        """Write the only record of a backend that another proxy left, signed. Raises JournalError."""
        record.entry = self._journal.next_entry
        self._journal.append_only(self._chain.seal_signed(record, self._key))

    def tear(self, record: JournalTorn) -> None:
        """Write the only record of a break in the journal, signed. Raises JournalError."""
        record.entry = self._journal.next_entry
        self._journal.append_only(self._chain.seal_signed(record, self._key))

    def end(self, record: SessionEnd) -> None:
        """Write the last record, signed. Raises JournalError."""
        record.next_entry = self._journal.next_entry
        self._journal.append_end(self._chain, self._chain.seal_signed(record, self._key))
