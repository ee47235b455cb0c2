"""What control's own books have on a session, as items of its timeline: who asked, who approved, who revoked. Pure.

These are no records: they have no `seq`, no chain proves them, and their times are by control's clock, those of records
by the proxy's. What came before the session has a negative `offset_s`.

    kind         is
    request      somebody asked for the access, or for more time on it (`extension`)
    decision     somebody decided that: `state` is approved, denied or withdrawn; or nobody did in time: expired
    revocation   the grant was revoked
    lock         something was locked that covers the session, and it was so while the session ran
    unlock       that was lifted
"""

from collections.abc import Iterable, Sequence
from typing import Any

from control.domain.grants import Grant
from control.domain.locks import Lock
from control.domain.requests import Request, State
from control.domain.sessions import Session
from control.times import SECOND, rfc3339
from proxy.contract.directive import Kill
from proxy.contract.record import SessionEnd

Item = dict[str, Any]

_DID = {State.APPROVED: "approved", State.DENIED: "denied", State.WITHDRAWN: "withdrew"}
_UNITS = ((86_400, "d"), (3_600, "h"), (60, "m"), (1, "s"))


def entries(
    session: Session,
    *,
    request: Request | None,
    grant: Grant | None,
    extensions: Iterable[Request],
    locks: Iterable[Lock],
) -> Sequence[Item]:
    """The items, in order. Nothing that came once the session was over is one."""
    found: list[tuple[int, Item]] = []
    for one in (request, *extensions):
        if one is not None:
            found += _asked(one)
    if grant is not None and grant.revoked_at is not None:
        text = f"{grant.revoked_by} revoked the grant: {grant.revoke_reason}"
        what = {"kind": "revocation", "text": text, "by": grant.revoked_by, "reason": grant.revoke_reason}
        found.append((grant.revoked_at, what | {"grant": grant.id}))
    for lock in locks:
        found += _locked(lock)
    last = until(session)
    told = sorted((one for one in found if last is None or one[0] <= last), key=lambda one: one[0])
    return [
        {"seq": None, "at": rfc3339(at), "offset_s": (at - session.started_at) / SECOND} | what for at, what in told
    ]


def why(end: SessionEnd, *, grant: Grant | None, locks: Iterable[Lock], kills: Iterable[Kill]) -> str | None:
    """The reason that was given for what ended a session; None where there is none, or nobody decided it."""
    decided: list[tuple[str | None, int | None, str | None]] = []
    if end.reason == "revoked" and grant is not None:
        decided = [(grant.revoked_by, grant.revoked_at, grant.revoke_reason)]
    elif end.reason == "locked":
        decided = [(lock.created_by, lock.created_at, lock.reason) for lock in locks]
    elif end.reason == "killed":
        decided = [(kill.by, kill.at, kill.reason) for kill in kills]
    return next((reason for by, at, reason in decided if (by, at) == (end.by, end.decided_at) and reason), None)


def until(session: Session) -> int | None:
    """When the session was over, by either clock; None while it is open."""
    return None if session.ended_at is None else max(session.ended_at, session.decided_at or 0)


def _asked(request: Request) -> Iterable[tuple[int, Item]]:
    more = request.extends is not None
    what = "more time" if more else f"{request.target} as {request.profile}"
    asked = {"request": request.id, "extension": more}
    yield (
        request.created_at,
        {"kind": "request", "text": f"{request.person} asked for {what}: {request.reason}"}
        | asked
        | {"by": request.person, "reason": request.reason},
    )
    if request.state is State.PENDING or request.decided_at is None:
        return
    text = f"{request.decided_by} {_DID[request.state]} it" if request.state in _DID else "nobody decided in time"
    if request.state is State.APPROVED:
        text += f" for {span(request.duration_s)}{' more' if more else ''}"
    if request.comment:
        text += f": {request.comment}"
    decided = {"state": request.state, "by": request.decided_by, "reason": request.comment}
    yield request.decided_at, {"kind": "decision", "text": text} | asked | decided | {"duration_s": request.duration_s}


def _locked(lock: Lock) -> Iterable[tuple[int, Item]]:
    text = f"{lock.created_by} locked {lock.scope}: {lock.reason}"
    yield (
        lock.created_at,
        {"kind": "lock", "text": text, "lock": lock.id, "by": lock.created_by, "reason": lock.reason},
    )
    if lock.lifted_at is not None:
        text = f"{lock.lifted_by} lifted the lock of {lock.scope}" + (
            f": {lock.lift_reason}" if lock.lift_reason else ""
        )
        what = {"kind": "unlock", "text": text, "lock": lock.id, "by": lock.lifted_by, "reason": lock.lift_reason}
        yield lock.lifted_at, what


def span(seconds: int) -> str:
    """`1h30m`."""
    parts: list[str] = []
    for unit, letter in _UNITS:
        count, seconds = divmod(seconds, unit)
        if count:
            parts.append(f"{count}{letter}")
    return "".join(parts) or "0s"
