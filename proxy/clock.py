"""Deadlines on the wall clock: callbacks at a time of day, whatever happens to the system's clock.

A grant ends at a wall-clock time, so a clock that is set forward ends it too; one that is set back must not prolong
it, so the monotonic clock counts as well and whichever comes first decides. One task serves all deadlines.
"""

import asyncio
import heapq
import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass, field

TICK_S = 0.1
"""How late a jump of the clock is noticed at most."""
FEW = 1_000
"""So many deadlines are kept, called or taken back, before anybody looks which of them are over."""


@dataclass(slots=True, order=True)
class Deadline:
    """One callback to come. `cancel` takes it back."""

    wall: float
    order: int
    monotonic: float = field(compare=False)
    callback: Callable[[], None] | None = field(compare=False)

    def cancel(self) -> None:
        """Do not call back."""
        self.callback = None


class Deadlines:
    """Callbacks in the order of their wall-clock times (seconds since the epoch)."""

    def __init__(self) -> None:
        self._heap: list[Deadline] = []
        self._order = itertools.count()
        self._changed = asyncio.Event()
        self._monotonic_due: list[tuple[float, int, Deadline]] = []
        self._tidy_at = FEW

    @property
    def pending(self) -> int:
        """How many are kept, those included that are over and not yet dropped."""
        return max(len(self._heap), len(self._monotonic_due))

    def at(self, wall: float, callback: Callable[[], None]) -> Deadline:
        """Call back when the wall clock reads `wall`, or when the time until then has passed by the monotonic one."""
        if self.pending >= self._tidy_at:
            self._tidy()
        monotonic = time.monotonic() + (wall - time.time())
        deadline = Deadline(wall, next(self._order), monotonic, callback)
        heapq.heappush(self._heap, deadline)
        heapq.heappush(self._monotonic_due, (monotonic, deadline.order, deadline))
        self._changed.set()
        return deadline

    async def run(self) -> None:
        """Serve the deadlines, for as long as the process runs."""
        while True:
            self._changed.clear()
            wait = self.fire(wall=time.time(), monotonic=time.monotonic())
            try:
                async with asyncio.timeout(min(wait, TICK_S) if wait is not None else None):
                    await self._changed.wait()
            except TimeoutError:
                pass

    def fire(self, *, wall: float, monotonic: float) -> float | None:
        """Call back what is due; returns the seconds until the next one is, None if there is none."""
        while self._heap and self._heap[0].wall <= wall:
            self._call(heapq.heappop(self._heap))
        while self._monotonic_due and self._monotonic_due[0][0] <= monotonic:
            self._call(heapq.heappop(self._monotonic_due)[2])
        if not self._heap or not self._monotonic_due:
            return None
        return max(0.0, min(self._heap[0].wall - wall, self._monotonic_due[0][0] - monotonic))

    def _tidy(self) -> None:
        """Drop those that are over: a long grant's many short sessions would else all leave theirs until its end."""
        self._heap = [one for one in self._heap if one.callback is not None]
        self._monotonic_due = [one for one in self._monotonic_due if one[2].callback is not None]
        heapq.heapify(self._heap)
        heapq.heapify(self._monotonic_due)
        self._tidy_at = max(FEW, 2 * self.pending)

    def _call(self, deadline: Deadline) -> None:
        callback, deadline.callback = deadline.callback, None
        if callback is not None:
            # Not called here: a fault in one session's callback must not stop the others' deadlines.
            asyncio.get_running_loop().call_soon(callback)
