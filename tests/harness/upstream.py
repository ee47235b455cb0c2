"""A fake upstream, scripted: the honest side of a login, each of whose parts a test may replace by something rotten.

Whoever dials it plays the script once. Behind a whole proxy it will not do, for the keeper comes first: there, let a
`tests.harness.relay` speak for the real server.
"""

import asyncio
import base64
import hashlib
import hmac
import ssl
import struct
from collections.abc import Awaitable, Callable
from contextlib import suppress
from types import TracebackType
from typing import Self, TypeAlias

from tests.harness.wire import message

PASSWORD = "canary-password"
SALT = b"sixteen byte sal"

OK = struct.pack("!i", 0)
KEY = struct.pack("!i", 4711) + b"\x01\x02\x03\x04"
SASL = struct.pack("!i", 10) + b"SCRAM-SHA-256\0\0"


def error(sqlstate: str, text: str) -> bytes:
    """An ErrorResponse."""
    return message("E", b"SFATAL\0VFATAL\0C%b\0M%b\0\0" % (sqlstate.encode(), text.encode()))


class Client:
    """What the scripted server has in front of it: the proxy."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self.writer = writer
        self.heard = b""
        """Everything the client said."""
        self.allowance: int | None = None
        """How many bytes more the server says before it closes; None: all."""
        self.said = 0

    async def read(self, count: int) -> bytes:
        """So many bytes of the client's."""
        data = await self._reader.readexactly(count)
        self.heard += data
        return data

    async def first_packet(self) -> bytes:
        """A packet without a type byte: StartupMessage, SSLRequest, CancelRequest."""
        return await self.read(int.from_bytes(await self.read(4)) - 4)

    async def answer(self) -> bytes:
        """The body of the client's next message."""
        return await self.read(int.from_bytes((await self.read(5))[1:]) - 4)

    async def starts_tls(self, context: ssl.SSLContext) -> None:
        """Take the SSLRequest and shake hands."""
        await self.first_packet()
        self.writer.write(b"S")
        await self.writer.start_tls(context)

    def say(self, *messages: bytes) -> None:
        """Send, as far as the allowance goes."""
        data = b"".join(messages)[: self.allowance]
        self.said += len(data)
        self.writer.write(data)
        if self.allowance is not None:
            self.allowance -= len(data)
            if not self.allowance:
                self.writer.close()

    async def until_gone(self) -> bytes:
        """What the client still says until it closes."""
        with suppress(ConnectionError):
            self.heard += await self._reader.read()
        return self.heard

    async def scram(
        self,
        *,
        iterations: str = "4096",
        nonce: Callable[[bytes], bytes] = lambda mine: mine + b"server",
        first: Callable[[bytes], bytes] = lambda it: it,
        signature: Callable[[bytes], bytes] = lambda it: it,
        final: Callable[[bytes], bytes] = lambda it: it,
    ) -> None:
        """SCRAM as PostgreSQL does it, without checking the client's proof, with each part open to change."""
        self.say(message("R", SASL))
        bare = (await self.answer()).partition(b",,")[2]
        together = nonce(bare.partition(b",r=")[2])
        said = first(b"r=" + together + b",s=" + base64.b64encode(SALT) + b",i=" + iterations.encode())
        self.say(message("R", struct.pack("!i", 11) + said))
        unproven = (await self.answer()).rpartition(b",p=")[0]
        salted = hashlib.pbkdf2_hmac("sha256", PASSWORD.encode(), SALT, int(iterations))
        key = hmac.digest(salted, b"Server Key", "sha256")
        proof = signature(hmac.digest(key, b",".join((bare, said, unproven)), "sha256"))
        self.say(message("R", struct.pack("!i", 12) + final(b"v=" + base64.b64encode(proof))))


Script: TypeAlias = Callable[[Client], Awaitable[object]]


class FakeUpstream:
    """A server on loopback that plays `script` to whoever connects, then waits for the client to go."""

    def __init__(self, script: Script, *, tls: ssl.SSLContext | None = None) -> None:
        """With `tls`, it is spoken from the first byte."""
        self._script = script
        self._tls = tls
        self._server: asyncio.Server
        self._done: asyncio.Queue[Client] = asyncio.Queue()
        self.played = 0
        """How often."""

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._play, "127.0.0.1", 0, ssl=self._tls)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, caught: BaseException | None, at: TracebackType | None
    ) -> None:
        self._server.close()
        await self._server.wait_closed()

    @property
    def port(self) -> int:
        """Where it listens."""
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def client(self) -> Client:
        """The next client that has gone, with all that it said."""
        async with asyncio.timeout(5):
            return await self._done.get()

    async def _play(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.played += 1
        client = Client(reader, writer)
        with suppress(asyncio.IncompleteReadError, ConnectionError, ssl.SSLError):
            await self._script(client)
            await client.until_gone()
        writer.transport.abort()
        self._done.put_nowait(client)
