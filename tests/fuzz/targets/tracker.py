"""The tracker between a hostile client and a hostile server: it raises nothing, whatever either of them says.

The compiled one and its source give the same records. A Query, Execute or FunctionCall has a start record among those
that must be written before it goes on, with the very text that is asked for; each start has one end; every line is a
record that a reader can read; and what is kept is bounded by what was said.
"""

import json
from collections import Counter
from typing import Any

import msgspec

from proxy.contract.record import Record, StatementEnd, StatementPrepare, StatementStart
from tests.fuzz import turns, twins

LIMIT = 100_000
TWINS = twins.load()
DICTIONARY = (*turns.FROM_CLIENT, *turns.FROM_SERVER)
STATEMENTS = b"QEF"
mutate = turns.mutate
_starts = msgspec.json.Decoder(StatementStart)
_ends = msgspec.json.Decoder(StatementEnd)
_prepares = msgspec.json.Decoder(StatementPrepare)


class Session:
    """One twin's side of the conversation: what it was told, and the lines that came of it."""

    def __init__(self, twin: twins.Twin, copy_data: str) -> None:
        self._step = twin.steps.Step
        self._tracker = twin.tracker.Tracker(copy_data=copy_data)
        self._frontend = TWINS[0].framing.FrontendFramer(LIMIT, self._tracker.copies.shows_in)
        self._backend = TWINS[0].framing.BackendFramer(self._tracker.copies.shows_out)
        self._now = 0
        self._asked = self._answered = self._noted = 0
        self.started: list[int] = []
        self.ended: list[int] = []

    def take(self, turn: turns.Turn) -> list[bytes]:
        """Take a chunk; the lines that it gives."""
        self._now += 1
        if turn.by_client:
            messages, _ = self._frontend.feed(turn.data)
            return self._requests(messages)
        messages = self._backend.feed(turn.data)
        self._answered += len(messages)
        return self._lines(self._tracker.responses(messages, self._now, self._frontend.copy_bytes), starting=False)

    def end(self) -> list[bytes]:
        """End the session; the lines that are left."""
        return self._lines(self._tracker.close(self._now + 1, self._copied), starting=False)

    @property
    def state(self) -> tuple[object, ...]:
        """What the proxy goes by: whether to end the session, and what to say of its end."""
        one = self._tracker
        return one.state, one.busy, one.lost, one.failed, one.fatal, one.terminated, one.statements, one.transaction

    @property
    def _copied(self) -> tuple[int, int]:
        return self._frontend.copy_bytes, self._backend.copy_bytes

    def _requests(self, messages: list[tuple[int, bytes]]) -> list[bytes]:
        heard = [] if self._tracker.terminated else _until_terminate(messages)
        self._asked += len(heard)
        lines = self._lines(self._tracker.requests(messages, self._now), starting=True)
        assert len(self._tracker.owed) <= self._asked * 2, "a message is owed two answers at most"
        _hold_to_what_was_asked(heard, lines)
        return lines

    def _lines(self, noted: list[Any], *, starting: bool) -> list[bytes]:
        lines = []
        for one in noted:
            if isinstance(one, self._step):
                (self.started if starting else self.ended).append(one.statement)
                kind, fields = ("start", one.start) if starting else ("end", one.end())
                lines.append(f'{{"type":"statement.{kind}"{fields}}}'.encode())
            else:
                assert isinstance(one, Record)
                lines.append(msgspec.json.encode(one))
        self._noted += len(lines)
        assert self._noted <= 2 * self._asked + self._answered, "more records than there was to record"
        return lines


def check(data: bytes) -> None:
    """Play the conversation to both twins."""
    conversation = turns.read(data)
    copy_data = ("none", "in", "full")[len(data) % 3]
    sessions = [Session(twin, copy_data) for twin in TWINS]
    for turn in conversation:
        lines = [session.take(turn) for session in sessions]
        assert all(other == lines[0] for other in lines), "the twins' records differ"
        assert len({repr(session.state) for session in sessions}) == 1
        _readable(lines[0])
    lines = [session.end() for session in sessions]
    assert all(other == lines[0] for other in lines), "the twins' last records differ"
    _readable(lines[0])
    for session in sessions:
        assert session.started == list(range(1, len(session.started) + 1))
        assert Counter(session.ended) == Counter(session.started), "each start has one end"


def _until_terminate(messages: list[tuple[int, bytes]]) -> list[tuple[int, bytes]]:
    kinds = [kind for kind, _ in messages]
    return messages[: kinds.index(ord("X"))] if ord("X") in kinds else messages


def _hold_to_what_was_asked(heard: list[tuple[int, bytes]], lines: list[bytes]) -> None:
    starts = [_starts.decode(line) for line in lines if line.startswith(b'{"type":"statement.start"')]
    asked = [(kind, body) for kind, body in heard if kind in STATEMENTS]
    assert [start.kind for start in starts] == [_KINDS[kind] for kind, _ in asked], "a start for each, in order"
    for start, (kind, body) in zip(starts, asked, strict=True):
        if kind == ord("Q") and not start.masked:
            assert start.sql == body.removesuffix(b"\0").decode("utf-8", "backslashreplace")
        elif kind == ord("F"):
            assert start.function == int.from_bytes(body[:4])
    prepared = [_prepares.decode(line) for line in lines if line.startswith(b'{"type":"statement.prepare"')]
    if not any(one.masked for one in starts) and not any(one.masked for one in prepared):
        shown = {one.sql for one in starts} | {one.sql for one in prepared}
        assert _bound_texts(heard) <= shown, "what is bound is shown"


_KINDS = {ord("Q"): "query", ord("E"): "execute", ord("F"): "function"}


def _bound_texts(heard: list[tuple[int, bytes]]) -> set[str]:
    """Texts that were parsed and then bound in these very messages, without a Close that makes it doubtful."""
    parsed: dict[bytes, str] = {}
    bound = set()
    for kind, body in heard:
        if kind == ord("P"):
            name, _, rest = body.partition(b"\0")
            parsed[name[:63]] = rest.partition(b"\0")[0].decode("utf-8", "backslashreplace")
        elif kind == ord("B") and body.count(b"\0") > 1:
            name = body.split(b"\0")[1]
            bound |= {parsed[name[:63]]} if name[:63] in parsed else set()
        elif kind == ord("C"):
            parsed.clear()
    return bound


def _readable(lines: list[bytes]) -> None:
    """Each line is JSON, and a start or end is the record that it says it is."""
    for line in lines:
        json.loads(line)
        if line.startswith(b'{"type":"statement.end"'):
            _ends.decode(line)
