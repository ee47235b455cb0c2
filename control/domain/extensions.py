"""Extensions: more time on a grant that runs, for the sessions on it too.

An extension is a request like any other: the grant's own person asks, somebody else decides, by the one table of
transitions in `requests`. Approved, it moves the grant's end and changes nothing else about it; the end only ever moves
away. Longer than a request may ask for in the first place no grant becomes: who needs more asks anew, and somebody
looks at all of it once more.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from control.domain.drafts import Limits
from control.domain.grants import Grant, State
from control.domain.people import Person, Right
from control.domain.requests import Request
from control.domain.results import Failure, Reason, Result, Success
from control.domain.texts import prose
from control.times import SECOND


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """What was asked for, not yet judged."""

    duration_s: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Extension:
    """One that was approved."""

    request: str
    by: str
    at: int
    duration_s: int
    reason: str
    expires_at: int
    """The grant's end from then on."""


def ask(
    draft: Draft, grant: Grant, *, by: Person, limits: Limits, another_is_open: bool, request_id: str, now: int
) -> Result[Request]:
    """The pending request that `draft` becomes. It waits no longer than the grant lasts."""
    if grant.person != by.name or not by.has(Right.REQUEST):
        return Failure(Reason.FORBIDDEN, "only the grant's own person, with the role requester, asks for more time")
    said = prose(draft.reason, "reason")
    if isinstance(said, Failure):
        return said
    obstacle = _over(grant, now) or _too_long(grant, draft.duration_s, limits.max_duration_s)
    if obstacle is not None:
        return obstacle
    if another_is_open:
        return Failure(Reason.CONFLICT, "an extension of this grant is waiting for a decision; withdraw it first")
    return Success(
        Request(
            id=request_id,
            person=grant.person,
            target=grant.target,
            profile=grant.profile,
            databases=grant.databases,
            duration_s=draft.duration_s,
            reason=said.value,
            max_sessions=grant.max_sessions,
            addresses=grant.addresses,
            certificate=grant.certificate,
            end=grant.end,
            extends=grant.id,
            created_at=now,
            pending_until=min(now + limits.request_ttl_s * SECOND, grant.expires_at),
        )
    )


def extend(grant: Grant, request: Request, *, by: str, max_duration_s: int, now: int) -> Result[Grant]:
    """The grant with the time of an approved `request` added to its end."""
    obstacle = _over(grant, now) or _too_long(grant, request.duration_s, max_duration_s)
    if obstacle is not None:
        return obstacle
    return Success(
        replace(grant, expires_at=grant.expires_at + request.duration_s * SECOND, extended_at=now, extended_by=by)
    )


def history(grant: Grant, approved: Sequence[Request]) -> tuple[Extension, ...]:
    """A grant's extensions in order; `approved` are their requests."""
    in_order = sorted(approved, key=lambda request: request.decided_at or 0)
    end = grant.expires_at - sum(request.duration_s for request in in_order) * SECOND
    told: list[Extension] = []
    for request in in_order:
        end += request.duration_s * SECOND
        told.append(
            Extension(
                request=request.id,
                by=request.decided_by or "",
                at=request.decided_at or 0,
                duration_s=request.duration_s,
                reason=request.reason,
                expires_at=end,
            )
        )
    return tuple(told)


def _over(grant: Grant, now: int) -> Failure | None:
    stands = grant.state(now)
    return None if stands is State.ACTIVE else Failure(Reason.NOT_ACTIVE, f"the grant is {stands}")


def _too_long(grant: Grant, duration_s: int, max_duration_s: int) -> Failure | None:
    room = max_duration_s - (grant.expires_at - grant.starts_at) // SECOND
    if room < 1:
        return Failure(
            Reason.INVALID, f"the grant lasts {max_duration_s} s already, the most there is: ask for another"
        )
    if not 1 <= duration_s <= room:
        return Failure(Reason.INVALID, f"duration_s must be 1 to {room}: a grant lasts {max_duration_s} s at most")
    return None
