"""An asynchronous part of a test (a relay, a fake server) for code that is not: its own event loop, in a thread."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from typing import TypeVar

from tests.harness.loop import GoodbyeLoop

Entered = TypeVar("Entered")
WITHIN_S = 10.0


@contextmanager
def in_background(manager: AbstractAsyncContextManager[Entered]) -> Iterator[Entered]:
    """Enter `manager` on a loop in a thread, and leave it there. What it gives is to be looked at, not awaited."""
    loop = GoodbyeLoop()
    thread = threading.Thread(target=loop.run_forever, name="event loop in the background", daemon=True)
    thread.start()
    try:
        entered = asyncio.run_coroutine_threadsafe(_enter(manager), loop).result(WITHIN_S)
        try:
            yield entered
        finally:
            asyncio.run_coroutine_threadsafe(_leave(manager), loop).result(WITHIN_S)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(WITHIN_S)
        loop.close()


async def _enter(manager: AbstractAsyncContextManager[Entered]) -> Entered:
    return await manager.__aenter__()


async def _leave(manager: AbstractAsyncContextManager[Entered]) -> None:
    await manager.__aexit__(None, None, None)
