"""The data of a session's COPYs: how much there was of it and, where that is asked for, its records.

Owns what CopyData is counted as, and to which statement it belongs: in the order of the client's stream, since what is
sent ahead of PostgreSQL's answers is on record before anybody knows whether it will be taken. What a COPY is, and when
it ends, is `proxy.wire.tracker`'s. Data is recorded as it is: it never masks, parses or shortens it.
"""

import base64
from collections import deque
from collections.abc import Iterable
from typing import Literal, cast

from proxy.contract.record import Copy, CopyData
from proxy.contract.settings import CopyDataShown
from proxy.wire.statements import Name
from proxy.wire.steps import CopyDirection, Kind, Step

DIRECTIONS: dict[int, CopyDirection] = {ord("G"): "in", ord("H"): "out", ord("W"): "both"}
"""CopyInResponse and its kin."""
PIECE_BYTES = 49_152
"""Of data in one record. Divisible by 3: the texts of all pieces but the last are one base64 text, too."""


class Copies:
    """One session's. Its numbers are bytes of CopyData's contents since the session's start."""

    __slots__ = ("_counted", "_received", "sent", "shows_in", "shows_out")

    def __init__(self, shown: CopyDataShown = "none") -> None:
        self.shows_in = shown != "none"
        """What the client sends is on record: its framer must hand it up."""
        self.shows_out = shown == "full"
        """And what PostgreSQL sends."""
        self.sent = 0
        """By the client, in front of what is looked at now."""
        self._received = self._counted = 0
        """By PostgreSQL, and how much of that is in the record of a COPY."""

    def take_in(self, body: bytes, step: Step | None) -> list[CopyData]:
        """A `d` of FrontendFramer; `step` is the last statement that was asked for, None where it is answered.

        Then PostgreSQL takes the data for none, and forgets it; so it does while it answers something else.
        """
        if not self.shows_in:
            self.sent = int.from_bytes(body)
            return []
        self.sent += len(body)
        return [] if step is None or step.sqlstate is not None else pieces(step.statement, "in", body)

    def take_out(self, body: bytes, step: Step | None) -> list[CopyData]:
        """A `d` of BackendFramer; `step` is what PostgreSQL answers."""
        if not self.shows_out:
            self._received = int.from_bytes(body)
            return []
        self._received += len(body)
        return pieces(step.statement, "out", body) if step is not None and step.statement else []

    def cut(self, queue: "deque[Step | Name]", running: Iterable[Step], sent: int, received: int) -> list[Copy]:
        """The record of the COPY that the session's end has cut short, if one was, after so much from either side."""
        self._received = received
        copying = [step for step in running if step.copying is not None]
        return [self.end(queue, step, sent, failed=True) for step in copying]

    def end(self, queue: "deque[Step | Name]", step: Step, seen: int, *, failed: bool) -> Copy:
        """The record of the COPY that `step` is in, which is over. `seen`: what has come from the client by now."""
        direction = step.copying or "in"
        until = _ended_at(queue, step, seen)
        size_in, size_out = until - step.copied, self._received - self._counted
        step.copying, self._counted = None, self._received
        if direction != "out":
            step.copied = until
        size = {"in": size_in, "out": size_out, "both": size_in + size_out}[direction]
        both = size_in if direction == "both" else None
        return Copy(statement=step.statement, direction=direction, bytes=size, bytes_in=both, failed=failed)


def pieces(statement: int, direction: Literal["in", "out"], data: bytes) -> list[CopyData]:
    """The records of `data`."""
    parts = [data[at : at + PIECE_BYTES] for at in range(0, len(data), PIECE_BYTES)]
    return [
        CopyData(statement=statement, direction=direction, base64=base64.b64encode(part).decode()) for part in parts
    ]


def fields(piece: CopyData) -> str:
    """What follows `prev` in its line. Base64 has nothing to escape, and looking for it takes as long as making it."""
    return f',"statement":{piece.statement},"direction":"{piece.direction}","base64":"{piece.base64}"'


def _ended_at(queue: "deque[Step | Name]", step: Step, seen: int) -> int:
    """Where the client has ended the data of `step`, or asked for something else, which ends it too; else `seen`."""
    behind = False
    for one in queue:
        if behind and (one.kind == Kind.COPY_END or one.statement):
            return cast("Step", one).copied
        behind = behind or one is step
    return seen
