"""A relay with the shortcut and one without, between a hostile client and a hostile server: nobody can tell them apart.

The same lines in the journal, byte for byte while the clocks stand still; the same bytes to either side; the same
state of the session at its end, and whenever somebody looks in between. Without a compiler there is no shortcut, and
nothing to try.
"""

import asyncio
import functools
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from random import Random
from typing import Any, cast
from unittest.mock import patch

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

import proxy.relay
from proxy.contract import chain
from proxy.contract.chain import Chain
from proxy.journal import Journal
from proxy.leg import FIRST_SLICE_BYTES, Leg
from proxy.recorder import Recorder
from proxy.relay import Relay
from proxy.wire.tracker import Tracker
from tests.fuzz import turns
from tests.unit.proxy.stand import Transport
from tests.unit.proxy.wire import playbook as say

LIMIT = 100_000
NOON = 1_800_000_000_000_000_000
KEY = Ed25519PrivateKey.generate()
DICTIONARY = (*turns.FROM_CLIENT, *turns.FROM_SERVER)
TAKEN = proxy.relay.make_shortcut
LOOKED_AT = 7
"""After a chunk whose length this divides, somebody looks."""

_ANSWER = say.ROWS + say.ROW + say.complete("SELECT 1")
PLAIN = (
    (say.parse("select $1", "s", (23,)) + say.SYNC, say.PARSED + say.READY),
    (say.query("select 'a \"b\" \\ \n'"), _ANSWER + say.READY),
    (say.query("begin"), say.complete("BEGIN") + say.READY_IN),
    (say.query("commit"), say.complete("COMMIT") + say.READY),
    (say.bind("7", statement="s") + say.execute() + say.SYNC, say.BOUND + _ANSWER + say.READY),
    (say.bind(None, statement="s") + say.describe_portal() + say.execute() + say.SYNC, say.BOUND + _ANSWER + say.READY),
    (say.bind("7", statement="s") + say.execute() + say.SYNC, say.BOUND + _ANSWER + say.READY_IN),
    (say.execute() + say.SYNC, say.error() + say.READY),
)


class Lines(Journal):
    """A journal that keeps its lines to itself."""

    def __init__(self) -> None:
        super().__init__(Path(), -1, segment_bytes=1, limit_bytes=4, retention_s=0, retry_s=0)
        self.lines: list[bytes] = []

    def append(self, line: bytes) -> None:
        """As Journal's."""
        self.lines.append(line)

    append_lazily = append


class Session:
    """A relay between two legs that go nowhere."""

    def __init__(self, make_shortcut: Callable[..., Any]) -> None:
        self.journal = Lines()
        self._sides = Transport(), Transport()
        self._client, self._server = Leg(), Leg()
        for leg, transport in zip((self._client, self._server), self._sides, strict=True):
            leg.connection_made(cast("asyncio.BaseTransport", transport))
        self._recorder = Recorder(self.journal, KEY, Chain("ses_1"))
        with patch.object(proxy.relay, "make_shortcut", make_shortcut):
            self._relay = Relay(self._client, self._server, Tracker(), self._recorder, limit=LIMIT)
        self._relay.start()

    def take(self, turn: turns.Turn) -> None:
        """One chunk; not more of it at once than a leg hands on in one turn of the event loop."""
        leg = self._client if turn.by_client else self._server
        for at in range(0, len(turn.data), FIRST_SLICE_BYTES):
            leg.data_received(turn.data[at : at + FIRST_SLICE_BYTES])

    def end(self) -> None:
        """The session is over."""
        self._recorder.after(self._relay.tracker.close(NOON, self._relay.copied))

    @property
    def state(self) -> tuple[object, ...]:
        """What can be seen of it."""
        relay, tracker = self._relay, self._relay.tracker
        return (
            [(one.kind, one.statement) for one in tracker.owed],
            [(one.statement, one.sql, one.start, one.started, one.bytes_in) for one in tracker.open],
            (tracker.state, tracker.statements, tracker.transaction, tracker.terminated, tracker.failed),
            (tracker.fatal, tracker.lost, relay.bytes_in, relay.bytes_out, relay.copied),
            repr(relay.ended.result()) if relay.ended.done() else None,
            [side.written for side in self._sides],
        )


def check(data: bytes) -> None:
    """Play the conversation to both."""
    with ExitStack() as stack:
        for where, name in ((chain, "_now"), (proxy.relay, "_now")):
            stack.enter_context(patch.object(where, name, lambda: NOON))
        if (compiled := _module()) is not None:
            for name in ("time_ns", "monotonic_ns"):
                stack.enter_context(patch.object(compiled, name, lambda: NOON))
        asyncio.run(_play(turns.read(data)))


@functools.cache
def _module() -> Any:  # noqa: ANN401 a module
    try:
        from proxy import _shortcut  # noqa: PLC0415 a platform may have none
    except (ImportError, TypeError, ValueError):
        return None
    return _shortcut


async def _play(conversation: list[turns.Turn]) -> None:
    one, other = Session(TAKEN), Session(lambda *_: None)
    for turn in conversation:
        one.take(turn)
        other.take(turn)
        assert one.journal.lines == other.journal.lines, "the records differ"
        if len(turn.data) % LOOKED_AT == 0:
            assert one.state == other.state
    assert one.state == other.state
    one.end()
    other.end()
    assert one.journal.lines == other.journal.lines, "the last records differ"


def mutate(data: bytes, random: Random) -> bytes:
    """Now and then a plain statement and its answer more, else as any conversation."""
    if random.random() < 0.5:
        return turns.mutate(data, random)
    conversation = turns.read(data)
    at = random.randint(0, len(conversation))
    for asked, answer in random.choices(PLAIN, k=random.choice([1, 2, 4])):
        plain = turns.Turn(by_client=True, data=asked), turns.Turn(by_client=False, data=answer)
        conversation[at:at] = plain
        at += len(plain)
    return turns.write(conversation)
