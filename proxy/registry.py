"""What is in force right now: live sessions, their cancel keys, revoked grants, locks, and the limits on all of them.

Admission reads it, directives change it. It ends sessions by telling them to, and never touches a socket itself.
"""

import hmac
import secrets
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Protocol

import msgspec

from proxy.contract.directive import Extension, Locked
from proxy.contract.grant import Grant, Refusal
from proxy.contract.record import EndReason
from proxy.contract.token import KeySet, VerifyingKey
from proxy.errors import NotAdmitted, TooManySessions
from proxy.slots import Slots

LATEST_S = 9_000_000_000.0
"""No grant ends later: nanoseconds since the epoch fit 64 bits until some time after this, which is in 2255."""


class LiveSession(Protocol):
    """What the registry needs of a session."""

    id: str
    grant: Grant
    signed_by: VerifyingKey
    """The key that proved the grant."""

    def stop(self, reason: EndReason, *, by: str | None, decided_at: int, at_once: bool = False) -> None:
        """End it; `decided_at` in ns since the epoch. With `at_once`, whatever its grant's end mode."""

    @property
    def finish_s(self) -> float:
        """How long a statement of it that is let finish may take."""

    @property
    def needs_lease(self) -> bool:
        """Whether it ends when control cannot be heard."""

    def extend(self, extension: Extension) -> None:
        """Its grant's end has moved."""

    async def cancel_running(self, address: str | None) -> None:
        """Cancel what it runs."""

    def uses(self, link: object) -> bool:
        """Whether it goes by this way (`proxy.shared.TargetLink`) to its target."""


class Registry:
    """Live sessions, revocations and locks of one proxy process. With `slots`, its limits hold over all workers."""

    def __init__(self, *, max_sessions: int, slots: Slots | None = None, proxy: str = "") -> None:
        """`proxy` is this proxy's name, as locks have it."""
        self.max_sessions = max_sessions
        self._proxy = proxy
        self._slots = slots
        self._slots_of: dict[str, list[int]] = {}
        self._sessions: dict[str, LiveSession] = {}
        self._by_grant: defaultdict[str, set[str]] = defaultdict(set)
        self._cancel_keys: defaultdict[int, list[tuple[bytes, LiveSession]]] = defaultdict(list)
        self._revoked: dict[str, float] = {}
        self._locks: dict[str, Locked] = {}
        self._extended: dict[str, Extension] = {}

    def __len__(self) -> int:
        return len(self._sessions)

    def __iter__(self) -> Iterator[LiveSession]:
        return iter(list(self._sessions.values()))

    # Admission.

    def admit(self, session: LiveSession) -> None:
        """Count the session in. Raises NotAdmitted or TooManySessions; `leave` must follow otherwise."""
        grant = session.grant
        if grant.id in self._revoked:
            raise NotAdmitted(Refusal.REVOKED, grant=grant.id)
        if (lock := self._lock_on(grant)) is not None:
            raise NotAdmitted(Refusal.LOCKED, f"lock {lock.id}", grant=grant.id)
        if len(self._sessions) >= self.max_sessions:
            raise self._full()
        if grant.max_sessions is not None and len(self._by_grant[grant.id]) >= grant.max_sessions:
            raise used_up(grant)
        self._take_slots(session)
        self._sessions[session.id] = session
        self._by_grant[grant.id].add(session.id)

    def _take_slots(self, session: LiveSession) -> None:
        """Count the session in among those of all workers."""
        if self._slots is None:
            return
        grant = session.grant
        taken = self._slots_of.setdefault(session.id, [])
        for group, limit, refusal in (
            ("proxy", self.max_sessions, self._full()),
            (f"grant {grant.id}", grant.max_sessions, used_up(grant)),
        ):
            if limit is None:
                continue
            if (slot := self._slots.take(group, limit)) is None:
                self._give_slots_back(session)
                raise refusal
            taken.append(slot)

    def _give_slots_back(self, session: LiveSession) -> None:
        for slot in self._slots_of.pop(session.id, ()):
            assert self._slots is not None
            self._slots.give_back(slot)

    def _full(self) -> TooManySessions:
        return TooManySessions(f"all {self.max_sessions} sessions of this proxy are taken")

    def leave(self, session: LiveSession) -> None:
        """The session is over."""
        self._give_slots_back(session)
        self._sessions.pop(session.id, None)
        of_grant = self._by_grant.get(session.grant.id)
        if of_grant is not None:
            of_grant.discard(session.id)
            if not of_grant:
                del self._by_grant[session.grant.id]

    # Cancel keys.

    def add_cancel_key(self, session: LiveSession, pid: int, size: int) -> bytes:
        """Mint the secret of `size` bytes that goes to the client with `pid`. Several targets may share a pid."""
        secret = secrets.token_bytes(size)
        self._cancel_keys[pid].append((secret, session))
        return secret

    def drop_cancel_key(self, session: LiveSession, pid: int) -> None:
        """From here on no CancelRequest finds the session: call it before its backend is let go."""
        left = [entry for entry in self._cancel_keys.get(pid, ()) if entry[1] is not session]
        if left:
            self._cancel_keys[pid] = left
        else:
            self._cancel_keys.pop(pid, None)

    def find_by_cancel_key(self, pid: int, secret: bytes) -> LiveSession | None:
        """The session with this key, compared in constant time."""
        found = None
        for known, session in self._cancel_keys.get(pid, ()):
            if hmac.compare_digest(known, secret):
                found = session
        return found

    # Revocation.

    def revoke(self, grant: str, *, expires_at: float, by: str | None, decided_at: int) -> None:
        """End all sessions of the grant, and let no other one start until it would have expired anyway."""
        now = time.time()
        self._revoked = {known: end for known, end in self._revoked.items() if end > now}
        self._revoked[grant] = expires_at
        for session_id in list(self._by_grant.get(grant, ())):
            self._sessions[session_id].stop("revoked", by=by, decided_at=decided_at)

    # Extension.

    def extend(self, extension: Extension) -> None:
        """Let the sessions of the grant go on until its new end, those that begin on an older token too."""
        now = time.time()
        self._extended = {grant: one for grant, one in self._extended.items() if one.expires_at > now}
        extension = msgspec.structs.replace(extension, expires_at=min(extension.expires_at, LATEST_S))
        known = self._extended.get(extension.grant)
        if extension.expires_at <= (now if known is None else known.expires_at):
            return  # The end only ever comes later.
        self._extended[extension.grant] = extension
        for session_id in list(self._by_grant.get(extension.grant, ())):
            self._sessions[session_id].extend(extension)

    def extension_of(self, grant: Grant) -> Extension | None:
        """What moved the grant's end past the one that its token says, if anything has."""
        extension = self._extended.get(grant.id)
        return extension if extension is not None and extension.expires_at > grant.expires_at else None

    # Locks.

    def lock(self, lock: Locked) -> None:
        """End all sessions that `lock` covers, and let no other one start until it is lifted or over."""
        self._locks[lock.id] = lock
        for session in self:
            if self._holds(lock, session.grant):
                session.stop("locked", by=lock.by, decided_at=lock.decided_at)

    def unlock(self, lock_id: str) -> None:
        """Lift a lock, if it is known. What it has ended stays ended."""
        self._locks.pop(lock_id, None)

    def replace_locks(self, locks: Iterable[Locked]) -> None:
        """These are in force, and no other ones: what is missing was lifted, and sessions are held against the rest."""
        self._locks.clear()
        for one in locks:
            self.lock(one)

    def _lock_on(self, grant: Grant) -> Locked | None:
        return next((lock for lock in self._locks.values() if self._holds(lock, grant)), None)

    def _holds(self, lock: Locked, grant: Grant) -> bool:
        """Whether it covers the grant, and is not over."""
        if lock.until is not None and lock.until <= time.time():
            return False
        named = (
            (lock.person, grant.person),
            (lock.target, grant.target),
            (lock.profile, grant.profile),
            (lock.proxy, self._proxy),
        )
        return all(name is None or name == actual for name, actual in named)

    # Keys, kills, and the end of all.

    def withdraw_all_but(self, keys: KeySet, *, decided_at: int) -> None:
        """End all sessions whose grants were proven by another key than these.

        In good order a key stays until the last token that it signed has expired, so one that is missing was given up
        (`curfew-control rotate-keys --compromised`): nobody knows who signed with it.
        """
        for session in self:
            if not keys.holds(session.signed_by):
                session.stop("withdrawn", by=None, decided_at=decided_at)

    def end_without_lease(self, *, decided_at: int) -> None:
        """End all sessions of targets that want it so when the lease is lost."""
        for session in self:
            if session.needs_lease:
                session.stop("lease_lost", by=None, decided_at=decided_at)

    def kill(self, session_id: str, *, by: str | None, decided_at: int) -> None:
        """End one session, if it is here."""
        session = self._sessions.get(session_id)
        if session is not None:
            session.stop("killed", by=by, decided_at=decided_at)

    def stop_all(self, reason: EndReason, *, at_once: bool = False) -> float:
        """End every session; returns how many seconds statements have that are let finish."""
        decided_at = time.time_ns()
        for session in self:
            session.stop(reason, by=None, decided_at=decided_at, at_once=at_once)
        return max((session.finish_s for session in self), default=0.0)


def used_up(grant: Grant) -> TooManySessions:
    """What a session is refused with whose grant has all that it allows."""
    return TooManySessions(
        f"grant {grant.id} has its {grant.max_sessions} sessions",
        detail=f"Grant {grant.id} allows {grant.max_sessions} at once.",
    )
