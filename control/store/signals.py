"""Waiting for what a transaction changes, inside this process and without polling.

A waiter listens first and reads afterwards, so that nothing slips through between the two. What another process
commits (the `curfew-control` command) wakes nobody here: every wait has a deadline, after which the waiter reads again.
"""

import asyncio
from collections.abc import Iterable, Iterator
from contextlib import contextmanager


class Signals:
    """Events by topic. Belongs to one event loop."""

    def __init__(self) -> None:
        self._waiting: dict[str, set[asyncio.Event]] = {}

    @contextmanager
    def listen(self, *topics: str) -> Iterator[asyncio.Event]:
        """An event that is set by each change of one of `topics`; the listener clears it."""
        event = asyncio.Event()
        for topic in topics:
            self._waiting.setdefault(topic, set()).add(event)
        try:
            yield event
        finally:
            for topic in topics:
                waiting = self._waiting[topic]
                waiting.discard(event)
                if not waiting:
                    del self._waiting[topic]

    def notify(self, topics: Iterable[str]) -> None:
        """Wake whoever listens to one of `topics`."""
        for topic in topics:
            for event in self._waiting.get(topic, ()):
                event.set()

    def wake_everybody(self) -> None:
        """Wake every listener: the service stops."""
        self.notify(tuple(self._waiting))


async def wait(event: asyncio.Event, seconds: float) -> bool:
    """Wait for `event`, at most `seconds`; whether it came. It is clear afterwards."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return False
    event.clear()
    return True
