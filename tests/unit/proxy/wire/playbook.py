"""Plays a conversation to the tracker, as the relay would, and tells the records that come of it in a line each.

`play(client(query("SELECT 1")), server(complete("SELECT 1"), READY))` is the whole conversation, and what it returns
reads like this: `1> SELECT 1` where a statement starts, `1< SELECT 1 [I]` where it ends, with its tags or its error and
the state that ReadyForQuery named (`[-]` where the session ended first).
"""

import struct
from base64 import b64decode
from dataclasses import dataclass, field

from proxy.contract.chain import Chain
from proxy.contract.record import (
    AnyRecord,
    Authorization,
    Copy,
    CopyData,
    Parameter,
    Record,
    StatementEnd,
    StatementPrepare,
    StatementStart,
    decode,
)
from proxy.contract.settings import CopyDataShown, Parameters
from proxy.wire.framing import BackendFramer, FrontendFramer
from proxy.wire.steps import Noted, Step
from proxy.wire.tracker import Tracker
from tests.unit.proxy.wire.reference import message

LIMIT = 1 << 20

# What a client says.

SYNC, FLUSH, COPY_DONE, TERMINATE = message(b"S"), message(b"H"), message(b"c"), message(b"X")


def query(sql: str | bytes) -> bytes:
    """Query."""
    return message(b"Q", _text(sql) + b"\0")


def parse(sql: str | bytes, name: str | bytes = "", types: tuple[int, ...] = ()) -> bytes:
    """Parse."""
    return message(b"P", _text(name) + b"\0" + _text(sql) + b"\0" + _oids(types))


def bind(*values: str | None, portal: str | bytes = "", statement: str | bytes = "") -> bytes:
    """Bind, with values in text format."""
    encoded = [struct.pack("!i", -1) if one is None else _counted(one.encode()) for one in values]
    return message(
        b"B",
        b"%b\0%b\0\0\0%b%b\0\0" % (_text(portal), _text(statement), struct.pack("!H", len(values)), b"".join(encoded)),
    )


def execute(portal: str | bytes = "", rows: int = 0) -> bytes:
    """Execute."""
    return message(b"E", _text(portal) + b"\0" + struct.pack("!i", rows))


def describe_portal(name: str = "") -> bytes:
    """Describe of a portal."""
    return message(b"D", b"P" + _text(name) + b"\0")


def describe_statement(name: str = "") -> bytes:
    """Describe of a prepared statement."""
    return message(b"D", b"S" + _text(name) + b"\0")


def close_portal(name: str = "") -> bytes:
    """Close of a portal."""
    return message(b"C", b"P" + _text(name) + b"\0")


def close_statement(name: str = "") -> bytes:
    """Close of a prepared statement."""
    return message(b"C", b"S" + _text(name) + b"\0")


def function(oid: int, *values: bytes | None, form: int = 1) -> bytes:
    """FunctionCall with these arguments, all in one format; the result is wanted as text."""
    sized = [struct.pack("!i", -1) if one is None else struct.pack("!i", len(one)) + one for one in values]
    return message(b"F", struct.pack("!IHHH", oid, 1, form, len(values)) + b"".join(sized) + struct.pack("!H", 0))


def copy_data(data: bytes) -> bytes:
    """CopyData; a server sends the same."""
    return message(b"d", data)


def copy_fail(why: str = "no") -> bytes:
    """CopyFail."""
    return message(b"f", why.encode() + b"\0")


# What PostgreSQL says.

PARSED, BOUND, CLOSED, NO_DATA, EMPTY, SUSPENDED = (message(kind) for kind in (b"1", b"2", b"3", b"n", b"I", b"s"))
ROWS, ROW = message(b"T", b"\0\0"), message(b"D", b"\0\0")
COPY_IN, COPY_OUT, COPY_BOTH = (message(kind, b"\0\0\0") for kind in (b"G", b"H", b"W"))
FUNCTION_RESULT = message(b"V", b"\xff\xff\xff\xff")
READY, READY_IN, READY_FAILED = (message(b"Z", state) for state in (b"I", b"T", b"E"))
STATUS = message(b"S", b"TimeZone\0UTC\0")


def complete(tag: str | bytes) -> bytes:
    """CommandComplete."""
    return message(b"C", _text(tag) + b"\0")


def error(code: str = "22012", text: str = "division by zero", severity: str = "ERROR") -> bytes:
    """ErrorResponse."""
    return message(b"E", f"S{severity}\0V{severity}\0C{code}\0M{text}\0\0".encode())


def types(*oids: int) -> bytes:
    """ParameterDescription."""
    return message(b"t", _oids(oids))


# Playing.


@dataclass(frozen=True, slots=True)
class Turn:
    """What one side says in one go."""

    by_client: bool
    data: bytes


def client(*messages: bytes) -> Turn:
    """The client says this."""
    return Turn(by_client=True, data=b"".join(messages))


def server(*messages: bytes) -> Turn:
    """PostgreSQL says this."""
    return Turn(by_client=False, data=b"".join(messages))


@dataclass(slots=True)
class Playbook:
    """One session's tracker behind its framers. The clock goes on by one for every turn."""

    policy: Parameters = Parameters.FULL
    copy_data: CopyDataShown = "none"
    records: list[Record] = field(default_factory=list)
    now: int = 0
    tracker: Tracker = field(init=False)
    _frontend: FrontendFramer = field(init=False)
    _backend: BackendFramer = field(init=False)

    def __post_init__(self) -> None:
        """Begin a session."""
        self.tracker = Tracker(self.policy, self.copy_data)
        copies = self.tracker.copies
        self._frontend, self._backend = FrontendFramer(LIMIT, copies.shows_in), BackendFramer(copies.shows_out)

    def take(self, *turns: Turn) -> list[str]:
        """Play on; returns what these turns were recorded as."""
        before = len(self.records)
        for turn in turns:
            self.now += 1
            if turn.by_client:
                messages, _ = self._frontend.feed(turn.data)
                self.records += started(self.tracker.requests(messages, self.now))
            else:
                answers = self._backend.feed(turn.data)
                self.records += ended(self.tracker.responses(answers, self.now, self._frontend.copy_bytes))
        return [told(record) for record in self.records[before:]]

    def close(self) -> list[str]:
        """The session ends here."""
        last = ended(self.tracker.close(self.now, (self._frontend.copy_bytes, self._backend.copy_bytes)))
        self.records += last
        return [told(record) for record in last]


def started(noted: list[Noted]) -> list[Record]:
    """What an auditor reads of what `Tracker.requests` gives, without what the chain adds to it."""
    return [_read_back("statement.start", one.start) if isinstance(one, Step) else one for one in noted]


def ended(noted: list[Noted]) -> list[Record]:
    """As `started`, for `Tracker.responses` and `close`."""
    return [_read_back("statement.end", one.end()) if isinstance(one, Step) else one for one in noted]


def _read_back(kind: str, fields: str) -> AnyRecord:
    record = decode(Chain("ses_1").seal_fields(kind, fields))
    record.v, record.session, record.seq, record.at, record.prev = None, "", -1, 0, None
    return record


def play(*turns: Turn) -> list[str]:
    """What a whole conversation is recorded as."""
    return Playbook().take(*turns)


def told(record: Record) -> str:
    """A record in one line."""
    match record:
        case StatementStart():
            sql = f"function {record.function}" if record.kind == "function" else record.sql
            return f"{record.statement}> {_named(record.name)}{sql}{_values(record.parameters)}"
        case StatementPrepare():
            what = "prepare" if record.portal is None else f"bind '{record.portal}'"
            return f"{what}: {_named(record.name)}{record.sql}{_values(record.parameters)}"
        case StatementEnd():
            return f"{record.statement}< {_course(record)} [{record.state or '-'}]"
        case Authorization():
            return f"{record.parameter} = {record.value}"
        case Copy():
            size = record.bytes if record.bytes_in is None else f"{record.bytes} ({record.bytes_in} in)"
            return f"{record.statement}: copy {record.direction} {size}{' failed' if record.failed else ''}"
        case CopyData():
            return f"{record.statement}: {record.direction} {b64decode(record.base64).decode('latin-1')}"
        case _:
            raise AssertionError(f"the tracker makes no {record}")


def _course(end: StatementEnd) -> str:
    parts = [*end.tags]
    if end.ran is not None:
        parts.append(f"ran {_named(end.ran.name)}{end.ran.sql}{_values(end.ran.parameters)}")
    if end.sqlstate is not None:
        parts.append(f"{end.sqlstate} {end.message}")
    if end.suspended:
        parts.append(f"suspended after {end.rows}")
    return ", ".join([*parts, *(["skipped"] if end.skipped else [])])


def _named(name: str | None) -> str:
    return "" if name is None else f"({name}) "


def _values(parameters: list[Parameter] | None) -> str:
    return "" if parameters is None else f" {[one.value for one in parameters]}"


def _text(text: str | bytes) -> bytes:
    return text if isinstance(text, bytes) else text.encode()


def _counted(value: bytes) -> bytes:
    return struct.pack("!i", len(value)) + value


def _oids(oids: tuple[int, ...]) -> bytes:
    return struct.pack(f"!H{len(oids)}I", len(oids), *oids)
