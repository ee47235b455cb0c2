"""The reaper: ends what a proxy that died has left behind, from the sessions that its journal shows open.

It runs once at a start. Every session found gets the verified stop that it never had, and its last record.
"""

import asyncio
import time

import structlog

from proxy.contract.record import SessionEnd
from proxy.journal import Journal, JournalError
from proxy.recorder import Recorder
from proxy.segments import OpenSession
from proxy.shared import Shared
from proxy.stop import Gone, KeeperError

RETRY_S = 1.0

log = structlog.get_logger(__name__)


async def reap(shared: Shared, journal: Journal) -> None:
    """End every session that an earlier run left open in `journal`; returns when all have their end."""
    unfinished = list(journal.unfinished.values())
    if unfinished:
        log.warning("ending the sessions of an earlier run", sessions=len(unfinished))
        await asyncio.gather(*(_reap_one(shared, journal, session) for session in unfinished))


async def _reap_one(shared: Shared, journal: Journal, session: OpenSession) -> None:
    decided_at = time.time_ns()
    gone = await _stop(shared, session)
    end = SessionEnd(
        reason="crashed",
        decided_at=decided_at,
        gone_at=None if gone is None else gone.gone_at,
        outcome="unknown",
        statements=0,
        bytes_in=0,
        bytes_out=0,
    )
    try:
        Recorder(journal, shared.key, session.chain).end(end)
    except JournalError as error:
        log.critical("a crashed session's end could not be recorded", error=str(error), session=session.chain.session)
    else:
        shared.metrics.ended["crashed"] += 1
        log.info("ended a session of an earlier run", session=session.chain.session, verified=gone is not None)


async def _stop(shared: Shared, session: OpenSession) -> Gone | None:
    """Stop the backend, trying until the target can be reached; None where it is no longer configured.

    Where the record does not say on which of several servers it is, all of them are asked: pid and start are its own.
    """
    start = session.record
    while (link := shared.targets.get(start.target)) is not None:
        try:
            stops = (one.stop(start.backend_pid, start.backend_start) for one in link.keepers_of(start.server))
            return max(await asyncio.gather(*stops), key=lambda gone: gone.gone_at)
        except KeeperError as error:
            log.warning("a crashed session's backend is not ended yet", target=start.target, error=str(error))
            await asyncio.sleep(RETRY_S)
    return None
