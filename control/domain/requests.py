"""Requests: the states, the transitions, and who may cause them.

A request is a small machine with one state that decides anything and four that decide nothing:

    state      approve     deny      withdraw     (time)
    -------    --------    ------    ---------    -------
    pending    approved    denied    withdrawn    expired
    approved   -           -         -            -
    denied     -           -         -            -
    withdrawn  -           -         -            -
    expired    -           -         -            -

The theory:

* Every transition starts in `pending`, so a request is decided once, and what was decided never changes. Taking back
  an approval is not a transition of the request: the approval made a grant, and the grant is revoked.
* `approve` and `deny` need the right to decide, and a second pair of eyes: never the person who asked, whatever their
  roles. `withdraw` is the reverse: only the person who asked.
* `expired` is a matter of the clock and not of a job that has to run: a request that is stored as pending is expired
  once its `pending_until` has passed (`as_of`). No reader and no decision ever sees it otherwise.
* An approver may give less time than was asked for, never more.
* A request for more time on a grant (`extends`, see `extensions`) goes by the same table and the same pairs of eyes.

The table is data (`TRANSITIONS`), so that a test can walk over every pair of state and action.
"""

import enum
from collections.abc import Mapping
from dataclasses import dataclass, replace

from control.domain.people import Person, Right
from control.domain.results import Failure, Reason, Result, Success
from control.domain.texts import prose
from proxy.contract.grant import EndMode


class State(enum.StrEnum):
    """Where a request stands."""

    PENDING = "pending"
    APPROVED = "approved"
    DENIED = "denied"
    WITHDRAWN = "withdrawn"
    EXPIRED = "expired"


class Action(enum.StrEnum):
    """What moves a request on."""

    APPROVE = "approve"
    DENY = "deny"
    WITHDRAW = "withdraw"
    EXPIRE = "expire"


TRANSITIONS: Mapping[tuple[State, Action], State] = {
    (State.PENDING, Action.APPROVE): State.APPROVED,
    (State.PENDING, Action.DENY): State.DENIED,
    (State.PENDING, Action.WITHDRAW): State.WITHDRAWN,
    (State.PENDING, Action.EXPIRE): State.EXPIRED,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A person asking for an access profile on a target, for a reason and a duration."""

    id: str
    person: str
    target: str
    profile: str
    databases: tuple[str, ...]
    duration_s: int
    reason: str
    max_sessions: int | None = None
    addresses: tuple[str, ...] = ()
    certificate: str | None = None
    """The thumbprint of the client certificate that the person will show."""
    end: EndMode = EndMode.HARD
    """How its sessions are to end, as the person would like it. The approver picks, and the grant says what."""
    extends: str | None = None
    """The grant that is to last `duration_s` longer, where the request is for that and not for a new one."""
    state: State = State.PENDING
    created_at: int
    pending_until: int
    decided_at: int | None = None
    decided_by: str | None = None
    comment: str | None = None
    grant: str | None = None


def as_of(request: Request, now: int) -> Request:
    """The request as it stands at `now`: the clock's own transition applied."""
    after = TRANSITIONS.get((request.state, Action.EXPIRE))
    if after is None or now < request.pending_until:
        return request
    return replace(request, state=after, decided_at=request.pending_until)


def decide(
    request: Request,
    action: Action,
    *,
    by: Person,
    now: int,
    comment: str | None = None,
    duration_s: int | None = None,
) -> Result[Request]:
    """The request after `action` by `by` at `now`; only an approval may carry a (shorter) `duration_s`."""
    request = as_of(request, now)
    if (forbidden := _forbids(request, action, by)) is not None:
        return forbidden
    after = TRANSITIONS.get((request.state, action))
    if after is None:
        return Failure(Reason.WRONG_STATE, f"the request is {request.state} and stays so")
    if duration_s is not None and not 1 <= duration_s <= request.duration_s:
        return Failure(Reason.INVALID, f"duration_s must be 1 to {request.duration_s}, what was asked for")
    if comment is not None:
        said = prose(comment, "comment", least=0)
        if isinstance(said, Failure):
            return said
        comment = said.value or None
    return Success(
        replace(
            request,
            state=after,
            decided_at=now,
            decided_by=by.name,
            comment=comment,
            duration_s=duration_s or request.duration_s,
        )
    )


def _forbids(request: Request, action: Action, by: Person) -> Failure | None:
    own = request.person == by.name
    if action is Action.WITHDRAW:
        return None if own else Failure(Reason.FORBIDDEN, "only the person who asked can withdraw the request")
    if own:
        return Failure(Reason.OWN_REQUEST, f"nobody can {action} their own request")
    if not by.has(Right.DECIDE):
        return Failure(Reason.FORBIDDEN, f"to {action} a request takes the role approver")
    return None


def granted(request: Request, grant: str) -> Request:
    """An approved request with the grant that it became."""
    return replace(request, grant=grant)
