"""Grants: looking, revoking, issuing tokens."""

from collections.abc import Sequence
from dataclasses import dataclass

import structlog

from control.domain import grants as rules
from control.domain.extensions import Extension, history
from control.domain.grants import Grant, State
from control.domain.people import Person, Right
from control.domain.results import Failure, Reason, Result, Success
from control.operations import locks
from control.operations.keys import current_key
from control.services import Services
from control.store import directives, grants, keys, requests
from control.store.engine import Transaction
from control.times import SECOND
from proxy.contract.directive import Revoke

NO_SUCH_GRANT = Failure(Reason.NOT_FOUND, "there is no such grant")

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """A grant, and how its end has moved."""

    grant: Grant
    extensions: tuple[Extension, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """A grant's token, and how to connect with it."""

    text: str
    grant: Grant
    host: str
    port: int


async def page(
    services: Services, *, asker: Person, person: str | None, state: State | None, after: int | None, limit: int
) -> tuple[Sequence[Told], int | None]:
    """The grants that `asker` may see, newest first, and where the next page starts."""
    if not asker.has(Right.SEE_REQUESTS):
        if person not in (None, asker.name):
            return [], None
        person = asker.name
    async with services.store.read() as tx:
        now = services.clock()
        found, following = await grants.page(tx, person=person, state=state, now=now, after=after, limit=limit)
        return await _told(tx, *found), following


async def get(services: Services, grant_id: str, *, asker: Person) -> Result[Told]:
    """One grant."""
    async with services.store.read() as tx:
        found = await _visible(tx, grant_id, asker)
        return found if isinstance(found, Failure) else Success((await _told(tx, found.value))[0])


async def revoke(services: Services, grant_id: str, *, by: Person, reason: str) -> Result[Told]:
    """End a grant. What ends it and what tells the proxies are one transaction, committed on return."""
    now = services.clock()
    async with services.store.write() as tx:
        found = await _visible(tx, grant_id, by)
        if isinstance(found, Failure):
            return found
        revoked = await _revoke(tx, found.value, by=by, reason=reason, now=now)
        if isinstance(revoked, Failure):
            return revoked
        told = (await _told(tx, revoked.value))[0]
    if told.grant != found.value:
        services.metrics.revocations.inc()
        log.info("grant revoked", grant=grant_id, person=found.value.person, by=by.name)
    return Success(told)


async def revoke_all_of(tx: Transaction, person: str, *, by: Person, now: int) -> None:
    """End a person's active grants, as part of the transaction that disables them."""
    for grant in await grants.active_of(tx, person, now):
        await _revoke(tx, grant, by=by, reason="the person was disabled", now=now)


async def token(services: Services, grant_id: str, *, asker: Person) -> Result[Token]:
    """A token for one's own active grant."""
    now = services.clock()
    async with services.store.write() as tx:
        found = await _visible(tx, grant_id, asker)
        if isinstance(found, Failure):
            return found
        grant = found.value
        if grant.person != asker.name:
            return Failure(Reason.FORBIDDEN, "a token is issued to the grant's own person only")
        if (stands := grant.state(now)) is not State.ACTIVE:
            return Failure(Reason.NOT_ACTIVE, f"the grant is {stands}")
        if (locked := await _locked(tx, grant, now)) is not None:
            return locked
        key = await current_key(tx, now)
        signed = services.signer.sign(grant, key, now)
        if isinstance(signed, Failure):
            return signed
        services.signer.check(signed.value, key, now)
        await keys.signed(tx, key.kid, grant.expires_at)
    services.metrics.tokens.inc()
    log.info("token issued", grant=grant.id, person=asker.name, kid=key.kid)
    settings = services.settings
    return Success(Token(text=signed.value, grant=grant, host=settings.connect_host, port=settings.connect_port))


async def _visible(tx: Transaction, grant_id: str, asker: Person) -> Result[Grant]:
    grant = await grants.find(tx, grant_id)
    if grant is None or not (grant.person == asker.name or asker.has(Right.SEE_REQUESTS)):
        return NO_SUCH_GRANT
    return Success(grant)


async def _told(tx: Transaction, *found: Grant) -> Sequence[Told]:
    approved = await requests.extensions_of(tx, [grant.id for grant in found])
    return [Told(grant=grant, extensions=history(grant, approved.get(grant.id, ()))) for grant in found]


async def _locked(tx: Transaction, grant: Grant, now: int) -> Failure | None:
    return await locks.obstacle(tx, person=grant.person, target=grant.target, profile=grant.profile, now=now)


async def _revoke(tx: Transaction, grant: Grant, *, by: Person, reason: str, now: int) -> Result[Grant]:
    revoked = rules.revoke(grant, by=by, reason=reason, now=now)
    if isinstance(revoked, Failure) or revoked.value == grant:
        return revoked
    after = revoked.value
    await grants.change(tx, after)
    await requests.close_extensions(tx, after.id, now)
    await directives.add(
        tx,
        Revoke(
            cursor=0,
            at=now,
            grant=after.id,
            expires_at=after.expires_at / SECOND,
            by=by.name,
            reason=after.revoke_reason or "",
        ),
    )
    return revoked
