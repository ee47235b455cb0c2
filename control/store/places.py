"""Queries: places, one for each session of a grant that allows so many at once."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass

import sqlalchemy as sa

from control.store.engine import Transaction
from control.store.records import IN_ONE_QUERY
from control.store.tables import places
from proxy.contract.places import Present


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A session that counts. `holder` and `run` say which process of the proxy has it."""

    session: str
    grant: str
    proxy: str
    holder: str
    run: str
    taken_at: int


async def find(tx: Transaction, session_id: str) -> tuple[int, Place] | None:
    """The place of this session, and its number."""
    row = (await tx.connection.execute(sa.select(places).where(places.c.session == session_id))).first()
    return None if row is None else (row.number, Place(**{name: getattr(row, name) for name in Place.__slots__}))


async def taken(tx: Transaction, grant: str) -> int:
    """How many sessions of this grant there are."""
    query = sa.select(sa.func.count()).select_from(places).where(places.c.grant == grant)
    return (await tx.connection.execute(query)).scalar_one()


async def add(tx: Transaction, place: Place) -> int:
    """A new place; its number."""
    result = await tx.connection.execute(sa.insert(places).values(asdict(place)))
    return int(result.inserted_primary_key[0])  # type: ignore[index] # an insert of one row has it


async def newest(tx: Transaction) -> int:
    """The newest place's number, 0 where there is none."""
    return (await tx.connection.execute(sa.select(sa.func.max(places.c.number)))).scalar() or 0


async def over(tx: Transaction, proxy: str, present: Present) -> set[str]:
    """The sessions whose places a process has, and shows by `present` to have no more."""
    own = (places.c.proxy == proxy) & (places.c.holder == present.holder) & (places.c.number <= present.known)
    if not present.alone:
        own &= places.c.run == present.run
    rows = await tx.connection.execute(sa.select(places.c.session).where(own))
    return {row.session for row in rows}.difference(present.sessions)


async def give_back(tx: Transaction, session_ids: Iterable[str]) -> None:
    """These sessions count no more."""
    gone = list(session_ids)
    for start in range(0, len(gone), IN_ONE_QUERY):
        await tx.connection.execute(sa.delete(places).where(places.c.session.in_(gone[start : start + IN_ONE_QUERY])))
