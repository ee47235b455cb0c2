"""A session told as a timeline: what was done, how it went and how long it took, in the order it happened. Pure.

The session's end tells too what it has left behind at the server (`slots`).

An item is an object with `seq`, `at`, `offset_s` (seconds since the session began), `kind`, `text` (the item in one
line, for whoever does not know its kind), and then its record's own fields under their own names (see
`proxy.contract.record`), times in RFC 3339 and durations in seconds.

A statement is one item, though it is two records: it appears where it started, with what its end says. Items come out
as soon as all before them are complete, so that a long session is told without being held in memory.
"""

from collections import deque
from collections.abc import Sequence
from typing import Any, TypeAlias

import msgspec

from control.domain.sessions import stop_ns
from control.evidence.slots import Slots
from control.times import SECOND, rfc3339
from proxy.contract.record import (
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
"""How many items wait for an unfinished statement before them. A batch of that many statements is no one's real one."""

KINDS: dict[type[AnyRecord], str] = {
    SessionStart: "start",
    StatementPrepare: "prepare",
    StatementStart: "statement",
    Copy: "copy",
    CopyData: "copy_data",
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


class Teller:
    """Tells one session: `take` each record in order, then `finish`."""

    def __init__(self, started_at: int) -> None:
        self._started_at = started_at
        self._held: deque[AnyRecord] = deque()
        self._ends: dict[int, StatementEnd] = {}
        self._slots = Slots()

    def take(self, record: AnyRecord) -> Sequence[Item]:
        """The items that are complete now."""
        if isinstance(record, StatementEnd):
            self._ends[record.statement] = record
        else:
            self._held.append(record)
        ready: list[Item] = []
        while self._held and self._complete(self._held[0]):
            ready.append(self._tell(self._held.popleft()))
        if not self._held:
            self._ends.clear()
        return ready

    def finish(self) -> Sequence[Item]:
        """The rest: statements that still wait for their end have none."""
        rest = [self._tell(record) for record in self._held]
        self._held.clear()
        return rest

    def _complete(self, record: AnyRecord) -> bool:
        waits = isinstance(record, StatementStart) and record.statement not in self._ends
        return not waits or len(self._held) > HELD_BACK

    def _tell(self, record: AnyRecord) -> Item:
        item: Item = {
            "seq": record.seq,
            "at": rfc3339(record.at),
            "offset_s": max(0, record.at - self._started_at) / SECOND,
            "kind": KINDS[type(record)],
            "text": _text(record),
        }
        item |= _own_fields(record)
        if isinstance(record, StatementStart):
            end = self._ends.pop(record.statement, None)
            self._slots.take(record, end)
            item |= _course(record, end)
        if isinstance(record, SessionEnd):
            took = stop_ns(record)
            item["stop_s"] = None if took is None else took / SECOND
            item["slots"] = self._slots.left
            if self._slots.left:
                item["text"] += f"; replication slots left behind: {', '.join(self._slots.left)}"
        return item


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
    course: Item = dict.fromkeys(("rows", "duration_s", "bytes_in", "bytes_out", "sqlstate", "message"))
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


def _text(record: AnyRecord) -> str:  # noqa: C901, PLR0912 a case for each record
    text = ""
    match record:
        case SessionStart():
            place = f"{record.target}/{record.database}" if record.database else record.target
            purpose = "" if record.replication is None else f" for {record.replication} replication"
            text = f"{record.person} connected to {place} as {record.profile}{purpose}"
        case StatementPrepare():
            text = f"'{record.name or ''}'" if record.portal is None else f"portal '{record.portal}'"
            text += f": {record.sql}"
        case StatementStart():
            text = record.sql
        case Copy():
            sent = "" if record.bytes_in is None else f" ({record.bytes_in} from the client)"
            text = f"COPY {record.direction}, {record.bytes} bytes{sent}" + (", failed" if record.failed else "")
        case CopyData():
            text = f"COPY {record.direction}, a piece of its data"
        case Cancel():
            text = "cancel" if record.forwarded else "cancel, but nothing was running"
        case Notice():
            text = f"{record.severity} {record.sqlstate}: {record.message}"
        case Authorization():
            text = f"{record.parameter} is now '{record.value}'"
        case GrantExtended():
            by = "" if record.by is None else f", extended by {record.by}"
            text = f"the grant now ends at {rfc3339(record.expires_at)}{by}"
        case AuthRefused():
            text = f"a connection as {record.user} to {record.database} was refused: {record.refusal}"
        case SessionReaped():
            what = "ended" if record.found else "looked for"
            text = f"{what} the backend of session {record.reaped}, which {record.left_by} left"
        case JournalTorn():
            text = f"a crash had torn the proxy's journal: {record.bytes} bytes of an unfinished line were cut off"
        case SessionEnd():
            by = "" if record.by is None else f" by {record.by}"
            text = f"the session ended: {record.reason}{by}; {record.outcome}{_finished(record)}"
    return text


def _finished(record: SessionEnd) -> str:
    """What became of the statement that was let finish behind the decision, where one was."""
    if record.finish is None:
        return ""
    words = {"done": "came to its end", "timeout": "was cut when its time was up", "cut": "was cut before its time"}
    return f"; what ran was let finish and {words[record.finish.ended]}"
