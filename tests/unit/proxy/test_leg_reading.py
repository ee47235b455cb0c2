"""The leg before the relay, over a real socket and under both event loops: messages one by one, and bounded."""

import asyncio
import socket
from collections.abc import AsyncIterator
from typing import TypeAlias

import pytest

from proxy.errors import ClientGone, ProtocolViolation
from proxy.leg import READ_AHEAD_BYTES, Leg, adopt
from proxy.tasks import spawn
from tests.harness.waiting import eventually
from tests.unit.proxy.wire.reference import header, message

Pair: TypeAlias = tuple[Leg, socket.socket]


BOTH_LOOPS = True


async def connected(initial: bytes = b"") -> Pair:
    """A leg, and the other end of its socket."""
    near, far = socket.socketpair()
    far.setblocking(False)  # noqa: FBT003 the socket module takes it by position
    leg = Leg(initial)
    await adopt(leg, near)
    return leg, far


@pytest.fixture
async def pair() -> AsyncIterator[Pair]:
    """Ended after the test."""
    leg, far = await connected()
    yield leg, far
    leg.transport.abort()
    far.close()
    await leg.closed


async def heard(far: socket.socket, count: int) -> bytes:
    """The next so many bytes that the peer gets; fewer at the end."""
    loop, got = asyncio.get_running_loop(), b""
    async with asyncio.timeout(5):
        while len(got) < count and (part := await loop.sock_recv(far, count - len(got))):
            got += part
    return got


async def test_the_loop_is_the_one_that_was_asked_for(request: pytest.FixtureRequest) -> None:
    """Or this file's tests prove half of what they say."""
    assert type(asyncio.get_running_loop()).__module__.startswith("uvloop") == ("uvloop" in request.node.name)


async def test_messages_one_by_one(pair: Pair) -> None:
    """However they come: together, or in pieces."""
    leg, far = pair
    far.send(message(b"p", b"one") + message(b"p") + message(b"p", b"three")[:6])
    assert await leg.read(100) == (ord("p"), b"one")
    assert await leg.read(100) == (ord("p"), b"")
    reading = spawn("read", leg.read(100))
    await asyncio.sleep(0)
    assert not reading.done()
    for byte in b"hree":
        far.send(bytes([byte]))
    assert await reading == (ord("p"), b"three")


async def test_bytes_and_what_came_before(pair: Pair) -> None:
    """First packets have no type; `initial` is what was read before the leg was made."""
    _, far = pair
    leg, other = await connected(b"\0\0\0\x08abc")
    try:
        assert await leg.read_bytes(4) == b"\0\0\0\x08"
        other.send(b"defgh")
        assert await leg.read_bytes(4) == b"abcd"
        await eventually(lambda: len(leg._inbox) == 4)
        assert (leg.take(2), leg.take(), leg.take()) == (b"ef", b"gh", b"")
    finally:
        leg.transport.abort()
        other.close()
    far.send(b"")


@pytest.mark.parametrize("length", [-(2**31), -1, 0, 3, 105, 2**31 - 1])
async def test_bad_lengths(pair: Pair, length: int) -> None:
    """Below 4, or over the limit: refused by the header, with nothing of the body awaited."""
    leg, far = pair
    far.send(header(b"p", length))
    with pytest.raises(ProtocolViolation, match=f"message {ord('p')} of {length} bytes"):
        await leg.read(100)


async def test_the_longest_message(pair: Pair) -> None:
    """The limit is the body's: it counts neither the type nor the length word."""
    leg, far = pair
    far.send(message(b"p", bytes(100)))
    assert await leg.read(100) == (ord("p"), bytes(100))


@pytest.mark.parametrize("sent", [b"", b"p", b"p\0\0\0", header(b"p", 10), message(b"p", b"body")[:-1]])
async def test_the_peer_goes(pair: Pair, sent: bytes) -> None:
    """In the middle of a message, before one, whenever: there is nobody left."""
    leg, far = pair
    far.send(sent)
    reading = spawn("read", leg.read(100))
    await asyncio.sleep(0)
    far.close()
    with pytest.raises(ClientGone):
        await reading
    with pytest.raises(ClientGone):
        await leg.read(100)


async def test_what_came_before_the_end_is_read(pair: Pair) -> None:
    """Whole messages count, though their sender has gone."""
    leg, far = pair
    far.send(message(b"p", b"last"))
    far.close()
    await eventually(lambda: leg.ended)
    assert await leg.read(100) == (ord("p"), b"last")
    with pytest.raises(ClientGone):
        await leg.read(100)


async def test_reading_ahead_is_bounded(pair: Pair) -> None:
    """A peer that sends without being asked fills its own buffers, not ours; and is read when it is asked."""
    leg, far = pair
    loop = asyncio.get_running_loop()
    data = bytes(20 * READ_AHEAD_BYTES)
    sending = spawn("send", loop.sock_sendall(far, message(b"p", data) + message(b"p", b"next")))
    await eventually(lambda: len(leg._inbox) > READ_AHEAD_BYTES)
    for _ in range(100):
        await asyncio.sleep(0)
    assert not sending.done()
    assert len(leg._inbox) <= READ_AHEAD_BYTES + 262_144  # what one read of either loop brings at most
    assert await leg.read(len(data)) == (ord("p"), data)
    assert await leg.read(100) == (ord("p"), b"next")
    await sending


async def test_reading_is_given_up(pair: Pair) -> None:
    """A deadline ends the wait; what had come stays for the next."""
    leg, far = pair
    far.send(message(b"p", b"late")[:-1])
    await eventually(lambda: len(leg._inbox) == 8)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await leg.read(100)
    far.send(b"e")
    assert await leg.read(100) == (ord("p"), b"late")


async def test_closing_says_the_last_word(pair: Pair) -> None:
    """What is buffered arrives, then the end; what the peer sends meanwhile is read, so that nothing is reset."""
    leg, far = pair
    loop = asyncio.get_running_loop()
    leg.write(b"farewell" * 100_000)
    closing = spawn("close", leg.close(5))
    await loop.sock_sendall(far, b"unread" * 1_000)
    assert await heard(far, 10**6) == b"farewell" * 100_000
    far.close()
    await closing
    assert leg.closed.done()


async def test_closing_does_not_wait_for_ever(pair: Pair) -> None:
    """A peer that neither reads nor goes is left after the linger."""
    leg, _ = pair
    leg.write(b"x" * 10_000_000)
    async with asyncio.timeout(5):
        await leg.close(0.05)
        await leg.closed


async def test_closing_what_is_closed(pair: Pair) -> None:
    """By the peer, or by us before: nothing to wait for, and writing is harmless."""
    leg, far = pair
    far.close()
    await eventually(lambda: leg.ended)
    async with asyncio.timeout(5):
        await leg.close(5)
        await leg.close(5)
    leg.write(b"nobody")
    leg.pause()
    leg.resume()


async def test_an_end_is_told_once(pair: Pair) -> None:
    """To whoever relays: at the end of the stream, and not again when the connection is gone."""
    leg, far = pair
    ends: list[bool] = []
    leg.relay_to(lambda _: None, lambda: ends.append(leg.closed.done()), lambda _: None)
    far.shutdown(socket.SHUT_WR)
    await eventually(lambda: ends)
    leg.transport.abort()
    await leg.closed
    assert ends == [False]


async def test_what_came_early_is_relayed(pair: Pair) -> None:
    """Before anything that comes later, and before the end."""
    leg, far = pair
    parts: list[bytes] = []
    far.send(b"early")
    far.shutdown(socket.SHUT_WR)
    await eventually(lambda: leg.ended)
    leg.relay_to(parts.append, lambda: parts.append(b"END"), lambda _: None)
    await eventually(lambda: len(parts) == 2)
    assert parts == [b"early", b"END"]


async def test_flow_control(pair: Pair) -> None:
    """What the peer does not take is bounded by stopping the source, which goes on when the peer reads."""
    leg, far = pair
    source, giver = await connected()
    try:
        leg.source = source
        source.relay_to(leg.write, lambda: None, lambda _: None)
        loop = asyncio.get_running_loop()
        sending = spawn("give", loop.sock_sendall(giver, bytes(8_000_000)))
        await eventually(lambda: leg.transport.get_write_buffer_size() > 0)
        for _ in range(200):
            await asyncio.sleep(0)
        assert leg.transport.get_write_buffer_size() < 1_000_000
        assert not sending.done()
        assert await heard(far, 8_000_000) == bytes(8_000_000)
        await sending
    finally:
        source.transport.abort()
        giver.close()
