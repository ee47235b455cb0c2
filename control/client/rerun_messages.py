"""A round of a recorded session as PostgreSQL's messages, and what comes back. Sans IO: bytes out, messages in.

PostgreSQL, "Message Formats". What is sent is what the client sent, but for three things: results are asked for as
text, what it asked of the descriptions is not asked, and a prepared statement's name is freed before it is given anew
(the records do not have its Close). A COPY's data go in when PostgreSQL asks for them, so what follows it waits.
"""

import base64
import struct
from collections.abc import Iterator, Sequence

import msgspec

from control.client.rerun_rounds import (
    IN_FAILED_TRANSACTION,
    NAME_TAKEN,
    NO_SUCH_STATEMENT,
    PORTAL_EXISTS,
    SQL_PORTAL,
    Definition,
    Round,
    Statement,
)
from proxy.contract.record import Parameter, TransactionState

SYNC = b"S\0\0\0\4"
FLUSH = b"H\0\0\0\4"
COPY_DONE = b"c\0\0\0\4"
TERMINATE = b"X\0\0\0\4"
FATAL = ("FATAL", "PANIC")
STATES: dict[bytes, TransactionState] = {b"I": "I", b"T": "T", b"E": "E"}


class Outcome(msgspec.Struct, kw_only=True):
    """How a statement went, in the words of `statement.end`."""

    tags: list[str] = []
    sqlstate: str | None = None
    message: str | None = None
    skipped: bool = False
    suspended: bool = False
    rows: int = 0
    """Rows that came, of a portal that has more."""
    copied: list[int] = []
    """Bytes of each COPY out."""
    state: TransactionState | None = None
    ended: bool = False


class Names:
    """What the connection's prepared statements mean, as far as PostgreSQL has confirmed it."""

    def __init__(self) -> None:
        self._texts: dict[str, bytes] = {}
        self._asked: list[str] = []

    def define(self, name: str, text: bytes, types: Sequence[int], *, refused: bool = False) -> bytes:
        """The messages that give a name this meaning, whatever it meant; or that try to, where it was `refused`."""
        self._asked.append(name)
        if refused:
            if name in self._texts:
                return _parse(name, text, types)
            self._asked.append(name)
            return _parse(name, b"", ()) + _parse(name, text, types)
        self._texts[name] = text
        return free(name) + _parse(name, text, types)

    def means(self, name: str, text: bytes) -> bool:
        """Whether the name has this text, or one that only SQL knows (PREPARE), for which there is none."""
        return not text or self._texts.get(name) == text

    def settle(self, parsed: int) -> None:
        """A round is over in which so many were taken; the others mean nothing."""
        for name in self._asked[parsed:]:
            self._texts.pop(name, None)
        self._asked.clear()


def free(name: str) -> bytes:
    """Close of a prepared statement, which need not exist. The unnamed one is just replaced."""
    return message(b"C", b"S" + _name(name)) if name else b""


def chunks(asked: Round, names: Names) -> Iterator[bytes]:
    """The round's messages; behind each piece but the last, the statement that it ends with must be over first."""
    out = b""
    last: Definition | Statement | None = None
    for step in asked.steps:
        last = step
        if isinstance(step, Definition):
            out += names.define(step.name, step.text, step.types, refused=step.refused)
        elif step.kind == "query":
            out += message(b"Q", step.text + b"\0")
        else:
            out += _execute(step, names)
            if step.copies_in:
                yield out + FLUSH
                out = b""
    if not isinstance(last, Statement) or last.kind != "query" or len(asked.steps) > 1:
        out += SYNC
    yield out


def ends(asked: Round) -> int:
    """How many ReadyForQuery come where all goes well: a query has one, and the Sync behind it its own."""
    steps = asked.steps
    with_query = bool(steps) and isinstance(steps[-1], Statement) and steps[-1].kind == "query"
    return 2 if with_query and len(steps) > 1 else 1


def _execute(step: Statement, names: Names) -> bytes:
    limit = step.end.rows if step.end is not None and step.end.suspended else 0
    if step.continued:
        return _run(step.portal, limit)
    name = step.name or ""
    if not step.text and name.startswith(SQL_PORTAL):
        return _run(name.removeprefix(SQL_PORTAL), limit)
    failed = None if step.end is None else step.end.sqlstate
    if name and failed == NO_SUCH_STATEMENT:
        out = free(name)
    elif name and (names.means(name, step.text) or failed == NAME_TAKEN):
        out = b""
    elif name and failed == IN_FAILED_TRANSACTION:
        return _parse("", b"SELECT", ()) + message(b"B", _name("") * 2 + _values(())) + _run("", 0)  # As good as any.
    else:
        out = names.define(name, step.text, step.types)
    portal, binds = step.portal, 1
    if failed == PORTAL_EXISTS:  # What it was called is not on record.
        portal, binds = f"curfew_{step.number}", 2
    bind = message(b"B", _name(portal) + _name(name) + _values(step.parameters))
    return out + bind * binds + _run(portal, limit)


def _run(portal: str, limit: int) -> bytes:
    return message(b"E", _name(portal) + struct.pack("!i", limit))


def _parse(name: str, text: bytes, types: Sequence[int]) -> bytes:
    return message(b"P", _name(name) + text + b"\0" + struct.pack(f"!H{len(types)}I", len(types), *types))


def _values(parameters: Sequence[Parameter]) -> bytes:
    values = [value(one) for one in parameters]
    count = len(values)
    formats = [one.binary for one in parameters] if any(one.binary for one in parameters) else []
    out = [struct.pack(f"!H{len(formats)}HH", len(formats), *formats, count)]
    out += [struct.pack("!i", -1) if one is None else struct.pack("!i", len(one)) + one for one in values]
    return b"".join(out) + struct.pack("!H", 0)


def value(parameter: Parameter) -> bytes | None:
    """A bound value as PostgreSQL reads it: in its text form, or what was recorded of it byte for byte."""
    if parameter.base64 is not None:
        return base64.b64decode(parameter.base64)
    content = parameter.value
    if content is None:
        return None
    if isinstance(content, bool):
        return b"true" if content else b"false"
    return (repr(content) if isinstance(content, float) else str(content)).encode()


def message(kind: bytes, body: bytes) -> bytes:
    """A message of the frontend."""
    return kind + struct.pack("!i", len(body) + 4) + body


def _name(name: str) -> bytes:
    return name.encode() + b"\0"


class Answers:
    """Takes the answers to a round, and says of each statement how it went. `over` once all has come."""

    def __init__(self, asked: Round) -> None:
        self._statements = asked.statements
        self.outcomes = [Outcome() for _ in self._statements]
        self._at = self._parsed = 0
        self._ends = ends(asked)
        self.over = False
        self.lost: str | None = None
        """Why PostgreSQL has ended the connection."""

    @property
    def parsed(self) -> int:
        """How many definitions PostgreSQL took, of those that were asked first."""
        return self._parsed

    @property
    def current(self) -> Statement | None:
        """The statement that is being answered."""
        return self._statements[self._at] if self._at < len(self._statements) else None

    def take(self, kind: bytes, size: int, body: bytes) -> None:
        """A message from PostgreSQL with a body of `size` bytes, which rows and COPY data may come without."""
        one = self.outcomes[min(self._at, len(self.outcomes) - 1)] if self.outcomes else Outcome()
        match kind:
            case b"1":
                self._parsed += 1
            case b"C":
                one.tags.append(body.rstrip(b"\0").decode("utf-8", "backslashreplace"))
                self._end(one)
            case b"I":
                self._end(one)
            case b"s":
                one.suspended = True
                self._end(one)
            case b"D":
                one.rows += 1
            case b"H":
                one.copied.append(0)
            case b"d" if one.copied:
                one.copied[-1] += size
            case b"E":
                self._failed(one, body)
            case b"Z":
                self._ready(STATES.get(body, "E"))
            case _:
                pass

    def _end(self, one: Outcome) -> None:
        """An Execute has one end; a query as many as statements, and ReadyForQuery behind them."""
        statement = self.current
        if statement is not None and statement.kind == "execute":
            one.ended = True
            self._at += 1

    def _failed(self, one: Outcome, body: bytes) -> None:
        fields = error_fields(body)
        if one.sqlstate is None:
            one.sqlstate, one.message = fields.get("C", ""), fields.get("M", "")
        statement = self.current
        if fields.get("V", fields.get("S", "")) in FATAL:
            self.lost = f"{fields.get('C', '')} {fields.get('M', '')}"
            self.over = True
        elif statement is None or statement.kind == "execute":
            one.ended = True
            for skipped in self.outcomes[self._at + 1 :]:
                skipped.skipped = skipped.ended = True
            self._at = len(self.outcomes)
            self._ends = 1  # Up to the Sync all is skipped, a query behind it too.

    def _ready(self, state: TransactionState) -> None:
        self._ends -= 1
        self._at = len(self.outcomes)
        for one in self.outcomes:
            one.state, one.ended = state, True
        self.over = self._ends <= 0


def error_fields(body: bytes) -> dict[str, str]:
    """The fields of an ErrorResponse by their letters."""
    parts = [part.decode("utf-8", "backslashreplace") for part in body.split(b"\0") if part]
    return {part[0]: part[1:] for part in parts}
