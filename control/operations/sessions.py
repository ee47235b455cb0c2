"""Sessions: looking, reading what was done, killing."""

from collections import deque
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace

import structlog

from control.domain.people import Person, Right
from control.domain.requests import as_of
from control.domain.results import Failure, Reason, Result, Success
from control.domain.sessions import Session, State
from control.domain.texts import prose
from control.evidence import books
from control.evidence.timeline import Item, Teller
from control.services import Services
from control.store import directives, grants, locks, records, requests, sessions
from control.store.engine import Transaction
from control.store.sessions import Filter
from control.store.signals import wait
from control.times import SECOND
from proxy.contract.directive import Kill
from proxy.contract.record import SessionEnd, decode

NO_SUCH_SESSION = Failure(Reason.NOT_FOUND, "there is no such session")
LINES = 500
MOST_LOCKS = 1_000
MOST_KILLS = 100
"""In one timeline."""
LOOK_AGAIN_S = 15.0
"""How often a waiter looks by itself: clocks that tests or administrators set may have moved."""
BYTES = 1 << 20
"""Records read in one go: at most this many lines and bytes, or one line."""

log = structlog.get_logger(__name__)


async def page(
    services: Services, wanted: Filter, *, asker: Person, after: int | None, limit: int
) -> tuple[Sequence[Session], int | None]:
    """The sessions that `asker` may see, newest first, and where the next page starts."""
    if not asker.has(Right.SEE_SESSIONS):
        if wanted.person not in (None, asker.name):
            return [], None
        wanted = replace(wanted, person=asker.name)
    async with services.store.read() as tx:
        return await sessions.page(tx, wanted, after=after, limit=limit)


async def get(services: Services, session_id: str, *, asker: Person, wait_s: float = 0) -> Result[Session]:
    """One session's summary; with `wait_s`, once it has ended or that time has passed."""
    deadline = services.clock() + int(wait_s * SECOND)
    with services.store.signals.listen(sessions.topic(session_id)) as changed:
        while True:
            async with services.store.read() as tx:
                found = await _visible(tx, session_id, asker)
            if isinstance(found, Failure):
                return found
            _, session = found.value
            now = services.clock()
            if session.state is not State.OPEN or now >= deadline or services.stopping.is_set():
                return Success(session)
            await wait(changed, min((deadline - now) / SECOND, LOOK_AGAIN_S))


async def readable(services: Services, session_id: str, *, asker: Person) -> Result[tuple[int, Session]]:
    """A session and its number, where `asker` may read what was done in it."""
    async with services.store.read() as tx:
        found = await _visible(tx, session_id, asker)
    if isinstance(found, Failure):
        return found
    if found.value[1].person != asker.name and not asker.has(Right.SEE_RECORDS):
        return Failure(Reason.FORBIDDEN, "to see what others did takes the role auditor")
    log.info("records read", session=session_id, by=asker.name)
    return found


async def lines(
    services: Services, session_id: str, *, asker: Person, after: int = -1
) -> Result[tuple[Session, AsyncIterator[bytes]]]:
    """A session and its records behind `after`, as they came, each line with its newline."""
    found = await readable(services, session_id, asker=asker)
    if isinstance(found, Failure):
        return found
    number, session = found.value
    return Success((session, stored(services, number, after)))


async def timeline(
    services: Services, session_id: str, *, asker: Person
) -> Result[tuple[Session, AsyncIterator[Item]]]:
    """A session and what happened in it."""
    found = await readable(services, session_id, asker=asker)
    if isinstance(found, Failure):
        return found
    number, session = found.value
    return Success((session, _items(services, session, stored(services, number, -1))))


async def kill(services: Services, session_id: str, *, by: Person, reason: str) -> Result[Session]:
    """Have a session ended. Its summary says so once the proxy's records do."""
    said = prose(reason, "reason")
    if isinstance(said, Failure):
        return said
    async with services.store.write() as tx:
        found = await _visible(tx, session_id, by)
        if isinstance(found, Failure):
            return found
        _, session = found.value
        if session.person != by.name and not by.has(Right.END_ACCESS):
            return Failure(Reason.FORBIDDEN, "to kill somebody's session takes the role approver")
        if session.state is not State.OPEN:
            return Failure(Reason.NOT_ACTIVE, "the session has ended already")
        order = Kill(cursor=0, at=services.clock(), session=session.id, by=by.name, reason=said.value)
        await directives.add(tx, order)
    log.info("session killed", session=session.id, person=session.person, by=by.name)
    return Success(session)


async def _visible(tx: Transaction, session_id: str, asker: Person) -> Result[tuple[int, Session]]:
    found = await sessions.find(tx, session_id)
    if found is None or not (found[1].person == asker.name or asker.has(Right.SEE_SESSIONS)):
        return NO_SUCH_SESSION
    return Success(found)


async def stored(services: Services, number: int, after: int) -> AsyncIterator[bytes]:
    """The records of the session with this number behind `after`, each line with its newline."""
    position = after
    while True:
        async with services.store.read() as tx:
            found = await records.after(tx, number, position, lines=LINES, size=BYTES)
        if not found:
            return
        for position, line in found:  # noqa: B007 where the next read goes on
            yield line + b"\n"


async def events(services: Services, session: Session) -> Sequence[Item]:
    """What the books have on it, but for what its records say: who asked, who approved, who took it back."""
    async with services.store.read() as tx:
        now = services.clock()
        grant = None if session.grant is None else await grants.find(tx, session.grant)
        request = None if grant is None else await requests.find(tx, grant.request)
        more = [] if grant is None else await requests.all_extensions_of(tx, grant.id)
        names = {name: getattr(session, name) for name in ("person", "target", "profile", "proxy")}
        names["person"] = session.person or (None if grant is None else grant.person)
        covering = await locks.covering(
            tx, names=names, since=session.started_at, until=books.until(session), limit=MOST_LOCKS
        )
    extensions = [as_of(one, now) for one in more]
    return books.entries(session, request=request, grant=grant, extensions=extensions, locks=covering)


async def why(services: Services, session: Session, end: SessionEnd) -> str | None:
    """For what reason somebody has ended it, as the books have it."""
    if end.by is None:
        return None
    async with services.store.read() as tx:
        grant = None if session.grant is None else await grants.find(tx, session.grant)
        names = {name: getattr(session, name) for name in ("person", "target", "profile", "proxy")}
        covering = await locks.covering(
            tx, names=names, since=session.started_at, until=end.decided_at, limit=MOST_LOCKS
        )
        kills = await directives.kills(tx, session.id, MOST_KILLS) if end.reason == "killed" else ()
    return books.why(end, grant=grant, locks=covering, kills=kills)


async def ending(services: Services, session: Session) -> AsyncIterator[bytes]:
    """What another proxy has on record of its end."""
    if session.reaped_in is not None:
        async with services.store.read() as tx:
            found = await sessions.find(tx, session.reaped_in)
        if found is not None:
            async for line in stored(services, found[0], -1):
                yield line


async def _items(services: Services, session: Session, raw: AsyncIterator[bytes]) -> AsyncIterator[Item]:
    """The whole timeline, what the books have in its place: times are texts that sort."""
    teller = Teller(session.started_at)
    waiting = deque(await events(services, session))
    async for item in _told(teller, services, session, raw):
        while waiting and waiting[0]["at"] <= item["at"]:
            yield waiting.popleft()
        yield item
    for event in waiting:
        yield event


async def _told(teller: Teller, services: Services, session: Session, raw: AsyncIterator[bytes]) -> AsyncIterator[Item]:
    for source in (raw, ending(services, session)):
        async for line in source:
            record = decode(line[:-1])
            if isinstance(record, SessionEnd):
                teller.why = await why(services, session, record)
            for item in teller.take(record, len(line)):
                yield item
    for item in teller.finish():
        yield item
