"""Sessions: looking, reading what was done, killing."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace

import structlog

from control.domain.people import Person, Right
from control.domain.results import Failure, Reason, Result, Success
from control.domain.sessions import Session, State
from control.domain.texts import prose
from control.evidence.timeline import Item, Teller
from control.services import Services
from control.store import directives, records, sessions
from control.store.engine import Transaction
from control.store.sessions import Filter
from control.store.signals import wait
from control.times import SECOND
from proxy.contract.directive import Kill
from proxy.contract.record import decode

NO_SUCH_SESSION = Failure(Reason.NOT_FOUND, "there is no such session")
LINES = 500
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


async def lines(
    services: Services, session_id: str, *, asker: Person, after: int = -1
) -> Result[tuple[Session, AsyncIterator[bytes]]]:
    """A session and its records behind `after`, as they came, each line with its newline."""
    async with services.store.read() as tx:
        found = await _visible(tx, session_id, asker)
    if isinstance(found, Failure):
        return found
    number, session = found.value
    if session.person != asker.name and not asker.has(Right.SEE_RECORDS):
        return Failure(Reason.FORBIDDEN, "to see what others did takes the role auditor")
    log.info("records read", session=session_id, by=asker.name)
    return Success((session, _lines(services, number, after)))


async def timeline(
    services: Services, session_id: str, *, asker: Person
) -> Result[tuple[Session, AsyncIterator[Item]]]:
    """A session and what happened in it."""
    found = await lines(services, session_id, asker=asker)
    if isinstance(found, Failure):
        return found
    session, raw = found.value
    return Success((session, _items(services, session, raw)))


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


async def _lines(services: Services, number: int, after: int) -> AsyncIterator[bytes]:
    position = after
    while True:
        async with services.store.read() as tx:
            found = await records.after(tx, number, position, lines=LINES, size=BYTES)
        if not found:
            return
        for position, line in found:  # noqa: B007 where the next read goes on
            yield line + b"\n"


async def _items(services: Services, session: Session, raw: AsyncIterator[bytes]) -> AsyncIterator[Item]:
    teller = Teller(session.started_at)
    async for line in _all_lines(services, session, raw):
        for item in teller.take(decode(line[:-1]), len(line)):
            yield item
    for item in teller.finish():
        yield item


async def _all_lines(services: Services, session: Session, raw: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The session's own lines, and what another proxy has on record of its end."""
    async for line in raw:
        yield line
    if session.reaped_in is not None:
        async with services.store.read() as tx:
            found = await sessions.find(tx, session.reaped_in)
        if found is not None:
            async for line in _lines(services, found[0], -1):
                yield line
