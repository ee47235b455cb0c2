"""Shipping the journal to control: at least once, in order, and never at the price of the sessions' own work.

Owns the way from the acknowledged position to the journal's end. Never deletes and never changes a record: a line that
control calls a fault (409: control keeps it as one) is also kept in `faults.ndjson` beside the journal's segments, and
so one broken chain does not hold up the evidence of all other sessions.

Nothing is shipped that is not on disk. What the machine's death takes from the journal behind control's back is written
anew, under the same numbers and with other words, and control would have to call that a fraud.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

import structlog

from proxy import files, segments
from proxy.backoff import Backoff
from proxy.contract.directive import Acknowledged
from proxy.control_client import ControlError
from proxy.journal import Journal, JournalError
from proxy.segments import Batch, Position

BATCH_BYTES = 2_097_152
"""What a request costs by itself is the proxy's to pay, out of the sessions' time; control takes up to 4 MiB."""
BATCH_LINES = 5_000
"""More hold up control's one writer: a revocation would wait for it."""
POLL_S = 0.2
"""How often an idle shipper looks for new lines: two attribute reads, so that `append` has nobody to wake."""
BEHIND_BYTES = BATCH_BYTES // 2
"""From here on there is no pause between batches, and each is made ready while the one before it is on its way."""
FIRST_WAIT_S = 0.5
LAST_WAIT_S = 30.0
REFUSED_WAIT_S = 60.0
FAULTS_FILE = "faults.ndjson"

FAULT = 409
DIVISIBLE = frozenset({400, 413, 422})
"""Control may dislike one line of many: halves show which."""
PASSING = frozenset({401, 408, 425, 429})
"""What control may see otherwise in a moment, like everything from 500 on."""

log = structlog.get_logger(__name__)


class Shipper:
    """Ships one journal for as long as `run` runs. The attributes are for metrics."""

    def __init__(
        self,
        journal: Journal,
        post: Callable[[bytes], Awaitable[Acknowledged]],
        *,
        poll_s: float = POLL_S,
        first_wait_s: float = FIRST_WAIT_S,
        refused_wait_s: float = REFUSED_WAIT_S,
    ) -> None:
        """`post` sends a body of lines and raises ControlError where control did not take it."""
        self._journal = journal
        self._post = post
        self._poll_s = poll_s
        self._backoff = Backoff(first_wait_s, LAST_WAIT_S)
        self._refused_wait_s = refused_wait_s
        self._most_lines = BATCH_LINES
        self._ahead: Batch | None = None
        """The batch behind the one that was taken last."""
        self.shipped_lines = 0
        """Lines that control has taken since the start."""
        self.faults = 0
        """Lines that control called a fault in their session's chain."""
        self.refusals = 0
        """Batches that control refused for good reason or bad: shipping stands until it takes them."""
        self.failures = 0
        """Batches that could not be synced or delivered, or that control could not take at the moment."""
        self.stuck: str | None = None
        """Why the newest attempt failed; None after one that went well."""

    async def run(self) -> None:
        """Ship until cancelled."""
        while True:
            wait_s = await self._safe_step()
            await asyncio.sleep(wait_s)

    async def finish(self) -> None:
        """Ship until control has all there is: for a journal that nobody writes any more."""
        while self._journal.acknowledged < self._journal.position:
            wait_s = await self._safe_step()
            await asyncio.sleep(wait_s)

    async def _safe_step(self) -> float:
        try:
            return await self._step()
        except JournalError as error:
            return self._later("the journal cannot be synced: what its disk may lose is not shipped", error)
        except Exception:
            # The task's edge: whatever it is, the next attempt starts from the acknowledged position.
            log.exception("shipping the journal failed")
            return self._backoff.next_s()

    async def _step(self) -> float:
        """Ship one batch, and say how long to wait before the next."""
        batch, self._ahead = self._ahead, None
        if batch is None and (batch := await self._prepare(self._journal.acknowledged)) is None:
            return self._poll_s
        try:
            answer, self._ahead = await self._send(batch)
        except ControlError as error:
            return await self._failed(batch, error)
        if answer.stored + answer.known != batch.lines:
            self._ahead = None
            return self._refused(f"control acknowledged {answer.stored + answer.known} of {batch.lines} records")
        return await self._taken(batch)

    async def _send(self, batch: Batch) -> tuple[Acknowledged, Batch | None]:
        """Post it; meanwhile the next one is made ready, where that many records wait. Raises ControlError."""
        behind = self._journal.unacknowledged_bytes - len(batch.body)
        if behind < BEHIND_BYTES or len(batch.body) > BATCH_BYTES:
            return await self._post(batch.body), None
        answer, ahead = await asyncio.gather(self._post(batch.body), self._prepare(batch.after), return_exceptions=True)
        if isinstance(answer, BaseException):
            raise answer
        # What kept the next batch from being made ready shows when its turn has come.
        return answer, None if isinstance(ahead, BaseException) else ahead

    async def _prepare(self, start: Position) -> Batch | None:
        """The next batch from `start` on, all of it on disk; None where there is nothing. Raises JournalError."""
        journal = self._journal
        if journal.synced < journal.position and not _far(start, journal.synced):
            wrong = await self._sync()
            if wrong is not None and start >= journal.synced:
                raise wrong
        end = journal.synced
        if start >= end:
            return None
        batch = await asyncio.to_thread(
            segments.read_batch,
            journal.directory,
            start,
            end,
            max_bytes=BATCH_BYTES,
            max_lines=self._most_lines,
        )
        if batch is None and start == journal.acknowledged:
            # Nothing but a new segment's beginning: there is the position now, so that retention may take the old one.
            await journal.acknowledge(end)
        return batch

    async def _sync(self) -> Exception | None:
        """Have all of the journal on disk, and say what went wrong. In mode `disk` it nearly always is already."""
        over: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()

        def done(wrong: Exception | None) -> None:
            if not over.cancelled():
                over.set_result(wrong)

        self._journal.sync(done)
        return await over

    async def _taken(self, batch: Batch) -> float:
        self.shipped_lines += batch.lines
        self._most_lines = min(BATCH_LINES, 2 * self._most_lines)
        self._backoff.reset()
        if self.stuck is not None:
            log.info("shipping the journal works again")
            self.stuck = None
        await self._journal.acknowledge(batch.after)
        # Without a pause where many wait: the body goes out in pieces, and the sessions have their turns between them.
        return 0 if self._journal.unacknowledged_bytes >= BEHIND_BYTES else self._poll_s

    async def _failed(self, batch: Batch, error: ControlError) -> float:
        status = error.status
        if status == FAULT:
            return await self._fault(batch, error)
        if status is None or status in PASSING or status >= 500:  # noqa: PLR2004 HTTP's server errors
            return self._later("the journal cannot be shipped now", error)
        if status in DIVISIBLE and batch.lines > 1:
            return self._halve(batch)
        return self._refused(str(error))

    def _later(self, what: str, error: Exception) -> float:
        self.failures += 1
        self.stuck = str(error)
        wait_s = self._backoff.next_s()
        log.warning(what, error=self.stuck, again_in_s=round(wait_s, 1))
        return wait_s

    def _refused(self, text: str) -> float:
        """Control does not take what it is sent: somebody has to look. The position stays, and so does the journal."""
        self.refusals += 1
        self.stuck = text
        log.error(
            "CONTROL REFUSES RECORDS: nothing more is shipped until it takes them; the journal keeps everything",
            error=text,
            segment=self._journal.acknowledged.segment,
            offset=self._journal.acknowledged.offset,
            again_in_s=self._refused_wait_s,
        )
        return self._refused_wait_s

    def _halve(self, batch: Batch) -> float:
        self._most_lines = batch.lines // 2
        return 0

    async def _fault(self, batch: Batch, error: ControlError) -> float:
        if batch.lines > 1:
            return self._halve(batch)
        self.faults += 1
        log.error(
            "CONTROL CALLS A RECORD A FAULT: its session's chain does not hold; the record is kept at both ends",
            error=str(error),
            segment=self._journal.acknowledged.segment,
            offset=self._journal.acknowledged.offset,
        )
        await asyncio.to_thread(_keep, self._journal.directory / FAULTS_FILE, batch.body)
        return await self._taken(batch)


def _far(start: Position, end: Position) -> bool:
    """Whether a whole batch lies between them, or at least the rest of a segment."""
    return end.segment > start.segment or end.offset - start.offset >= BATCH_BYTES


def _keep(path: Path, line: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, files.PRIVATE)
    with os.fdopen(descriptor, "ab") as file:
        file.write(line)
        file.flush()
        os.fsync(descriptor)
