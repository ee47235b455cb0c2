# cython: annotation_typing=False, binding=False
"""The steps of a session that PostgreSQL still owes an answer for: what the tracker's queue holds."""

from typing import TYPE_CHECKING, Final, Literal, TypeAlias

import msgspec

from proxy.contract.record import Authorization, Parameter, Ran, Record, TransactionState
from proxy.wire.messages import parse_parameter_status

if TYPE_CHECKING:
    from proxy.wire.statements import Name, Portal, Prepared


_encode = msgspec.json.Encoder().encode

_LENGTH = 4
_NO_RESULT = -1
"""FunctionCallResponse's own word for NULL."""

CopyDirection: TypeAlias = Literal["in", "out", "both"]


class Kind:
    """What was asked: a bit each, so that several make a set.

    Plain numbers, because an enum's member costs a microsecond to look up in Python 3.11.
    """

    QUERY: Final = 1
    PARSE: Final = 2
    EXECUTE: Final = 4
    FUNCTION: Final = 8
    DESCRIBE: Final = 16
    """Of a prepared statement, which is answered with its parameters' types."""
    SYNC: Final = 32
    EXTENDED: Final = 64
    """Bind or Close (the queue then holds the Name itself), Describe of a portal, or a statement's row description: a
    marker. What answers it we do not look at, so it is dropped when something behind it is answered."""
    COPY_END: Final = 128
    """CopyDone or CopyFail: a marker."""


class Owed:
    """What PostgreSQL owes an answer for: a Step, or a Name, which stands for a Bind or Close of it."""

    __slots__ = ("kind", "statement")

    def __init__(self, kind: int, statement: int = 0) -> None:
        self.kind = kind
        self.statement = statement
        """Its number, where it is a statement, else 0."""


class Step(Owed):
    """One thing that was asked; a statement where `statement` is not 0. Times in ns, sizes in bytes.

    A statement is recorded twice. Both records are written here as the fields of a line (what follows `prev` in it),
    since one object less for each is worth it: they are StatementStart and StatementEnd of `proxy.contract.record`.
    """

    __slots__ = (
        "answered",
        "bytes_in",
        "bytes_out",
        "copied",
        "copying",
        "described",
        "duration",
        "joined",
        "limit",
        "message",
        "name",
        "portal",
        "ran",
        "result",
        "rows",
        "skipped",
        "sql",
        "sqlstate",
        "start",
        "started",
        "state",
        "suspended",
        "tags",
    )

    def __init__(  # noqa: PLR0917 as `joined`
        self,
        kind: int,
        statement: int = 0,
        started: int = 0,
        bytes_in: int = 0,
        sql: str = "",
        joined: bool = False,  # noqa: FBT001, FBT002 positional for the C call
    ) -> None:
        self.kind = kind
        self.statement = statement
        self.started = started
        self.bytes_in = bytes_in
        self.sql = sql
        self.joined = joined
        """No Sync stands between it and the statement before it."""
        self.start = ""
        """The fields of its `statement.start`."""
        self.limit = 0
        """How many rows the Execute asked for, 0 for all."""
        self.name: Name | None = None
        """Of a Parse: what it gave a meaning to. Of an Execute: its portal's."""
        self.portal: Prepared | Portal | None = None
        """What that name was thought to mean."""
        self.described: Prepared | None = None
        self.tags: tuple[str, ...] | list[str] = ()
        self.rows = 0
        self.duration = 0
        self.bytes_out = 0
        self.sqlstate: str | None = None
        self.message: str | None = None
        self.skipped = False
        self.suspended = False
        self.copying: CopyDirection | None = None
        self.copied = 0
        """Bytes of CopyData that the client had sent before it; before a COPY's own, once there was another."""
        self.answered = False
        """Answered, by something else than a tag or an error."""
        self.result = _NO_RESULT
        """The length of a function call's result."""
        self.ran: Ran | None = None
        self.state: TransactionState | None = None
        """What the ReadyForQuery said that closed its round."""

    def settle(self) -> None:
        """Its portal is known: note what it ran, or runs, where that is something else than was thought."""
        if self.name is not None and self.name.meaning is not self.portal:
            self.ran = self.name.ran()
            self.sql = self.ran.sql

    def complete(self, tag: str, rows: int) -> None:
        """Take a CommandComplete, nearly always its only one.

        Thousands of steps can be open: text in a tuple is nothing that the garbage collector must come back to.
        """
        self.rows += rows
        if not self.tags:
            self.tags = (tag,)
        elif isinstance(self.tags, list):
            self.tags.append(tag)
        else:
            self.tags = [*self.tags, tag]

    def answer(self, body: bytes) -> None:
        """Take what answers it that is no tag. A FunctionCallResponse begins with its result's length."""
        self.answered = True
        if self.kind == Kind.FUNCTION and len(body) >= _LENGTH:
            self.result = int.from_bytes(body[:_LENGTH], signed=True)

    def fail(self, fields: dict[str, str]) -> None:
        """Take an ErrorResponse as its end, unless it has one: the first is the cause."""
        if self.sqlstate is None:
            self.sqlstate, self.message = fields.get("C", ""), fields.get("M", "")

    def fail_running(self, fields: dict[str, str]) -> None:
        """As `fail`, for what ran as it failed: its portal is known then."""
        self.fail(fields)
        if self.name is not None and self.name.meaning not in (self.portal, None):
            self.ran = self.name.ran()  # Before it failed.
            self.sql = self.ran.sql

    def end(self) -> str:
        """The fields of its `statement.end`; what is at its default is left out, as in every record."""
        tags = f',"tags":{as_json(self.tags)}' if self.tags else ""
        rows = f',"rows":{self.rows}' if self.rows else ""
        size = f',"bytes_in":{self.bytes_in}' if self.bytes_in else ""
        if self.bytes_out:
            size = f'{size},"bytes_out":{self.bytes_out}'
        if self.result != _NO_RESULT:
            size = f'{size},"result_bytes":{self.result}'
        rest = self._particulars() if self.sqlstate is not None or self.skipped or self.suspended else ""
        state = "" if self.state is None else f',"state":"{self.state}"'
        ran = "" if self.ran is None else f',"ran":{as_json(self.ran)}'
        return f',"statement":{self.statement}{tags}{rows},"duration":{self.duration}{size}{rest}{state}{ran}'

    def _particulars(self) -> str:
        error = ""
        if self.sqlstate is not None:
            error = f',"sqlstate":{as_json(self.sqlstate)},"message":{as_json(self.message)}'
        skipped = ',"skipped":true' if self.skipped else ""
        suspended = ',"suspended":true' if self.suspended else ""
        return f"{error}{skipped}{suspended}"


Noted: TypeAlias = Record | Step
"""What the tracker wants recorded: a Step where a statement starts (`Tracker.requests`) or ends (its other methods)."""


def as_json(value: object) -> str:
    """As it stands in a line."""
    return _encode(value).decode()


def authorization(body: bytes) -> list[Authorization]:
    """The record of a ParameterStatus that says with whose rights the session acts; none of any other."""
    name, value = parse_parameter_status(body)
    if name in ("session_authorization", "is_superuser"):
        return [Authorization(parameter=name, value=value)]
    return []


def call(function: int, arguments: list[Parameter] | None) -> str:
    """The fields of a `statement.start` that say what a FunctionCall calls."""
    values = "" if arguments is None else f',"parameters":{as_json(arguments)}'
    return f',"sql":""{values},"function":{function}'


def start_of(step: Step, kind: str, what: str, state: TransactionState, transaction: int) -> str:
    """The fields of a `statement.start`; `what` are those from `sql` to `function`, each with a comma before it."""
    joined = ',"pipelined":true' if step.joined else ""
    return f',"statement":{step.statement},"kind":"{kind}"{what}{joined},"state":"{state}","transaction":{transaction}'


SYNC = Step(Kind.SYNC)
EXTENDED = Step(Kind.EXTENDED)
"""Steps that have nothing of their own: one of each serves all."""


def parse(name: "Name") -> Step:
    """A Parse, which gives `name` a meaning."""
    step = Step(Kind.PARSE)
    step.name = name
    return step


def describe(prepared: "Prepared") -> Step:
    """A Describe of `prepared`."""
    step = Step(Kind.DESCRIBE)
    step.described = prepared
    return step


def copy_end(copied: int) -> Step:
    """A CopyDone or CopyFail, behind so many bytes of CopyData."""
    step = Step(Kind.COPY_END)
    step.copied = copied
    return step
