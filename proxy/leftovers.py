"""Journals that are nobody's any more, because the proxy had another number of workers once.

Each is opened, its open sessions get their end (`proxy.reaper`), and what control does not have yet is shipped. Nothing
is deleted: the files are evidence, and the operator's.
"""

import asyncio
import contextlib
from collections.abc import Callable, Iterable
from pathlib import Path

import structlog

from proxy.backoff import Backoff
from proxy.config import ProxySettings
from proxy.journal import Journal, JournalError
from proxy.places import JOURNAL
from proxy.reaper import reap
from proxy.shared import Shared
from proxy.shipping import Shipper

FIRST_WAIT_S = 1.0
LAST_WAIT_S = 30.0
UNLIMITED = 2**62
"""Only the ends of crashed sessions are written, and those must find room in a journal that is full."""

log = structlog.get_logger(__name__)


async def see_to(folders: Iterable[Path], shared: Shared, ships: Callable[[Journal], Shipper | None]) -> None:
    """See to the journals in `folders`, all at the same time; returns when nothing is left to do."""
    await asyncio.gather(*(_see_to_one(folder / JOURNAL, shared, ships) for folder in folders))


async def _see_to_one(directory: Path, shared: Shared, ships: Callable[[Journal], Shipper | None]) -> None:
    journal = await _open(directory, shared.settings)
    try:
        await reap(shared, journal)
        if (shipper := ships(journal)) is not None:
            await shipper.finish()
        log.info("a journal of another number of workers is done with", journal=str(directory))
    finally:
        with contextlib.suppress(JournalError):
            journal.close()


async def _open(directory: Path, settings: ProxySettings) -> Journal:
    """Open it. A worker of an earlier supervisor may still be ending its sessions, and hold it."""
    backoff = Backoff(FIRST_WAIT_S, LAST_WAIT_S)
    while True:
        try:
            return await asyncio.to_thread(
                Journal.open,
                directory,
                segment_bytes=settings.journal.segment_bytes,
                limit_bytes=UNLIMITED,
            )
        except JournalError as error:
            wait_s = backoff.next_s()
            log.warning("a journal of another number of workers waits", error=str(error), again_in_s=round(wait_s, 1))
            await asyncio.sleep(wait_s)
