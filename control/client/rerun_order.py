"""Running sessions again in the order in which they ran: a connection each, as many statements at once as there were.

The order is that of the records over all sessions: a round begins no earlier than those that had ended before it
began. One that begins is waited for until it is done, or waits for a lock, or has run as long as it did before the
next thing happened: so locks are asked for in the order of the beginnings, as they were. Where that leads nowhere (a
round waits for a lock of a session that has its turn only later, because two had come at nearly the same time), the
holder goes on first, and it is said.
"""

import asyncio
import heapq
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal, Protocol, TypeAlias

import asyncpg
import msgspec

from control.client.errors import ClientError
from control.client.rerun_connection import Connection, LostError, log_in
from control.client.rerun_messages import Outcome
from control.client.rerun_rounds import Round
from control.client.rerun_source import Log

LEAST_S = 0.05
"""For so long at least one is waited for that has begun, so that what is quick is done before the next one begins."""
FIRST_LOOK_S, LAST_LOOK_S = 0.002, 0.05
"""How often it is asked who waits for whom: ever less often."""
PATIENCE = 10
"""A statement may take this many times as long as it did, and MORE_S."""
MORE_S = 60.0
NANOSECONDS = 1_000_000_000
_WHO_WAITS = "SELECT pid, pg_blocking_pids(pid) AS blockers FROM unnest($1::int[]) AS pid"

What: TypeAlias = Literal["open", "end", "begin", "close"]
_TURN: dict[What, int] = {"open": 0, "end": 1, "begin": 2, "close": 3}


class Listener(Protocol):
    """Who is told what becomes of it all."""

    def took(self, log: Log, asked: Round, outcomes: list[Outcome]) -> None:
        """A round was run."""

    def lost(self, log: Log, asked: Round, why: str) -> None:
        """The connection broke in this round; nothing more of the session is run."""

    def reordered(self, log: Log, asked: Round) -> None:
        """Another session's round had to go first, which it had not."""


@dataclass(slots=True, eq=False)
class _Player:
    log: Log
    rounds: Iterator[Round]
    connection: Connection | None = None
    asked: Round | None = None
    task: asyncio.Task[list[Outcome]] | None = None

    @property
    def began_at(self) -> int:
        return self.log.start.at

    @property
    def ended_at(self) -> int:
        return self.log.end.at


@dataclass(slots=True)
class Conductor:
    """Runs all sessions. `rounds` are each session's, without those that are not to be run."""

    dsn: str
    monitor: "asyncpg.Connection[asyncpg.Record]"
    listener: Listener
    _agenda: list[tuple[int, int, int, What, _Player]] = field(default_factory=list)
    _players: list[_Player] = field(default_factory=list)
    _late: set[_Player] = field(default_factory=set)
    _numbers: Iterator[int] = field(default_factory=itertools.count)
    _asking: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def run(self, sessions: list[tuple[Log, Iterator[Round]]]) -> None:
        """All of them, from their logins to their ends. Raises ClientError where one cannot log in."""
        self._players = [_Player(log, rounds) for log, rounds in sessions]
        for player in self._players:
            self._plan(player.began_at, "open", player)
        try:
            while self._agenda or self._late:
                await self._catch_up()
                if self._agenda:
                    await self._next()
        finally:
            for player in self._players:
                if player.task is not None:
                    player.task.cancel()
                if player.connection is not None:
                    player.connection.abort()

    def _plan(self, at: int, what: What, player: _Player) -> None:
        heapq.heappush(self._agenda, (at, _TURN[what], next(self._numbers), what, player))

    async def _next(self) -> None:
        at, _, _, what, player = heapq.heappop(self._agenda)
        if what == "open":
            player.connection = Connection(await log_in(self.dsn, player.log.settings))
            self._ask(player)
        elif what == "begin":
            await self._begin(player, at)
        elif what == "end":
            await self._end(player)
        elif player.connection is not None:
            connection, player.connection = player.connection, None
            await connection.close()

    def _ask(self, player: _Player) -> None:
        """Plan the player's next round, or that there is none."""
        player.asked = next(player.rounds, None)
        if player.asked is None:
            self._plan(player.ended_at, "close", player)
        else:
            self._plan(player.asked.began_at, "begin", player)

    async def _begin(self, player: _Player, at: int) -> None:
        asked = player.asked
        assert asked is not None, "it is planned"
        player.task = asyncio.get_running_loop().create_task(self._play(player, asked), name=player.log.session)
        self._plan(asked.ended_at, "end", player)
        gap_s = (self._agenda[0][0] - at) / NANOSECONDS if len(self._players) > 1 else 0.0
        until = asyncio.get_running_loop().time() + max(LEAST_S, gap_s)
        for look_s in _looks():
            left_s = until - asyncio.get_running_loop().time()
            if await self._done(player, min(look_s, left_s)) or left_s <= 0 or await self._blockers(player):
                return

    async def _end(self, player: _Player) -> None:
        """Wait for what had ended by now; or find that it cannot, before another one goes on."""
        for look_s in _looks():
            if await self._done(player, look_s):
                self._take(player)
                return
            if await self._is_stuck(player):
                self._late.add(player)
                if player.asked is not None:
                    self.listener.reordered(player.log, player.asked)
                return

    async def _catch_up(self) -> None:
        """Wait for those that were late and can go on by now; where there is nothing else to do, for any."""
        tasks = [player.task for player in self._late if player.task is not None]
        if tasks and not self._agenda:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for player in list(self._late):
            while not await self._done(player, FIRST_LOOK_S):
                if await self._blockers(player):
                    break
            else:
                self._late.remove(player)
                self._take(player)

    def _take(self, player: _Player) -> None:
        task, asked = player.task, player.asked
        assert task is not None, "it was begun"
        assert asked is not None, "as the task"
        player.task = None
        try:
            self.listener.took(player.log, asked, task.result())
        except LostError as error:
            self.listener.lost(player.log, asked, str(error))
            self._plan(asked.ended_at, "close", player)
            return
        self._ask(player)

    async def _play(self, player: _Player, asked: Round) -> list[Outcome]:
        """The round, canceled when it was canceled, or when it takes far too long."""
        connection = player.connection
        assert connection is not None, "it is open"
        limit_s = PATIENCE * (asked.ended_at - asked.began_at) / NANOSECONDS + MORE_S
        playing = asyncio.get_running_loop().create_task(connection.play(asked, player.log.data))
        try:
            for patience_s in (limit_s if asked.cancel_after_s is None else asked.cancel_after_s, MORE_S):
                await asyncio.wait({playing}, timeout=patience_s)
                if playing.done():
                    return playing.result()
                async with self._asking:
                    await self.monitor.execute("SELECT pg_cancel_backend($1)", connection.pid)
            connection.abort()
            raise LostError("it took too long, and no cancel ended it")
        finally:
            playing.cancel()

    # Who waits for whom.

    async def _done(self, player: _Player, within_s: float) -> bool:
        assert player.task is not None, "it was begun"
        done, _ = await asyncio.wait({player.task}, timeout=max(within_s, 0))
        return bool(done)

    async def _blockers(self, player: _Player) -> set[int]:
        """The backends that hold what it waits for, and what these wait for; 0 is a prepared transaction."""
        assert player.connection is not None, "it is open"
        pids = [other.connection.pid for other in self._players if other.connection is not None]
        async with self._asking:
            try:
                rows = await self.monitor.fetch(_WHO_WAITS, pids)
            except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
                raise ClientError("the connection that watches over the locks broke") from error
        waits = {row["pid"]: row["blockers"] for row in rows}
        found: set[int] = set()
        new = set(waits.get(player.connection.pid, ()))
        while new:
            found |= new
            new = {blocker for pid in new for blocker in waits.get(pid, ())} - found
        return found

    async def _is_stuck(self, player: _Player) -> bool:
        """Whether it waits, in the end, for a session of ours that has its turn only later."""
        blockers = await self._blockers(player)
        idle = {0}
        for other in self._players:
            if other.connection is not None and (other.task is None or other.task.done()):
                idle.add(other.connection.pid)
        return bool(blockers & idle)


def _looks() -> Iterator[float]:
    look_s = FIRST_LOOK_S
    while True:
        yield look_s
        look_s = min(look_s * 2, LAST_LOOK_S)


def without_lacking(asked: Round) -> Round:
    """The round without the statements that cannot be run as they were."""
    steps = tuple(one for one in asked.steps if getattr(one, "lacks", None) is None)
    return msgspec.structs.replace(asked, steps=steps)
