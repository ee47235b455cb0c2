"""The process that keeps the index for searches: `python -m control.indexer BOOKS LOG_LEVEL LOG_FORMAT`.

The service alone starts it. It ends when its input does, and looks for more records whenever something comes from
there. It holds no keys, answers nobody, and writes to the index's file only.
"""

import asyncio
import os
import sys
from pathlib import Path
from typing import Final

import structlog

from control import logs
from control.evidence.parsing import Parser, ParserError
from control.operations.indexing import IDLE_S, Indexer, spare_the_collector
from control.store.index.file import FileError, path_beside

PRIORITY: Final = 10
"""Below the service's: what comes in is more urgent than that it can be found."""
AGAIN_S: Final = 5.0

log = structlog.get_logger(__name__)


async def main(books: Path) -> None:
    """Follow the log until the input ends."""
    woken, ended = asyncio.Event(), asyncio.Event()
    asyncio.get_running_loop().add_reader(0, _heard, woken, ended)
    parser = Parser()
    indexer = Indexer(books, path_beside(books), parser.parse_all)
    try:
        while not ended.is_set():
            woken.clear()
            patience = IDLE_S
            try:
                if await indexer.step():
                    continue
            except (FileError, ParserError):  # the next moment may be a better one
                log.exception("the index was not brought up to date")
                await _wait(ended, AGAIN_S)
            await _wait(woken, patience)
    finally:
        await parser.close()
        indexer.close()


def _heard(woken: asyncio.Event, ended: asyncio.Event) -> None:
    if not os.read(0, 4_096):
        asyncio.get_running_loop().remove_reader(0)
        ended.set()
    woken.set()


async def _wait(event: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return


if __name__ == "__main__":
    os.nice(PRIORITY)
    spare_the_collector()
    logs.configure(level=sys.argv[2], form=sys.argv[3])  # type: ignore[arg-type] # the service's own settings
    asyncio.run(main(Path(sys.argv[1])))
