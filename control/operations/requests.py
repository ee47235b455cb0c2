"""Requests: asking, looking, waiting, deciding."""

from collections.abc import Sequence

import structlog

from control.credentials import new_id
from control.domain import requests as rules
from control.domain.drafts import Draft, submit
from control.domain.grants import grant_of
from control.domain.people import Person, Right
from control.domain.requests import Action, Request, State, as_of
from control.domain.results import Failure, Reason, Result, Success
from control.operations import extensions, locks
from control.operations.keys import current_key
from control.services import Services
from control.store import grants, people, requests
from control.store.engine import Transaction
from control.store.signals import wait
from control.times import SECOND
from proxy.contract.grant import NAME_BYTES, EndMode

NO_SUCH_REQUEST = Failure(Reason.NOT_FOUND, "there is no such request")
LOOK_AGAIN_S = 15.0
"""How often a waiter looks by itself, for what another process decided."""

log = structlog.get_logger(__name__)


async def create(services: Services, draft: Draft, *, by: Person) -> Result[Request]:
    """Ask for access. A request whose token could not be sent by every client is refused here, not once approved."""
    now, limits = services.clock(), extensions.limits_of(services)
    made = submit(draft, by=by, targets=services.targets, limits=limits, request_id=new_id("req"), now=now)
    if isinstance(made, Failure):
        return made
    async with services.store.write() as tx:
        longest = grant_of(made.value, grant_id=new_id("grt"), approver="x" * NAME_BYTES, end=EndMode.FINISH, now=now)
        trial = services.signer.sign(longest, await current_key(tx, now), now)
        if isinstance(trial, Failure):
            return trial
        await requests.add(tx, made.value)
    log.info("request made", request=made.value.id, person=by.name, target=draft.target, profile=draft.profile)
    return made


async def page(
    services: Services, *, asker: Person, person: str | None, state: State | None, after: int | None, limit: int
) -> tuple[Sequence[Request], int | None]:
    """The requests that `asker` may see, newest first, and where the next page starts."""
    if not asker.has(Right.SEE_REQUESTS):
        if person not in (None, asker.name):
            return [], None
        person = asker.name
    now = services.clock()
    async with services.store.read() as tx:
        found, following = await requests.page(tx, person=person, state=state, now=now, after=after, limit=limit)
    return [as_of(request, now) for request in found], following


async def get(services: Services, request_id: str, *, asker: Person, wait_s: float = 0) -> Result[Request]:
    """One request; with `wait_s`, once it is pending no longer or that time has passed."""
    deadline = services.clock() + int(wait_s * SECOND)
    with services.store.signals.listen(requests.topic(request_id)) as changed:
        while True:
            async with services.store.read() as tx:
                request = await requests.find(tx, request_id)
            if request is None or not (request.person == asker.name or asker.has(Right.SEE_REQUESTS)):
                return NO_SUCH_REQUEST
            now = services.clock()
            request = as_of(request, now)
            if request.state is not State.PENDING or now >= deadline or services.stopping.is_set():
                return Success(request)
            until = min(deadline, request.pending_until)
            await wait(changed, min((until - now) / SECOND, LOOK_AGAIN_S))


async def decide(
    services: Services,
    request_id: str,
    action: Action,
    *,
    by: Person,
    comment: str | None = None,
    duration_s: int | None = None,
    end: EndMode | None = None,
) -> Result[Request]:
    """Approve, deny or withdraw. An approval makes the grant, or extends one, in the same transaction."""
    now = services.clock()
    async with services.store.write() as tx:
        request = await requests.find(tx, request_id)
        if request is None or not (request.person == by.name or by.has(Right.SEE_REQUESTS)):
            return NO_SUCH_REQUEST
        decided = rules.decide(request, action, by=by, now=now, comment=comment, duration_s=duration_s)
        if isinstance(decided, Failure):
            return decided
        if action is Action.APPROVE:
            decided = await _grant(services, tx, decided.value, by=by, end=end, now=now)
            if isinstance(decided, Failure):
                return decided
        request = decided.value
        await requests.change(tx, request)
    log.info("request decided", request=request.id, state=request.state, by=by.name, grant=request.grant)
    return Success(request)


async def _grant(
    services: Services, tx: Transaction, request: Request, *, by: Person, end: EndMode | None, now: int
) -> Result[Request]:
    """What an approval makes of the request: a new grant, or more time on one."""
    if (obstacle := await _obstacle(services, tx, request)) is not None:
        return obstacle
    if request.extends is not None:
        if end is not None:
            return Failure(Reason.INVALID, "end: an extension leaves the grant's end mode as it is")
        return await extensions.approve(services, tx, request, by=by, now=now)
    grant = grant_of(request, grant_id=new_id("grt"), approver=by.name, end=end or EndMode.HARD, now=now)
    await grants.add(tx, grant)
    return Success(rules.granted(request, grant.id))


async def _obstacle(services: Services, tx: Transaction, request: Request) -> Failure | None:
    """What has changed since the request was made, so that nobody could use the grant."""
    target = services.targets.get(request.target)
    if target is None or request.profile not in target.access:
        return Failure(Reason.CONFLICT, "the target or its access profile is not configured any more")
    person = await people.find(tx, request.person)
    if person is None or not person.has(Right.REQUEST):
        return Failure(Reason.CONFLICT, "the person who asked may not have access any more")
    # Its time would run, and no token be issued. The request waits, and can be denied or withdrawn.
    return await locks.obstacle(
        tx, person=request.person, target=request.target, profile=request.profile, now=services.clock()
    )
