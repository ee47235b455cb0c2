"""Queries: where each journal of each proxy goes on."""

from collections.abc import Collection, Mapping

import sqlalchemy as sa

from control.store.engine import Transaction
from control.store.tables import journals
from proxy.contract.record import Entry


async def find(tx: Transaction, proxy: str, ids: Collection[str]) -> Mapping[str, Entry]:
    """The next place in each of these journals that is known, by the journal's id."""
    wanted = (journals.c.proxy == proxy) & journals.c.id.in_(ids)
    rows = (await tx.connection.execute(sa.select(journals).where(wanted))).all()
    return {row.id: Entry(journal=row.id, number=row.number, prev=row.prev) for row in rows}


async def save(tx: Transaction, proxy: str, following: Mapping[str, Entry]) -> None:
    """The journals go on here."""
    for journal, entry in following.items():
        own = (journals.c.proxy == proxy) & (journals.c.id == journal)
        await tx.connection.execute(sa.delete(journals).where(own))
        row = {"proxy": proxy, "id": journal, "number": entry.number, "prev": entry.prev}
        await tx.connection.execute(sa.insert(journals).values(row))
