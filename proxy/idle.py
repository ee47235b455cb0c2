"""Whether a session has been idle for too long: nothing runs, and the client sends nothing.

Owns what counts as idle. A statement that runs is never idle, however long it is silent; a COPY that waits for the
client's data is, and one in both directions (replication) while neither side sends; an open transaction is. Looks once
in a while instead of noting every byte, so it is late by two looks at most, and never early.
"""

import asyncio
from collections.abc import Callable
from time import monotonic

from proxy.relay import Relay
from proxy.wire.owed import wants_copy_data
from proxy.wire.steps import Step

LOOKS = 8
"""So many for each timeout, but never more than one in LEAST_S, and one in MOST_S at least."""
LEAST_S, MOST_S = 0.1, 5.0


class IdleWatch:
    """One session's. It looks from the start on; `close` it."""

    def __init__(self, relay: Relay, timeout_s: float, on_idle: Callable[[], None]) -> None:
        self._relay = relay
        self._timeout_s = timeout_s
        self._on_idle = on_idle
        self._last = self._activity()
        self._since = monotonic()
        self._every_s = min(max(timeout_s / LOOKS, LEAST_S), MOST_S)
        self._next = asyncio.get_running_loop().call_later(self._every_s, self._look)

    def close(self) -> None:
        """Look no more."""
        self._next.cancel()

    def _look(self) -> None:
        now, activity = monotonic(), self._activity()
        if activity is None or activity != self._last:
            self._last, self._since = activity, now
        if now - self._since >= self._timeout_s:
            self._on_idle()
        else:
            self._next = asyncio.get_running_loop().call_later(self._every_s, self._look)

    def _activity(self) -> tuple[int, ...] | None:
        """What stays the same while the session is idle; None while it is not."""
        relay, tracker = self._relay, self._relay.tracker
        if not tracker.busy:
            return (relay.bytes_in,)
        if not wants_copy_data(tracker.owed):
            return None
        copying = tracker.owed[0]
        both = isinstance(copying, Step) and copying.copying == "both"
        return (relay.bytes_in, copying.statement, relay.bytes_out if both else 0)
