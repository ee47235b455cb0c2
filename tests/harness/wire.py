"""A PostgreSQL client made of bytes, for what no driver would send: it says what it is told to say, and hides nothing.

Speaks to a proxy or to PostgreSQL itself. Shares no code with the proxy's own wire layer, so that neither can cover
for the other.
"""

import asyncio
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from tests.harness.waiting import TooLateError

SSL_REQUEST = struct.pack("!ii", 8, 80_877_103)
GSSENC_REQUEST = struct.pack("!ii", 8, 80_877_104)
PROTOCOL_3_0 = 0x30000
PROTOCOL_3_2 = 0x30002
FLUSH = b"H\0\0\0\4"
SYNC = b"S\0\0\0\4"
TERMINATE = b"X\0\0\0\4"
COPY_DONE = b"c\0\0\0\4"
WITHIN_S = 10.0
CLOSE_S = 2.0
SKIP_BYTES = 262_144


def message(kind: str, body: bytes = b"") -> bytes:
    """One message: type, length, `body`."""
    return kind.encode() + struct.pack("!i", len(body) + 4) + body


def query(sql: str) -> bytes:
    """A simple query."""
    return message("Q", sql.encode() + b"\0")


def parse(sql: str, name: str = "", types: Sequence[int] = ()) -> bytes:
    """A Parse message."""
    oids = struct.pack(f"!H{len(types)}I", len(types), *types)
    return message("P", name.encode() + b"\0" + sql.encode() + b"\0" + oids)


def bind(*values: str | None, name: str = "", portal: str = "") -> bytes:
    """A Bind message with values as text."""
    sized = [b"\xff\xff\xff\xff" if value is None else _sized(value.encode()) for value in values]
    counted = struct.pack("!HH", 0, len(values)) + b"".join(sized) + struct.pack("!H", 0)
    return message("B", portal.encode() + b"\0" + name.encode() + b"\0" + counted)


def execute(portal: str = "", limit: int = 0) -> bytes:
    """An Execute message."""
    return message("E", portal.encode() + b"\0" + struct.pack("!i", limit))


def one_by_one(sql: str, *values: str | None) -> bytes:
    """Parse, Bind and Execute of one unnamed statement, without a Sync."""
    return parse(sql) + bind(*values) + execute()


def startup(*parameters: tuple[str, str], version: int = PROTOCOL_3_0) -> bytes:
    """A StartupMessage."""
    body = b"".join(name.encode() + b"\0" + value.encode() + b"\0" for name, value in parameters) + b"\0"
    return struct.pack("!ii", len(body) + 8, version) + body


def cancel_request(pid: int, secret: bytes) -> bytes:
    """A CancelRequest."""
    return struct.pack("!iii", 12 + len(secret), 80_877_102, pid) + secret


def _sized(value: bytes) -> bytes:
    return struct.pack("!i", len(value)) + value


@dataclass(frozen=True, slots=True)
class Message:
    """What the other side said."""

    kind: str
    body: bytes

    @property
    def fields(self) -> dict[str, str]:
        """The fields of an ErrorResponse or a NoticeResponse, by their letter."""
        return {
            field[:1].decode(): field[1:].decode("utf-8", "backslashreplace")
            for field in self.body.split(b"\0")
            if field
        }

    @property
    def values(self) -> list[bytes | None]:
        """The columns of a DataRow."""
        found, at = [], 2
        for _ in range(int.from_bytes(self.body[:2])):
            size = int.from_bytes(self.body[at : at + 4], signed=True)
            at += 4
            found.append(None if size < 0 else self.body[at : at + size])
            at += max(size, 0)
        return found

    def __str__(self) -> str:
        return f"{self.kind} {self.fields if self.kind in 'EN' else self.body[:80]!r}"


class Refused(AssertionError):  # noqa: N818 says what happened
    """An ErrorResponse came where none was expected."""

    def __init__(self, error: Message) -> None:
        super().__init__(str(error))
        self.fields = error.fields


class Wire:
    """One connection. As a context manager it is cut on the way out."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self.pid = 0
        self.secret = b""

    # Opening.

    @classmethod
    async def plain(cls, port: int) -> Self:
        """A TCP connection on which nothing was said."""
        return cls(*await asyncio.open_connection(sock=await connected(port)))

    @classmethod
    async def unix(cls, path: str) -> Self:
        """A connection by a unix socket on which nothing was said."""
        return cls(*await asyncio.open_unix_connection(path))

    @classmethod
    async def tls(cls, port: int, context: ssl.SSLContext, first: bytes = SSL_REQUEST) -> Self:
        """An encrypted connection, asked for with `first`; directly where that is empty."""
        return await cls.secure(await asked_for_tls(port, first) if first else await connected(port), context)

    @classmethod
    async def secure(cls, raw: socket.socket, context: ssl.SSLContext, name: str = "localhost") -> Self:
        """The TLS handshake on a socket that is ready for it, with whoever is called `name`."""
        try:
            async with asyncio.timeout(WITHIN_S):
                streams = await asyncio.open_connection(sock=raw, ssl=context, server_hostname=name)
        except BaseException:
            raw.close()
            raise
        return cls(*streams)

    async def log_in(self, token: str, *parameters: tuple[str, str], version: int = PROTOCOL_3_0) -> list[Message]:
        """Start up with `parameters` (else as dba1 on orders), give the token; what was said up to ReadyForQuery."""
        self.send(startup(*(parameters or (("user", "dba1"), ("database", "orders"))), version=version))
        said = await self.until("R")
        self.send(message("p", token.encode() + b"\0"))
        said += await self.until("Z")
        key = next(one for one in said if one.kind == "K")
        self.pid, self.secret = int.from_bytes(key.body[:4]), key.body[4:]
        return said

    @property
    def certificate(self) -> dict[str, Any]:
        """What the other side showed in the TLS handshake."""
        shown: dict[str, Any] = self._writer.get_extra_info("peercert")
        return shown

    # Talking.

    def send(self, data: bytes) -> None:
        """Send bytes."""
        self._writer.write(data)

    @property
    def closing(self) -> bool:
        """Whether the connection is known to be lost."""
        return self._writer.is_closing()

    async def drain(self) -> None:
        """Wait until the kernel has taken what was sent."""
        await self._writer.drain()

    def stop_reading(self) -> None:
        """Take nothing more from the kernel."""
        self._writer.transport.pause_reading()  # type: ignore[attr-defined]  # a transport of both directions

    def go_on_reading(self) -> None:
        """Take it again."""
        self._writer.transport.resume_reading()  # type: ignore[attr-defined]  # as above

    def end_sending(self) -> None:
        """Close the sending half."""
        self._writer.write_eof()

    async def read(self, within: float = WITHIN_S) -> Message:
        """The next message. EOFError (IncompleteReadError) or ConnectionError at the end."""
        async with answered(within):
            header = await self._reader.readexactly(5)
            return Message(chr(header[0]), await self._reader.readexactly(int.from_bytes(header[1:]) - 4))

    async def until(self, kinds: str, within: float = WITHIN_S) -> list[Message]:
        """Everything up to the first message of one of these kinds. Raises Refused for another kind's error."""
        said = [await self.read(within)]
        while said[-1].kind not in kinds:
            if said[-1].kind == "E" and "Z" not in kinds:
                raise Refused(said[-1])
            if said[-1].kind == "E" and said[-1].fields["V"] != "ERROR":
                raise Refused(said[-1])
            said.append(await self.read(within))
        return said

    async def run(self, sql: str, within: float = WITHIN_S) -> list[Message]:
        """A simple query, and everything up to its ReadyForQuery."""
        self.send(query(sql))
        return await self.until("Z", within)

    async def value(self, sql: str) -> str | None:
        """The first column of the first row, as text."""
        said = await self.run(sql)
        row = next((one for one in said if one.kind == "D"), None)
        assert row is not None, [str(one) for one in said]
        return None if row.values[0] is None else row.values[0].decode()

    async def rest(self, within: float = WITHIN_S) -> list[Message]:
        """Everything until the other side closes, whole messages all of it. A reset counts as a close."""
        said: list[Message] = []
        left = b""
        try:
            while True:
                said.append(await self.read(within))
        except asyncio.IncompleteReadError as error:
            left = error.partial
        except (ConnectionError, ssl.SSLError):
            pass
        assert left == b"", f"cut inside a message: {left[:40]!r}"
        return said

    async def bytes_left(self, within: float = WITHIN_S) -> bytes:
        """Every byte until the other side closes or resets."""
        try:
            async with answered(within):
                return await self._reader.read()
        except (ConnectionError, ssl.SSLError):
            return b""

    async def exactly(self, count: int, within: float = WITHIN_S) -> bytes:
        """The next so many bytes. EOFError (IncompleteReadError) at the end."""
        async with answered(within):
            return await self._reader.readexactly(count)

    async def skip(self, count: int) -> None:
        """Read and throw away so many bytes, however long they take. EOFError at the end."""
        while count:
            part = await self._reader.read(min(count, SKIP_BYTES))
            if not part:
                raise EOFError
            count -= len(part)

    # Closing.

    @property
    def writer(self) -> asyncio.StreamWriter:
        """What bytes are sent with."""
        return self._writer

    @property
    def socket(self) -> Any:  # noqa: ANN401 asyncio's TransportSocket
        """The socket itself, for its options."""
        return self._writer.get_extra_info("socket")

    def close(self) -> None:
        """Close in good order: with TLS's own goodbye, if there is TLS."""
        self._writer.close()

    def cut(self) -> None:
        """Drop the connection without a word."""
        self._writer.transport.abort()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self.cut()
        with suppress(OSError):  # ssl.SSLError and TimeoutError are such
            async with asyncio.timeout(CLOSE_S):
                await self._writer.wait_closed()


@asynccontextmanager
async def answered(within: float) -> AsyncIterator[None]:
    """Fail where the other side is silent for so long; a TimeoutError would be taken for a closed socket (OSError)."""
    try:
        async with asyncio.timeout(within):
            yield
    except TimeoutError as error:
        raise TooLateError(f"no answer within {within} s") from error


async def connected(port: int) -> socket.socket:
    """A TCP connection as a plain socket."""
    raw = socket.socket()
    raw.setblocking(False)  # noqa: FBT003 the socket module takes it by position
    # asyncio does so for the sockets that it makes itself; without it, a login waits 40 ms for a delayed ACK.
    raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        await asyncio.get_running_loop().sock_connect(raw, ("127.0.0.1", port))
    except BaseException:
        raw.close()
        raise
    return raw


async def asked_for_tls(port: int, first: bytes = SSL_REQUEST) -> socket.socket:
    """The same, on which `first` was answered with an `S`."""
    raw = await connected(port)
    try:
        async with asyncio.timeout(WITHIN_S):
            await asyncio.get_running_loop().sock_sendall(raw, first)
            answer = await asyncio.get_running_loop().sock_recv(raw, 1)
        assert answer == b"S", answer
    except BaseException:
        raw.close()
        raise
    return raw
