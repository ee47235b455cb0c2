"""The reaper: ends what a proxy that died has left behind, from the sessions that its journal shows open.

It runs once at a start. Every session found gets the verified stop that it never had, and its last record.
"""

import asyncio
import time

import structlog

from proxy import orphans, segments
from proxy.contract.directive import Orphan
from proxy.contract.record import Chain, JournalTorn, RecordError, SessionEnd
from proxy.journal import Journal, JournalError
from proxy.orphans import NobodyToAskError
from proxy.recorder import Recorder
from proxy.segments import OpenSession
from proxy.session_id import new_session_id
from proxy.shared import Shared
from proxy.stop import Gone, KeeperError

RETRY_S = 1.0

log = structlog.get_logger(__name__)


async def reap(shared: Shared, journal: Journal) -> None:
    """End every session that an earlier run left open in `journal`; returns when all have their end.

    And record where that run's last line was torn.
    """
    _record_breaks(shared, journal)
    unfinished = list(journal.unfinished.values())
    if unfinished:
        log.warning("ending the sessions of an earlier run", sessions=len(unfinished))
        await asyncio.gather(*(_reap_one(shared, journal, session) for session in unfinished))


def _record_breaks(shared: Shared, journal: Journal) -> None:
    try:
        for torn in segments.load_torn(journal.directory):
            record = JournalTorn(segment=torn.segment, offset=torn.offset, bytes=torn.bytes)
            Recorder(journal, shared.key, Chain(new_session_id())).tear(record)
        segments.forget_torn(journal.directory)
    except (JournalError, OSError) as error:  # The note stays, for the next start.
        log.critical("a break in the journal could not be recorded", error=str(error))


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
        shared.metrics.unverified_stops += gone is None
        log.info("ended a session of an earlier run", session=session.chain.session, verified=gone is not None)


async def _stop(shared: Shared, session: OpenSession) -> Gone | None:
    """Stop the backend, trying until its server can be reached; None where there is no way to it any more."""
    try:
        orphan = orphans.of(session.chain.session, session.record)
    except RecordError as error:
        log.critical("a crashed session's start cannot be read", session=session.chain.session, error=str(error))
        return None
    while True:
        try:
            return await orphans.stop(orphan, shared)
        except NobodyToAskError as error:
            _say_left_alone(orphan, error)
            return None
        except KeeperError as error:
            log.warning("a crashed session's backend is not ended yet", target=orphan.target, error=str(error))
            await asyncio.sleep(RETRY_S)


def _say_left_alone(orphan: Orphan, error: NobodyToAskError) -> None:
    """Loudly: what an operator has taken out of the configuration, only an operator can end."""
    log.critical(
        "A CRASHED SESSION'S BACKEND IS LEFT ALONE: end it by hand, if it is still there",
        error=str(error),
        session=orphan.session,
        server=orphan.server,
        pid=orphan.pid,
        backend_start=orphan.started,
    )
