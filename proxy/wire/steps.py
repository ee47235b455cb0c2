"""The steps of a session that PostgreSQL still owes an answer for: what the tracker's queue holds."""

import enum
from typing import Literal

from proxy.contract.record import StatementEnd, TransactionState
from proxy.wire.statements import Prepared, Undo


class Kind(enum.Enum):
    """What was asked."""

    QUERY = enum.auto()
    PARSE = enum.auto()
    EXECUTE = enum.auto()
    FUNCTION = enum.auto()
    DESCRIBE = enum.auto()
    """Of a prepared statement, which is answered with its parameters' types."""
    SYNC = enum.auto()
    EXTENDED = enum.auto()
    """Bind, Close, or Describe of a portal: a marker, dropped when something behind it is answered."""
    COPY_END = enum.auto()
    """CopyDone or CopyFail: a marker."""


class Step:
    """One thing that was asked; a statement where `statement` is not 0. Times in ns, sizes in bytes."""

    __slots__ = (
        "bytes_in",
        "bytes_out",
        "copying",
        "described",
        "duration",
        "kind",
        "message",
        "rows",
        "skipped",
        "sql",
        "sqlstate",
        "started",
        "statement",
        "suspended",
        "tags",
        "undo",
    )

    def __init__(
        self, kind: Kind, *, started: int = 0, bytes_in: int = 0, sql: str = "", described: Prepared | None = None
    ) -> None:
        self.kind = kind
        self.started = started
        self.bytes_in = bytes_in
        self.sql = sql
        self.described = described
        self.statement = 0
        self.tags: list[str] = []
        self.rows = 0
        self.duration = 0
        self.bytes_out = 0
        self.sqlstate: str | None = None
        self.message: str | None = None
        self.skipped = False
        self.suspended = False
        self.copying: Literal["in", "out", "both"] | None = None
        self.undo: Undo | None = None

    def end(self, state: TransactionState | None) -> StatementEnd:
        """The record of its end."""
        return StatementEnd(
            statement=self.statement,
            tags=self.tags,
            rows=self.rows,
            duration=self.duration,
            bytes_in=self.bytes_in,
            bytes_out=self.bytes_out,
            sqlstate=self.sqlstate,
            message=self.message,
            skipped=self.skipped,
            suspended=self.suspended,
            state=state,
        )
