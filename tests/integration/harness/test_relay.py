"""The relay, between a client and a server that are nothing but sockets: each behaviour does what its name says."""

import asyncio
import hashlib
import itertools
import socket
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.harness.background import in_background
from tests.harness.certs import Authority
from tests.harness.relay import (
    LOOPBACK,
    RESET,
    Behaviour,
    Flow,
    Relay,
    Send,
    Side,
    chop,
    coalesce,
    edit,
    end_tls,
    hurry_tls,
    latency,
    reset_at,
    slow,
    split_at,
    strip_tls,
)
from tests.harness.waiting import eventually, never
from tests.harness.wire import SSL_REQUEST, Wire, connected

TEXT = b"what the client says, which is more than one segment"


class Ends:
    """A client and a server with a relay between them."""

    def __init__(self, relay: Relay, near: socket.socket, far: socket.socket) -> None:
        self.relay = relay
        self.near = near
        self.far = far

    async def pieces(self, count: int) -> list[bytes]:
        """What the server reads, read by read, up to so many bytes."""
        found: list[bytes] = []
        async with asyncio.timeout(5):
            while sum(map(len, found)) < count:
                found.append(await receive(self.far))
        return found


async def receive(sock: socket.socket) -> bytes:
    """What is there, as soon as something is."""
    async with asyncio.timeout(5):
        return await asyncio.get_running_loop().sock_recv(sock, 1 << 20)


async def send(sock: socket.socket, data: bytes) -> None:
    """Send all of it."""
    await asyncio.get_running_loop().sock_sendall(sock, data)


@asynccontextmanager
async def ends(*client: Behaviour, **options: Any) -> AsyncIterator[Ends]:  # noqa: ANN401 Relay's own
    """Both, connected."""
    with socket.create_server((LOOPBACK, 0)) as listening:
        listening.setblocking(False)  # noqa: FBT003 the socket module takes it by position
        async with Relay(listening.getsockname()[1], client=client, **options) as relay:
            with await connected(relay.port) as near:
                far, _ = await asyncio.get_running_loop().sock_accept(listening)
                with far:
                    far.setblocking(False)  # noqa: FBT003 as above
                    yield Ends(relay, near, far)


async def test_faithful() -> None:
    """By itself it carries every byte both ways, and the end of one half without the other's."""
    async with ends() as made:
        await send(made.near, TEXT)
        made.near.shutdown(socket.SHUT_WR)
        assert b"".join(await made.pieces(len(TEXT))) == TEXT
        assert await receive(made.far) == b""
        await send(made.far, TEXT)
        assert await receive(made.near) == TEXT
        link = await made.relay.link()
        assert (link.client.position, link.server.position) == (len(TEXT), len(TEXT))
        assert link.port == made.far.getpeername()[1]


async def test_resets_go_through() -> None:
    """As such, and the link has ended then."""
    async with ends() as made:
        made.near.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        made.near.close()
        with pytest.raises(ConnectionResetError):
            await receive(made.far)
        await eventually(lambda: not made.relay.open)


@pytest.mark.parametrize("side", ["client", "server", None])
async def test_reset(side: Side | None) -> None:
    """Of one side or of both; the other one sees an orderly end."""
    async with ends() as made:
        (await made.relay.link()).reset(*([side] if side else []))
        for name, sock in (("client", made.near), ("server", made.far)):
            if side in (name, None):
                with pytest.raises(ConnectionResetError):
                    await receive(sock)
            else:
                assert await receive(sock) == b""
                sock.close()
        await eventually(lambda: not made.relay.open)


async def test_chop() -> None:
    """Nothing is lost, and no send has more than so many bytes."""
    sent: list[int] = []

    async def note(_: Flow, pass_on: Send, data: bytes) -> None:
        sent.append(len(data))
        await pass_on(data)

    async with ends(chop(3), note) as made:
        await send(made.near, TEXT)
        assert b"".join(await made.pieces(len(TEXT))) == TEXT
    assert sent == [3] * 17 + [1]


@pytest.mark.parametrize("offsets", [(1,), (7, 20), (len(TEXT) - 1,), (0, len(TEXT), 1_000)])
async def test_split_at(offsets: tuple[int, ...]) -> None:
    """The receiver reads up to the offset, and only then is there more."""
    async with ends(split_at(*offsets)) as made:
        await send(made.near, TEXT)
        cuts = [0, *(at for at in offsets if 0 < at < len(TEXT)), len(TEXT)]
        expected = [TEXT[start:end] for start, end in itertools.pairwise(cuts)]
        assert await made.pieces(len(TEXT)) == expected


async def test_split_at_waits_for_the_reader() -> None:
    """However long it takes."""
    async with ends(split_at(5)) as made:
        await send(made.near, TEXT)
        link = await made.relay.link()
        await never(lambda: link.client.position, during=0.05)
        assert await receive(made.far) == TEXT[:5]
        assert await receive(made.far) == TEXT[5:]


async def test_coalesce() -> None:
    """What comes in pieces goes on as one."""
    async with ends(coalesce(0.2)) as made:
        for byte in TEXT:
            await send(made.near, bytes([byte]))
        assert await made.pieces(len(TEXT)) == [TEXT]
        assert (await made.relay.link()).client.position == len(TEXT)


@pytest.mark.parametrize("behaviour", [latency(0.2), slow(len(TEXT) * 5)])
async def test_time(behaviour: Behaviour) -> None:
    """It takes its time, and nothing else."""
    async with ends(behaviour) as made:
        before = time.monotonic()
        await send(made.near, TEXT)
        await send(made.near, b"." * (len(await made.pieces(len(TEXT))) and 10))
        assert await receive(made.far) == b"." * 10
        assert time.monotonic() - before > 0.2


async def test_reset_at() -> None:
    """What is before the offset arrives, and then the reset."""
    async with ends(reset_at(10)) as made:
        await send(made.near, TEXT[:5])
        assert b"".join(await made.pieces(5)) == TEXT[:5]
        await send(made.near, TEXT[5:])
        with pytest.raises(ConnectionResetError):
            await receive(made.near)


async def test_edit() -> None:
    """A change of one's own."""
    async with ends(edit(bytes.upper)) as made:
        await send(made.near, TEXT)
        assert b"".join(await made.pieces(len(TEXT))) == TEXT.upper()


async def test_stall() -> None:
    """Nothing is read: the sender blocks; afterwards nothing is lost."""
    data = bytes(range(256)) * 40_000
    async with ends() as made:
        link = await made.relay.link()
        link.stall()
        sending = asyncio.get_running_loop().create_task(send(made.near, data))
        await never(sending.done, during=0.1)
        link.resume()
        got = b"".join(await made.pieces(len(data)))
        await sending
        assert hashlib.sha256(got).digest() == hashlib.sha256(data).digest()


async def test_deafen() -> None:
    """All is read and nothing goes through, the end neither."""
    async with ends() as made:
        (await made.relay.link()).deafen()
        await send(made.near, bytes(10_000_000))
        made.near.shutdown(socket.SHUT_WR)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await asyncio.get_running_loop().sock_recv(made.far, 1)


async def test_lose() -> None:
    """One side is gone, the other one hears nothing of it."""
    async with ends() as made:
        (await made.relay.link()).lose("client")
        with pytest.raises(ConnectionResetError):
            await receive(made.near)
        await send(made.far, TEXT)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await asyncio.get_running_loop().sock_recv(made.far, 1)


async def test_nobody_there() -> None:
    """Where the server does not listen, the client is let go."""
    with socket.create_server((LOOPBACK, 0)) as listening:
        port = listening.getsockname()[1]
    async with Relay(port) as relay:
        with await connected(relay.port) as near, pytest.raises(ConnectionResetError):
            await receive(near)


@pytest.fixture
def server(ca: Authority) -> ssl.SSLContext:
    """The server's TLS."""
    return ca.server_context()


@asynccontextmanager
async def echo(context: ssl.SSLContext) -> AsyncIterator[int]:
    """A server that takes SSLRequest, and says over TLS what it is told, in capitals; its port."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(len(SSL_REQUEST))
        writer.write(b"S")
        await writer.start_tls(context)
        while data := await reader.read(100):
            writer.write(data.upper())
        writer.close()

    async with await asyncio.start_server(serve, LOOPBACK, 0) as listening:
        yield listening.sockets[0].getsockname()[1]


async def test_end_tls(ca: Authority, server: ssl.SSLContext) -> None:
    """The behaviours see what is said in TLS."""
    heard: list[bytes] = []

    def listen(data: bytes) -> bytes:
        heard.append(data)
        return data

    async with echo(server) as port:
        opening = end_tls(server, ca.client_context(), "localhost")
        async with (
            Relay(port, client=[edit(listen)], opening=opening) as relay,
            await Wire.tls(relay.port, ca.client_context()) as wire,
        ):
            wire.send(TEXT)
            wire.close()
            assert await wire.bytes_left() in (TEXT.upper(), b"")
            await eventually(lambda: b"".join(heard) == TEXT)


async def test_strip_tls() -> None:
    """The client is told `N`; the server hears nothing of it."""
    async with ends(opening=strip_tls) as made:
        await send(made.near, SSL_REQUEST)
        assert await receive(made.near) == b"N"
        await send(made.near, TEXT)
        assert b"".join(await made.pieces(len(TEXT))) == TEXT


async def test_hurry_tls() -> None:
    """SSLRequest and what comes behind it are one segment."""
    async with ends(opening=hurry_tls) as made:
        await send(made.near, SSL_REQUEST)
        assert await receive(made.near) == b"S"
        await send(made.near, TEXT)
        assert await made.pieces(len(TEXT)) == [SSL_REQUEST + TEXT]


def test_in_background() -> None:
    """For programs that do not know of asyncio."""
    with (
        socket.create_server((LOOPBACK, 0)) as listening,
        in_background(Relay(listening.getsockname()[1], client=[edit(bytes.upper)])) as relay,
        socket.create_connection((LOOPBACK, relay.port)) as near,
    ):
        near.sendall(TEXT)
        far, _ = listening.accept()
        with far:
            assert far.recv(1_000) == TEXT.upper()
    assert relay.accepted == 1
