"""Orphans: the backends that a dead worker has left, found in its journal and ended by a worker that lives.

That is for speed alone: the living worker's keepers are connected, while a new process needs its time to start. Nothing
is written here. The worker that takes the dead one's place looks after each session once more, and records its end
(`proxy.reaper`).
"""

import asyncio
from pathlib import Path

import structlog

from proxy import segments
from proxy.contract.directive import Orphan
from proxy.contract.record import RecordError
from proxy.shared import Shared
from proxy.stop import KeeperError

AT_ONCE = 200
"""In one letter to a worker."""

log = structlog.get_logger(__name__)


def find(journal: Path) -> list[Orphan]:
    """What the journal of a dead process shows open; it is not to be started again before. Raises OSError."""
    found: list[Orphan] = []
    if not journal.is_dir():
        return found
    for session in segments.survey(journal, segments.load_checkpoint(journal)).open.values():
        try:
            start = session.record
        except RecordError:
            continue  # the reaper says so
        found.append(
            Orphan(
                session=session.chain.session,
                target=start.target,
                server=start.server,
                pid=start.backend_pid,
                started=start.backend_start,
            )
        )
    return found


async def end(orphans: list[Orphan], shared: Shared) -> None:
    """End all of them, each by the keeper of its server."""
    ended = sum(await asyncio.gather(*(_end_one(one, shared) for one in orphans)))
    log.info("ended what a dead worker has left", backends=ended, of=len(orphans))


async def _end_one(orphan: Orphan, shared: Shared) -> bool:
    if (link := shared.targets.get(orphan.target)) is None:
        return False
    try:
        keepers = link.keepers_of(orphan.server)
        await asyncio.gather(*(keeper.stop(orphan.pid, orphan.started) for keeper in keepers))
    except KeeperError as error:
        log.warning("a dead worker's backend is not ended yet", target=orphan.target, error=str(error))
        return False
    return True
