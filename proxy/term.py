"""How long a session has: its grant's end, the warnings before it, and an extension, which moves all of them.

Owns the deadlines of one session, and that only the newest of them counts. It ends nothing and tells nobody: it calls
back (see `proxy.session`).
"""

import functools
import time
from collections.abc import Callable, Sequence

from proxy.clock import Deadline, Deadlines


class Term:
    """One session's. It runs from the start; `close` it."""

    def __init__(
        self,
        deadlines: Deadlines,
        *,
        ends_at: float,
        warn_before_s: Sequence[float],
        on_end: Callable[[], None],
        on_warning: Callable[[float], None],
    ) -> None:
        """`ends_at` is in seconds since the epoch. `on_warning` is told how many seconds are left."""
        self.ends_at = ends_at
        self._deadlines = deadlines
        self._warn_before_s = warn_before_s
        self._on_end = on_end
        self._on_warning = on_warning
        self._pending: list[Deadline] = []
        self._over = False
        self._schedule()

    def extend(self, ends_at: float) -> bool:
        """Move the end; whether it was moved. It only ever comes later, and not any more once it was there."""
        if self._over or ends_at <= self.ends_at:
            return False
        self._cancel()
        self.ends_at = ends_at
        self._schedule()
        return True

    def close(self) -> None:
        """The session is over: nobody is called any more."""
        self._over = True
        self._cancel()

    def _schedule(self) -> None:
        end, now = self.ends_at, time.time()
        self._pending = [self._deadlines.at(end, functools.partial(self._end, end))]
        for seconds in self._warn_before_s:
            if end - seconds > now:
                warn = functools.partial(self._warn, seconds, end)
                self._pending.append(self._deadlines.at(end - seconds, warn))

    def _cancel(self) -> None:
        for one in self._pending:
            one.cancel()
        self._pending = []

    # A deadline that was cancelled may be on its way already (`Deadlines` calls back in the loop's next turn), so each
    # says which end it is of.

    def _end(self, end: float) -> None:
        if end == self.ends_at and not self._over:
            self._over = True
            self._on_end()

    def _warn(self, seconds: float, end: float) -> None:
        if end == self.ends_at and not self._over:
            self._on_warning(seconds)
