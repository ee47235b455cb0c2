"""The transparency log: signing its heads, and proving what is in it."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import structlog

from control.domain.people import Person, Right
from control.domain.results import Failure, Reason, Result, Success
from control.evidence.tree import TILE_BYTES, MissingTileError, Place
from control.services import Services
from control.store import sessions, tree
from control.store.engine import Transaction
from control.store.signals import wait
from control.store.tree import Head
from control.times import SECOND
from proxy.contract import merkle, subset
from proxy.contract.merkle import HASH_BYTES, Nodes

SIGN_NS = SECOND
"""Heads are at least so far apart: each is a row that stays."""
IDLE_S = 30.0
NO_SUCH_RECORD = Failure(Reason.NOT_FOUND, "there is no such record")

log = structlog.get_logger(__name__)


class LogError(Exception):
    """The store does not have the tree that was signed: it was damaged, rolled back or rewritten. Nothing is signed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subset:
    """Where a session's records stand in the tree of `size` leaves, their hashes, and the proof for all of them."""

    size: int
    leaves: Sequence[int]
    hashes: Sequence[bytes]
    proof: Sequence[bytes]


async def ready(services: Services) -> None:
    """Have the log's key at hand. Raises KeyRingError."""
    if services.log_key.loaded:
        return
    async with services.store.read() as tx:
        newest = await tree.newest_head(tx, services.log_key.origin)
    services.log_key.load(None if newest is None else newest.note)


async def head(services: Services) -> Head:
    """The head of the tree as it is now, signed; at most one is signed in SIGN_NS, so this may wait so long.

    Raises LogError where the tree no longer has all of what was signed last.
    """
    async with services.signing:
        await ready(services)
        async with services.store.read() as tx:
            newest = await tree.newest_head(tx, services.log_key.origin)
            if newest is not None and newest.size == await tree.size(tx):
                return newest
        if newest is not None and (early := newest.signed_at + SIGN_NS - services.clock()) > 0:
            await asyncio.sleep(min(early, SIGN_NS) / SECOND)
        async with services.store.write() as tx:
            return await _sign(services, tx, newest)


async def _sign(services: Services, tx: Transaction, newest: Head | None) -> Head:
    size = await tree.size(tx)
    try:
        if newest is not None:
            await _check(tx, newest, size)
        root = await tree.ask(tx, partial(merkle.root, size))
    except MissingTileError as error:
        raise LogError(str(error)) from error
    note = services.log_key.sign(size, root)
    signed = Head(origin=services.log_key.origin, size=size, root=root, note=note, signed_at=services.clock())
    await tree.add_head(tx, signed)
    services.metrics.log_size.set(size)
    return signed


async def _check(tx: Transaction, newest: Head, size: int) -> None:
    """Never sign two heads that contradict each other, whatever was done to the tiles meanwhile."""
    if size < newest.size:
        raise LogError(f"the log has {size} records, and {newest.size} were signed: the store was rolled back")
    if await tree.ask(tx, partial(merkle.root, newest.size)) != newest.root:
        raise LogError(f"the log's first {newest.size} records are not those that were signed: it was rewritten")


async def follow(services: Services) -> None:
    """Sign a head whenever the tree has grown, until the service stops."""
    with services.store.signals.listen(tree.GROWN) as grown:
        while not services.stopping.is_set():
            try:
                await head(services)
                services.metrics.log_broken.set(0)
            except LogError as error:
                services.metrics.log_broken.set(1)
                log.error("the log cannot be signed", why=str(error))  # noqa: TRY400 a condition, and its text says all
            except Exception:  # the task's edge: the database's next moment may be a better one
                log.exception("the log was not signed")
            await wait(grown, IDLE_S)


async def consistency(services: Services, old: int, new: int) -> Result[Sequence[bytes]]:
    """The proof that the tree of `new` leaves begins with the one of `old`."""
    async with services.store.read() as tx:
        size = await tree.size(tx)
        if not 0 <= old <= new <= size:
            return Failure(Reason.INVALID, f"the log has {size} records; old and new are sizes up to that, in order")
        return await _asked(tx, partial(merkle.consistency, old, new))


async def inclusion(
    services: Services, session_id: str, seq: int, size: int, *, asker: Person
) -> Result[tuple[int, Sequence[bytes]]]:
    """The place of a session's record in the log, and the proof that the tree of `size` leaves has it."""
    async with services.store.read() as tx:
        if isinstance(found := await _readable(tx, session_id, asker), Failure):
            return found
        leaf = await tree.leaf_of(tx, session_id, seq)
        if leaf is None:
            return NO_SUCH_RECORD
        there = await tree.size(tx)
        if not leaf < size <= there:
            return Failure(Reason.INVALID, f"the record is number {leaf} of the log, which has {there}")
        proof = await _asked(tx, partial(merkle.inclusion, leaf, size))
    return proof if isinstance(proof, Failure) else Success((leaf, proof.value))


async def session(services: Services, session_id: str, size: int, *, asker: Person) -> Result[Subset]:
    """One proof for all records of a session that the tree of `size` leaves has."""
    async with services.proving, services.store.read() as tx:
        if isinstance(found := await _readable(tx, session_id, asker), Failure):
            return found
        if not 0 <= size <= (there := await tree.size(tx)):
            return Failure(Reason.INVALID, f"the log has {there} records")
        leaves = await tree.leaves_of(tx, found.value, size)

        def question(nodes: Nodes) -> Sequence[bytes]:
            return [*(nodes(0, leaf) for leaf in leaves), *subset.prove(leaves, size, nodes)]

        asked = await _asked(tx, question)
    if isinstance(asked, Failure):
        return asked
    hashes, proof = asked.value[: len(leaves)], asked.value[len(leaves) :]
    return Success(Subset(size=size, leaves=leaves, hashes=hashes, proof=proof))


async def tile(services: Services, level: int, number: int, width: int) -> Result[bytes]:
    """The first `width` hashes of a tile, where it has so many."""
    place = Place(level, number)
    async with services.store.read() as tx:
        hashes = (await tree.fetch(tx, [place])).get(place, b"")
    if not 0 < width * HASH_BYTES <= min(len(hashes), TILE_BYTES):
        return Failure(Reason.NOT_FOUND, "the log has no such tile yet")
    return Success(hashes[: width * HASH_BYTES])


async def _readable(tx: Transaction, session_id: str, asker: Person) -> Result[int]:
    """The number of a session whose records `asker` may read."""
    found = await sessions.find(tx, session_id)
    if found is None or not (found[1].person == asker.name or asker.has(Right.SEE_RECORDS)):
        return Failure(Reason.NOT_FOUND, "there is no such session")
    return Success(found[0])


async def _asked(tx: Transaction, question: Callable[[Nodes], Sequence[bytes]]) -> Result[Sequence[bytes]]:
    """A proof out of the store's tree; where that is damaged, that is the answer."""
    try:
        return Success(await tree.ask(tx, question))
    except (MissingTileError, ValueError) as error:
        log.error("the log is damaged", why=str(error))  # noqa: TRY400 a condition, and its text says all
        return Failure(Reason.LOG_DAMAGED, f"the log is damaged: {error}")
