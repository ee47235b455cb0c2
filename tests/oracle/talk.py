"""One side of a case: says the script's bytes on one way (direct, or through Curfew) and notes every answer.

It never judges. Where the other side has closed, or says nothing for too long, that is noted and the script is over.
"""

import asyncio
import contextlib
import socket
import ssl
from dataclasses import dataclass
from types import TracebackType
from typing import NoReturn, Self

from tests.harness.waiting import TooLateError, eventually
from tests.harness.wire import (
    PROTOCOL_3_0,
    SSL_REQUEST,
    SYNC,
    Message,
    Wire,
    answered,
    cancel_request,
    connected,
    message,
    query,
    startup,
)
from tests.oracle.lines import Line, line_of, remark

ALPN = "postgresql"
WITHIN_S = 5.0
"""For each answer. Silence is noted as such."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """Where to, and as whom. The startup packet is the same on every way; only what is given as a password differs."""

    name: str
    port: int
    user: str
    database: str
    password: str
    tls: ssl.SSLContext
    direct_tls: ssl.SSLContext
    """The same, asking for ALPN."""


class Over(Exception):  # noqa: N818 says what happened
    """The other side will say nothing more."""


class Talk:
    """One connection of a case, with those that it opened beside it."""

    def __init__(self, way: Way, lines: list[Line] | None = None, prefix: str = "") -> None:
        self.way = way
        self.lines: list[Line] = [] if lines is None else lines
        self.pids: list[int] = []
        self.secret = b""
        self._prefix = prefix
        self._raw: socket.socket | None = None
        self._wire: Wire | None = None
        self._others: list[Talk] = []

    # Opening.

    async def connect(self) -> None:
        """A TCP connection on which nothing was said."""
        self._raw = await connected(self.way.port)

    async def ask(self, data: bytes) -> bytes:
        """Send `data` in clear, and note the one byte that answers it."""
        loop, raw = asyncio.get_running_loop(), self._socket()
        await loop.sock_sendall(raw, data)
        try:
            async with answered(WITHIN_S):
                answer = await loop.sock_recv(raw, 1)
        except ConnectionError:
            answer = b""
        except TooLateError:
            self._over("silence")
        if not answer:
            self._over("closed")
        self.note(remark(f"byte {answer!r}"))
        return answer

    async def secure(self, *, context: ssl.SSLContext | None = None) -> None:
        """The TLS handshake, here and now."""
        raw = self._socket()
        self._raw = None
        try:
            self._wire = await Wire.secure(raw, context or self.way.tls)
        except (OSError, EOFError):  # ssl.SSLError is an OSError
            self._over("no TLS")

    async def clear(self) -> None:
        """Go on in clear."""
        raw, self._raw = self._socket(), None
        self._wire = Wire(*await asyncio.open_connection(sock=raw))

    async def encrypted(self) -> None:
        """Connect and be encrypted, as nearly every case begins."""
        self._wire = await Wire.tls(self.way.port, self.way.tls, SSL_REQUEST)

    async def plain(self) -> None:
        """Connect and stay in clear."""
        await self.connect()
        await self.clear()

    # Logging in.

    def who(self) -> tuple[tuple[str, str], ...]:
        """The usual startup parameters."""
        return (("user", self.way.user), ("database", self.way.database))

    def start(self, *more: tuple[str, str], version: int = PROTOCOL_3_0) -> None:
        """Send a StartupMessage: the usual parameters and `more`."""
        self.send(startup(*self.who(), *more, version=version))

    def password(self) -> bytes:
        """The message that gives the password, or the token."""
        return message("p", self.way.password.encode() + b"\0")

    async def authenticate(self) -> None:
        """Give it when asked for it, and hear all up to ReadyForQuery."""
        await self.until("R")
        self.send(self.password())
        await self.ready()

    async def log_in(self, *more: tuple[str, str], version: int = PROTOCOL_3_0) -> None:
        """All of it, encrypted, without noting what goes well: for cases about what comes then."""
        before = len(self.lines)
        if self._wire is None:
            await self.encrypted()
        self.start(*more, version=version)
        await self.authenticate()
        del self.lines[before:]

    # Talking.

    def send(self, *data: bytes) -> None:
        """Send bytes, all at once."""
        self.wire.send(b"".join(data))

    async def drop_by_drop(self, data: bytes) -> None:
        """Send each byte by itself."""
        for byte in data:
            self.send(bytes([byte]))
            await self.wire.drain()

    async def until(self, kinds: str, times: int = 1) -> Message:
        """Note everything up to the `times`th message of one of these kinds."""
        while True:
            heard = await self._read()
            times -= heard.kind in kinds
            if times <= 0:
                return heard

    async def ready(self, times: int = 1) -> None:
        """Note everything up to the `times`th ReadyForQuery."""
        await self.until("Z", times)

    async def sql(self, *texts: str) -> None:
        """Simple queries, one after the other."""
        for text in texts:
            self.send(query(text))
            await self.ready()

    async def alive(self) -> None:
        """Whether the connection still works, and whether it is in step: a query, and its answer."""
        self.send(SYNC, query("SELECT 'alive'"))
        await self.ready(2)

    async def rest(self) -> None:
        """Note everything until the other side closes."""
        while True:
            await self._read()

    async def end(self) -> None:
        """Send nothing more, but go on listening."""
        await self.wire.drain()
        self.wire.socket.shutdown(socket.SHUT_WR)

    def note(self, line: Line) -> None:
        """Note an answer."""
        if self._prefix:
            line = Line(text=self._prefix + line.text, gist=self._prefix + line.gist, own=line.own)
        self.lines.append(line)

    async def sleeping(self) -> None:
        """Wait until this connection's backend is in `pg_sleep`."""
        asked = f"SELECT wait_event = 'PgSleep' FROM pg_stat_activity WHERE pid = {self.pids[0]}"
        async with Talk(self.way) as watcher:
            await watcher.log_in()

            async def sleeps() -> bool:
                await watcher.sql(asked)
                return "D [b't']" in (line.text for line in watcher.lines[-3:])

            await eventually(sleeps, what="pg_sleep")

    # Others.

    def beside(self) -> "Talk":
        """Another connection on the same way; its answers are noted with a mark, in the order in which they come."""
        other = Talk(self.way, self.lines, prefix=f"{len(self._others) + 2}: ")
        other.pids = self.pids
        self._others.append(other)
        return other

    async def cancel(self, secret: bytes | None = None, *, encrypted: bool = False) -> None:
        """Send a CancelRequest for this connection (with a secret of its own) and wait until it was taken."""
        other = self.beside()
        await (other.encrypted() if encrypted else other.plain())
        other.send(cancel_request(self.pids[0], self.secret if secret is None else secret))
        with contextlib.suppress(Over):
            await other.rest()

    # Inside.

    @property
    def wire(self) -> Wire:
        """The connection, once there is one to exchange messages on."""
        assert self._wire is not None, "connect first"
        return self._wire

    def _socket(self) -> socket.socket:
        assert self._raw is not None, "connect first"
        return self._raw

    async def _read(self) -> Message:
        try:
            heard = await self.wire.read(WITHIN_S)
        except asyncio.IncompleteReadError as error:
            self._over(f"cut inside a message: {error.partial!r}" if error.partial else "closed")
        except (ConnectionError, ssl.SSLError):
            self._over("closed")
        except TooLateError:
            self._over("silence")
        if heard.kind == "K":
            self.pids.append(int.from_bytes(heard.body[:4]))
            self.secret = heard.body[4:]
        self.note(line_of(heard, self.pids))
        return heard

    def _over(self, why: str) -> NoReturn:
        self.note(remark(why))
        raise Over

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        for other in self._others:
            await other.__aexit__(kind, error, at)
        if self._raw is not None:
            self._raw.close()
        if self._wire is not None:
            await self._wire.__aexit__(kind, error, at)
