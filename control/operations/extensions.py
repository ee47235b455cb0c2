"""Extensions: asking for more time on a grant, and what an approval does."""

import structlog

from control.credentials import new_id
from control.domain import extensions as rules
from control.domain.drafts import Limits
from control.domain.extensions import Draft
from control.domain.people import Person, Right
from control.domain.requests import Request, granted
from control.domain.results import Failure, Reason, Result, Success
from control.services import Services
from control.store import directives, grants, keys, requests
from control.store.engine import Transaction
from control.times import SECOND
from proxy.contract.directive import Extend, Extension

NO_SUCH_GRANT = Failure(Reason.NOT_FOUND, "there is no such grant")

log = structlog.get_logger(__name__)


async def ask(services: Services, grant_id: str, draft: Draft, *, by: Person) -> Result[Request]:
    """Ask for more time on one's own grant. One such request at a time."""
    now = services.clock()
    async with services.store.write() as tx:
        grant = await grants.find(tx, grant_id)
        if grant is None or not (grant.person == by.name or by.has(Right.SEE_REQUESTS)):
            return NO_SUCH_GRANT
        made = rules.ask(
            draft,
            grant,
            by=by,
            limits=limits_of(services),
            another_is_open=await requests.extension_is_open(tx, grant_id, now),
            request_id=new_id("req"),
            now=now,
        )
        if isinstance(made, Failure):
            return made
        await requests.add(tx, made.value)
    log.info("extension asked for", request=made.value.id, grant=grant_id, person=by.name)
    return made


async def approve(services: Services, tx: Transaction, request: Request, *, by: Person, now: int) -> Result[Request]:
    """Move the grant's end, as part of the transaction that decides the request, and tell the proxies."""
    grant = await grants.find(tx, request.extends or "")
    if grant is None:
        return NO_SUCH_GRANT
    extended = rules.extend(grant, request, by=by.name, max_duration_s=services.settings.max_duration_s, now=now)
    if isinstance(extended, Failure):
        return extended
    after = extended.value
    await grants.change(tx, after)
    # Sessions run on with the tokens that they came with: the keys of those have to last as long.
    await keys.outlast(tx, before=grant.expires_at, until=after.expires_at)
    told = Extension(grant=after.id, expires_at=after.expires_at / SECOND, by=by.name, decided_at=now)
    await directives.add(tx, Extend(cursor=0, at=now, extension=told))
    return Success(granted(request, after.id))


def limits_of(services: Services) -> Limits:
    """What the configuration allows."""
    settings = services.settings
    return Limits(
        max_duration_s=settings.max_duration_s,
        default_duration_s=settings.default_duration_s,
        request_ttl_s=settings.request_ttl_s,
    )
