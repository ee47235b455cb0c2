# cython: annotation_typing=False, binding=False
"""The statement tracker: from the messages of both directions to the records of what was executed.

It pairs requests with their results in the way PostgreSQL answers them (PostgreSQL, "Message Flow"): a Query and a
FunctionCall are answered up to a ReadyForQuery each, the extended protocol's messages in order up to the one of their
Sync, and after an error everything is skipped up to that Sync. A statement's start comes out of `requests` before its
bytes may be forwarded; its end comes out of `responses` at the ReadyForQuery that closes its round. A Parse or Bind
whose text could run without an Execute that shows it has a record too.

It never refuses anything: a body that cannot be read is recorded as it is and PostgreSQL judges it. It never parses
SQL, and does no IO.
"""

from collections import deque
from collections.abc import Iterable

from proxy.contract.record import Copy, TransactionState
from proxy.contract.settings import CopyDataShown, Parameters
from proxy.wire import owed, steps
from proxy.wire.commits import in_doubt
from proxy.wire.copying import DIRECTIONS, Copies
from proxy.wire.messages import parse_error, parse_tag
from proxy.wire.owed import MOST_OPEN, Queue, foremost, reach
from proxy.wire.statements import (
    Portal,
    PreparedStatements,
    end_of_name,
    meaning,
    read_bind,
    read_count,
    read_types,
    unknown_portal,
)
from proxy.wire.steps import CopyDirection, Kind, Noted, Step, start_of

# Frontend message types.
QUERY, PARSE, BIND, EXECUTE, DESCRIBE, CLOSE = b"QPBEDC"
SYNC, FUNCTION, COPY_DATA, COPY_DONE, COPY_FAIL, TERMINATE = b"SFdcfX"
# Backend message types.
COMMAND_COMPLETE, READY, ERROR, EMPTY_QUERY, SUSPENDED, PARSE_COMPLETE, PARAMETER_DESCRIPTION = b"CZEIs1t"
FUNCTION_RESPONSE, UNSEEN, PARAMETER_STATUS = b"V2S"

_TAGGED = Kind.EXECUTE | Kind.QUERY
_STATEMENT = _TAGGED | Kind.FUNCTION
_ROUND = Kind.QUERY | Kind.FUNCTION | Kind.SYNC
COPY_END = Kind.COPY_END
_STATES: dict[bytes, TransactionState] = {b"I": "I", b"T": "T", b"E": "E"}


class Tracker:
    """One session's statements."""

    __slots__ = (
        "_bound",
        "_bytes_out",
        "_finished",
        "_in_round",
        "_latest",
        "_now",
        "_policy",
        "_position",
        "_prepared",
        "_seen",
        "_skipping",
        "_spare",
        "_steps",
        "copies",
        "doubtful",
        "failed",
        "fatal",
        "lost",
        "state",
        "statements",
        "terminated",
        "transaction",
    )

    def __init__(self, policy: Parameters = Parameters.FULL, copy_data: CopyDataShown = "none") -> None:
        self._policy = policy
        self.copies = Copies(copy_data)
        self._prepared = PreparedStatements()
        self._bound: Portal | None = None
        """The last Bind, while no record shows its text."""
        self._steps: Queue = deque()
        self._finished: list[Step] = []
        """Statements whose results have come, waiting for their round's ReadyForQuery."""
        self._skipping = self._in_round = False
        """After an error; and a statement was sent since the last Sync."""
        self._latest: Step | None = None
        """The last statement that was asked for, unless it is answered."""
        self._now = self._position = self._bytes_out = self._seen = 0
        self._spare = 0
        """How many ReadyForQuery may come for Syncs that were taken for swallowed by COPY."""
        self.state: TransactionState = "I"
        """What the last ReadyForQuery said."""
        self.statements = self.transaction = 0
        self.terminated = False
        """The client said Terminate; nothing behind it counts."""
        self.lost = False
        """Which answers belong to which statements cannot be told any more: the session must end."""
        self.doubtful = False
        """Of what was let go, something may have committed what came before it."""
        self.failed = False
        """The last statement that was answered in full ended in an error."""
        self.fatal: dict[str, str] | None = None
        """The ErrorResponse of severity FATAL or PANIC that PostgreSQL ended the session with."""

    @property
    def busy(self) -> bool:
        """Whether something was asked that has not been answered."""
        return bool(self._steps)

    @property
    def crowded(self) -> bool:
        """Whether so much is open that the client should be heard later. Not while PostgreSQL waits for a Sync."""
        return (not self._skipping or owed.skips_no_more(self._steps)) and owed.crowded(self._steps)

    @property
    def piled(self) -> bool:
        """Whether one round has so much behind it, answered or skipped, that `let_go` should be called."""
        return len(self._finished) > MOST_OPEN or (self._skipping and len(self._steps) > MOST_OPEN)

    @property
    def running(self) -> tuple[Step, ...]:
        """The statements that have not been answered in full, the oldest first."""
        return owed.running(self._steps)

    @property
    def open(self) -> tuple[Step, ...]:
        """The statements of rounds that no ReadyForQuery has closed: nobody has said that their work is committed."""
        return (*self._finished, *self.running)

    @property
    def owed(self) -> Queue:
        """What PostgreSQL has not answered, the oldest first. Only to be looked at."""
        return self._steps

    # Client to PostgreSQL.

    def requests(self, messages: Iterable[tuple[int, bytes]], now: int) -> list[Noted]:  # noqa: C901, PLR0912 a branch per type, hottest first
        """The records that must be in the journal before these messages go on. `now` is monotonic, in ns."""
        records: list[Noted] = []
        for kind, body in messages:
            if self.terminated:
                break
            if kind == QUERY:
                self._show_bound(records)
                records.append(self._query(body, now))
            elif kind == EXECUTE:
                start = self._execute(body, now)
                self._show_bound(records)
                records.append(start)
            elif kind == BIND:
                self._bind(body, records)
            elif kind == SYNC:
                self._in_round = False
                self._steps.append(steps.SYNC)
            elif kind == PARSE:
                self._parse(body, records)
            elif kind == FUNCTION:
                self._show_bound(records)
                records.append(self._function(body, now))
            elif kind in (DESCRIBE, CLOSE):
                self._describe_or_close(kind, body, records)
            elif kind == COPY_DATA:
                records += self.copies.take_in(body, self._latest)
            elif kind in (COPY_DONE, COPY_FAIL):
                if self._steps:
                    self._steps.append(steps.copy_end(self.copies.sent))
            elif kind == TERMINATE:
                self.terminated = True
        self._show_bound(records)
        return records

    def _start(self, kind: int, now: int, size: int, sql: str) -> Step:
        """Number it and its transaction: of pipelined rounds each counts as one, if the last known state was idle."""
        self.statements += 1
        self.transaction += self.state == "I" and not self._in_round
        self._latest = step = Step(kind, self.statements, now, size, sql, self._in_round)
        self._in_round = kind == Kind.EXECUTE
        step.copied = self.copies.sent
        self._steps.append(step)
        return step

    def _query(self, body: bytes, now: int) -> Step:
        text = self._prepared.read_query(body[:-1] if body[-1:] == b"\0" else body)
        step = self._start(Kind.QUERY, now, len(body) + 5, text.sql)
        step.start = start_of(step, "query", text.fields, self.state, self.transaction)
        return step

    def _parse(self, body: bytes, records: list[Noted]) -> None:
        prepared = self._prepared.read_parse(body)
        records += self._prepared.replaced(b"S", prepared.name)
        self._steps.append(steps.parse(self._prepared.define(prepared)))
        if prepared.shown is not None:
            records.append(prepared.record())

    def _bind(self, body: bytes, records: list[Noted]) -> None:
        self._show_bound(records)
        self._bound = portal = read_bind(body, self._prepared, self._policy)
        self._steps.append(self._prepared.bind(portal))

    def _show_bound(self, records: list[Noted]) -> None:
        """Record a Bind that no Execute followed in what came with it."""
        if self._bound is not None:
            records.append(self._bound.record())
            self._bound = None

    def _describe_or_close(self, kind: int, body: bytes, records: list[Noted]) -> None:
        if kind == CLOSE:
            records += self._prepared.replaced(body[:1], body[1:-1])
            name = self._prepared.close(body[:1], body[1:-1])
            self._steps.append(steps.EXTENDED if name is None else name)
            return
        if body[:1] == b"S":
            self._steps.append(steps.describe(self._prepared.get(body[1:-1])))
        self._steps.append(steps.EXTENDED)

    def _execute(self, body: bytes, now: int) -> Step:
        end = end_of_name(body, 0)
        name = self._prepared.portal(body[:end] if end else b"")
        known = meaning(name)
        portal = known if isinstance(known, Portal) else unknown_portal(body)
        if portal is self._bound:
            self._bound = None
        step = self._start(Kind.EXECUTE, now, len(body) + 5 + portal.size, portal.statement.text.sql)
        step.name, step.portal, step.limit = name, known, read_count(body, end + 1)
        step.start = portal.start(step, self.state, self.transaction)
        return step

    def _function(self, body: bytes, now: int) -> Step:
        step = self._start(Kind.FUNCTION, now, len(body) + 5, "")
        what = steps.call(int.from_bytes(body[:4]), self._prepared.read_call(body, self._policy))
        step.start = start_of(step, "function", what, self.state, self.transaction)
        return step

    # PostgreSQL to client.

    def responses(self, messages: Iterable[tuple[int, bytes, int]], now: int, sent: int = 0) -> list[Noted]:  # noqa: C901 as requests
        """The records that these messages complete. `sent`: the bytes of CopyData that came from the client so far."""
        self._now, self._seen = now, sent
        records: list[Noted] = []
        for kind, body, end in messages:
            if self.lost:
                break
            self._position = end
            if kind == COMMAND_COMPLETE:
                self._command_complete(body, records)
            elif kind == READY:
                self._ready(body, records)
            elif kind == PARSE_COMPLETE:
                self._parsed()
            elif kind == ERROR:
                self._error(body, records)
            elif kind in (EMPTY_QUERY, SUSPENDED, FUNCTION_RESPONSE):
                self._no_tag(kind, body)
            elif kind == UNSEEN:  # Before the error that comes next: only what is left can be its cause.
                owed.pass_by(self._steps, self._prepared, int.from_bytes(body))
            elif kind == PARAMETER_DESCRIPTION:
                self._described(body)
            elif kind == PARAMETER_STATUS:
                records += steps.authorization(body)
            elif kind == COPY_DATA:
                records += self.copies.take_out(body, foremost(self._steps))
            elif kind in DIRECTIONS:
                self._copy_begins(DIRECTIONS[kind])
        return records

    def _front(self, kinds: int) -> Step | None:
        """The foremost step, where it is of these kinds and is answered: what the markers stand for was done, too."""
        step = foremost(self._steps)
        if step is None or not step.kind & kinds:
            return None
        reach(self._steps, self._prepared, step)
        self._spare = 0  # It would have come before.
        return step

    def _command_complete(self, body: bytes, records: list[Noted]) -> None:
        step = self._front(_TAGGED)
        if step is None:
            return
        tag, rows = parse_tag(body)
        step.complete(tag, rows)
        if step.copying is not None:
            records.append(self._copy_ends(step, failed=False))
        if step.kind == Kind.EXECUTE:
            self._complete(step)

    def _no_tag(self, kind: int, body: bytes) -> None:
        step = self._front(_STATEMENT)
        if step is None:
            return
        step.answer(body)
        if step.kind == Kind.EXECUTE:
            if kind == SUSPENDED:  # It comes when as many rows were sent as were asked for.
                step.suspended, step.rows = True, step.limit
            self._complete(step)

    def _complete(self, step: Step) -> None:
        step.settle()
        self._steps.popleft()
        self._finish(step)

    def _finish(self, step: Step) -> None:
        step.duration = self._now - step.started
        step.bytes_out = self._position - self._bytes_out
        self._bytes_out = self._position
        self.failed = step.sqlstate is not None or step.skipped
        if step is self._latest:
            self._latest = None
        self._finished.append(step)

    def _parsed(self) -> None:
        step = self._front(Kind.PARSE)
        if step is not None and step.name is not None:
            self._steps.popleft()
            self._prepared.settle(step.name)

    def _described(self, body: bytes) -> None:
        """PostgreSQL says which types the parameters have that Parse left open."""
        step = self._front(Kind.DESCRIBE)
        if step is not None and step.described is not None:
            self._steps.popleft()
            self._prepared.type(step.described, read_types(body))

    # COPY.

    def _copy_begins(self, direction: CopyDirection) -> None:
        step = self._front(_TAGGED)
        if step is not None:
            step.settle()  # Its end may never come.
            step.copying = direction

    def _copy_ends(self, step: Step, *, failed: bool) -> Copy:
        ended = self.copies.end(self._steps, step, self._seen, failed=failed)
        if ended.direction != "out":
            dropped, told_apart = owed.drop_swallowed_syncs(self._steps)
            if failed and dropped:
                self._spare += dropped
                self.lost = not told_apart
        return ended

    # Errors, and what they skip.

    def _error(self, body: bytes, records: list[Noted]) -> None:
        fields = self._prepared.without_secrets(parse_error(body))
        if fields.get("V", fields.get("S", "")) in ("FATAL", "PANIC"):
            self.fatal = fields
        queue = self._steps
        while queue and queue[0].kind == COPY_END:
            queue.popleft()
        if not queue:
            return
        self.failed = True
        self._spare = 0  # It would have come before.
        cause = queue[0].kind
        failed = next((step for step in queue if step.statement or step is steps.SYNC), None)
        if cause == Kind.SYNC and self.fatal is None:
            if self._finished:  # Sync commits what its round did: where that fails, the round's last statement says so.
                self._finished[-1].fail(fields)
        elif isinstance(failed, Step) and failed.statement:
            self._statement_failed(failed, fields, records)
        if self.fatal is not None:  # No ReadyForQuery follows: what is open stays open, and nothing more of it runs.
            for step in self.running:
                step.skipped = step is not failed
        elif cause not in (Kind.QUERY, Kind.FUNCTION) and not self.lost:
            self._skipping = True
            self._skip()

    def _statement_failed(self, step: Step, fields: dict[str, str], records: list[Noted]) -> None:
        if step is self._steps[0]:
            step.fail_running(fields)
        step.fail(fields)
        if step.copying is not None:
            records.append(self._copy_ends(step, failed=True))

    def _skip(self) -> None:
        for step in owed.skip(self._steps, self._prepared):
            self._finish(step)

    def let_go(self, now: int) -> list[Noted]:
        """The ends of what is done or skipped in a round without a Sync, but its last: nobody knows their state yet."""
        if self._skipping and self._spare:
            self.lost = True
        elif self._skipping:
            self._now = now
            self._skip()
        going, self._finished = self._finished[:-1], self._finished[-1:]
        self.doubtful = self.doubtful or in_doubt(going)
        return list(going)

    # The end of a round.

    def _ready(self, body: bytes, records: list[Noted]) -> None:
        self.state = _STATES.get(body, "E")
        if self._skipping:
            self._skipping = False
            ends = owed.ends_skipping(self._steps) if self._spare else True
            self.lost = self.lost or ends is None
            if ends:
                self._skip()
        step = foremost(self._steps)
        if step is steps.SYNC:
            if (
                reach(self._steps, self._prepared, step) and self._spare
            ):  # Or this is a spare one, and nothing of them is done.
                self.lost = True
            self._steps.popleft()
        elif step is not None and step.kind & _ROUND and (step.tags or step.answered or step.sqlstate is not None):
            reach(self._steps, self._prepared, step)
            self._complete(step)
        elif self._spare:  # What is in front would have been answered before its own ReadyForQuery.
            self._spare -= 1
        if self.state == "I":
            self._prepared.idle()
        for one in self._finished:
            one.state = self.state
        records += self._finished
        self._finished.clear()
        self._bytes_out = self._position

    # The end.

    def close(self, now: int, copied: tuple[int, int]) -> list[Noted]:
        """The ends of all that never got one, when the session is over; `copied`: all CopyData's bytes, in and out."""
        cut = self.running
        for step in cut:
            step.duration = now - step.started
        return [*self.copies.cut(self._steps, cut, *copied), *self._finished, *cut]
