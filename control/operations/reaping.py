"""Reaping: having the sessions of a proxy that is gone ended by others, until it is on record that they are.

Works from the books alone, when each proxy was last heard included: so a restart forgets nothing, and two services on
one database would only tell everything twice.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

import structlog

from control.domain import reaping as rules
from control.domain.reaping import SILENCE_S, Reaping
from control.domain.results import Failure, Reason, Result, Success
from control.domain.sessions import Session
from control.domain.texts import prose
from control.services import Services
from control.store import directives, grants, locks, proxies, reapings, records, sessions
from control.store.engine import Transaction
from control.times import SECOND
from proxy.contract.directive import LEASE_S, MOST_ORPHANS, Orphan, Reap
from proxy.contract.record import SessionStart, decode

LOOK_S = 1.0

NO_SUCH_PROXY = Failure(Reason.NOT_FOUND, "there is no such proxy")

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How it is with one proxy."""

    silent_since: int | None
    """When it was last heard, where that is longer ago than a lease."""
    open_sessions: int
    reaping: int
    """Sessions that others are to end."""


async def watch(services: Services) -> None:
    """Look every LOOK_S until the service stops."""
    while not services.stopping.is_set():
        try:
            await look(services)
        except Exception:  # the task's edge: a database that is away is back later
            log.exception("looking after silent proxies failed")
        try:
            async with asyncio.timeout(LOOK_S):
                await services.stopping.wait()
        except TimeoutError:
            pass


async def look(services: Services) -> None:
    """Write down who was heard, decide what is to be ended, and tell the proxies what is due."""
    now = services.clock()
    if heard := services.presence.heard_lately():
        async with services.store.write() as tx:
            await proxies.heard(tx, heard)
    async with services.store.read() as tx:
        services.vigil.look(await proxies.last_seen(tx), services.watch())
        if not await sessions.open_of(tx, services.vigil.silent()) and not await reapings.any_at_all(tx):
            return
    async with services.store.write() as tx:
        silent = dict(await sessions.open_of(tx, services.vigil.silent()))
        pending = await _decide(tx, services, list(silent.values()), now)
        due = [one for one in pending if one.due(now)]
        if due:
            await _tell(tx, {session.id: number for number, session in silent.items()}, due, now)
            await reapings.put(tx, [one.told(now) for one in due])
            services.metrics.reapings.inc(len(due))


async def _decide(tx: Transaction, services: Services, silent: Sequence[Session], now: int) -> Sequence[Reaping]:
    """What is to be ended: what was before and has not ended since, and what has come to it."""
    before = await reapings.everything(tx)
    still = {session.id for session in silent}
    known_of = services.vigil.silent() | services.vigil.heard()
    await reapings.drop(tx, [one.session for one in before if one.session not in still and one.proxy in known_of])
    known = {one.session for one in before}
    fresh = [session for session in silent if session.id not in known]
    of = await grants.find_all(tx, {session.grant for session in fresh if session.grant is not None})
    in_force = await locks.in_force(tx, now)
    new = []
    for session in fresh:
        why = rules.cause(session, grant=of.get(session.grant or ""), targets=services.targets, locks=in_force, now=now)
        if why is not None:
            log.warning("a silent proxy's session is to be ended", session=session.id, proxy=session.proxy, why=why)
            new.append(rules.begin(session, why=why, by=None, now=now))
    await reapings.put(tx, new)
    return [*(one for one in before if one.session in still), *new]


async def _tell(tx: Transaction, numbers: Mapping[str, int], due: Sequence[Reaping], now: int) -> None:
    """Write the directives: one for each proxy and whoever decided it, and no longer than proxies take."""
    starts = await records.firsts(tx, [numbers[one.session] for one in due])

    def kin(one: Reaping) -> tuple[str, str]:
        return one.proxy, one.by or ""

    for (proxy, by), of in groupby(sorted(due, key=kin), key=kin):
        orphans = [_orphan(starts[numbers[one.session]]) for one in of]
        for first in range(0, len(orphans), MOST_ORPHANS):
            some = orphans[first : first + MOST_ORPHANS]
            await directives.add(tx, Reap(cursor=0, at=now, proxy=proxy, orphans=some, by=by or None))


def _orphan(line: bytes) -> Orphan:
    start = decode(line)
    assert isinstance(start, SessionStart)  # an open session has begun with one
    return Orphan(
        session=start.session,
        target=start.target,
        server=start.server,
        pid=start.backend_pid,
        started=start.backend_start,
    )


async def order(services: Services, name: str, *, by: str, reason: str) -> Result[int]:
    """Have all sessions of a proxy ended by others, because somebody knows that it is gone; how many those are.

    A proxy that is heard ends its sessions itself (kill, revoke, lock), and is not taken for gone by anybody's word.
    """
    said = prose(reason, "reason")
    if isinstance(said, Failure):
        return said
    now = services.clock()
    async with services.store.write() as tx:
        proxy = await proxies.find(tx, name)
        if proxy is None:
            return NO_SUCH_PROXY
        silent_s = (now - max(proxy.last_seen_at, services.presence.last_seen(name))) / SECOND
        if silent_s < SILENCE_S:
            return Failure(
                Reason.CONFLICT,
                f"the proxy was heard {silent_s:.0f} s ago, and ends its sessions itself: revoke, kill or lock them; "
                f"it can be reaped once it has been silent for {SILENCE_S:.0f} s",
            )
        found = [session for _, session in await sessions.open_of(tx, [name])]
        await reapings.put(tx, [rules.begin(session, why=said.value, by=by, now=now) for session in found])
    log.warning("a proxy is to be reaped", proxy=name, by=by, sessions=len(found), reason=said.value)
    return Success(len(found))


async def standings(services: Services, found: Sequence[proxies.Proxy]) -> Mapping[str, Standing]:
    """How it is with each of these proxies."""
    names, now = [proxy.name for proxy in found], services.clock()
    async with services.store.read() as tx:
        open_sessions, reaping = await sessions.count_open_of(tx, names), await reapings.count(tx, names)
    known = {}
    for proxy in found:
        last = max(proxy.last_seen_at, services.presence.last_seen(proxy.name))
        known[proxy.name] = Standing(
            silent_since=last if now - last > LEASE_S * SECOND else None,
            open_sessions=open_sessions.get(proxy.name, 0),
            reaping=reaping.get(proxy.name, 0),
        )
    return known
