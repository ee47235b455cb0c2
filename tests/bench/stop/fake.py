"""A fake upstream that is fast: thousands of backends that only wait, and the keeper's questions answered.

As a command (`python -m tests.bench.stop.fake`) it is a process of its own: it prints its port, and serves until it is
ended. It lets everybody in, tells who is there as pg_stat_activity would, and hangs up on whom the keeper terminates.
"""

import asyncio
import itertools
import struct
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import cast

import uvloop

from tests.harness.wire import message

KEEPER = "curfew_keeper"
FATAL = message("E", b"SFATAL\0VFATAL\0C57P01\0Mterminating connection due to administrator command\0\0")
_READY = message("Z", b"I")
_GREETING = message("R", bytes(4)) + b"".join(
    message("S", name + b"\0" + value + b"\0")
    for name, value in ((b"server_version", b"15.0"), (b"client_encoding", b"UTF8"), (b"TimeZone", b"UTC"))
)
_FIRST = datetime(2026, 1, 1, tzinfo=UTC)

Row = Sequence[str | None]


def elements(array: str) -> list[str]:
    """What an array's text holds, none of it with commas inside."""
    return [one.strip('"') for one in array.strip("{}").split(",") if one]


def data_row(row: Row) -> bytes:
    """A DataRow of texts."""
    columns = [b"\xff\xff\xff\xff" if one is None else struct.pack("!i", len(one)) + one.encode() for one in row]
    return message("D", struct.pack("!h", len(columns)) + b"".join(columns))


class Server:
    """Who is there."""

    def __init__(self) -> None:
        self.backends: dict[int, Backend] = {}
        self.pids = itertools.count(1_000)

    def started(self, pid: int) -> str | None:
        """When a backend started: each at a time of its own."""
        return None if pid not in self.backends else (_FIRST + timedelta(seconds=pid)).isoformat(" ")

    # The keeper's questions, by a word that each of them has alone.

    def answer(self, sql: str, values: Sequence[str], asking: int) -> list[Row]:
        """The rows."""
        known: dict[str, Callable[[Sequence[str], int], list[Row]]] = {
            "pg_terminate_backend": self._sight,
            "pg_xact_status": lambda values, _: [(None,) for _ in elements(values[0])],
            "pg_backend_pid": lambda _, asking: [(str(asking), self.started(asking))],
            "pg_stat_activity": self._starts,
            "rolname = CURRENT_USER": lambda *_: [("t", "t", "t")],
            "rolname = ANY": lambda values, _: [(name, "f", "t") for name in elements(values[0])],
        }
        return next((rows(values, asking) for word, rows in known.items() if word in sql), [("1",)])

    def _starts(self, values: Sequence[str], _: int) -> list[Row]:
        """Pid, start, login, database (None: not to be seen), age in seconds, and whether the keeper may end it."""
        there = (pid for pid in elements(values[0]) if int(pid) in self.backends)
        return [(pid, self.started(int(pid)), None, None, "0", "t") for pid in there]

    def _sight(self, values: Sequence[str], _: int) -> list[Row]:
        rows: list[Row] = []
        for pid, _started, signal in zip(*map(elements, values), strict=True):
            there = self.started(int(pid))
            rows.append((pid if there else None, there, None, None, "t" if there and signal == "True" else None, "f"))
            if there and signal == "True":
                self.backends.pop(int(pid)).terminate()
        return rows


class Backend(asyncio.Protocol):
    """One connection."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._transport: asyncio.Transport
        self._inbox = b""
        self._started = False
        self._statements: dict[bytes, str] = {}
        self._bound: tuple[str, list[str]] = ("", [])
        self.pid = next(server.pids)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """For asyncio."""
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, _: Exception | None) -> None:
        """For asyncio."""
        self._server.backends.pop(self.pid, None)

    def data_received(self, data: bytes) -> None:
        """For asyncio."""
        self._inbox += data
        while True:
            at = int(self._started)
            size = at + int.from_bytes(self._inbox[at : at + 4])
            if len(self._inbox) < at + 4 or len(self._inbox) < size:
                return
            packet, self._inbox = self._inbox[:size], self._inbox[size:]
            if self._started:
                self._hear(packet[:1], packet[5:])
            else:
                self._start()

    def terminate(self) -> None:
        """As PostgreSQL does on SIGTERM."""
        self._transport.write(FATAL)
        self._transport.close()

    def _start(self) -> None:
        self._started = True
        self._server.backends[self.pid] = self
        key = message("K", struct.pack("!ii", self.pid, 4711))
        self._transport.write(_GREETING + key + _READY)

    def _hear(self, kind: bytes, body: bytes) -> None:
        say = self._transport.write
        match kind:
            case b"P":
                name, sql, _ = body.split(b"\0", 2)
                self._statements[name] = sql.decode()
                say(message("1"))
            case b"B":
                self._bind(body)
                say(message("2"))
            case b"E":
                rows = self._server.answer(*self._bound, self.pid)
                say(b"".join(map(data_row, rows)) + message("C", b"SELECT %d\0" % len(rows)))
            case b"S":
                say(_READY)
            case b"Q":
                say(message("C", b"SELECT 0\0") + _READY)
            case b"X":
                self._transport.close()

    def _bind(self, body: bytes) -> None:
        _portal, name, rest = body.split(b"\0", 2)
        (count,), at = struct.unpack_from("!h", rest, 2), 4
        values: list[str] = []
        for _ in range(count):
            (length,) = struct.unpack_from("!i", rest, at)
            values.append(rest[at + 4 : at + 4 + length].decode())
            at += 4 + length
        self._bound = self._statements[name], values


async def serve() -> None:
    """Listen on loopback, and say where."""
    server = Server()
    listening = await asyncio.get_running_loop().create_server(lambda: Backend(server), "127.0.0.1", 0, backlog=4_096)
    sys.stdout.write(f"port {listening.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await listening.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve())
