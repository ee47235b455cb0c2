"""The steps of a session that PostgreSQL still owes an answer for: what the tracker's queue holds."""

from typing import TYPE_CHECKING, Final, Literal, TypeAlias

import msgspec

from proxy.contract.record import StatementEnd, TransactionState

if TYPE_CHECKING:
    from proxy.wire.statements import Name, Prepared


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


class Step(msgspec.Struct, gc=False):
    """One thing that was asked; a statement where `statement` is not 0. Times in ns, sizes in bytes.

    A msgspec structure because one is made for every statement, and this is the fastest there is.
    """

    kind: int
    statement: int = 0
    started: int = 0
    bytes_in: int = 0
    sql: str = ""
    limit: int = 0
    """How many rows the Execute asked for, 0 for all."""
    name: "Name | None" = None
    """Of a Parse: what it gave a meaning to."""
    described: "Prepared | None" = None
    tags: list[str] = []
    rows: int = 0
    duration: int = 0
    bytes_out: int = 0
    sqlstate: str | None = None
    message: str | None = None
    skipped: bool = False
    suspended: bool = False
    copying: CopyDirection | None = None
    answered: bool = False
    """Answered, by something else than a tag or an error."""

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


SYNC = Step(Kind.SYNC)
EXTENDED = Step(Kind.EXTENDED)
COPY_END = Step(Kind.COPY_END)
"""Steps that have nothing of their own: one of each serves all."""
