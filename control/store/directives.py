"""Queries: directives. Each is written in the transaction that decides what it tells."""

from collections.abc import Sequence

import msgspec
import sqlalchemy as sa

from control.store.engine import Transaction
from control.store.tables import directives
from proxy.contract.directive import AnyDirective, decode, encode

TOPIC = "directives"


async def add(tx: Transaction, directive: AnyDirective) -> None:
    """Tell the proxies, once the transaction is committed. The cursor is given here."""
    await tx.connection.execute(sa.insert(directives).values(line=encode(directive)))
    tx.touch(TOPIC)


async def after(tx: Transaction, cursor: int, limit: int) -> Sequence[AnyDirective]:
    """The directives behind `cursor`, in order."""
    query = sa.select(directives).where(directives.c.cursor > cursor).order_by(directives.c.cursor).limit(limit)
    return [msgspec.structs.replace(decode(row.line), cursor=row.cursor) for row in await tx.connection.execute(query)]


async def last(tx: Transaction) -> int:
    """The newest directive's cursor, 0 where there is none."""
    return (await tx.connection.execute(sa.select(sa.func.max(directives.c.cursor)))).scalar() or 0
