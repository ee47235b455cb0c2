"""A new request: what somebody asks for, held against the target's configuration before it becomes a `Request`."""

from collections.abc import Mapping
from dataclasses import dataclass

from control.domain.people import Person, Right
from control.domain.requests import Request
from control.domain.results import Failure, Reason, Result, Success, first_failure
from control.domain.texts import networks, postgres_name, prose, thumbprint
from control.times import SECOND
from proxy.contract.grant import EndMode
from proxy.contract.settings import Target

DATABASES = 16
SESSIONS = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """What was asked for, not yet judged."""

    target: str
    profile: str
    reason: str
    databases: tuple[str, ...] | None = None
    """None asks for the target's default database alone."""
    duration_s: int | None = None
    max_sessions: int | None = None
    addresses: tuple[str, ...] = ()
    certificate: str | None = None
    end: EndMode = EndMode.HARD


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What the configuration allows."""

    max_duration_s: int
    default_duration_s: int
    request_ttl_s: int


def submit(
    draft: Draft, *, by: Person, targets: Mapping[str, Target], limits: Limits, request_id: str, now: int
) -> Result[Request]:
    """The pending request that `draft` becomes, or why it cannot be one."""
    target = targets.get(draft.target)
    if not by.has(Right.REQUEST):
        return Failure(Reason.FORBIDDEN, "to ask for access takes the role requester")
    if target is None:
        return Failure(Reason.INVALID, "target: there is no such target")
    databases = (target.database,) if draft.databases is None else tuple(dict.fromkeys(draft.databases))
    duration_s = limits.default_duration_s if draft.duration_s is None else draft.duration_s
    failure = first_failure(
        _profile(draft.profile, target),
        _databases(databases, target),
        _within("duration_s", duration_s, limits.max_duration_s),
        _within("max_sessions", 1 if draft.max_sessions is None else draft.max_sessions, SESSIONS),
        prose(draft.reason, "reason"),
        networks(draft.addresses),
        thumbprint(draft.certificate),
    )
    return failure or Success(
        Request(
            id=request_id,
            person=by.name,
            target=draft.target,
            profile=draft.profile,
            databases=databases,
            duration_s=duration_s,
            reason=draft.reason.strip(),
            max_sessions=draft.max_sessions,
            addresses=draft.addresses,
            certificate=draft.certificate,
            end=draft.end,
            created_at=now,
            pending_until=now + limits.request_ttl_s * SECOND,
        )
    )


def _profile(wanted: str, target: Target) -> Result[str]:
    if wanted not in target.access:
        return Failure(Reason.INVALID, f"profile: the target has {', '.join(sorted(target.access))}")
    return Success(wanted)


def _within(what: str, value: int, most: int) -> Result[int]:
    return Success(value) if 1 <= value <= most else Failure(Reason.INVALID, f"{what} must be 1 to {most}")


def _databases(wanted: tuple[str, ...], target: Target) -> Result[tuple[str, ...]]:
    if not 1 <= len(wanted) <= DATABASES or ("*" in wanted and len(wanted) > 1):
        return Failure(Reason.INVALID, f"databases: 1 to {DATABASES} names, or '*' alone for all")
    for name in wanted:
        good = postgres_name(name, "databases: a name")
        if isinstance(good, Failure):
            return good
        if "*" not in target.databases and name not in target.databases and name != target.database:
            return Failure(Reason.INVALID, f"databases: the target has {', '.join(target.databases)}")
    return Success(wanted)
