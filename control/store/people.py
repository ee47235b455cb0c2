"""Queries: people and their API keys."""

from collections.abc import Sequence

import sqlalchemy as sa

from control.domain.people import ApiKey, Person, Role
from control.store.engine import Transaction
from control.store.tables import api_keys, people


def _person(row: sa.Row[tuple[object, ...]]) -> Person:
    return Person(
        name=row.name,
        full_name=row.full_name,
        roles=frozenset(Role(role) for role in row.roles),
        created_at=row.created_at,
        disabled_at=row.disabled_at,
    )


def _values(person: Person) -> dict[str, object]:
    return {
        "name": person.name,
        "full_name": person.full_name,
        "roles": sorted(person.roles),
        "created_at": person.created_at,
        "disabled_at": person.disabled_at,
    }


async def find(tx: Transaction, name: str) -> Person | None:
    """The person with this name."""
    row = (await tx.connection.execute(sa.select(people).where(people.c.name == name))).first()
    return None if row is None else _person(row)


async def page(tx: Transaction, *, after: str | None, limit: int) -> Sequence[Person]:
    """People by name, those behind `after`."""
    query = sa.select(people).order_by(people.c.name).limit(limit)
    if after is not None:
        query = query.where(people.c.name > after)
    return [_person(row) for row in await tx.connection.execute(query)]


async def add(tx: Transaction, person: Person) -> None:
    """A new person."""
    await tx.connection.execute(sa.insert(people).values(_values(person)))


async def change(tx: Transaction, person: Person) -> None:
    """What is known of `person` now."""
    await tx.connection.execute(sa.update(people).where(people.c.name == person.name).values(_values(person)))


async def any_at_all(tx: Transaction) -> bool:
    """Whether there is anybody."""
    return (await tx.connection.execute(sa.select(people.c.name).limit(1))).first() is not None


async def add_key(tx: Transaction, key: ApiKey) -> None:
    """A new API key."""
    values = {"id": key.id, "person": key.person, "digest": key.digest, "created_at": key.created_at}
    await tx.connection.execute(sa.insert(api_keys).values(values))


async def find_key(tx: Transaction, key_id: str) -> ApiKey | None:
    """The API key with this id."""
    row = (await tx.connection.execute(sa.select(api_keys).where(api_keys.c.id == key_id))).first()
    if row is None:
        return None
    return ApiKey(id=row.id, person=row.person, digest=row.digest, created_at=row.created_at, revoked_at=row.revoked_at)


async def revoke_key(tx: Transaction, *, person: str, key_id: str, now: int) -> bool:
    """Revoke a person's API key. Whether they have it; a second time changes nothing."""
    mine = (api_keys.c.id == key_id) & (api_keys.c.person == person)
    if (await tx.connection.execute(sa.select(api_keys.c.id).where(mine))).first() is None:
        return False
    await tx.connection.execute(sa.update(api_keys).where(mine, api_keys.c.revoked_at.is_(None)).values(revoked_at=now))
    return True
