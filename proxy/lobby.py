"""The lobby: connections that have not shown a token yet, and how many of them there may be.

Whoever is silent must not keep others out. So a full lobby does not turn newcomers away: it drops its oldest guest, of
the same source address first. An attacker has to fill the lobby faster than one login takes.
"""

import asyncio
from collections import Counter
from typing import Any

from proxy.metrics import Metrics


class Lobby:
    """The tasks of unauthenticated connections, the oldest first."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._guests: dict[asyncio.Task[Any], str | None] = {}
        self._per_address: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._guests)

    def enter(self, task: asyncio.Task[Any], address: str | None, *, limit: int, limit_per_address: int) -> None:
        """Let a connection in, and drop older ones above the limits. It leaves when its task ends, or by `leave`.

        `address` is None where a load balancer has yet to say it (`identify`).
        """
        if not self._make_room_for(address, limit_per_address) and len(self._guests) >= limit:
            self._drop(next(iter(self._guests)), "unauthenticated")
        self._seat(task, address)
        task.add_done_callback(self.leave)

    def identify(self, task: asyncio.Task[Any], address: str, *, limit_per_address: int) -> None:
        """Note the address of a guest that came without; it keeps its place in the order."""
        if task in self._guests:
            self._make_room_for(address, limit_per_address)
            self._seat(task, address)

    def _make_room_for(self, address: str | None, limit: int) -> bool:
        """Drop the oldest guest of this address where there are as many as there may be."""
        if address is None or self._per_address[address] < limit:
            return False
        oldest = next(guest for guest, theirs in self._guests.items() if theirs == address)
        self._drop(oldest, "unauthenticated_per_address")
        return True

    def _seat(self, task: asyncio.Task[Any], address: str | None) -> None:
        self._guests[task] = address
        if address is not None:
            self._per_address[address] += 1

    def leave(self, task: asyncio.Task[Any]) -> None:
        """The connection has shown a token, or is gone."""
        address = self._guests.pop(task, None)
        if address is None:
            return  # Not here, or of no address yet.
        self._per_address[address] -= 1
        if not self._per_address[address]:
            del self._per_address[address]

    def drop_oldest(self) -> bool:
        """Make room where the process has no more file descriptors; False where nobody is here."""
        oldest = next(iter(self._guests), None)
        if oldest is not None:
            self._drop(oldest, "descriptors")
        return oldest is not None

    def _drop(self, guest: asyncio.Task[Any], limit: str) -> None:
        self._metrics.connections_refused[limit] += 1
        self.leave(guest)
        guest.cancel()
