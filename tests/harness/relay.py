"""A TCP relay to put between any two parties: what it does to the bytes, and to the connections, is the test's to say.

`client` and `server` are the behaviours on what each of the two says, in order; a behaviour is a function, and the
usual ones are here. What happens to a whole connection is a method of its `Link`. By itself the relay is faithful:
half-closes and resets go through. It never looks into what it carries.
"""

import asyncio
import functools
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Literal, Self, TypeAlias

from tests.harness.waiting import eventually
from tests.harness.wire import SSL_REQUEST

Side: TypeAlias = Literal["client", "server"]
Send: TypeAlias = Callable[[bytes], Awaitable[None]]
Behaviour: TypeAlias = Callable[["Flow", Send, bytes], Awaitable[None]]
"""Gets each chunk, and hands on what it likes, when it likes, by `send`: each call is a segment of its own."""

READ_BYTES = 65_536
LOOPBACK = "127.0.0.1"
RESET = struct.pack("ii", 1, 0)
"""SO_LINGER: close by RST."""
QUIET_S = 0.02


class Flow:
    """One direction of a link: what one side says, on its way to the other."""

    def __init__(self, link: "Link", reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.link = link
        self.reader = reader
        self.writer = writer
        self.position = 0
        """How many bytes came before the chunk that is under way."""
        self.deaf = False
        """Read on, and throw away."""
        self._open = asyncio.Event()
        self._open.set()

    async def send(self, data: bytes) -> None:
        """Hand bytes to the receiver, past every behaviour: one segment, where the kernel takes it."""
        self.writer.write(data)
        await self.writer.drain()

    async def taken(self) -> None:
        """Wait until the receiver has read all that was sent (TCP on this machine)."""
        here, there = self.writer.get_extra_info("sockname"), self.writer.get_extra_info("peername")
        await eventually(lambda: not _unread(here, there), what="the receiver to read")

    def stall(self) -> None:
        """Read nothing more: the sender's writes fill the buffers, and then block."""
        self._open.clear()

    def resume(self) -> None:
        """Read again."""
        self._open.set()

    async def carry(self, behaviours: Sequence[Behaviour], first: bytes = b"") -> None:
        """Carry `first` and everything until the end, and the end."""
        pass_on: Send = self.send
        for behaviour in reversed(behaviours):
            pass_on = functools.partial(behaviour, self, pass_on)
        try:
            while data := first or await self._read():
                first = b""
                if not self.deaf:
                    await pass_on(data)
                self.position += len(data)
            await self._end()
        except ConnectionResetError:
            reset(self.writer)
        except (OSError, asyncio.IncompleteReadError):  # ssl.SSLError is an OSError
            self.writer.close()

    async def _read(self) -> bytes:
        await self._open.wait()
        data = await self.reader.read(READ_BYTES)
        await self._open.wait()
        return data

    async def _end(self) -> None:
        if self.deaf or self.writer.is_closing():
            return
        if self.writer.can_write_eof():
            self.writer.write_eof()
        else:
            self.writer.close()


class Link:
    """One connection through the relay: its two sockets, and what can happen to them."""

    def __init__(
        self,
        client: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        server: tuple[asyncio.StreamReader, asyncio.StreamWriter],
    ) -> None:
        self.client = Flow(self, client[0], server[1])
        """What the client says."""
        self.server = Flow(self, server[0], client[1])
        """What the server says."""
        self.ended = False

    @property
    def flows(self) -> tuple[Flow, Flow]:
        """Both directions."""
        return self.client, self.server

    @property
    def port(self) -> int:
        """Where the server sees this connection come from."""
        port: int = self.client.writer.get_extra_info("sockname")[1]
        return port

    @property
    def came_from(self) -> int:
        """The client's own port."""
        port: int = self.server.writer.get_extra_info("peername")[1]
        return port

    def writer(self, side: Side) -> asyncio.StreamWriter:
        """The way to one side."""
        return self.server.writer if side == "client" else self.client.writer

    def reset(self, *sides: Side) -> None:
        """RST, to both sides where none is named."""
        for side in sides or ("client", "server"):
            reset(self.writer(side))

    def cut(self) -> None:
        """Close both sides at once."""
        for flow in self.flows:
            flow.writer.transport.abort()

    def stall(self) -> None:
        """Read nothing more, of either side. Their kernels still answer each other: for TCP all is well."""
        for flow in self.flows:
            flow.stall()

    def resume(self) -> None:
        """Go on after `stall`."""
        for flow in self.flows:
            flow.resume()

    def deafen(self) -> None:
        """From now on nothing goes through, in either direction, though all is read."""
        for flow in self.flows:
            flow.deaf = True

    def lose(self, side: Side) -> None:
        """This side is gone, and the other one is never told: a half-open connection."""
        self.deafen()
        reset(self.writer(side))

    async def run(self, client: Sequence[Behaviour], server: Sequence[Behaviour], first: bytes = b"") -> None:
        """Carry both directions to their ends; `first` is what the client has said already."""
        await asyncio.gather(self.client.carry(client, first), self.server.carry(server))


Opening: TypeAlias = Callable[[Link], Awaitable[bytes]]
"""What the relay does on a new connection before it carries anything. Gives what it has read too much of the client."""


class Relay:
    """Listens on loopback at `port`, and connects whoever comes with `host` and the port that it is made with."""

    def __init__(
        self,
        port: int,
        *,
        host: str = LOOPBACK,
        client: Sequence[Behaviour] = (),
        server: Sequence[Behaviour] = (),
        opening: Opening | None = None,
        buffer_bytes: int | None = None,
    ) -> None:
        """`buffer_bytes` is what the kernel may hold of what the server says (SO_RCVBUF), for slow readers."""
        self._to = (host, port)
        self._behaviours = (client, server)
        self._opening = opening
        self._buffer_bytes = buffer_bytes
        self._server: asyncio.Server
        self._tasks: set[asyncio.Task[None]] = set()
        self.links: list[Link] = []
        """Every connection so far, in the order in which they came."""

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, LOOPBACK, 0, limit=READ_BYTES // 2)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    @property
    def port(self) -> int:
        """Where it listens."""
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    @property
    def accepted(self) -> int:
        """How many connections it has had."""
        return len(self.links)

    @property
    def open(self) -> list[Link]:
        """Those that have not ended."""
        return [link for link in self.links if not link.ended]

    async def link(self) -> Link:
        """The first one, once it is there."""
        await eventually(lambda: self.links, what="a connection")
        return self.links[0]

    def link_to(self, port: int) -> Link:
        """The one that the server sees come from `port` (`client_port` of pg_stat_activity)."""
        return next(link for link in self.open if link.port == port)

    def link_from(self, port: int) -> Link:
        """The one whose client connected from `port`."""
        return next(link for link in self.open if link.came_from == port)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # A task of the streams' own must not be cancelled: Python 3.11 asks it for its exception all the same.
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there = await self._connect()
        except OSError:
            reset(writer)
            return
        link = Link((reader, writer), there)
        self.links.append(link)
        try:
            with suppress(OSError, asyncio.IncompleteReadError):
                first = b"" if self._opening is None else await self._opening(link)
                await link.run(*self._behaviours, first)
        finally:
            for flow in link.flows:
                flow.writer.close()
            for flow in link.flows:
                await _closed(flow.writer)
            link.ended = True

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        raw = socket.socket()
        raw.setblocking(False)  # noqa: FBT003 the socket module takes it by position
        if self._buffer_bytes is not None:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._buffer_bytes)
        try:
            await asyncio.get_running_loop().sock_connect(raw, self._to)
        except BaseException:
            raw.close()
            raise
        return await asyncio.open_connection(sock=raw, limit=READ_BYTES // 2)


# Behaviours.


def chop(size: int = 1) -> Behaviour:
    """Segments of `size` bytes."""

    async def behaviour(_: Flow, send: Send, data: bytes) -> None:
        for at in range(0, len(data), size):
            await send(data[at : at + size])
            await asyncio.sleep(0)

    return behaviour


def split_at(*offsets: int) -> Behaviour:
    """Cut at these offsets of the stream: what comes behind is sent once what is before has been read."""

    async def behaviour(flow: Flow, send: Send, data: bytes) -> None:
        inside = sorted(at - flow.position for at in offsets if 0 < at - flow.position < len(data))
        for start, end in zip([0, *inside], [*inside, len(data)], strict=True):
            await send(data[start:end])
            if end < len(data):
                await flow.taken()

    return behaviour


def coalesce(quiet_s: float = QUIET_S) -> Behaviour:
    """Join what comes until the sender has been quiet for so long."""

    async def behaviour(flow: Flow, send: Send, data: bytes) -> None:
        parts = [data]
        with suppress(TimeoutError):
            while parts[-1]:
                async with asyncio.timeout(quiet_s):
                    parts.append(await flow.reader.read(READ_BYTES))
        together = b"".join(parts)
        await send(together)
        flow.position += len(together) - len(data)

    return behaviour


def latency(seconds: float) -> Behaviour:
    """Hold each chunk for so long."""

    async def behaviour(_: Flow, send: Send, data: bytes) -> None:
        await asyncio.sleep(seconds)  # the slow line itself
        await send(data)

    return behaviour


def slow(bytes_per_s: float) -> Behaviour:
    """Take no more than this of the sender; give the relay a small `buffer_bytes`, else the kernel takes it."""

    async def behaviour(_: Flow, send: Send, data: bytes) -> None:
        await send(data)
        await asyncio.sleep(len(data) / bytes_per_s)  # the slow reader itself

    return behaviour


def reset_at(offset: int) -> Behaviour:
    """RST to both sides at this offset of the stream, what is before it handed on."""

    async def behaviour(flow: Flow, send: Send, data: bytes) -> None:
        left = offset - flow.position
        if left > 0:
            await send(data[:left])
        if left <= len(data):
            flow.link.reset()

    return behaviour


def edit(change: Callable[[bytes], bytes]) -> Behaviour:
    """Hand on what `change` makes of each chunk."""

    async def behaviour(_: Flow, send: Send, data: bytes) -> None:
        await send(change(data))

    return behaviour


# Openings.


def end_tls(shown: ssl.SSLContext, trusted: ssl.SSLContext, name: str) -> Opening:
    """End the client's TLS with a certificate of one's own, and speak TLS to the real server.

    Who does not ask for TLS first (a CancelRequest, say) is let through.
    """

    async def opening(link: Link) -> bytes:
        request = await link.client.reader.readexactly(len(SSL_REQUEST))
        if request != SSL_REQUEST:
            return request
        await link.server.send(b"S")
        await link.server.writer.start_tls(shown)
        await link.client.send(request)
        assert await link.server.reader.readexactly(1) == b"S"
        await link.client.writer.start_tls(trusted, server_hostname=name)
        return b""

    return opening


async def strip_tls(link: Link) -> bytes:
    """Tell the client that the server has no TLS, without asking it."""
    first = await link.client.reader.readexactly(len(SSL_REQUEST))
    if first != SSL_REQUEST:
        return first
    await link.server.send(b"N")
    return b""


async def hurry_tls(link: Link) -> bytes:
    """Send the client's SSLRequest together with its ClientHello, in one segment."""
    request = await link.client.reader.readexactly(len(SSL_REQUEST))
    await link.server.send(b"S")
    await link.client.send(request + await link.client.reader.read(READ_BYTES))
    assert await link.server.reader.readexactly(1) == b"S"
    return b""


# Inside.


def reset(writer: asyncio.StreamWriter) -> None:
    """Close by RST, whatever was not sent yet."""
    if not writer.is_closing():
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    writer.transport.abort()


async def _closed(writer: asyncio.StreamWriter) -> None:
    with suppress(OSError, TimeoutError):
        async with asyncio.timeout(1):
            await writer.wait_closed()
    writer.transport.abort()


def _unread(here: tuple[str, int], there: tuple[str, int]) -> bool:
    """Whether what was sent from `here` is still in the kernel, on either side (proc_net_tcp.txt)."""
    pairs = {(_address(here), _address(there)): 0, (_address(there), _address(here)): 1}
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        queue = pairs.get((fields[1], fields[2]))
        if queue is not None and int(fields[4].split(":")[queue], 16):
            return True
    return False


def _address(at: tuple[str, int]) -> str:
    number = int.from_bytes(socket.inet_aton(at[0]), "little")
    return f"{number:08X}:{at[1]:04X}"
