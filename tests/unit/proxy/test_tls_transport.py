"""TLS between a socket and a leg, against the standard library's own TLS over a socket pair."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

import pytest

from proxy.leg import Leg
from proxy.tls_transport import RECORD_BYTES, encrypt
from tests.harness.certs import Authority
from tests.harness.waiting import eventually

BOTH_LOOPS = True
WITHIN_S = 10
VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]


@dataclass(slots=True, kw_only=True)
class Peer:
    """The other end: blocking TLS, each call in a thread."""

    plain: socket.socket
    context: ssl.SSLContext
    serves: bool
    tls: ssl.SSLSocket | None = None

    async def shake_hands(self) -> None:
        """As client or server."""

        def wrap() -> ssl.SSLSocket:
            name = None if self.serves else "localhost"
            return self.context.wrap_socket(
                self.plain, server_side=self.serves, server_hostname=name, suppress_ragged_eofs=False
            )

        self.tls = await asyncio.to_thread(wrap)

    async def send(self, data: bytes) -> None:
        """All of it."""
        assert self.tls is not None
        await asyncio.to_thread(self.tls.sendall, data)

    async def receive(self, count: int) -> bytes:
        """So many bytes."""
        received = b""
        while len(received) < count:
            assert self.tls is not None
            part = await asyncio.to_thread(self.tls.recv, count - len(received))
            if not part:
                break
            received += part
        return received


@dataclass(slots=True, kw_only=True)
class Pair:
    """A leg and its peer."""

    leg: Leg
    ours: socket.socket
    peer: Peer
    context: ssl.SSLContext
    server_hostname: str | None

    async def establish(self) -> None:
        """Both ends' handshake."""
        async with asyncio.timeout(WITHIN_S):
            await asyncio.gather(
                encrypt(self.leg, self.ours, self.context, server_hostname=self.server_hostname),
                self.peer.shake_hands(),
            )


@pytest.fixture(scope="module")
def server(ca: Authority) -> ssl.SSLContext:
    """A server's context."""
    return ca.server_context()


@pytest.fixture(params=VERSIONS, ids=["1.2", "1.3"])
def client(ca: Authority, request: pytest.FixtureRequest) -> ssl.SSLContext:
    """A client's context, of each version of TLS."""
    context = ca.client_context()
    context.minimum_version = context.maximum_version = request.param
    return context


@pytest.fixture
def sockets() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two ends of one connection over TCP; the first does not block."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        there = socket.create_connection(listening.getsockname())
        here, _ = listening.accept()
    here.setblocking(False)  # noqa: FBT003 the standard library's signature
    there.settimeout(WITHIN_S)
    yield here, there
    there.close()
    here.close()


@pytest.fixture(params=["as server", "as client"])
async def pair(
    sockets: tuple[socket.socket, socket.socket],
    server: ssl.SSLContext,
    client: ssl.SSLContext,
    request: pytest.FixtureRequest,
) -> AsyncIterator[Pair]:
    """A leg that has not shaken hands yet, as either side."""
    ours, theirs = sockets
    serving = request.param == "as server"
    made = Pair(
        leg=Leg(),
        ours=ours,
        peer=Peer(plain=theirs, context=client if serving else server, serves=not serving),
        context=server if serving else client,
        server_hostname=None if serving else "localhost",
    )
    yield made
    if made.leg.connected:
        made.leg.transport.abort()
    if made.peer.tls is not None:
        made.peer.tls.close()


@pytest.mark.parametrize("size", [1, RECORD_BYTES, RECORD_BYTES + 1, 3 * RECORD_BYTES, 1_000_000])
async def test_bytes_go_both_ways(pair: Pair, size: int) -> None:
    """Any number of them, in order, in as many records as they need."""
    await pair.establish()
    sent = bytes(index % 251 for index in range(size))
    receiving = asyncio.get_running_loop().create_task(pair.peer.receive(size))
    pair.leg.write(sent)
    assert await receiving == sent
    sending = asyncio.get_running_loop().create_task(pair.peer.send(sent))
    async with asyncio.timeout(WITHIN_S):
        assert await pair.leg.read_bytes(size) == sent
    await sending


async def test_what_follows_the_handshake_at_once_is_read(pair: Pair) -> None:
    """The peer's first bytes may come in the same segment as the end of its handshake."""

    async def shake_hands_and_send() -> None:
        await pair.peer.shake_hands()
        await pair.peer.send(b"first")

    async with asyncio.timeout(WITHIN_S):
        await asyncio.gather(
            encrypt(pair.leg, pair.ours, pair.context, server_hostname=pair.server_hostname), shake_hands_and_send()
        )
        assert await pair.leg.read_bytes(5) == b"first"


async def test_a_leg_that_is_paused_gets_nothing(pair: Pair) -> None:
    """Back-pressure reaches the socket: the peer's kernel fills up, and all arrives when reading goes on."""
    await pair.establish()
    got = bytearray()
    pair.leg.relay_to(got.extend, lambda: None, _raise)
    pair.leg.pause()
    size = 20_000_000
    sending = asyncio.get_running_loop().create_task(pair.peer.send(bytes(size)))
    done, _ = await asyncio.wait([sending], timeout=0.2)
    assert not done
    assert len(got) <= 1 << 20
    pair.leg.resume()
    async with asyncio.timeout(WITHIN_S):
        await sending
        await eventually(lambda: len(got) == size)


async def test_writing_pauses_the_source(pair: Pair) -> None:
    """A peer that does not read stops the leg that feeds this one, and lets it go on when it reads."""
    await pair.establish()
    paused: list[str] = []

    class Source:
        """What a leg tells its source."""

        def pause(self) -> None:
            """Stop."""
            paused.append("paused")

        def resume(self) -> None:
            """Go on."""
            paused.append("resumed")

    pair.leg.source = Source()  # type: ignore[assignment]  # as much of a leg as is called
    size = 0
    while not paused:
        pair.leg.write(bytes(100_000))
        size += 100_000
        assert size < 100_000_000
    assert await pair.peer.receive(size) == bytes(size)
    async with asyncio.timeout(WITHIN_S):
        await eventually(lambda: "resumed" in paused)


async def test_close_says_goodbye(pair: Pair) -> None:
    """What was written arrives, then close_notify: the peer sees an end that nobody else can have made up."""
    await pair.establish()
    pair.leg.write(b"last words")
    closing = asyncio.get_running_loop().create_task(pair.leg.close())
    assert await pair.peer.receive(100) == b"last words"  # a ragged end would raise SSLEOFError
    assert pair.peer.tls is not None
    pair.peer.tls.close()
    async with asyncio.timeout(WITHIN_S):
        await closing


async def test_close_with_unread_data_loses_no_last_words(pair: Pair) -> None:
    """Bytes that nobody reads any more do not reset the connection before the last words are there."""
    await pair.establish()
    await pair.peer.send(b"nobody reads this")
    pair.leg.write(b"last words")
    closing = asyncio.get_running_loop().create_task(pair.leg.close())
    await pair.peer.send(b"nor this" * 1000)
    assert await pair.peer.receive(100) == b"last words"
    assert pair.peer.tls is not None
    pair.peer.tls.close()
    async with asyncio.timeout(WITHIN_S):
        await closing


@pytest.mark.parametrize("politely", [True, False], ids=["close_notify", "plain end of stream"])
async def test_the_peers_end_is_told(pair: Pair, politely: bool) -> None:  # noqa: FBT001 a parameter of pytest's
    """After what came before it."""
    await pair.establish()
    await pair.peer.send(b"bye")
    assert pair.peer.tls is not None
    if politely:
        pair.peer.tls.settimeout(0.0)
        with pytest.raises(ssl.SSLWantReadError):
            pair.peer.tls.unwrap()
    else:
        pair.peer.plain = socket.socket(fileno=pair.peer.tls.detach())
        pair.peer.plain.close()
    async with asyncio.timeout(WITHIN_S):
        assert await pair.leg.read_bytes(3) == b"bye"
        await asyncio.shield(pair.leg.closed)
    assert pair.leg.ended


async def test_garbage_ends_the_connection(pair: Pair) -> None:
    """A record that does not decrypt is the peer's last: nothing of it is handed on."""
    await pair.establish()
    assert pair.peer.tls is not None
    raw = socket.socket(fileno=pair.peer.tls.detach())
    raw.sendall(b"\x17\x03\x03\x00\x20" + bytes(32))
    async with asyncio.timeout(WITHIN_S):
        await asyncio.shield(pair.leg.closed)
    assert pair.leg.take() == b""
    raw.close()


async def test_clear_text_fails_the_handshake(
    sockets: tuple[socket.socket, socket.socket], server: ssl.SSLContext
) -> None:
    """Bytes that are no handshake end the connection, and the leg never has a transport."""
    ours, theirs = sockets
    leg = Leg()
    theirs.sendall(b"\0\0\0\x08\x04\xd2\x16\x2f")
    with pytest.raises(ssl.SSLError):
        await encrypt(leg, ours, server)
    assert not leg.connected
    assert len(await asyncio.to_thread(theirs.recv, 100)) in {0, 7}  # an alert, where OpenSSL has one for that


async def test_an_end_in_the_handshake_is_an_error(
    sockets: tuple[socket.socket, socket.socket], server: ssl.SSLContext
) -> None:
    """An OSError, as every failure to connect."""
    ours, theirs = sockets
    theirs.close()
    with pytest.raises(OSError, match=r"during the TLS handshake|lost"):
        await encrypt(Leg(), ours, server)


async def test_cancelling_the_handshake_closes_the_socket(
    sockets: tuple[socket.socket, socket.socket], server: ssl.SSLContext
) -> None:
    """A caller's time limit leaves nothing open."""
    ours, theirs = sockets
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await encrypt(Leg(), ours, server)
    assert await asyncio.to_thread(theirs.recv, 1) == b""


async def test_a_name_that_the_certificate_lacks_is_refused(
    sockets: tuple[socket.socket, socket.socket], server: ssl.SSLContext, client: ssl.SSLContext
) -> None:
    """And the server is told by an alert."""
    ours, theirs = sockets

    async def serve() -> None:
        peer = Peer(plain=theirs, context=server, serves=True)
        await peer.shake_hands()
        await peer.receive(1)

    async with asyncio.timeout(WITHIN_S):
        results = await asyncio.gather(
            encrypt(Leg(), ours, client, server_hostname="elsewhere"), serve(), return_exceptions=True
        )
    assert isinstance(results[0], ssl.SSLCertVerificationError)
    assert "alert" in str(results[1])


def _raise(error: Exception) -> None:
    raise error
