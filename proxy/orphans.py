"""Orphans: backends whose session nobody serves any more, ended all the same, each by the keeper of its server.

Of three kinds. What a dead worker has left is found in its journal and ended by a worker that lives, for speed alone:
the living worker's keepers are connected, while a new process needs its time to start. Nothing is written; the worker
that takes the dead one's place looks after each session once more, and records its end (`proxy.reaper`). What a proxy
that is gone has left, control knows, and says so (`Reap`): that is ended here, and each end is a record of its own.
"""

import asyncio
import time
from pathlib import Path

import structlog

from proxy import segments
from proxy.contract.directive import Orphan, Reap
from proxy.contract.record import Chain, RecordError, SessionReaped, SessionStart
from proxy.journal import JournalError
from proxy.pooled import mark_of
from proxy.recorder import Recorder
from proxy.session_id import new_session_id
from proxy.shared import Shared
from proxy.stop import Gone, HandedOnError, KeeperError

AT_ONCE = 200
"""In one letter to a worker."""
RETRY_S = 1.0
REAP_S = 600.0
"""How long to go on with what another proxy left, while its server cannot be reached."""

log = structlog.get_logger(__name__)


class NobodyToAskError(Exception):
    """Nobody can say whether the backend is gone, now or later. For the log."""


def of(session: str, start: SessionStart) -> Orphan:
    """The backend of a session, by how it began."""
    return Orphan(
        session=session,
        target=start.target,
        server=start.server,
        pid=start.backend_pid,
        started=start.backend_start,
    )


def find(journal: Path) -> list[Orphan]:
    """What the journal of a dead process shows open; it is not to be started again before. Raises OSError."""
    found: list[Orphan] = []
    if not journal.is_dir():
        return found
    for session in segments.survey(journal, segments.load_checkpoint(journal)).open.values():
        try:
            found.append(of(session.chain.session, session.record))
        except RecordError:
            continue  # the reaper says so
    return found


async def end(orphans: list[Orphan], shared: Shared) -> None:
    """End all of them, each by the keeper of its server."""
    ended = sum(await asyncio.gather(*(_end_one(one, shared) for one in orphans)))
    log.info("ended what a dead worker has left", backends=ended, of=len(orphans))


async def _end_one(orphan: Orphan, shared: Shared) -> bool:
    try:
        await stop(orphan, shared)
    except (KeeperError, NobodyToAskError) as error:
        log.warning("a dead worker's backend is not ended yet", target=orphan.target, error=str(error))
        return False
    return True


async def stop(orphan: Orphan, shared: Shared) -> Gone:
    """The verified stop of its backend. Raises KeeperError, to be tried again, and NobodyToAskError.

    Where the record names no server, there was one alone; by now there may be several, and all are asked. Where it
    names one that is configured no more, the others are asked too, for it may have another name by now; but that they
    do not have the backend proves nothing then.
    """
    link = shared.targets.get(orphan.target)
    if link is None:
        raise NobodyToAskError(f"the target {orphan.target!r} is not configured")
    keepers, named = link.keepers_of(orphan.server), link.has_server(orphan.server)
    mark = mark_of(orphan.session) if link.pooled else None
    stops = (keeper.stop(orphan.pid, orphan.started, mark=mark) for keeper in keepers)
    try:
        said = await asyncio.gather(*stops)
    except HandedOnError as error:
        raise NobodyToAskError(str(error)) from error
    gone = max(said, key=lambda one: (one.seen, one.gone_at))
    if not named and not gone.seen:
        raise NobodyToAskError(f"the target {orphan.target!r} has the host {orphan.server} no more")
    return gone


# What another proxy has left.


async def reap(directive: Reap, shared: Shared) -> None:
    """End what the directive names on targets that are configured here, and write a record of each.

    For one process of this proxy, which is not the one that is gone. Returns when all is done.
    """
    if directive.proxy == shared.settings.name:
        log.warning("control takes this proxy to be gone: not obeyed", orphans=len(directive.orphans))
        return
    ours = [one for one in directive.orphans if one.target in shared.targets]
    log.warning("ending what another proxy has left", proxy=directive.proxy, backends=len(ours), by=directive.by)
    decided_at = directive.at
    await asyncio.gather(*(_reap_one(one, directive, decided_at, shared) for one in ours))


async def _reap_one(orphan: Orphan, directive: Reap, decided_at: int, shared: Shared) -> None:
    gone = await _stop_in_time(orphan, shared)
    record = SessionReaped(
        reaped=orphan.session,
        left_by=directive.proxy,
        target=orphan.target,
        server=orphan.server,
        backend_pid=orphan.pid,
        backend_start=orphan.started,
        by=directive.by,
        decided_at=decided_at,
        gone_at=None if gone is None else gone.gone_at,
        found=int(gone is not None and gone.seen),
        transaction=None if gone is None else gone.transaction,
    )
    try:
        Recorder(shared.journal, shared.key, Chain(new_session_id())).reap(record)
    except JournalError as error:
        log.critical("the end of a backend that another proxy left could not be recorded", error=str(error))
    about = {"target": orphan.target, "pid": orphan.pid, "found": record.found, "verified": gone is not None}
    log.info("saw to a backend that another proxy left", session=orphan.session, proxy=directive.proxy, **about)


async def _stop_in_time(orphan: Orphan, shared: Shared) -> Gone | None:
    """Stop the backend, trying for REAP_S until its server can be reached; None where that was in vain."""
    until = time.monotonic() + REAP_S
    while True:
        try:
            return await stop(orphan, shared)
        except NobodyToAskError as error:
            log.error("a backend that another proxy left cannot be ended", error=str(error), pid=orphan.pid)  # noqa: TRY400 expected
            return None
        except KeeperError as error:
            log.warning("a backend that another proxy left is not ended yet", error=str(error), pid=orphan.pid)
        if time.monotonic() > until:
            return None
        await asyncio.sleep(RETRY_S)
