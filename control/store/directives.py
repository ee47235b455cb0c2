"""Queries: directives. Each is written in the transaction that decides what it tells."""

from collections.abc import Sequence

import msgspec
import sqlalchemy as sa

from control.store.engine import Transaction
from control.store.tables import directives
from proxy.contract.directive import AnyDirective, Kill, decode, encode

TOPIC = "directives"


async def add(tx: Transaction, directive: AnyDirective) -> None:
    """Tell the proxies, once the transaction is committed. The cursor is given here."""
    await tx.connection.execute(sa.insert(directives).values(line=encode(directive)))
    tx.touch(TOPIC)


async def after(tx: Transaction, cursor: int, limit: int) -> Sequence[AnyDirective]:
    """The directives behind `cursor`, in order."""
    query = sa.select(directives).where(directives.c.cursor > cursor).order_by(directives.c.cursor).limit(limit)
    return [msgspec.structs.replace(decode(row.line), cursor=row.cursor) for row in await tx.connection.execute(query)]


async def kills(tx: Transaction, session: str, limit: int) -> Sequence[Kill]:
    """The orders to end this one session, the newest first. All directives are looked through."""
    line, name = directives.c.line, f'"{session}"'
    if tx.connection.dialect.name == "sqlite":  # whose LIKE may know no bytes (SQLITE_LIKE_DOESNT_MATCH_BLOBS)
        named = sa.func.instr(line, sa.literal(name.encode(), sa.LargeBinary)) > 0
    else:
        named = line.op("LIKE", is_comparison=True)(sa.literal(f"%{name}%".encode(), sa.LargeBinary))
    query = sa.select(directives).where(named).order_by(directives.c.cursor.desc()).limit(limit)
    found = [decode(row.line) for row in await tx.connection.execute(query)]
    return [one for one in found if isinstance(one, Kill) and one.session == session]


async def last(tx: Transaction) -> int:
    """The newest directive's cursor, 0 where there is none."""
    return (await tx.connection.execute(sa.select(sa.func.max(directives.c.cursor)))).scalar() or 0
