"""The event loop that tests run on: asyncio's own, which lets its connections say goodbye before it closes.

`close()` of a TLS connection waits for the peer's close_notify or EOF. asyncpg starts it and returns (a refused login,
say); a loop that closes in that moment leaves the socket to the garbage collector, which then fails whatever test is
running by that time. It never closes a connection itself: one that a test forgot stays open, and is warned of.
"""

import asyncio
import time
from typing import Final

GOODBYE: Final = 1.0
"""Seconds that a loop waits for its connections to close."""


class GoodbyeLoop(asyncio.SelectorEventLoop):
    """asyncio's loop, and up to `GOODBYE` seconds of patience in `close()`."""

    def close(self) -> None:
        """Close, once every transport has closed or the time is over."""
        give_up = time.monotonic() + GOODBYE
        while not self.is_closed() and self._has_connections() and time.monotonic() < give_up:
            self.run_until_complete(asyncio.sleep(0.005))  # gives them time
        super().close()

    def _has_connections(self) -> bool:
        transports = self._transports  # type: ignore[attr-defined]  # asyncio's own, by descriptor
        return any(transport._sock is not None for transport in transports.values())
