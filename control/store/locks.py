"""Queries: locks."""

from collections.abc import Mapping, Sequence

import sqlalchemy as sa

from control.domain.locks import Lock, Scope, State
from control.store.engine import Transaction
from control.store.paging import newest_first
from control.store.tables import locks


def _lock(row: sa.Row[tuple[object, ...]]) -> Lock:
    return Lock(
        id=row.id,
        scope=Scope(person=row.person, target=row.target, profile=row.profile, proxy=row.proxy),
        reason=row.reason,
        created_at=row.created_at,
        created_by=row.created_by,
        until=row.until,
        lifted_at=row.lifted_at,
        lifted_by=row.lifted_by,
        lift_reason=row.lift_reason,
    )


def _values(lock: Lock) -> dict[str, object]:
    return {
        "id": lock.id,
        "person": lock.scope.person,
        "target": lock.scope.target,
        "profile": lock.scope.profile,
        "proxy": lock.scope.proxy,
        "reason": lock.reason,
        "created_at": lock.created_at,
        "created_by": lock.created_by,
        "until": lock.until,
        "lifted_at": lock.lifted_at,
        "lifted_by": lock.lifted_by,
        "lift_reason": lock.lift_reason,
    }


async def find(tx: Transaction, lock_id: str) -> Lock | None:
    """The lock with this id."""
    row = (await tx.connection.execute(sa.select(locks).where(locks.c.id == lock_id))).first()
    return None if row is None else _lock(row)


async def add(tx: Transaction, lock: Lock) -> None:
    """A new lock."""
    await tx.connection.execute(sa.insert(locks).values(_values(lock)))


async def change(tx: Transaction, lock: Lock) -> None:
    """What is known of the lock now."""
    await tx.connection.execute(sa.update(locks).where(locks.c.id == lock.id).values(_values(lock)))


async def in_force(tx: Transaction, now: int) -> Sequence[Lock]:
    """The locks in force, oldest first."""
    query = sa.select(locks).where(_stands(State.ACTIVE, now)).order_by(locks.c.number)
    return [_lock(row) for row in await tx.connection.execute(query)]


async def covering(
    tx: Transaction, *, names: Mapping[str, str | None], since: int, until: int | None, limit: int
) -> Sequence[Lock]:
    """The locks that cover what has all these names, and were in force between the two times; oldest first."""
    query = sa.select(locks).order_by(locks.c.number).limit(limit)
    for name, value in names.items():
        query = query.where(locks.c[name].is_(None) | (locks.c[name] == value))
    over = (locks.c.lifted_at < since) | (locks.c.until < since)
    query = query.where(sa.not_(sa.func.coalesce(over, sa.false())))
    if until is not None:
        query = query.where(locks.c.created_at <= until)
    return [_lock(row) for row in await tx.connection.execute(query)]


async def page(
    tx: Transaction, *, named: str | None, state: State | None, now: int, after: int | None, limit: int
) -> tuple[Sequence[Lock], int | None]:
    """Locks, newest first, and where the next page starts. With `named`, none that names somebody else."""
    query = sa.select(locks)
    if named is not None:
        query = query.where(locks.c.person.is_(None) | (locks.c.person == named))
    if state is not None:
        query = query.where(_stands(state, now))
    rows, following = await newest_first(tx, query, locks.c.number, after=after, limit=limit)
    return [_lock(row) for row in rows], following


def _stands(state: State, now: int) -> sa.ColumnElement[bool]:
    """`Lock.state`, for the database."""
    unlifted = locks.c.lifted_at.is_(None)
    match state:
        case State.LIFTED:
            return locks.c.lifted_at.is_not(None)
        case State.ACTIVE:
            return unlifted & (locks.c.until.is_(None) | (locks.c.until > now))
        case State.EXPIRED:
            return unlifted & (locks.c.until <= now)
