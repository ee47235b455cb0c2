"""Reaping: when other proxies are told to end the sessions of one that is gone, and how often. Pure.

A proxy that is heard ends its own sessions, and nobody else does. One that has been silent for SILENCE_S has lost its
lease by then (LEASE_S), and where the target wants it so (`end-sessions`) it has ended its sessions: if it still can.
Whether it is dead or only cut off, nobody knows; so sessions whose access goes on are left alone, unless an
administrator says that the proxy is gone.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from control.domain.grants import Grant
from control.domain.grants import State as GrantState
from control.domain.locks import Lock
from control.domain.sessions import Session
from control.times import SECOND
from proxy.contract.directive import LEASE_S
from proxy.contract.settings import Target

MARGIN_S = 5.0
"""What a proxy needs to end its sessions once its lease is lost, a heartbeat's time included."""
SILENCE_S = LEASE_S + MARGIN_S
GAP_S = 5.0
"""Who has not looked for longer than that was away itself, and begins to listen anew."""
FIRST_WAIT_S = 2.0
LAST_WAIT_S = 300.0
TRIED_FOR_S = 86_400
"""After a day nobody is told any more: whoever still could, has not."""


class Vigil:
    """Who is silent, as one service hears it: by its own watch, which no step of a wall clock reaches.

    It is told again and again when each proxy was last heard by anybody, and notices whether that has changed. So a
    service that was just started, stopped for a while or hung takes nobody for silent before it has listened long
    enough itself.
    """

    def __init__(self) -> None:
        self._looked = float("-inf")
        self._known: dict[str, tuple[int, float, bool]] = {}
        """When it was last heard, since when that has been so, and whether it was heard during this vigil."""

    def look(self, last_seen: Mapping[str, int], now: float) -> None:
        """Take notice; `now` is the watch's."""
        before = self._known if now - self._looked <= GAP_S else {}
        self._looked, self._known = now, {}
        for name, at in last_seen.items():
            known = before.get(name)
            if known is None:
                self._known[name] = (at, now, False)
            else:
                self._known[name] = known if known[0] == at else (at, now, True)

    def silent(self) -> frozenset[str]:
        """Those that have been silent for SILENCE_S."""
        return frozenset(name for name, (_, since, _) in self._known.items() if self._looked - since > SILENCE_S)

    def heard(self) -> frozenset[str]:
        """Those that were heard. Of the others nothing is known yet."""
        return frozenset(name for name, (_, _, heard) in self._known.items() if heard) - self.silent()


@dataclass(frozen=True, slots=True, kw_only=True)
class Reaping:
    """One session that is to be ended by whoever can."""

    session: str
    proxy: str
    """The one that is gone."""
    why: str
    by: str | None
    """Who decided it; None where the rules did."""
    decided_at: int
    tries: int = 0
    next_at: int
    """When proxies are told, or told again."""

    def due(self, now: int) -> bool:
        """Whether proxies are to be told now."""
        return self.next_at <= now < self.decided_at + TRIED_FOR_S * SECOND

    def told(self, now: int) -> "Reaping":
        """It, once they were."""
        wait_s = min(FIRST_WAIT_S * 2.0 ** min(self.tries, 20), LAST_WAIT_S)
        return replace(self, tries=self.tries + 1, next_at=now + int(wait_s * SECOND))


def begin(session: Session, *, why: str, by: str | None, now: int) -> Reaping:
    """A reaping that is due at once."""
    return Reaping(session=session.id, proxy=session.proxy, why=why, by=by, decided_at=now, next_at=now)


def cause(
    session: Session, *, grant: Grant | None, targets: Mapping[str, Target], locks: Iterable[Lock], now: int
) -> str | None:
    """Why a silent proxy's session is to be ended; None where it may go on.

    A grant that is not in the books has nobody who could end it, and so it is over.
    """
    target = targets.get(session.target or "")
    if target is not None and target.lost_lease == "end-sessions":
        return "the lease is lost"
    if grant is None:
        return "the grant is unknown"
    if (stands := grant.state(now)) is not GrantState.ACTIVE:
        return f"the grant is {stands}"
    if any(covers(lock, session) for lock in locks):
        return "it is locked"
    return None


def covers(lock: Lock, session: Session) -> bool:
    """Whether the lock is one of this session: every name fits that it has."""
    return all(getattr(session, what) == name for what, name in lock.scope.names().items())
