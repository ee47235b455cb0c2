"""Grants: what an approved request became, and how it ends before its time.

A grant has no state of its own but one fact, whether it was revoked; `active` and `expired` are that fact and the
clock. Its times are whole seconds, because its token's are.
"""

import enum
from dataclasses import dataclass, replace

from control.domain.people import Person, Right
from control.domain.requests import Request
from control.domain.results import Failure, Reason, Result, Success
from control.domain.texts import prose
from control.times import SECOND, whole_second
from proxy.contract.grant import EndMode, parse_network
from proxy.contract.grant import Grant as SignedGrant


class State(enum.StrEnum):
    """Where a grant stands."""

    ACTIVE = "active"
    EXPIRED = "expired"
    REVOKED = "revoked"


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """An approved request."""

    id: str
    request: str
    person: str
    target: str
    profile: str
    databases: tuple[str, ...]
    starts_at: int
    expires_at: int
    approved_by: str
    reason: str
    max_sessions: int | None = None
    addresses: tuple[str, ...] = ()
    certificate: str | None = None
    end: EndMode = EndMode.HARD
    extended_at: int | None = None
    """When its end was moved last, and by whom. `expires_at` is the end that it has now."""
    extended_by: str | None = None
    revoked_at: int | None = None
    revoked_by: str | None = None
    revoke_reason: str | None = None

    def state(self, now: int) -> State:
        """Where the grant stands at `now`."""
        if self.revoked_at is not None:
            return State.REVOKED
        return State.ACTIVE if now < self.expires_at else State.EXPIRED

    def to_sign(self, now: int) -> SignedGrant:
        """The grant as its token says it, issued at `now`."""
        return SignedGrant(
            id=self.id,
            person=self.person,
            target=self.target,
            databases=self.databases,
            profile=self.profile,
            issued_at=now // SECOND,
            not_before=self.starts_at // SECOND,
            expires_at=self.expires_at // SECOND,
            max_sessions=self.max_sessions,
            addresses=tuple(parse_network(text) for text in self.addresses),
            certificate=self.certificate,
            end=self.end,
            approved_by=self.approved_by,
            reason=self.reason,
        )


def grant_of(request: Request, *, grant_id: str, approver: str, end: EndMode = EndMode.HARD, now: int) -> Grant:
    """The grant that an approval of `request` at `now` makes. It starts at once.

    `end` is what the approver picked: a statement that may run on past the end is theirs to allow, and not to be had
    by asking for it.
    """
    starts_at = whole_second(now)
    return Grant(
        id=grant_id,
        request=request.id,
        person=request.person,
        target=request.target,
        profile=request.profile,
        databases=request.databases,
        starts_at=starts_at,
        expires_at=starts_at + request.duration_s * SECOND,
        approved_by=approver,
        reason=request.reason,
        max_sessions=request.max_sessions,
        addresses=request.addresses,
        certificate=request.certificate,
        end=end,
    )


def revoke(grant: Grant, *, by: Person, reason: str, now: int) -> Result[Grant]:
    """The grant, revoked. A second revocation changes nothing and is no fault: the first decided it.

    The grant's own person may end it too: giving access back early is to be made easy.
    """
    if grant.person != by.name and not by.has(Right.END_ACCESS):
        return Failure(Reason.FORBIDDEN, "to revoke somebody's grant takes the role approver")
    said = prose(reason, "reason")
    if isinstance(said, Failure):
        return said
    match grant.state(now):
        case State.REVOKED:
            return Success(grant)
        case State.EXPIRED:
            return Failure(Reason.NOT_ACTIVE, "the grant has expired already")
        case State.ACTIVE:
            return Success(replace(grant, revoked_at=now, revoked_by=by.name, revoke_reason=said.value))
