"""The steps of a session that PostgreSQL still owes an answer for: what the tracker's queue holds."""

from collections import deque
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

import msgspec

from proxy.contract.record import Ran, StatementEnd, TransactionState

if TYPE_CHECKING:
    from proxy.wire.statements import Name, Portal, Prepared


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
    """Of a Parse: what it gave a meaning to. Of an Execute: its portal's."""
    portal: "Prepared | Portal | None" = None
    """What that name was thought to mean."""
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
    ran: Ran | None = None

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
            ran=self.ran,
        )


SYNC = Step(Kind.SYNC)
EXTENDED = Step(Kind.EXTENDED)
COPY_END = Step(Kind.COPY_END)
"""Steps that have nothing of their own: one of each serves all."""


def drop_swallowed_syncs(queue: "deque[Step | Name]") -> tuple[int, bool]:
    """Drop the Syncs behind the COPY in front that PostgreSQL read, and ignored, while it took data; returns how many.

    libpq sends one with Execute, before it knows that a COPY begins, and another one behind CopyDone. Where the COPY
    failed, perhaps before it read any, one dropped here may be answered all the same. So what is returned too is
    whether it could still be told what is run and what is skipped: where CopyDone, and for an Execute the Sync, follow.
    """
    copying, dropped = queue.popleft(), 0
    while queue and queue[0].kind == Kind.SYNC:
        queue.popleft()
        dropped += 1
    told_apart = not queue
    if queue and queue[0].kind == Kind.COPY_END:
        queue.popleft()
        told_apart = not queue or copying.kind == Kind.QUERY or queue[0].kind == Kind.SYNC
    queue.appendleft(copying)
    return dropped, told_apart


def ends_skipping(queue: "deque[Step | Name]") -> bool | None:
    """Whether a ReadyForQuery behind a failed COPY is of the Sync up to which all is skipped, or a spare one.

    None where nobody can tell.
    """
    kinds = [step.kind for step in queue if step.kind != Kind.COPY_END]
    if Kind.SYNC in kinds:
        return True if kinds[0] == Kind.SYNC else None
    return not kinds
