"""Locks: stopping access at once, and giving it back."""

from collections.abc import Sequence
from dataclasses import dataclass

import structlog

from control.credentials import new_id
from control.domain import locks as rules
from control.domain.locks import Draft, Lock, Scope, State
from control.domain.people import Person
from control.domain.results import Failure, Reason, Result, Success
from control.services import Services
from control.store import directives, locks, people, proxies, sessions
from control.store.engine import Transaction
from control.store.sessions import Filter
from proxy.contract import directive

NO_SUCH_LOCK = Failure(Reason.NOT_FOUND, "there is no such lock")

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """A new lock, how many open sessions it ends as far as control knows, and which of its names nobody has."""

    lock: Lock
    sessions: int
    warnings: tuple[str, ...]


async def lock(services: Services, draft: Draft, *, by: Person) -> Result[Made]:
    """Lock. The lock and what tells the proxies are one transaction, committed on return."""
    now = services.clock()
    made = rules.lock(draft, by=by, lock_id=new_id("lck"), now=now)
    if isinstance(made, Failure):
        return made
    new, scope = made.value, made.value.scope
    async with services.store.write() as tx:
        if scope.names() and len(await locks.in_force(tx, now)) >= rules.IN_FORCE:
            return Failure(Reason.CONFLICT, f"{rules.IN_FORCE} locks are in force: lift some, or lock everything")
        await locks.add(tx, new)
        await directives.add(tx, directive.Lock(cursor=0, at=now, lock=new.told()))
        warnings = rules.unknown(
            scope,
            person_known=scope.person is not None and await people.find(tx, scope.person) is not None,
            proxy_known=scope.proxy is not None and await proxies.find(tx, scope.proxy) is not None,
            targets=services.targets,
        )
        count = await sessions.count_open(tx, _filter(scope))
    services.metrics.locks.inc()
    log.info("locked", lock=new.id, scope=str(scope), until=new.until, by=by.name, sessions=count)
    return Success(Made(lock=new, sessions=count, warnings=warnings))


async def lift(services: Services, lock_id: str, *, by: Person, reason: str | None) -> Result[Lock]:
    """Lift a lock. What lifts it and what tells the proxies are one transaction, committed on return."""
    now = services.clock()
    async with services.store.write() as tx:
        found = await _visible(tx, lock_id, by)
        if isinstance(found, Failure):
            return found
        lifted = rules.lift(found.value, by=by, reason=reason, now=now)
        if isinstance(lifted, Failure) or lifted.value == found.value:
            return lifted
        await locks.change(tx, lifted.value)
        await directives.add(tx, directive.Unlock(cursor=0, at=now, lock=lock_id, by=by.name))
    log.info("lock lifted", lock=lock_id, scope=str(lifted.value.scope), by=by.name)
    return lifted


async def page(
    services: Services, *, asker: Person, state: State | None, after: int | None, limit: int
) -> tuple[Sequence[Lock], int | None]:
    """The locks that `asker` may see, newest first, and where the next page starts."""
    named = None if rules.sees_all(asker) else asker.name
    async with services.store.read() as tx:
        return await locks.page(tx, named=named, state=state, now=services.clock(), after=after, limit=limit)


async def get(services: Services, lock_id: str, *, asker: Person) -> Result[Lock]:
    """One lock."""
    async with services.store.read() as tx:
        return await _visible(tx, lock_id, asker)


async def obstacle(tx: Transaction, *, person: str, target: str, profile: str, now: int) -> Failure | None:
    """What keeps this access locked at `now`, whatever proxy it would go through."""
    for one in await locks.in_force(tx, now):
        if one.scope.covers(person=person, target=target, profile=profile):
            return rules.refusal(one)
    return None


def _filter(scope: Scope) -> Filter:
    return Filter(person=scope.person, target=scope.target, profile=scope.profile, proxy=scope.proxy)


async def _visible(tx: Transaction, lock_id: str, asker: Person) -> Result[Lock]:
    found = await locks.find(tx, lock_id)
    return NO_SUCH_LOCK if found is None or not found.visible_to(asker) else Success(found)
