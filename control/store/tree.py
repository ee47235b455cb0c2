"""Queries: the log's tree, kept in tiles (`control.evidence.tree`), and the heads that were signed over it."""

import asyncio
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import sqlalchemy as sa

from control.evidence.tree import WIDTH, Place, Tiles, Wanted, append, edge
from control.store.engine import Transaction
from control.store.records import IN_ONE_QUERY
from control.store.tables import heads, records, sessions, tiles
from proxy.contract.merkle import HASH_BYTES, Nodes

Answer = TypeVar("Answer")

GROWN = "log"
"""The topic that wakes whoever waits for more records."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """A tree's head as it was signed."""

    origin: str
    size: int
    root: bytes
    note: str
    signed_at: int


async def size(tx: Transaction) -> int:
    """How many leaves the tree has."""
    last = sa.select(tiles.c.number, sa.func.length(tiles.c.hashes)).where(tiles.c.level == 0)
    row = (await tx.connection.execute(last.order_by(tiles.c.number.desc()).limit(1))).first()
    return 0 if row is None else int(row[0]) * WIDTH + int(row[1]) // HASH_BYTES


async def grow(tx: Transaction, first: int, leaves: Sequence[bytes]) -> None:
    """Add leaves, given their hashes, to a tree of `first` ones: by the thousand in a thread (`Store.write_as_one`)."""
    before = await fetch(tx, edge(first))
    changed = append(first, before, leaves)
    rows = [{"level": level, "number": number, "hashes": hashes} for (level, number), hashes in changed.items()]
    if not rows:
        return
    # A tile that was begun is replaced as a whole.
    begun = [place for place in before if place in changed]
    for place in begun:
        await tx.connection.execute(sa.delete(tiles).where(_is(place)))
    await tx.connection.execute(sa.insert(tiles), rows)


async def fetch(tx: Transaction, places: Collection[Place]) -> dict[Place, bytes]:
    """Those of the tiles that there are."""
    found: dict[Place, bytes] = {}
    for level in sorted({place.level for place in places}):
        numbers = sorted(place.number for place in places if place.level == level)
        for start in range(0, len(numbers), IN_ONE_QUERY):
            wanted = (tiles.c.level == level) & tiles.c.number.in_(numbers[start : start + IN_ONE_QUERY])
            for row in await tx.connection.execute(sa.select(tiles).where(wanted)):
                found[Place(row.level, row.number)] = row.hashes
    return found


async def ask(tx: Transaction, question: Callable[[Nodes], Answer]) -> Answer:
    """What `question` finds in the tree's nodes. It is asked twice: first to see which tiles it needs.

    Raises MissingTileError where the store lacks one of them.
    """
    wanted = Wanted()
    await asyncio.to_thread(question, wanted)
    known: dict[tuple[int, int], bytes] = {}
    places = list(wanted.places)
    # By portions: of a tile only few hashes are needed, and the tiles of a long session would take much memory.
    for start in range(0, len(places), IN_ONE_QUERY):
        portion = places[start : start + IN_ONE_QUERY]
        found = Tiles(await fetch(tx, portion))
        known |= await asyncio.to_thread(_nodes, found, [node for place in portion for node in wanted.places[place]])
    return await asyncio.to_thread(question, lambda level, index: known[level, index])


def _nodes(found: Tiles, nodes: Iterable[tuple[int, int]]) -> dict[tuple[int, int], bytes]:
    return {(level, index): found(level, index) for level, index in nodes}


async def leaf_of(tx: Transaction, session_id: str, seq: int) -> int | None:
    """The place in the log of a session's record, None where there is no such record."""
    of_session = records.join(sessions, records.c.session == sessions.c.number)
    wanted = (sessions.c.id == session_id) & (records.c.seq == seq)
    leaf: int | None = await tx.connection.scalar(sa.select(records.c.leaf).select_from(of_session).where(wanted))
    return leaf


async def leaves_of(tx: Transaction, session_number: int, below: int) -> Sequence[int]:
    """The places in the log of a session's records in their order, those below `below`."""
    own = (records.c.session == session_number) & (records.c.leaf < below)
    return list((await tx.connection.scalars(sa.select(records.c.leaf).where(own).order_by(records.c.seq))).all())


async def newest_head(tx: Transaction, origin: str) -> Head | None:
    """The newest head that was signed under this name."""
    newest = sa.select(heads).where(heads.c.origin == origin).order_by(heads.c.size.desc()).limit(1)
    row = (await tx.connection.execute(newest)).first()
    return None if row is None else Head(**row._mapping)  # noqa: SLF001 SQLAlchemy's public name for it


async def add_head(tx: Transaction, head: Head) -> None:
    """A head that was signed."""
    values = {name: getattr(head, name) for name in Head.__slots__}
    await tx.connection.execute(sa.insert(heads).values(values))


def _is(place: Place) -> sa.ColumnElement[bool]:
    return (tiles.c.level == place.level) & (tiles.c.number == place.number)
