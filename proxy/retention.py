"""How long the journal keeps a segment that control has: at least so long after the last line was written to it.

Owns what a segment's age is, and deletes nothing (see `proxy.journal`). The clock is the machine's as it was at the
start, and goes on by one that no step moves and no suspend stops: so a clock that is set forward under a running proxy
makes nothing old. What was written before the start has its file's time, against the machine's clock at the start: that
clock is believed, there is no other one. A file from the future counts as written at the start, that is, it stays
longer.
"""

import time
from collections.abc import Callable


def _elapsed() -> float:
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class Retention:
    """The ages of one journal's closed segments."""

    def __init__(
        self, seconds: float, *, wall: Callable[[], float] = time.time, elapsed: Callable[[], float] = _elapsed
    ) -> None:
        self._seconds = seconds
        self._elapsed = elapsed
        self._offset = wall() - elapsed()
        self._written: dict[int, float] = {}
        """When each closed segment was last written to."""

    def _now(self) -> float:
        return self._offset + self._elapsed()

    def found(self, number: int, modified: float) -> None:
        """A start has found this segment, whose file says when it was last written to."""
        self._written[number] = min(modified, self._now())

    def closed(self, number: int) -> None:
        """This segment was written to for the last time just now."""
        self._written[number] = self._now()

    def deleted(self, number: int) -> None:
        """This segment is gone."""
        self._written.pop(number, None)

    def is_over(self, number: int) -> bool:
        """Whether this segment has been kept for long enough."""
        return self._now() - self._written.get(number, self._now()) >= self._seconds
