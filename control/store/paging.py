"""Lists a page at a time: how every table that people look through is read."""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from control.store.engine import Transaction


async def newest_first(
    tx: Transaction, query: sa.Select[Any], number: sa.Column[int], *, after: int | None, limit: int
) -> tuple[Sequence[sa.Row[Any]], int | None]:
    """What `query` finds below `after`, by `number` from above, and the `after` of the next page if there is one."""
    query = query.order_by(number.desc()).limit(limit + 1)
    if after is not None:
        query = query.where(number < after)
    rows = (await tx.connection.execute(query)).all()
    return rows[:limit], rows[limit - 1].number if len(rows) > limit else None
