"""A connection to the database that a session is run against: login, and rounds played over it, message by message.

asyncpg logs in (DSN, environment, password file, TLS, SCRAM: all as documented there); then its transport is taken
over, because no driver sends what others have sent: several statements in a query, text values with given types,
several statements between two Syncs, parts of a portal. The DSN is never shown: it may have a password.
"""

import asyncio
import struct
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import asyncpg

from control.client.errors import ClientError
from control.client.rerun_messages import COPY_DONE, SYNC, TERMINATE, Answers, Names, Outcome, chunks, message
from control.client.rerun_rounds import CANCELED, CopyPart, Round, Statement

CONNECT_S = 30.0
GOODBYE_S = 10.0
PIECE = 1 << 16
LONGEST = 1 << 30
"""PostgreSQL sends no longer message."""
_HEADER = struct.Struct("!ci")

ReadData = Callable[[CopyPart], Iterable[bytes]]
"""What gives a COPY's recorded data, piece by piece."""


class LostError(Exception):
    """The connection is gone, in PostgreSQL's words where it said any."""


async def log_in(dsn: str, settings: Mapping[str, str]) -> "asyncpg.Connection[asyncpg.Record]":
    """A login as libpq's users know it. Raises ClientError, which never has the DSN in it."""
    try:
        return await asyncpg.connect(dsn or "postgresql://", server_settings=dict(settings), timeout=CONNECT_S)
    except asyncpg.ClientConfigurationError as error:
        hint = "as postgresql://USER@HOST:PORT/DATABASE?sslmode=..., or postgresql:// with PGHOST and its kin"
        raise ClientError("the DSN of --against is none that can be used", hint=hint) from error
    except (asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise ClientError(f"the database refused the login: {error}") from error
    except TimeoutError as error:
        raise ClientError("the database did not answer in time") from error
    except (OSError, ValueError) as error:
        raise ClientError(f"the database cannot be reached: {type(error).__name__}") from error


class Connection:
    """One session's connection. `play` one round at a time."""

    def __init__(self, login: "asyncpg.Connection[asyncpg.Record]") -> None:
        self._login = login
        self.pid: int = login.get_server_pid()
        self._names = Names()
        loop = asyncio.get_running_loop()
        # There is no public way to the transport; the dependency is pinned to its minor (pyproject.toml).
        transport: Any = login._transport  # noqa: SLF001 as said
        self._reader = asyncio.StreamReader(limit=PIECE, loop=loop)
        protocol = asyncio.StreamReaderProtocol(self._reader, loop=loop)
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        self._writer = asyncio.StreamWriter(transport, protocol, self._reader, loop)

    async def close(self) -> None:
        """Say goodbye, and wait until PostgreSQL has hung up: what the session held is free then."""
        try:
            async with asyncio.timeout(GOODBYE_S):
                self._writer.write(TERMINATE)
                while await self._reader.read(PIECE):
                    pass
        except (OSError, TimeoutError):
            pass
        self.abort()

    def abort(self) -> None:
        """Hang up."""
        self._login.terminate()

    async def play(self, asked: Round, data: ReadData) -> list[Outcome]:
        """Send a round and take its answers: an outcome for each statement. Raises LostError."""
        answers = Answers(asked)
        try:
            async with asyncio.TaskGroup() as group:
                await _Exchange(self._reader, self._writer, group, asked, data).run(answers, self._names)
        except* (OSError, asyncio.IncompleteReadError) as errors:
            raise LostError("the connection broke") from errors
        self._names.settle(answers.parsed)
        if answers.lost is not None:
            raise LostError(answers.lost)
        return answers.outcomes


class _Exchange:
    """One round on its way."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        group: asyncio.TaskGroup,
        asked: Round,
        data: ReadData,
    ) -> None:
        self._reader, self._writer, self._group = reader, writer, group
        self._asked, self._data = asked, data
        self._parts = {one.number: [part for part in one.copies if part.direction == "in"] for one in asked.statements}
        self._feeding: asyncio.Task[None] | None = None

    async def run(self, answers: Answers, names: Names) -> None:
        waiting = list(chunks(self._asked, names))
        self._writer.write(waiting.pop(0))
        while not answers.over:
            kind, size, body = await self._message()
            current = answers.current
            answers.take(kind, size, body)
            if kind == b"G" and current is not None:
                self._feeding = self._group.create_task(self._feed(current))
            elif kind == b"E" and self._feeding is not None:
                self._feeding.cancel()
            if waiting and current is not answers.current:
                self._writer.write(b"".join(waiting) if answers.current is None else waiting.pop(0))
                waiting = waiting if answers.current is not None else []

    async def _feed(self, copying: Statement) -> None:
        """Give PostgreSQL a COPY's data; where none is on record, or the client gave up, that."""
        parts = self._parts[copying.number]
        part = parts.pop(0) if parts else None
        if part is not None:
            for piece in self._data(part):
                self._writer.write(message(b"d", piece))
                await self._writer.drain()
        if part is None:
            self._writer.write(message(b"f", b"no data is recorded\0"))
        elif part.failed and copying.end is not None and copying.end.sqlstate == CANCELED:
            self._writer.write(message(b"f", b"as recorded\0"))
        else:
            self._writer.write(COPY_DONE)
        if copying.kind == "execute" and not copying.copies_in:
            self._writer.write(SYNC)  # The one that went before was read, and ignored, as part of the COPY.

    async def _message(self) -> tuple[bytes, int, bytes]:
        kind, length = _HEADER.unpack(await self._reader.readexactly(_HEADER.size))
        size = length - 4
        if not 0 <= size <= LONGEST:
            raise ConnectionError("what answers is not PostgreSQL")
        if kind not in (b"D", b"d"):
            return kind, size, await self._reader.readexactly(size)
        left = size
        while left:
            left -= len(await self._reader.readexactly(min(left, PIECE)))
        return kind, size, b""
