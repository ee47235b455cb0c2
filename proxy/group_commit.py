"""Group commit: one sync for all who wait for what was written before it (promise 4, durability `disk`).

Owns who waits, and how far the last sync that went well has come. What is synced, and what a failure means, is the
journal's (`proxy.journal`).
"""

import asyncio
import contextlib
from collections.abc import Callable
from concurrent.futures import Future

from proxy.segments import Position


class GroupCommit:
    """Runs one sync at a time. Who asks while one runs shares the next, for it may have begun too early for them."""

    def __init__(
        self,
        begin: Callable[[], "tuple[Position, Future[None]]"],
        judge: Callable[["Future[None]"], Exception | None],
    ) -> None:
        """`begin` starts a sync in another thread and says up to where; `judge` says what is wrong with its result.

        Both are called in the event loop.
        """
        self._begin = begin
        self._judge = judge
        self._waiting: list[Callable[[Exception | None], None]] = []
        self._running = False
        self.syncs = 0
        """How many there were."""
        self.synced = Position(0, 0)
        """Everything before it is on disk, by a sync that was good."""

    def ask(self, done: Callable[[Exception | None], None]) -> None:
        """Call `done` in the running event loop, with what went wrong if anything, once a later sync is over."""
        self._waiting.append(done)
        if not self._running:
            self._start()

    def _start(self) -> None:
        loop = asyncio.get_running_loop()
        waiting, self._waiting = self._waiting, []
        self._running = True
        self.syncs += 1
        end, result = self._begin()

        def over(result: "Future[None]") -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(self._finish, waiting, end, result)

        result.add_done_callback(over)

    def _finish(self, waiting: list[Callable[[Exception | None], None]], end: Position, result: "Future[None]") -> None:
        self._running = False
        wrong = self._judge(result)
        if wrong is None:
            self.synced = end
        if self._waiting:
            self._start()
        for done in waiting:
            done(wrong)
