"""A decision from outside to end a session, and what end mode `finish` makes of it.

Owns what both are. Who decides is the registry's and the clock's; what follows is `proxy.ending`'s.
"""

from dataclasses import dataclass
from typing import Literal

from proxy.clock import Deadline
from proxy.contract.grant import EndMode, Grant
from proxy.contract.record import EndReason, Finish

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
