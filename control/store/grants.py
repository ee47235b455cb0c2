"""Queries: grants."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict

import sqlalchemy as sa

from control.domain.grants import Grant, State
from control.store.engine import Transaction
from control.store.paging import newest_first
from control.store.records import IN_ONE_QUERY
from control.store.tables import grants
from proxy.contract.grant import EndMode


def _grant(row: sa.Row[tuple[object, ...]]) -> Grant:
    values = dict(row._mapping)  # noqa: SLF001 SQLAlchemy's public name for it (a row's own names could clash)
    del values["number"]
    values |= {"databases": tuple(row.databases), "addresses": tuple(row.addresses), "end": EndMode(row.end)}
    return Grant(**values)


async def find(tx: Transaction, grant_id: str) -> Grant | None:
    """The grant with this id."""
    row = (await tx.connection.execute(sa.select(grants).where(grants.c.id == grant_id))).first()
    return None if row is None else _grant(row)


async def find_all(tx: Transaction, grant_ids: Iterable[str]) -> Mapping[str, Grant]:
    """Those of the grants that are known, by id."""
    wanted, found = list(grant_ids), {}
    for start in range(0, len(wanted), IN_ONE_QUERY):
        query = sa.select(grants).where(grants.c.id.in_(wanted[start : start + IN_ONE_QUERY]))
        for row in await tx.connection.execute(query):
            found[row.id] = _grant(row)
    return found


async def add(tx: Transaction, grant: Grant) -> None:
    """A new grant."""
    await tx.connection.execute(sa.insert(grants).values(asdict(grant)))


async def change(tx: Transaction, grant: Grant) -> None:
    """What is known of the grant now."""
    await tx.connection.execute(sa.update(grants).where(grants.c.id == grant.id).values(asdict(grant)))


async def page(
    tx: Transaction, *, person: str | None, state: State | None, now: int, after: int | None, limit: int
) -> tuple[Sequence[Grant], int | None]:
    """Grants, newest first, and where the next page starts."""
    query = sa.select(grants)
    if person is not None:
        query = query.where(grants.c.person == person)
    if state is not None:
        query = query.where(_stands(state, now))
    rows, following = await newest_first(tx, query, grants.c.number, after=after, limit=limit)
    return [_grant(row) for row in rows], following


async def active_of(tx: Transaction, person: str, now: int) -> Sequence[Grant]:
    """A person's active grants."""
    query = sa.select(grants).where(grants.c.person == person, _stands(State.ACTIVE, now))
    return [_grant(row) for row in await tx.connection.execute(query)]


async def revoked(tx: Transaction, now: int) -> Sequence[Grant]:
    """The revoked grants that would not have expired yet: what every proxy has to know."""
    query = sa.select(grants).where(grants.c.expires_at > now, grants.c.revoked_at.is_not(None))
    return [_grant(row) for row in await tx.connection.execute(query)]


async def extended(tx: Transaction, now: int) -> Sequence[Grant]:
    """The active grants whose end has moved: what every proxy has to know."""
    query = sa.select(grants).where(_stands(State.ACTIVE, now), grants.c.extended_at.is_not(None))
    return [_grant(row) for row in await tx.connection.execute(query)]


def _stands(state: State, now: int) -> sa.ColumnElement[bool]:
    """`Grant.state`, for the database."""
    unrevoked = grants.c.revoked_at.is_(None)
    match state:
        case State.REVOKED:
            return grants.c.revoked_at.is_not(None)
        case State.ACTIVE:
            return unrevoked & (grants.c.expires_at > now)
        case State.EXPIRED:
            return unrevoked & (grants.c.expires_at <= now)
