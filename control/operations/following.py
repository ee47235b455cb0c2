"""Following a session that runs: what it has done, and then what it does, until it is over.

A follower is woken by the commit that brings new records; what it reads is what is stored, so nothing is missed, and a
slow one holds up nobody. Every HEARTBEAT_S it is asked again whether the person may still read, and the other side
hears that the stream lives: load balancers hang up on silent ones.
"""

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import TypeAlias

import structlog

from control.domain.people import Person, Right
from control.domain.results import Failure, Reason, Result, Success
from control.domain.sessions import Session, State
from control.evidence.timeline import Item, Teller
from control.operations.sessions import BYTES, LINES, ending, events, readable, why
from control.services import Services
from control.store import directives, records, sessions
from control.store.signals import wait
from proxy.contract.record import SessionEnd, decode

HEARTBEAT_S = 15.0

Standing: TypeAlias = Callable[[], Awaitable[Person | None]]
"""Who is asking, asked again: None once their key is good no more."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Follower:
    """Who follows what."""

    number: int
    session: Session
    asker: Person
    still: Standing


async def lines(
    services: Services, session_id: str, *, asker: Person, still: Standing, after: int = -1
) -> Result[AsyncGenerator[Sequence[bytes], None]]:
    """A session's records behind `after` and those to come, each line with its newline; nothing as a heartbeat."""
    found = await _admitted(services, session_id, asker)
    if isinstance(found, Failure):
        return found
    return Success(_lines(services, _Follower(*found.value, asker, still), after))


async def timeline(
    services: Services, session_id: str, *, asker: Person, still: Standing
) -> Result[tuple[Session, AsyncGenerator[Sequence[Item], None]]]:
    """A session, what happened in it and what happens, as a live timeline; nothing as a heartbeat."""
    found = await _admitted(services, session_id, asker)
    if isinstance(found, Failure):
        return found
    return Success((found.value[1], _items(services, _Follower(*found.value, asker, still))))


async def _admitted(services: Services, session_id: str, asker: Person) -> Result[tuple[int, Session]]:
    found = await readable(services, session_id, asker=asker)
    if isinstance(found, Success) and not services.followers.room(asker.name):
        return Failure(Reason.BUSY, "too many sessions are followed; end one, or try again later")
    return found


async def _lines(services: Services, follower: _Follower, after: int) -> AsyncGenerator[Sequence[bytes], None]:
    position, session, person = after, follower.session, follower.asker.name
    if not services.followers.room(person):  # others came meanwhile
        return
    topics = sessions.growth(session.id), sessions.topic(session.id), directives.TOPIC
    with (
        services.followers.one_more(person),
        services.metrics.followers.track_inprogress(),
        services.store.signals.listen(*topics) as changed,
    ):
        asked_at = services.watch()
        while not services.stopping.is_set():
            async with services.store.read() as tx:
                found = await records.after(tx, follower.number, position, lines=LINES, size=BYTES)
                state = await sessions.state(tx, follower.number)
            if found:
                position = found[-1][0]
                yield [line + b"\n" for _, line in found]
            elif state is not State.OPEN:
                return
            else:
                await wait(changed, HEARTBEAT_S)
                yield ()
            if services.watch() - asked_at >= HEARTBEAT_S:
                if not _may(await follower.still(), session):
                    log.warning("a follower may read no more", session=session.id, person=person)
                    return
                asked_at = services.watch()


def _may(person: Person | None, session: Session) -> bool:
    return person is not None and (person.name == session.person or person.has(Right.SEE_RECORDS))


async def _items(services: Services, follower: _Follower) -> AsyncGenerator[Sequence[Item], None]:
    session = follower.session
    teller = Teller(session.started_at, live=True)
    known = 0
    async with aclosing(_lines(services, follower, -1)) as followed:
        async for batch in followed:
            fresh = (await events(services, session))[known:]
            known += len(fresh)
            told: list[Item] = []
            for line in batch:
                record = decode(line[:-1])
                if isinstance(record, SessionEnd):
                    teller.why = await why(services, session, record)
                told += teller.take(record, len(line))
            yield sorted((*fresh, *told), key=lambda item: item["at"]) if fresh else told
    async with services.store.read() as tx:
        over = await sessions.find(tx, session.id)
    if over is not None and not services.stopping.is_set():
        async for line in ending(services, over[1]):
            yield teller.take(decode(line[:-1]), len(line))
    yield teller.finish()
