"""Queries: reapings, the sessions of silent proxies that other proxies are told to end."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict

import sqlalchemy as sa

from control.domain.reaping import Reaping
from control.store.engine import Transaction
from control.store.records import IN_ONE_QUERY
from control.store.tables import reapings


async def everything(tx: Transaction) -> Sequence[Reaping]:
    """All of them, in the order in which they were decided."""
    rows = await tx.connection.execute(sa.select(reapings).order_by(reapings.c.decided_at, reapings.c.session))
    return [Reaping(**{name: getattr(row, name) for name in Reaping.__slots__}) for row in rows]


async def any_at_all(tx: Transaction) -> bool:
    """Whether there is one."""
    return (await tx.connection.execute(sa.select(reapings.c.session).limit(1))).first() is not None


async def ordered(tx: Transaction, session_id: str) -> bool:
    """Whether somebody was told to end this session."""
    query = sa.select(reapings.c.session).where(reapings.c.session == session_id, reapings.c.tries > 0)
    return (await tx.connection.execute(query)).first() is not None


async def put(tx: Transaction, changed: Sequence[Reaping]) -> None:
    """New ones, and what is known of old ones now."""
    await drop(tx, [one.session for one in changed])
    if changed:
        await tx.connection.execute(sa.insert(reapings), [asdict(one) for one in changed])


async def drop(tx: Transaction, session_ids: Iterable[str]) -> None:
    """These are over."""
    gone = list(session_ids)
    for start in range(0, len(gone), IN_ONE_QUERY):
        some = gone[start : start + IN_ONE_QUERY]
        await tx.connection.execute(sa.delete(reapings).where(reapings.c.session.in_(some)))


async def count(tx: Transaction, proxies: Iterable[str]) -> Mapping[str, int]:
    """How many there are of each of these proxies; those without any are left out."""
    of = reapings.c.proxy.in_(list(proxies))
    query = sa.select(reapings.c.proxy, sa.func.count().label("sessions")).where(of)
    return {row.proxy: row.sessions for row in await tx.connection.execute(query.group_by(reapings.c.proxy))}
