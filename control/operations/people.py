"""People: adding them, changing their roles, their API keys."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

import structlog

from control.credentials import new_api_key
from control.domain.people import ApiKey, Person, Role
from control.domain.results import Failure, Reason, Result, Success
from control.domain.texts import postgres_name, prose
from control.operations import grants as grant_operations
from control.services import Services
from control.store import people
from control.store.engine import Transaction

NO_SUCH_PERSON = Failure(Reason.NOT_FOUND, "there is no such person")
FULL_NAME_CHARACTERS = 200

log = structlog.get_logger(__name__)


async def add(
    services: Services, *, name: str, full_name: str, roles: Iterable[Role], by: str
) -> Result[tuple[Person, str]]:
    """A new person, and the API key that they are shown once."""
    good, said = postgres_name(name, "name"), prose(full_name, "full_name", least=0, most=FULL_NAME_CHARACTERS)
    if isinstance(good, Failure):
        return good
    if isinstance(said, Failure):
        return said
    now = services.clock()
    person = Person(name=good.value, full_name=said.value, roles=frozenset(roles), created_at=now)
    async with services.store.write() as tx:
        if await people.find(tx, person.name) is not None:
            return Failure(Reason.CONFLICT, "there is a person of this name already")
        await people.add(tx, person)
        _, key = await _new_key(tx, person.name, now)
    log.info("person added", person=person.name, roles=sorted(person.roles), by=by)
    return Success((person, key))


async def anybody(services: Services) -> bool:
    """Whether there is anybody at all."""
    async with services.store.read() as tx:
        return await people.any_at_all(tx)


async def page(services: Services, *, after: str | None, limit: int) -> tuple[Sequence[Person], str | None]:
    """People by name, and where the next page starts."""
    async with services.store.read() as tx:
        found = await people.page(tx, after=after, limit=limit + 1)
    return found[:limit], found[limit - 1].name if len(found) > limit else None


async def change(
    services: Services, name: str, *, roles: Iterable[Role] | None, disabled: bool | None, by: Person
) -> Result[Person]:
    """Another set of roles; disabled or not. Whoever is disabled loses their active grants in the same transaction."""
    now = services.clock()
    async with services.store.write() as tx:
        person = await people.find(tx, name)
        if person is None:
            return NO_SUCH_PERSON
        if person.name == by.name:
            return Failure(Reason.FORBIDDEN, "nobody changes their own roles, so that one admin always remains")
        if roles is not None:
            person = replace(person, roles=frozenset(roles))
        if disabled is not None and disabled != (person.disabled_at is not None):
            person = replace(person, disabled_at=now if disabled else None)
        await people.change(tx, person)
        if person.disabled_at is not None:
            await grant_operations.revoke_all_of(tx, person.name, by=by, now=now)
    log.info("person changed", person=name, roles=sorted(person.roles), disabled=disabled, by=by.name)
    return Success(person)


async def add_key(services: Services, name: str, *, by: Person) -> Result[tuple[str, str]]:
    """One more API key for a person: its id, and its text, which is shown once."""
    async with services.store.write() as tx:
        if await people.find(tx, name) is None:
            return NO_SUCH_PERSON
        key_id, key = await _new_key(tx, name, services.clock())
    log.info("API key made", person=name, key_id=key_id, by=by.name)
    return Success((key_id, key))


async def revoke_key(services: Services, name: str, key_id: str, *, by: Person) -> Result[None]:
    """End an API key."""
    async with services.store.write() as tx:
        found = await people.revoke_key(tx, person=name, key_id=key_id, now=services.clock())
    if not found:
        return Failure(Reason.NOT_FOUND, "the person has no such key")
    log.info("API key revoked", person=name, key_id=key_id, by=by.name)
    return Success(None)


async def _new_key(tx: Transaction, name: str, now: int) -> tuple[str, str]:
    new = new_api_key()
    await people.add_key(tx, ApiKey(id=new.id, person=name, digest=new.digest, created_at=now))
    return new.id, new.text
