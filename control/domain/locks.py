"""Locks: what stops access at once, for somebody, something or everything, until a time or until it is lifted.

A lock takes access away and never gives any, so one pair of eyes is enough: whoever may end access may lock, everything
included, because the person on call must be able to stop everything without asking anybody. Lifting takes the same
right and is recorded like the lock; only nobody lifts a lock that names themselves.

What a lock covers is where every name fits that it has. One without a name covers everything, and has to be asked for
in so many words. It is over by the clock or by being lifted, and neither needs a job that runs.
"""

import enum
from collections.abc import Mapping
from dataclasses import dataclass, replace

from control.domain.people import Person, Right
from control.domain.results import Failure, Reason, Result, Success, first_failure
from control.domain.texts import postgres_name, prose
from control.times import SECOND, rfc3339
from proxy.contract.directive import Locked
from proxy.contract.settings import Target

LONGEST_S = 366 * 86_400
"""One that is to last longer is made without an end."""
IN_FORCE = 500
"""So many at once, besides locks of everything: every proxy gets all of them in one line when it connects."""
TOLD = 200
"""Characters of the reason that proxies are told."""


class State(enum.StrEnum):
    """Where a lock stands."""

    ACTIVE = "active"
    EXPIRED = "expired"
    LIFTED = "lifted"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """What is locked: what fits each name that is set. With none set, everything."""

    person: str | None = None
    target: str | None = None
    profile: str | None = None
    """Of the target, where that is set too; else of every target that has a profile of this name."""
    proxy: str | None = None

    def names(self) -> Mapping[str, str]:
        """The names that are set, each under what it is of."""
        every = {"person": self.person, "target": self.target, "profile": self.profile, "proxy": self.proxy}
        return {what: name for what, name in every.items() if name is not None}

    def covers(self, *, person: str, target: str, profile: str) -> bool:
        """Whether access as this person, to this target, with this profile is covered, through whatever proxy."""
        fits = (self.person, person), (self.target, target), (self.profile, profile)
        return self.proxy is None and all(wanted in (None, name) for wanted, name in fits)

    def __str__(self) -> str:
        """In words."""
        return ", ".join(f"{what} {name}" for what, name in self.names().items()) or "everything"


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """What was asked for, not yet judged."""

    scope: Scope
    everything: bool = False
    reason: str
    duration_s: int | None = None
    until: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Lock:
    """A lock."""

    id: str
    scope: Scope
    reason: str
    created_at: int
    created_by: str
    until: int | None = None
    lifted_at: int | None = None
    lifted_by: str | None = None
    lift_reason: str | None = None

    def state(self, now: int) -> State:
        """Where the lock stands at `now`."""
        if self.lifted_at is not None:
            return State.LIFTED
        return State.ACTIVE if self.until is None or now < self.until else State.EXPIRED

    def visible_to(self, asker: Person) -> bool:
        """Whether `asker` may see it: a lock that names somebody else is nobody's business but the approvers'."""
        return sees_all(asker) or self.scope.person in (None, asker.name)

    def told(self) -> Locked:
        """What proxies are told."""
        return Locked(
            id=self.id,
            **self.scope.names(),
            until=None if self.until is None else self.until / SECOND,
            by=self.created_by,
            reason=self.reason[:TOLD],
            decided_at=self.created_at,
        )


def sees_all(asker: Person) -> bool:
    """Whether `asker` sees locks that name somebody else."""
    return asker.has(Right.SEE_REQUESTS) or asker.has(Right.SEE_SESSIONS)


def lock(draft: Draft, *, by: Person, lock_id: str, now: int) -> Result[Lock]:
    """The lock that `draft` becomes at `now`."""
    if not by.has(Right.END_ACCESS):
        return Failure(Reason.FORBIDDEN, "to lock takes the role approver")
    said = prose(draft.reason, "reason")
    if isinstance(said, Failure):
        return said
    failure = _scope(draft) or first_failure(*(postgres_name(name, what) for what, name in draft.scope.names().items()))
    if failure is not None:
        return failure
    until = _until(draft, now)
    if isinstance(until, Failure):
        return until
    return Success(
        Lock(id=lock_id, scope=draft.scope, reason=said.value, created_at=now, created_by=by.name, until=until.value)
    )


def _scope(draft: Draft) -> Failure | None:
    if draft.everything and draft.scope.names():
        return Failure(Reason.INVALID, "everything: leaves no room for a person, target, profile or proxy")
    if not draft.everything and not draft.scope.names():
        return Failure(Reason.INVALID, "name a person, target, profile or proxy, or say everything: true")
    return None


def _until(draft: Draft, now: int) -> Result[int | None]:
    if draft.duration_s is not None and draft.until is not None:
        return Failure(Reason.INVALID, "duration_s and until exclude each other")
    until = draft.until if draft.duration_s is None else now + draft.duration_s * SECOND
    if until is not None and not now < until <= now + LONGEST_S * SECOND:
        return Failure(
            Reason.INVALID, "until: must lie ahead, at most a year; leave it out for a lock until it is lifted"
        )
    return Success(until)


def lift(lock: Lock, *, by: Person, reason: str | None = None, now: int) -> Result[Lock]:
    """The lock, lifted. A second time changes nothing and is no fault: the first decided it."""
    if not by.has(Right.END_ACCESS):
        return Failure(Reason.FORBIDDEN, "to lift a lock takes the role approver")
    if lock.scope.person == by.name:
        return Failure(Reason.OWN_LOCK, "nobody can lift a lock that names themselves")
    said = prose(reason or "", "reason", least=0)
    if isinstance(said, Failure):
        return said
    match lock.state(now):
        case State.LIFTED:
            return Success(lock)
        case State.EXPIRED:
            return Failure(Reason.NOT_ACTIVE, "the lock is over already")
        case State.ACTIVE:
            return Success(replace(lock, lifted_at=now, lifted_by=by.name, lift_reason=said.value or None))


def refusal(lock: Lock) -> Failure:
    """What somebody hears whom the lock keeps out. The reason is said too, as with a revocation."""
    until = "until it is lifted" if lock.until is None else f"until {rfc3339(lock.until)}"
    return Failure(
        Reason.LOCKED, f"{lock.scope} is locked by {lock.created_by} {until}: {lock.reason} (lock {lock.id})"
    )


def unknown(scope: Scope, *, person_known: bool, proxy_known: bool, targets: Mapping[str, Target]) -> tuple[str, ...]:
    """Which of the lock's names nobody has: it may be meant for later, and it may be a slip of the pen."""
    target = None if scope.target is None else targets.get(scope.target)
    profiles = None if target is None else target.access
    anywhere = {profile for one in targets.values() for profile in one.access}
    checks = (
        (scope.person is not None and not person_known, f"there is nobody called {scope.person}"),
        (scope.target is not None and target is None, f"there is no target {scope.target}"),
        (
            scope.profile is not None and scope.profile not in (anywhere if profiles is None else profiles),
            f"there is no access profile {scope.profile}" + ("" if profiles is None else f" on {scope.target}"),
        ),
        (scope.proxy is not None and not proxy_known, f"no proxy {scope.proxy} has joined"),
    )
    return tuple(text for wrong, text in checks if wrong)
