"""A session told as a timeline: what was done, how it went and how long it took, in the order it happened. Pure.

The session's end tells too what it has left behind at the server (`slots`), and for what reason somebody ended it
(`why`): no record has that, the books have (`control.evidence.books`).

An item is an object with `seq`, `at`, `offset_s` (seconds since the session began), `kind`, `text` (the item in one
line, for whoever does not know its kind), and then its record's own fields under their own names (see
`proxy.contract.record`), times in RFC 3339 and durations in seconds. What is no record has no `seq`: it is null.

* A statement is one item, though it is two records: it appears where it started, with what its end says, and with
  `outcome`, what became of its transaction (`control.evidence.transactions`; null where that is not known).
* Where a transaction of several statements is over, an item of the kind `transaction` says how.
* `gap_s` is how long nothing happened before the item, and nothing ran; only where that is GAP_S at least.
* The pieces of a COPY's data are no items: `recorded` in that of the COPY says how many bytes of them there are.

Items come out as soon as all before them are complete, and statements are that once their transaction is over; so that
a long session is told without being held in memory, at most HELD_BACK items or HELD_BYTES wait. Then they come out with
what is known. A live timeline holds nothing back: a statement is told when it starts, with `finished` false, and again
under the same `seq` when it has ended.
"""

from collections import deque
from collections.abc import Sequence
from typing import Any, TypeAlias

import msgspec

from control.domain.sessions import stop_ns
from control.evidence.slots import Slots
from control.evidence.transactions import Known, Outcome, Transactions
from control.evidence.wording import describe
from control.times import SECOND, rfc3339
from proxy.contract.record import (
    LAST,
    AnyRecord,
    Authorization,
    AuthRefused,
    Cancel,
    Copy,
    CopyData,
    GrantExtended,
    JournalTorn,
    Notice,
    SessionEnd,
    SessionReaped,
    SessionStart,
    StatementEnd,
    StatementPrepare,
    StatementStart,
)

Item: TypeAlias = dict[str, Any]

HELD_BACK = 10_000
"""How many items wait for an unfinished statement, or transaction, before them."""
HELD_BYTES = 16 << 20
"""And of how many bytes."""
GAP_S = 30.0

KINDS: dict[type[AnyRecord], str] = {
    SessionStart: "start",
    StatementPrepare: "prepare",
    StatementStart: "statement",
    Copy: "copy",
    Cancel: "cancel",
    Notice: "notice",
    Authorization: "authorization",
    GrantExtended: "extended",
    AuthRefused: "refused",
    SessionEnd: "end",
    SessionReaped: "reaped",
    JournalTorn: "torn",
}

BOOKKEEPING = frozenset({"v", "session", "seq", "at", "prev", "signature", "kind", "duration"})
"""What a record has for its chain's sake, or an item says in another way."""
TIMES = frozenset({"expires_at", "decided_at", "gone_at"})


class _Entry:
    """Something that is to be told: a record, with what is known of it, or an item that is whole."""

    __slots__ = ("end", "item", "outcome", "record", "size")

    def __init__(self, record: AnyRecord | None, size: int, item: Item | None = None) -> None:
        self.record = record
        self.size = size
        self.item = item
        self.end: StatementEnd | None = None
        self.outcome: Outcome | None = None


class Teller:
    """Tells one session: `take` each record in order, then `finish`."""

    def __init__(self, started_at: int, *, live: bool = False) -> None:
        self._started_at = started_at
        self._live = live
        self._held: deque[_Entry] = deque()
        self._bytes = 0
        self._statements: dict[int, _Entry] = {}
        """Those that are held, or run."""
        self._transactions = Transactions()
        self._tally = _Tally()
        self._copied: dict[int, int] = {}
        self._quiet_since: int | None = None
        """Until when something is known to have happened; None before anything has."""
        self._busy = False
        """A statement was told that has no end: it may run on."""
        self._slots = Slots()
        self.why: str | None = None
        """For what reason somebody has ended the session, where the books know; set before its end is taken."""

    def take(self, record: AnyRecord, size: int = 0) -> Sequence[Item]:
        """The items that are complete now. `size` is the length of the record's line."""
        ready: list[Item] = []
        if isinstance(record, StatementEnd):
            self._ended(record, size)
        elif isinstance(record, CopyData):
            self._copy(record)
        elif not isinstance(record, LAST):
            self._happened(record, size, ready)
        self._tally.take(record)
        for known in self._transactions.take(record):
            self._known(record, known)
        if isinstance(record, LAST):  # Behind what it has made known.
            self._happened(record, size, ready)
        while self._held and (self._complete(self._held[0]) or self._too_much()):
            ready.append(self._tell(self._held.popleft()))
        return ready

    def finish(self) -> Sequence[Item]:
        """The rest: statements that still wait for their end have none."""
        rest = [self._tell(entry) for entry in self._held]
        self._held.clear()
        return rest

    def _copy(self, piece: CopyData) -> None:
        if len(self._copied) >= HELD_BACK:  # Each is followed by its Copy, so there is hardly ever more than one.
            self._copied.clear()
        self._copied[piece.statement] = self._copied.get(piece.statement, 0) + _decoded_size(piece.base64)

    def _happened(self, record: AnyRecord, size: int, ready: list[Item]) -> None:
        entry = _Entry(record, size)
        if isinstance(record, StatementStart):
            if self._live:
                ready.append(self._item(entry, begins=True))
                if len(self._statements) >= HELD_BACK:
                    del self._statements[next(iter(self._statements))]
            self._statements[record.statement] = entry
        if not (self._live and isinstance(record, StatementStart)):
            self._hold(entry)

    def _ended(self, end: StatementEnd, size: int) -> None:
        entry = self._statements.get(end.statement)
        if entry is not None and entry.end is None:
            entry.end = end
            if self._live:
                self._hold(entry)
            entry.size += size
            self._bytes += size

    def _hold(self, entry: _Entry) -> None:
        self._held.append(entry)
        self._bytes += entry.size

    def _too_much(self) -> bool:
        return len(self._held) > HELD_BACK or self._bytes > HELD_BYTES

    def _complete(self, entry: _Entry) -> bool:
        record = entry.record
        if not isinstance(record, StatementStart) or self._live:
            return True
        if entry.end is None:
            return False
        return entry.outcome is not None or not self._transactions.waits_for(record.statement)

    def _known(self, record: AnyRecord, known: Known) -> None:
        """Outcomes have become known by `record`."""
        for statement, outcome in known.statements.items():
            entry = self._statements.get(statement)
            if entry is not None:
                entry.outcome = outcome
        undone = self._live and not known.closes and set(known.statements) - {getattr(record, "statement", None)}
        if (known.closes and known.of > 1) or undone:
            item = self._tally.item(known)
            self._hold(_Entry(None, 0, self._placed(record.at, item)))
        if known.closes:
            self._tally.clear()

    def _tell(self, entry: _Entry) -> Item:
        self._bytes -= entry.size
        if isinstance(entry.record, StatementStart):
            self._statements.pop(entry.record.statement, None)
        return self._item(entry) if entry.item is None else entry.item

    def _item(self, entry: _Entry, *, begins: bool = False) -> Item:
        record = entry.record
        assert record is not None
        text = describe(record, self.why)
        item = self._placed(record.at, {"seq": record.seq, "kind": KINDS[type(record)], "text": text})
        item |= _own_fields(record)
        until: int | None = record.at
        match record:
            case StatementStart():
                if not begins:
                    self._slots.take(record, entry.end)
                until = None if entry.end is None else record.at + entry.end.duration
                item |= _course(record, entry.end) | {"outcome": entry.outcome}
            case Copy():
                item["recorded"] = self._copied.pop(record.statement, 0)
            case SessionEnd():
                took = stop_ns(record)
                item["stop_s"] = None if took is None else took / SECOND
                item["slots"] = self._slots.left
                item["why"] = self.why
                if self._slots.left:
                    item["text"] += f"; replication slots left behind: {', '.join(self._slots.left)}"
        return item | self._gap(record.at, until)

    def _gap(self, at: int, until: int | None) -> Item:
        """How long there was nothing, where that is long. Behind a statement that has no end nobody can tell."""
        since, self._busy = self._quiet_since, self._busy or (until is None and not self._live)
        gap = 0.0 if since is None or self._busy or (self._live and self._statements) else (at - since) / SECOND
        self._quiet_since = max(since or 0, until or at)
        return {"gap_s": gap} if gap >= GAP_S else {}

    def _placed(self, at: int, fields: Item) -> Item:
        return {"seq": None, "at": rfc3339(at), "offset_s": max(0, at - self._started_at) / SECOND} | fields


class _Tally:
    """What there was in the transaction that is open, and what is told of it in the end."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """The next one."""
        self._rows = self._errors = 0

    def take(self, record: AnyRecord) -> None:
        """Count."""
        if isinstance(record, StatementEnd) and not record.skipped:
            self._rows += record.rows
            self._errors += record.sqlstate is not None

    def item(self, known: Known) -> Item:
        """An item's own fields."""
        if not known.closes:
            undone = _count(len(known.statements), "statement")
            text = f"a part of transaction {known.transaction} {known.outcome}: {undone}"
            return {"kind": "transaction", "text": text, "transaction": known.transaction, "outcome": None}
        counted = [_count(known.of, "statement"), _count(self._rows, "row")]
        if self._errors:
            counted.append(_count(self._errors, "error"))
        return {
            "kind": "transaction",
            "text": f"transaction {known.transaction} {known.outcome}: {', '.join(counted)}",
            "transaction": known.transaction,
            "outcome": known.outcome,
            "statements": known.of,
            "rows": self._rows,
            "errors": self._errors,
        }


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _decoded_size(text: str) -> int:
    return len(text) * 3 // 4 - text.count("=", -2)


def _own_fields(record: AnyRecord) -> Item:
    fields: Item = {}
    for name in record.__struct_fields__:
        if name not in BOOKKEEPING:
            value = getattr(record, name)
            fields[name] = rfc3339(value) if name in TIMES and value is not None else value
    return fields


def _course(start: StatementStart, end: StatementEnd | None) -> Item:
    """How a statement went. `state` is the transaction's after it, `state_before` the one it found.

    Where the session ended first, `finished` is false, and what only an end knows is null. Where something else ran
    than its start had said, what ran is told, and `announced` is the start's text.
    """
    course: Item = dict.fromkeys(("rows", "duration_s", "bytes_in", "bytes_out", "result_bytes", "sqlstate", "message"))
    course |= {"tags": [], "skipped": False, "suspended": False}
    if end is not None:
        course |= _own_fields(end) | {"duration_s": end.duration / SECOND}
        course.pop("ran")
        if end.ran is not None:
            course |= msgspec.structs.asdict(end.ran) | {"text": end.ran.sql, "announced": start.sql}
    return course | {
        "mode": start.kind,
        "finished": end is not None,
        "state_before": start.state,
        "state": None if end is None else end.state,
    }
