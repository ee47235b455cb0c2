# cython: annotation_typing=False, binding=False
"""The statement tracker: from the messages of both directions to the records of what was executed.

It pairs requests with their results in the way PostgreSQL answers them (PostgreSQL, "Message Flow"): a Query and a
FunctionCall are answered up to a ReadyForQuery each, the extended protocol's messages in order up to the one of their
Sync, and after an error everything is skipped up to that Sync. A statement's start comes out of `requests` before its
bytes may be forwarded; its end comes out of `responses` at the ReadyForQuery that closes its round.

It never refuses anything: a body that cannot be read is recorded as it is and PostgreSQL judges it. It never parses
SQL, and does no IO.
"""

from collections import deque
from collections.abc import Iterable
from typing import Literal

from proxy.contract.record import Copy, Record, StatementEnd, StatementStart, TransactionState
from proxy.contract.settings import Parameters
from proxy.wire import steps
from proxy.wire.messages import parse_error
from proxy.wire.statements import Portal, PreparedStatements, read_bind, read_parse, read_text, read_types
from proxy.wire.steps import Kind, Step

# Frontend message types.
QUERY, PARSE, BIND, EXECUTE, DESCRIBE, CLOSE = b"QPBEDC"
SYNC, FUNCTION, COPY_DONE, COPY_FAIL, TERMINATE = b"SFcfX"
# Backend message types.
COMMAND_COMPLETE, READY, ERROR, EMPTY_QUERY, SUSPENDED, PARSE_COMPLETE, PARAMETER_DESCRIPTION = b"CZEIs1t"
COPY_IN, COPY_OUT, COPY_BOTH = b"GHW"

CopyDirection = Literal["in", "out", "both"]
_STATES: dict[bytes, TransactionState] = {b"I": "I", b"T": "T", b"E": "E"}
_TAGS: dict[bytes, tuple[str, int]] = {}
_MOST_TAGS = 1_000
_COPY_DIRECTIONS: dict[int, CopyDirection] = {COPY_IN: "in", COPY_OUT: "out", COPY_BOTH: "both"}


def read_tag(body: bytes) -> tuple[str, int]:
    """A command tag, and how many rows it counts. The same few come all the time, so they are kept."""
    known = _TAGS.get(body)
    if known is None:
        tag = body[:-1].decode("utf-8", "backslashreplace")
        count = tag.rpartition(" ")[2]
        known = tag, int(count) if count.isascii() and count.isdecimal() else 0
        if len(_TAGS) >= _MOST_TAGS:
            _TAGS.clear()
        _TAGS[body] = known
    return known


class Tracker:
    """One session's statements."""

    __slots__ = (
        "_bytes_out",
        "_copy_counted",
        "_copy_seen",
        "_finished",
        "_in_round",
        "_now",
        "_policy",
        "_position",
        "_prepared",
        "_skipping",
        "_steps",
        "failed",
        "fatal",
        "state",
        "statements",
        "terminated",
        "transaction",
    )

    def __init__(self, policy: Parameters = Parameters.FULL) -> None:
        self._policy = policy
        self._prepared = PreparedStatements()
        self._steps: deque[Step] = deque()
        self._finished: list[Step] = []
        """Statements whose results have come, waiting for their round's ReadyForQuery."""
        self._skipping = False
        self._in_round = False
        """A statement was sent since the last Sync."""
        self._now = 0
        self._position = 0
        self._bytes_out = 0
        self._copy_seen = 0
        self._copy_counted = 0
        self.state: TransactionState = "I"
        """What the last ReadyForQuery said."""
        self.statements = 0
        self.transaction = 0
        self.terminated = False
        """The client said Terminate; nothing behind it counts."""
        self.failed = False
        """The last statement that was answered in full ended in an error."""
        self.fatal: dict[str, str] | None = None
        """The ErrorResponse of severity FATAL or PANIC that PostgreSQL ended the session with."""

    @property
    def busy(self) -> bool:
        """Whether something was asked that has not been answered."""
        return bool(self._steps)

    @property
    def running(self) -> tuple[Step, ...]:
        """The statements that have not been answered in full, the oldest first."""
        return tuple(step for step in self._steps if step.statement)

    @property
    def open(self) -> tuple[Step, ...]:
        """The statements of rounds that no ReadyForQuery has closed: nobody has said that their work is committed."""
        return (*self._finished, *self.running)

    @property
    def one_round(self) -> bool:
        """Whether what is open ends with one commit: a Sync, or a Query, ends a round."""
        kinds = [step.kind for step in self._steps if step.statement or step.kind == Kind.SYNC]
        return all(kind == Kind.EXECUTE for kind in kinds[:-1])

    # Client to PostgreSQL.

    def requests(self, messages: Iterable[tuple[int, bytes]], now: int) -> list[Record]:  # noqa: C901 a branch per type, hottest first
        """The records that must be in the journal before these messages go on. `now` is monotonic, in ns."""
        records: list[Record] = []
        for kind, body in messages:
            if self.terminated:
                break
            if kind == QUERY:
                records.append(self._query(body, now))
            elif kind == EXECUTE:
                records.append(self._execute(body, now))
            elif kind == BIND:
                self._prepared.bind(read_bind(body, self._prepared, self._policy))
                self._mark_extended()
            elif kind == SYNC:
                self._in_round = False
                self._prepared.round += 1
                self._steps.append(steps.SYNC)
            elif kind == PARSE:
                self._parse(body)
            elif kind == FUNCTION:
                records.append(self._function(body, now))
            elif kind in (DESCRIBE, CLOSE):
                self._describe_or_close(kind, body)
            elif kind in (COPY_DONE, COPY_FAIL):
                if self._steps:
                    self._steps.append(steps.COPY_END)
            elif kind == TERMINATE:
                self.terminated = True
        return records

    def _start(self, kind: int, now: int, size: int, sql: str) -> Step:
        """Number the statement and its transaction.

        Where requests are pipelined the state between them is not known yet: each round then counts as a transaction
        of its own if the last known state was idle.
        """
        self.statements += 1
        if self.state == "I" and not self._in_round:
            self.transaction += 1
        self._in_round = kind == Kind.EXECUTE
        step = Step(kind, self.statements, now, size, sql)
        self._steps.append(step)
        return step

    def _query(self, body: bytes, now: int) -> StatementStart:
        text = read_text(body[:-1] if body[-1:] == b"\0" else body)
        step = self._start(Kind.QUERY, now, len(body) + 5, text.sql)
        return StatementStart(
            statement=step.statement,
            kind="query",
            sql=text.sql,
            sql_base64=text.sql_base64,
            masked=text.masked,
            state=self.state,
            transaction=self.transaction,
        )

    def _parse(self, body: bytes) -> None:
        step = Step(Kind.PARSE)
        step.undo = self._prepared.define(read_parse(body))
        self._steps.append(step)

    def _describe_or_close(self, kind: int, body: bytes) -> None:
        if kind == CLOSE:
            self._prepared.close(body[:1], body[1:-1])
        elif body[:1] == b"S":
            self._steps.append(Step(Kind.DESCRIBE, described=self._prepared.get(body[1:-1])))
            return
        self._mark_extended()

    def _mark_extended(self) -> None:
        """Note that an extended message is under way, so that an error before its Sync is known to skip."""
        queue = self._steps
        if not queue or queue[-1] is not steps.EXTENDED:
            queue.append(steps.EXTENDED)

    def _execute(self, body: bytes, now: int) -> StatementStart:
        portal = self._prepared.portal(body[: body.find(b"\0")]) or Portal.unknown(body)
        statement = portal.statement
        text = statement.text
        step = self._start(Kind.EXECUTE, now, len(body) + 5 + portal.size, text.sql)
        return StatementStart(
            statement=step.statement,
            kind="execute",
            sql=text.sql,
            sql_base64=text.sql_base64,
            masked=text.masked,
            parameters=portal.parameters,
            name=statement.shown,
            state=self.state,
            transaction=self.transaction,
        )

    def _function(self, body: bytes, now: int) -> StatementStart:
        oid = int.from_bytes(body[:4])
        step = self._start(Kind.FUNCTION, now, len(body) + 5, "")
        return StatementStart(
            statement=step.statement,
            kind="function",
            sql="",
            function=oid,
            state=self.state,
            transaction=self.transaction,
        )

    # PostgreSQL to client.

    def responses(
        self, messages: Iterable[tuple[int, bytes, int]], now: int, *, copy_in: int = 0, copy_out: int = 0
    ) -> list[Record]:
        """The records that these messages complete. `copy_in` and `copy_out` count CopyData bytes since the start."""
        self._now, self._copy_seen = now, copy_in + copy_out
        records: list[Record] = []
        for kind, body, end in messages:
            self._position = end
            if kind == COMMAND_COMPLETE:
                self._command_complete(body, records)
            elif kind == READY:
                self._ready(body, records)
            elif kind == PARSE_COMPLETE:
                self._parsed()
            elif kind == ERROR:
                self._error(body, records)
            elif kind in (EMPTY_QUERY, SUSPENDED):
                self._no_tag(suspended=kind == SUSPENDED)
            elif kind == PARAMETER_DESCRIPTION:
                self._described(body)
            elif kind in _COPY_DIRECTIONS:
                self._copy_begins(_COPY_DIRECTIONS[kind])
        return records

    def _front(self, *kinds: int) -> Step | None:
        """The oldest step if it is of these kinds, once the markers before it are dropped."""
        queue = self._steps
        while queue:
            step = queue[0]
            if step.kind in kinds:
                return step
            if step is not steps.EXTENDED and step is not steps.COPY_END:
                return None
            queue.popleft()
        return None

    def _command_complete(self, body: bytes, records: list[Record]) -> None:
        step = self._front(Kind.EXECUTE, Kind.QUERY)
        if step is None:
            return
        tag = read_tag(body)
        step.tags.append(tag[0])
        step.rows += tag[1]
        if step.copying is not None:
            records.append(self._copy_ends(step, failed=False))
        if step.kind == Kind.EXECUTE:
            self._complete(step)

    def _no_tag(self, *, suspended: bool) -> None:
        step = self._front(Kind.EXECUTE, Kind.QUERY)
        if step is not None and step.kind == Kind.EXECUTE:
            step.suspended = suspended
            self._complete(step)

    def _complete(self, step: Step) -> None:
        self._steps.popleft()
        self._finish(step)

    def _finish(self, step: Step) -> None:
        step.duration = self._now - step.started
        step.bytes_out = self._position - self._bytes_out
        self._bytes_out = self._position
        self.failed = step.sqlstate is not None or step.skipped
        self._finished.append(step)

    def _parsed(self) -> None:
        if self._front(Kind.PARSE) is not None:
            self._steps.popleft()

    def _described(self, body: bytes) -> None:
        """PostgreSQL says which types the parameters have that Parse left open."""
        step = self._front(Kind.DESCRIBE)
        if step is not None:
            self._steps.popleft()
            if step.described is not None:
                self._prepared.type(step.described, read_types(body))

    # COPY.

    def _copy_begins(self, direction: CopyDirection) -> None:
        step = self._front(Kind.EXECUTE, Kind.QUERY)
        if step is not None:
            step.copying = direction

    def _copy_ends(self, step: Step, *, failed: bool) -> Copy:
        direction = step.copying or "in"
        size = self._copy_seen - self._copy_counted
        self._copy_counted, step.copying = self._copy_seen, None
        if direction != "out" and step.kind == Kind.EXECUTE:
            self._forget_syncs_of_copy(step)
        return Copy(statement=step.statement, direction=direction, bytes=size, failed=failed)

    def _forget_syncs_of_copy(self, step: Step) -> None:
        """Drop the Syncs that PostgreSQL read, and ignored, while it took COPY data.

        libpq sends one with Execute, before it knows that a COPY begins, and another one behind CopyDone.
        """
        rest = list(self._steps)[1:]
        ends = [index for index, one in enumerate(rest) if one.kind == Kind.COPY_END]
        if ends:
            rest = rest[ends[0] + 1 :]
        elif rest and rest[0].kind == Kind.SYNC:
            rest = rest[1:]
        self._steps = deque([step, *rest])

    # Errors, and what they skip.

    def _error(self, body: bytes, records: list[Record]) -> None:
        fields = parse_error(body)
        if fields.get("V", fields.get("S", "")) in ("FATAL", "PANIC"):
            self.fatal = fields
        queue = self._steps
        while queue and queue[0].kind == Kind.COPY_END:
            queue.popleft()
        if not queue:
            return
        extended = queue[0].kind not in (Kind.QUERY, Kind.FUNCTION)
        failed = next((step for step in queue if step.statement or step.kind == Kind.SYNC), None)
        if failed is not None and failed.statement:
            failed.sqlstate, failed.message = fields.get("C", ""), fields.get("M", "")
            if failed.copying is not None:
                records.append(self._copy_ends(failed, failed=True))
        if self.fatal is not None:  # No ReadyForQuery follows: what is open stays open, and nothing more of it runs.
            for step in self.running:
                step.skipped = step is not failed
        elif extended:
            self._skipping = True
            self._skip()

    def _skip(self) -> None:
        """Take the steps that PostgreSQL skips off the queue, up to the Sync where it goes on."""
        queue = self._steps
        while queue and queue[0].kind != Kind.SYNC:
            step = queue.popleft()
            if step.undo is not None:
                self._prepared.undo(step.undo)
            if step.statement:
                step.skipped = step.sqlstate is None
                self._finish(step)

    # The end of a round.

    def _ready(self, body: bytes, records: list[Record]) -> None:
        self.state = _STATES.get(body, "E")
        if self._skipping:
            self._skip()
            self._skipping = False
        step = self._front(Kind.QUERY, Kind.FUNCTION, Kind.SYNC)
        if step is not None:
            self._steps.popleft()
            if step.statement:
                self._finish(step)
            else:
                self._prepared.ready(idle=self.state == "I")
        if self._finished:
            for one in self._finished:
                records.append(one.end(self.state))  # noqa: PERF401 a generator costs more than the one that there is
            self._finished.clear()
        self._bytes_out = self._position

    # The end.

    def close(self, now: int) -> list[Record]:
        """The ends of all statements that never got one, when the session is over."""
        unanswered: list[StatementEnd] = []
        for step in self._steps:
            if step.statement:
                step.duration = now - step.started
                unanswered.append(step.end(None))
        return [*(one.end(None) for one in self._finished), *unanswered]
