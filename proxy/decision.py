"""A decision from outside to end a session, and what end mode `finish` makes of it.

Owns which decision counts, and what it finds going on. Who decides is the registry's and the clock's; what follows is
`proxy.ending`'s.
"""

import asyncio
import time
from dataclasses import dataclass
from typing import Literal

from proxy.clock import Deadline, Deadlines
from proxy.contract.grant import EndMode, Grant
from proxy.contract.record import EndReason, Finish
from proxy.notices import Notices
from proxy.relay import Cause, Relay
from proxy.wire.outcome import Scene

MAY_FINISH: frozenset[EndReason] = frozenset({"expired", "drained"})
"""Ends in good order. Whatever else ends a session means now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """A decision from outside to end a session. `decided_at` in ns since the epoch."""

    reason: EndReason
    by: str | None
    decided_at: int

    def may_finish(self, grant: Grant) -> bool:
        """Whether a statement that runs may end first."""
        return grant.end is EndMode.FINISH and self.reason in MAY_FINISH


@dataclass(slots=True, kw_only=True)
class Finishing:
    """A session whose end is decided, and whose running statement may end first."""

    stop: Stop
    until: float
    """Seconds since the epoch."""
    deadline: Deadline
    timed_out: bool = False

    def record(self, cause: object) -> Finish:
        """How it went, given what ended the session."""
        how: Literal["done", "timeout", "cut"]
        how = "cut" if cause is not self.stop else "timeout" if self.timed_out else "done"
        return Finish(decided_at=self.stop.decided_at, until=int(self.until * 1e9), ended=how)


class Decision:
    """One session's. The first one counts; one that means now cuts short what may finish."""

    def __init__(self, deadlines: Deadlines) -> None:
        self._deadlines = deadlines
        self.made: asyncio.Future[Stop] = asyncio.get_running_loop().create_future()
        """Done when the session is to end now."""
        self.scene: Scene | None = None
        """What was going on when it was decided."""
        self._finishing: Finishing | None = None
        self._relay: Relay | None = None
        self._notices: Notices | None = None
        self._finish_timeout_s = 0.0

    def applies_to(self, relay: Relay, notices: Notices, *, finish_timeout_s: float) -> None:
        """From now on something may run. Before, there is nothing to let finish and nothing to shut."""
        self._relay, self._notices, self._finish_timeout_s = relay, notices, finish_timeout_s

    @property
    def final(self) -> bool:
        """Whether the end is decided, if only once something has finished."""
        return self.made.done() or self._finishing is not None

    @property
    def finish_s(self) -> float:
        """How long a statement that is let finish may take; 0 where none is."""
        return 0.0 if self._finishing is None else max(0.0, self._finishing.until - time.time())

    def take(self, stop: Stop, grant: Grant, *, at_once: bool) -> None:
        """End the session, or let it finish first; with `at_once`, whatever its grant's end mode."""
        if self.made.done() or (not at_once and stop.may_finish(grant) and self._lets_finish(stop)):
            return
        self._make(stop)

    def _make(self, stop: Stop) -> None:
        self.made.set_result(stop)
        if self._relay is not None:
            self.scene = self.scene or Scene.of(self._relay.tracker)
            self._relay.close_in()  # From this moment on, whenever the session gets its turn.

    def _lets_finish(self, stop: Stop) -> bool:
        """Whether a statement runs that may end first: from now on no other one begins."""
        relay, notices = self._relay, self._notices
        if self._finishing is not None or relay is None or notices is None or relay.ended.done():
            return self._finishing is not None
        if not relay.tracker.busy:
            return False
        self.scene = Scene.of(relay.tracker)
        relay.finish()
        until = time.time() + self._finish_timeout_s
        self._finishing = Finishing(stop=stop, until=until, deadline=self._deadlines.at(until, self._out_of_time))
        notices.may_finish(stop.reason, self._finish_timeout_s)
        return True

    def _out_of_time(self) -> None:
        if self._finishing is not None and not self.made.done():
            self._finishing.timed_out = True
            self._make(self._finishing.stop)

    def cause(self, cause: Cause) -> Cause | Stop:
        """Why the session ended whose relay did: for the decision, where all had finished."""
        return self._finishing.stop if cause == "finished" and self._finishing is not None else cause

    def finish(self, cause: Cause | Stop) -> Finish | None:
        """How it went with what was let finish, if anything was."""
        return None if self._finishing is None else self._finishing.record(cause)

    def close(self) -> None:
        """The session is over."""
        if self._finishing is not None:
            self._finishing.deadline.cancel()
