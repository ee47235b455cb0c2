"""Connections that nobody needs: silent ones while the service runs, and all that are left when it ends.

uvicorn has no limit for how long a client may take to say what it wants, so that silent connections would add up until
nobody else gets one. Knows uvicorn's connections by the little that `Connection` names; never touches one whose
request is being answered.
"""

import asyncio
from collections.abc import Collection
from typing import Protocol

import structlog

SILENCE_S = 8.0
"""How long a connection may be without a whole request. uvicorn's own limit between two requests is 5 s."""
LOOK_S = 1.0
MOST = 1_000
"""Beyond so many connections, the longest silent ones go at once."""
GOODBYE_S = 1.0
"""asyncio would wait half a minute for the other side's goodbye (TLS's close_notify)."""

log = structlog.get_logger(__name__)


class Transport(Protocol):
    """The socket."""

    def abort(self) -> None:
        """Close it at once."""


class Cycle(Protocol):
    """A request and its response."""

    @property
    def response_complete(self) -> bool:
        """Whether it is answered."""


class Connection(Protocol):
    """What is needed of uvicorn's protocols: `cycle` is None until the first request's head is complete."""

    @property
    def transport(self) -> Transport | None:
        """None before there is one."""

    @property
    def cycle(self) -> Cycle | None:
        """The last request."""


class Reaper:
    """Remembers since when each connection is silent."""

    def __init__(self, connections: Collection[Connection]) -> None:
        self._connections = connections
        self._silent_since: dict[Connection, float] = {}

    def look(self, now: float) -> int:
        """Hang up on those that are silent for too long, or too many. How many."""
        silent = [one for one in self._connections if one.cycle is None or one.cycle.response_complete]
        self._silent_since = {one: self._silent_since.get(one, now) for one in silent}
        oldest_first = sorted(self._silent_since.items(), key=lambda item: item[1])
        too_many = max(0, len(self._connections) - MOST)
        gone = [
            one for number, (one, since) in enumerate(oldest_first) if number < too_many or now - since >= SILENCE_S
        ]
        for one in gone:
            _abort(one)
        return len(gone)

    async def run(self) -> None:
        """Look again and again, until cancelled."""
        clock = asyncio.get_running_loop().time
        while True:
            await asyncio.sleep(LOOK_S)
            if gone := self.look(clock()):
                log.info("hung up on silent connections", connections=gone)


async def hang_up(connections: Collection[Connection], tasks: Collection[asyncio.Task[None]]) -> None:
    """Once the requests' `tasks` are done, end what is left of the connections."""
    if tasks:
        await asyncio.wait(set(tasks))
    await asyncio.sleep(GOODBYE_S)
    for connection in list(connections):
        _abort(connection)


def _abort(connection: Connection) -> None:
    if connection.transport is not None:
        connection.transport.abort()
