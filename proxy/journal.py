# cython: annotation_typing=False, binding=False
"""The journal: the proxy's append-only local log, written before a statement goes upstream (DESIGN.md promise 4).

Owns the directory (one process at a time), the lines not yet written, the newest segment, and the bound of all of them.
A line is opaque here: its chain and signature are the caller's (`contract.record.Chain`), shipping it is
`proxy.shipping`'s, reading segments is `proxy.segments`'s, and the closed ones are `proxy.archive`'s. Never has a line
deleted that control has not acknowledged.

How it fails: closed. When a write fails, the segment is cut back to its last whole line, and every append raises. No
line is thrown away, not even the refused one: a chain that was sealed and not written would have a gap. (A refused
`session.start` alone is, since nothing follows it.) So the end of a session is to be handed over even now. The lines
wait in memory, and where the cause can pass (a full disk, the size limit) `flush` tries again; the first success heals
the journal. A refused statement.start may so appear later, followed by its session's end, which is what happened.
Where the cause cannot pass (an I/O error, KEPT_BYTES exceeded) the journal stays shut until it is opened anew.

Durability: a line is the kernel's when `append` returns, so a dead process loses nothing; segments are synced as they
are closed. What a power cut takes from the newest segment is the one gap, and `sync` closes it for whoever waits for it
(`durability = "disk"` of a target, and shipping): all that ask at the same time share one fdatasync.

Every `append` is a write of its own. A segment mapped into memory would need none, but a failing disk tells a mapping
so by SIGBUS, which ends all sessions at once and lets nobody say why.
"""

import asyncio
import errno
import os
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NoReturn

import msgspec
import structlog

from proxy import files, segments
from proxy.archive import Archive
from proxy.contract.chain import Chain
from proxy.contract.record import Entry
from proxy.group_commit import GroupCommit
from proxy.retention import Retention
from proxy.segments import OpenSession, Position

LAZY_BYTES = 262_144
"""Lazily appended lines wait for company up to this size."""
KEPT_BYTES = 4_194_304
"""What may join the first refused line in memory: about four records for each of 1,000 sessions, to end them with."""
RETRY_S = 1.0
PASSING = frozenset({errno.ENOSPC, errno.EDQUOT})
SHUT = -1
"""`_room` while the journal is broken: every append then takes the slow path, and the fast one needs no check."""

LOCK_FILE = "lock"

_NEWLINE = b"\n"
log = structlog.get_logger(__name__)


class JournalError(Exception):
    """The journal cannot take the line, or cannot be opened. The text names the path and what to do."""


class Journal:
    """An open journal. Not thread-safe: it belongs to the event loop's thread."""

    def __init__(
        self, directory: Path, lock: int, *, segment_bytes: int, limit_bytes: int, retention_s: float, retry_s: float
    ) -> None:
        """For `open` only."""
        self.directory = directory
        self.torn_bytes = 0
        """What the last crash left of a line that was never acknowledged to anyone, and `open` cut off."""
        self.unfinished: dict[str, OpenSession] = {}
        """The sessions found open by `open`. Each wants its `session.end`, by `append_end`."""
        self.acknowledged = Position(0, 0)
        """How far control has everything."""
        self.next_entry: Entry
        """The place of the next session: what its first record is to have as `entry`."""
        self.fault: str | None = None
        """Why the journal takes nothing at the moment."""
        self._lock = lock
        self._segment_bytes = min(segment_bytes, limit_bytes // 4)
        self._limit_bytes = limit_bytes
        self._retry_s = retry_s
        self._retry_at: float | None = None
        self._keep_bytes = 0
        self._lines: list[bytes] = []
        """What is not written yet: lines, and behind each its newline."""
        self._waiting = 0
        """How many bytes that is."""
        self._open: dict[str, OpenSession] = {}
        self._archive = Archive(directory, Retention(retention_s))
        self._number = 0
        self._size = 0
        self._file = -1
        self._room = SHUT
        self._checkpointed = 0
        """The segment that the checkpoint on disk is for; it and all behind it are needed to start again."""
        self._syncer = ThreadPoolExecutor(1, thread_name_prefix="journal-sync")
        self._retiring: tuple[int, Future[bool]] | None = None
        self._commits = GroupCommit(self._begin_sync, self._judge_sync)

    @classmethod
    def open(
        cls, directory: Path, *, segment_bytes: int, limit_bytes: int, retention_s: float = 0, retry_s: float = RETRY_S
    ) -> "Journal":
        """Open the journal in `directory`, made where it is missing; cleans up after a crash. Raises JournalError."""
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = files.lock(directory / LOCK_FILE)
        except BlockingIOError as error:
            other = "another proxy writes this journal; stop it, or give this one a proxy.state_dir of its own"
            raise JournalError(f"{directory}: {other}") from error
        except OSError as error:
            raise _unusable(directory, error) from error
        sizes = {"segment_bytes": segment_bytes, "limit_bytes": limit_bytes}
        journal = cls(directory, lock, **sizes, retention_s=retention_s, retry_s=retry_s)
        try:
            journal._recover()
        except OSError as error:
            journal._release()
            raise _unusable(directory, error) from error
        except BaseException:
            journal._release()
            raise
        return journal

    @property
    def position(self) -> Position:
        """The end of what is written. Everything before it is whole lines and stays as it is."""
        return Position(self._number, self._size)

    @property
    def unacknowledged_bytes(self) -> int:
        """How much control does not have yet."""
        return self._archive.bytes_from(self.acknowledged.segment) + self._size - self.acknowledged.offset

    @property
    def total_bytes(self) -> int:
        """How long all segments are together."""
        return self._archive.total_bytes + self._size

    @property
    def retained_bytes(self) -> int:
        """How much of what control has must stay all the same."""
        return self._archive.retained_bytes(self.acknowledged.segment)

    @property
    def syncs(self) -> int:
        """How many syncs were asked for by `sync`."""
        return self._commits.syncs

    @property
    def synced(self) -> Position:
        """How far the journal is known to be on disk: what is behind it, the death of the machine may still take."""
        return self._commits.synced

    def append(self, line: bytes) -> None:
        """Write `line` (without newline) and everything buffered before it: it is written when this returns.

        Raises JournalError, and then nothing may be done on the strength of the line.
        """
        lines = self._lines
        lines.append(line)
        lines.append(_NEWLINE)
        self._waiting += len(line) + 1
        size = self._waiting
        if size >= self._room:
            self._write_slowly()
            return
        text = b"".join(lines)
        try:
            written = os.write(self._file, text)
        except OSError as error:
            self._fail(error)
        if written != size:
            self._write_rest(text, written)
        lines.clear()
        self._waiting = 0
        self._size += size
        self._room -= size

    def append_lazily(self, line: bytes) -> None:
        """Take `line` in order, to be written with the next `append` or `flush`. Raises JournalError."""
        self._lines.append(line)
        self._lines.append(_NEWLINE)
        self._waiting += len(line) + 1
        if self._room == SHUT or self._waiting > LAZY_BYTES:
            self._write_slowly()

    def append_start(self, chain: Chain, line: bytes) -> None:
        """As `append`, for a `session.start` that `chain` sealed: the journal knows the session as open from now on.

        Every line of the chain must be handed over before anything else runs (no await between sealing and here).
        Where this raises, the session never was: its start is not kept either, and nothing else of it may follow.
        """
        self._open[chain.session] = OpenSession(chain=chain, start=line)
        try:
            self.append(line)
        except JournalError:
            del self._open[chain.session]
            if self._lines:  # It is the newest, if anything is kept at all.
                del self._lines[-2:]
                self._waiting -= len(line) + 1
            raise
        self.next_entry = segments.behind(self.next_entry, line)

    def append_only(self, line: bytes) -> None:
        """As `append`, for the only record of a chain. Where this raises it keeps its place all the same."""
        self.next_entry = segments.behind(self.next_entry, line)
        self.append(line)

    def append_end(self, chain: Chain, line: bytes) -> None:
        """As `append`, for the chain's `session.end`."""
        self._open.pop(chain.session, None)
        self.append(line)

    def flush(self) -> None:
        """Write what is buffered; while the journal is broken, try at most every `retry_s`. Raises JournalError."""
        if self.fault is not None and self._retry_at is not None and time.monotonic() >= self._retry_at:
            self._retry()
        elif self._lines or self._retiring is not None or self.fault is not None:
            self._write_slowly()

    def sync(self, done: Callable[[Exception | None], None]) -> None:
        """Call `done` in the event loop once all that was appended until now is on disk, or with the JournalError."""
        self._commits.ask(done)

    async def acknowledge(self, position: Position) -> None:
        """Control has everything before `position`. Raises OSError when that cannot be saved; it counts even so."""
        self.acknowledged = position
        await asyncio.to_thread(segments.save_position, self.directory, position)

    def close(self) -> None:
        """Write and sync what there is, and give the directory up. Raises JournalError where that fails."""
        if self._file < 0:
            return
        try:
            if self._lines:
                self._retry() if self._retry_at is not None else self._write_slowly()
            self._await_retired()
            os.fdatasync(self._file)
        except OSError as error:
            raise _unusable(self.directory, error) from error
        finally:
            self._release()

    def _write_slowly(self) -> None:
        """Write the buffer where it is not plain: the journal is broken, the segment is full, or so is the limit."""
        if self.fault is not None:
            self._refuse()
        self._reap()
        if self.total_bytes + self._waiting > self._limit_bytes and not self._make_way():
            self._break(
                f"{self.directory}: the journal has reached proxy.journal.limit_bytes ({self._limit_bytes}), and "
                + (
                    "proxy.journal.retention_s keeps what control has; raise the limit, or keep it for less long"
                    if self.retained_bytes
                    else "control has not acknowledged what it holds; bring control back, or raise the limit"
                ),
                passing=True,
            )
        self._write_rest(b"".join(self._lines), 0)
        self._size += self._waiting
        self._forget()
        if self._size >= self._segment_bytes:
            self._rotate()
        self._measure()

    def _write_rest(self, text: bytes, done: int) -> None:
        try:
            while done < len(text):
                done += os.write(self._file, memoryview(text)[done:])
        except OSError as error:
            self._fail(error)

    def _forget(self) -> None:
        """Nothing waits: it is written, or given up."""
        self._lines.clear()
        self._waiting = 0

    def _measure(self) -> None:
        """Set how much the fast path may write before it has to look again."""
        self._room = max(0, min(self._segment_bytes - self._size, self._limit_bytes - self.total_bytes))

    def _fail(self, error: OSError) -> NoReturn:
        """A write failed, perhaps half way: cut the segment back to whole lines, and take nothing more."""
        passing = error.errno in PASSING
        try:
            os.ftruncate(self._file, self._size)
        except OSError:
            passing = False  # a torn line is in the file now: only `open` may go on behind it
        advice = "make room on its disk" if passing else "see to its disk, then restart the proxy"
        self._break(f"{self.directory}: {error.strerror}; {advice}", passing=passing)

    def _break(self, fault: str, *, passing: bool) -> NoReturn:
        first = self._retry_at is None
        self.fault = fault
        self._room = SHUT
        self._retry_at = time.monotonic() + self._retry_s if passing else None
        if first:
            self._keep_bytes = self._waiting + KEPT_BYTES
        if first or not passing:
            log.error("the journal takes no more records; statements are refused", fault=fault)
        self._refuse()

    def _refuse(self) -> NoReturn:
        """Keep what is offered, within the bound, and say no."""
        if self._retry_at is not None and self._waiting > self._keep_bytes:
            # What is dropped leaves gaps in chains that must never be written behind: no healing from here.
            self._retry_at = None
            self.fault = f"{self.fault}; then restart the proxy, since more records came than could be kept meanwhile"
            log.error("the journal stays shut until the proxy is restarted", fault=self.fault)
        if self._retry_at is None:
            self._forget()
        raise JournalError(self.fault)

    def _retry(self) -> None:
        """Try to go on after a cause that can pass."""
        self.fault = None
        self._archive.look_again()
        self._write_slowly()
        self._retry_at = None
        log.info("the journal takes records again", directory=str(self.directory))

    def _make_way(self) -> bool:
        """Have segments deleted that nobody needs any more. Returns whether what waits fits now."""
        excess = self.total_bytes + self._waiting - self._limit_bytes
        return self._archive.make_way(excess, before=min(self.acknowledged.segment, self._checkpointed))

    def _rotate(self) -> None:
        """Go on in a new segment. The full one is synced by a thread, for that can take long.

        Called when nothing waits, so the open sessions' chains are exactly what is written: that is the checkpoint.
        """
        self._reap(wait=True)
        number = self._number + 1
        try:
            file = segments.create(self.directory, number)
        except OSError as error:
            # The line is written: this append has done its work. The next one tries to rotate again.
            log.warning("the journal cannot begin a new segment", directory=str(self.directory), error=str(error))
            return
        checkpoint = segments.encode_checkpoint(number, list(self._open.values()), self.next_entry)
        retired = self._syncer.submit(segments.retire, self._file, self.directory, checkpoint)
        self._retiring = (number, retired)
        self._archive.closed(self._number, self._size)
        self._number, self._file, self._size = number, file, 0

    def _reap(self, *, wait: bool = False) -> None:
        """See what became of the segment that was last retired."""
        if self._retiring is None or not (wait or self._retiring[1].done()):
            return
        try:
            self._await_retired()
        except OSError as error:
            # fsync(2): after a failed sync nobody knows which lines are on disk, and asking again proves nothing.
            self._break(f"{self.directory}: {error.strerror}; see to its disk, then restart the proxy", passing=False)

    def _begin_sync(self) -> tuple[Position, Future[None]]:
        return self.position, self._syncer.submit(os.fdatasync, self._file)

    def _judge_sync(self, synced: Future[None]) -> JournalError | None:
        """What became of a sync. The segments before went through the same thread, so their syncs are over too.

        One that goes well behind one that failed proves nothing: the kernel reports a failed write once (fsync(2)).
        """
        try:
            self._reap()
            if (error := synced.exception()) is not None:
                self._break(f"{self.directory}: {error}; see to its disk, then restart the proxy", passing=False)
        except JournalError as failure:
            return failure
        if self.fault is not None and self._retry_at is None:
            return JournalError(self.fault)
        return None

    def _await_retired(self) -> None:
        if self._retiring is not None:
            number, retired = self._retiring
            self._retiring = None
            if retired.result():
                self._checkpointed = number

    def _recover(self) -> None:
        listed = segments.numbers(self.directory)
        if listed:
            self._number = listed[-1]
            newest = segments.path_of(self.directory, self._number)
            self.torn_bytes = segments.cut_torn_tail(newest)
            if self.torn_bytes:
                log.warning("cut a line that a crash had left unfinished", path=str(newest), bytes=self.torn_bytes)
            self._file = os.open(newest, os.O_WRONLY | os.O_APPEND)
            self._size = newest.stat().st_size
        else:
            self._number = 1
            self._file = segments.create(self.directory, 1)
        for number in listed[:-1]:
            self._archive.found(number)
        checkpoint = segments.load_checkpoint(self.directory)
        self._checkpointed = checkpoint.segment if checkpoint is not None else 0
        if unsure := [number for number in listed[:-1] if number >= self._checkpointed]:
            # Full segments that nobody may have synced: a kill -9 came before their retirement was over.
            self._retiring = (0, self._syncer.submit(segments.sync, self.directory, unsure))
        survey = segments.survey(self.directory, checkpoint)
        self.unfinished = survey.open
        self.next_entry = survey.next_entry or Entry(journal=segments.new_id(), number=0, prev="")
        self._open = dict(self.unfinished)
        self.acknowledged = self._load_acknowledged()
        self._measure()

    def _load_acknowledged(self) -> Position:
        first = Position(self._archive.first or self._number, 0)
        saved = segments.load_position(self.directory)
        if saved is None:
            return first
        if saved > self.position:
            log.error(
                "the journal is shorter than what control has: its newest lines were lost with the machine's power",
                directory=str(self.directory),
                acknowledged=msgspec.to_builtins(saved),
                position=msgspec.to_builtins(self.position),
            )
        return max(first, min(saved, self.position))

    def _release(self) -> None:
        self._syncer.shutdown()
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
        self._room = SHUT
        self.fault = self.fault or f"{self.directory}: the journal is closed"
        self._retry_at = None
        os.close(self._lock)


def _unusable(directory: Path, error: OSError) -> JournalError:
    reason = error.strerror or str(error)
    return JournalError(f"{directory}: {reason}; proxy.state_dir must be a directory that the proxy can write")
