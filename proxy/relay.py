# cython: annotation_typing=False, binding=False
"""The hot path: both directions of an admitted session, until something ends it.

Client to PostgreSQL: only whole messages go on, and only when the records they need are written. PostgreSQL to client:
everything goes on at once; message headers are scanned to know what was answered and where a message of ours may stand
between two of theirs. Neither direction waits for the other, and each is bounded by the other leg's write buffer.

It decides nothing about the end: it reports the first cause there is to `ended`, and `proxy.session` does the rest.
"""

import asyncio
import contextlib
import sys
import time
from collections.abc import Callable
from typing import Literal

import structlog

from proxy.contract.record import Record
from proxy.errors import JournalFailed, ProtocolViolation, SessionError
from proxy.journal import JournalError
from proxy.leg import CROWDED, Leg
from proxy.recorder import Recorder
from proxy.wire.framing import IMPLEMENTATION, BackendFramer, FrontendFramer
from proxy.wire.gate import Gate, first
from proxy.wire.owed import wants_copy_data, withdraw
from proxy.wire.steps import Noted, Step
from proxy.wire.tracker import Tracker

Cause = SessionError | Literal["client", "upstream", "finished"]
"""Why the relay ended: a fault, which of the two sides stopped talking, or that `finish` has come to its end."""

ERROR = ord("E")
HELD_BYTES = 262_144
"""What waits for the disk at most before the client is read no more."""
_now = time.monotonic_ns
log = structlog.get_logger(__name__)
FATAL_MARKS = (b"VFATAL\0", b"VPANIC\0")


def _no_shortcut(*_: object) -> None:
    """Everything goes through framers, tracker and recorder, which give the same."""


make_shortcut: "Callable[..., Shortcut | None]" = _no_shortcut
if IMPLEMENTATION == "cython":
    with contextlib.suppress(ImportError, TypeError, ValueError):  # not built here, or beside modules that were not
        from proxy._shortcut import Shortcut

        make_shortcut = Shortcut


def _first_statement(records: list[Noted]) -> int:
    """The number of the first statement that these records begin."""
    return min((one.statement for one in records if isinstance(one, Step)), default=sys.maxsize)


class Relay:
    """The two directions of one session."""

    __slots__ = (
        "_backend",
        "_client",
        "_closing",
        "_frontend",
        "_gate",
        "_gone_on",
        "_held",
        "_injected",
        "_on_disk",
        "_recorder",
        "_settled",
        "_shortcut",
        "_shows_out",
        "_to_client",
        "_to_upstream",
        "_tracker",
        "_upstream",
        "_withheld",
        "bytes_in",
        "ended",
        "upstream_ended",
        "withdrawn",
    )

    def __init__(
        self,
        client: Leg,
        upstream: Leg,
        tracker: Tracker,
        recorder: Recorder,
        *,
        limit: int,
        durable: bool = False,
    ) -> None:
        """`limit`: bytes of a message. `durable`: records are on disk, not only written, before anything goes on."""
        self._client = client
        self._upstream = upstream
        # A transport that is closing throws away what it is given.
        self._to_client = client.transport.write
        self._to_upstream = self._hold if durable else upstream.transport.write
        self._held: list[bytes] = []
        self._on_disk = -1
        self._gone_on = 0
        """The statements that PostgreSQL has, where records go to the disk first."""
        self.withdrawn: list[Step] = []
        """Statements that are on record and that PostgreSQL never gets, because the session ended first."""
        self._recorder = recorder
        self._frontend = FrontendFramer(limit, tracker.copies.shows_in)
        self._backend = BackendFramer(tracker.copies.shows_out)
        self._shows_out = tracker.copies.shows_out
        self._withheld: bool | None = None
        """Whether the client's stream is between two messages, once it gets no more because that is not on record."""
        self._injected: list[bytes] = []
        self._closing = False
        self._settled = False
        self._gate: Gate | None = None
        """Where nothing more may begin."""
        self._tracker = tracker
        self._shortcut = make_shortcut(tracker, recorder, self._frontend, self._backend)
        self.bytes_in = 0
        loop = asyncio.get_running_loop()
        self.ended: asyncio.Future[Cause] = loop.create_future()
        """The first cause to end the session."""
        self.upstream_ended: asyncio.Future[None] = loop.create_future()
        """PostgreSQL has said its last word."""

    @property
    def tracker(self) -> Tracker:
        """The session's statements, up to this moment."""
        if self._shortcut is not None:
            self._shortcut.leave()
        return self._tracker

    @property
    def bytes_out(self) -> int:
        """Bytes that PostgreSQL has sent."""
        return self._backend.position

    @property
    def copied(self) -> tuple[int, int]:
        """Bytes of CopyData from the client, and from PostgreSQL."""
        return self._frontend.copy_bytes, self._backend.copy_bytes

    def start(self) -> None:
        """Let both directions run."""
        self._client.source, self._upstream.source = self._upstream, self._client
        self._upstream.relay_to(self._from_upstream, self._upstream_end, self._fault)
        self._client.relay_to(self._from_client, self._client_end, self._fault)
        self._client.closed.add_done_callback(lambda _: self._client_end())

    # Client to PostgreSQL.

    def _from_client(self, data: bytes) -> None:
        shortcut = self._shortcut
        if shortcut is not None and not self.ended.done() and self._asks_plainly(data, shortcut):
            return
        messages, forward = self._frontend.feed(data)
        self.bytes_in += len(data)
        if self.ended.done():
            return
        if self._gate is not None:
            size, count = self._gate.passes(forward)
            messages, forward = first(messages, count) if size else [], forward[:size]
        if messages:
            records = self._tracker.requests(messages, _now())
            if records and not self._record_before(records):
                self._withdraw(_first_statement(records))
                return
        if forward:
            self._to_upstream(forward)
            self._recorder.settle()
        if messages:
            self._relieve()
            if self._tracker.crowded:
                self._client.pause(CROWDED)
        if self._frontend.error is not None:
            self._end(ProtocolViolation(self._frontend.error, detail=self._frontend.error))

    def _asks_plainly(self, data: bytes, shortcut: "Shortcut") -> bool:
        try:
            plain = shortcut.asks(data)
        except JournalError as error:
            self.bytes_in += len(data)
            self._end(JournalFailed(str(error)))
            self._withdraw(self.tracker.statements)
            return True
        if plain:
            self.bytes_in += len(data)
            self._to_upstream(data)
            self._recorder.settle()
        return plain

    def _record_before(self, records: list[Noted]) -> bool:
        try:
            self._recorder.before(records)
        except JournalError as error:
            self._end(JournalFailed(str(error)))
            return False
        return True

    # Durability `disk`.

    def _hold(self, data: bytes) -> None:
        """Send to PostgreSQL when the records that `data` needs are on disk. Until then the client is not read.

        But for COPY's data: what comes while a sync runs shares the next one, up to HELD_BYTES.
        """
        if not self._held and self._recorder.recorded == self._on_disk:
            self._upstream.transport.write(data)
            return
        self._held.append(data)
        if self._holds_enough():
            self._client.pause()
        if len(self._held) == 1:
            self._sync()

    def _holds_enough(self) -> bool:
        return bool(self._held) and (sum(map(len, self._held)) >= HELD_BYTES or not wants_copy_data(self._tracker.owed))

    def _sync(self) -> None:
        covered = len(self._held), self._recorder.recorded, self.tracker.statements
        self._recorder.sync(lambda wrong: self._synced(wrong, *covered))

    def _synced(self, wrong: Exception | None, count: int, recorded: int, statements: int) -> None:
        if wrong is not None:
            self._end(JournalFailed(str(wrong)))
        if self._closing or self.ended.done():
            self._drop_held()
            return
        self._gone_on = statements
        going, self._held = self._held[:count], self._held[count:]
        self._on_disk = recorded
        self._upstream.transport.write(b"".join(going))
        if self._held:
            self._sync()
        if not self._holds_enough() and not self._upstream.blocked:
            self._client.resume()

    def _drop_held(self) -> None:
        if self._held:
            self._held.clear()
            self._withdraw(self._gone_on + 1)

    def _withdraw(self, first: int) -> None:
        """Statement `first` and all behind it never go on: nothing is open, or runs, because of them."""
        self.withdrawn += withdraw(self.tracker.owed, first)

    def _client_end(self) -> None:
        if self.tracker.terminated:
            return  # PostgreSQL does what it was asked to do before Terminate, and then ends the session itself.
        if self._client.closed.done() or self._client.encrypted or not self._works_on():
            self._end("client")
        # A client that only closed its sending half (`printf ... | nc -N`) still gets the answers it waits for:
        # the session ends when PostgreSQL is idle again, see _from_upstream.

    def _works_on(self) -> bool:
        """Whether there is an answer to wait for without hearing from the client again."""
        return self.tracker.busy and not wants_copy_data(self.tracker.owed)

    # PostgreSQL to client.

    def _from_upstream(self, data: bytes) -> None:
        if (shortcut := self._shortcut) is None or not self._answers_plainly(data, shortcut):
            self._relay_answers(data)
        if self._gate is not None and not self._tracker.busy:
            self._end("finished")
        if self._client.ended and not self._works_on() and not self.tracker.terminated:
            self._end("client")

    def _relay_answers(self, data: bytes) -> None:
        between = self._backend.boundary == self._backend.position
        messages = self._backend.feed(data)
        if self._shows_out and not self._note_first(messages, between=between):
            return
        if self._closing:
            self._forward_last(data, messages)
        elif self._injected:
            self._forward_with_ours(data)
        else:
            self._to_client(data)
        if messages and not self._shows_out:  # Noted after it is forwarded, so that nobody waits for it.
            self._note_responses(messages)
        if self._backend.error is not None:
            self._end("upstream")

    def _answers_plainly(self, data: bytes, shortcut: "Shortcut") -> bool:
        if self._closing or self._injected:
            shortcut.leave()
            return False
        plain = shortcut.answers(data)
        if plain:
            self._to_client(data)
            try:
                shortcut.end(data)
            except JournalError as error:
                self._end(JournalFailed(str(error)))
        return plain

    def _note_first(self, messages: list[tuple[int, bytes, int]], *, between: bool) -> bool:
        """Record what PostgreSQL says before the client hears it. Returns whether it may; once not, never again."""
        if messages:
            self._note_responses(messages)
        try:
            self._recorder.write()
        except JournalError as error:
            self._end(JournalFailed(str(error)))
            if self._withheld is None:
                self._withheld = between and not self._injected
        return self._withheld is None

    def _note_responses(self, messages: list[tuple[int, bytes, int]]) -> None:
        records = self._tracker.responses(messages, _now(), self._frontend.copy_bytes)
        if records:
            self._record_after(records)
        self._relieve()
        if not self._tracker.crowded:
            self._client.resume(CROWDED)

    def _relieve(self) -> None:
        """Let nothing pile up that nobody bounds otherwise."""
        if self._tracker.piled:
            self._record_after(self._tracker.let_go(_now()))
        if self._tracker.lost:
            text = "a statement was sent while a COPY before it took data, and that failed"
            self._end(ProtocolViolation(text, detail="Send CopyDone or CopyFail before the next statement."))

    def record(self, record: Record) -> None:
        """Write a record that is not a statement's."""
        self._record_after([record])

    def _record_after(self, records: list[Noted]) -> None:
        try:
            self._recorder.after(records)
        except JournalError as error:
            self._end(JournalFailed(str(error)))

    def _upstream_end(self) -> None:
        if not self.upstream_ended.done():
            self.upstream_ended.set_result(None)
        self._end("upstream")

    # Messages of our own, between two of PostgreSQL's.

    def tell(self, message: bytes) -> None:
        """Send a message of ours to the client as soon as PostgreSQL's stream is between two messages."""
        if self._closing:
            return
        if self._backend.boundary == self._backend.position:
            self._client.write(message)
        else:
            self._injected.append(message)

    def _forward_with_ours(self, data: bytes) -> None:
        cut = len(data) - (self._backend.position - self._backend.boundary)
        if cut < 0:  # Still inside the message that an earlier chunk began.
            self._client.write(data)
            return
        self._client.write(b"".join([data[:cut], *self._injected, data[cut:]]))
        self._injected.clear()

    def finish(self) -> None:
        """Let what PostgreSQL was asked come to its end, and nothing more begin; then `ended` says "finished"."""
        if self._shortcut is not None:
            self._shortcut.leave()
            self._shortcut = None
        self._gate = Gate(self._frontend.copy_left)

    @property
    def turned_away(self) -> bool:
        """Whether the client has asked for something since `finish`."""
        return self._gate is not None and self._gate.shut

    def close_in(self) -> None:
        """Forward nothing more to PostgreSQL, and to the client only up to the next end of a message."""
        if self._closing:
            return
        self._closing = True
        between = self._backend.boundary == self._backend.position
        self._settled = between if self._withheld is None else self._withheld
        self._injected.clear()
        self._drop_held()
        self._client.discard()
        self._upstream.source = None
        self._client.source = None
        self._upstream.resume()

    @property
    def settled(self) -> bool:
        """After `close_in`: whether the client's stream stands between two messages, so that ours can follow."""
        return self._settled

    def _forward_last(self, data: bytes, messages: list[tuple[int, bytes, int]]) -> None:
        """Complete the message that the client has begun to receive; what follows, FATALs too, it does not get."""
        if self._settled:
            return
        # One end in this chunk will do, whichever: what stands before it is whole.
        cut = len(data) - (self._backend.position - self._backend.boundary)
        for kind, body, end in messages:
            start = len(data) - (self._backend.position - (end - len(body) - 5))
            if kind == ERROR and start >= 0 and any(mark in body for mark in FATAL_MARKS):
                cut = start
                break
        if cut > 0:
            self._client.write(data[:cut])
        elif cut < 0:
            self._client.write(data)
            return
        self._settled = True

    def _fault(self, error: Exception) -> None:
        """Something of ours went wrong: nothing more is forwarded, and the session ends."""
        log.error("fault in the relay", exc_info=error)
        self._end(SessionError(repr(error)))

    def _end(self, cause: Cause) -> None:
        if not self.ended.done():
            self.ended.set_result(cause)
