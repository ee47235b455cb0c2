"""Reading a raw socket: never a byte too many, and what is only looked at stays for whoever reads next."""

import asyncio
import socket
from collections.abc import Iterator
from contextlib import closing

import pytest

from proxy import raw
from proxy.errors import ClientGone
from proxy.tasks import spawn
from tests.harness.waiting import never

RECORD = b"\x16\x03\x01\x00\x05hello"


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two ends of a TCP connection, both for the event loop."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        near = socket.create_connection(listening.getsockname())
        far, _ = listening.accept()
    with closing(near), closing(far):
        for end in (near, far):
            end.setblocking(False)  # noqa: FBT003 the socket module takes it by position
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield near, far


async def test_receive(pair: tuple[socket.socket, socket.socket]) -> None:
    """In pieces, up to the count; the end of the stream before it is ClientGone."""
    near, far = pair
    receiving = spawn("receive", raw.receive(far, 5))
    for piece in (b"ab", b"cd", b"efg"):
        near.sendall(piece)
        await asyncio.sleep(0)
    assert await receiving == b"abcde"
    near.close()
    assert await raw.receive(far, 2) == b"fg"
    with pytest.raises(ClientGone):
        await raw.receive(far, 1)


async def test_peek(pair: tuple[socket.socket, socket.socket]) -> None:
    """The byte is still there afterwards; an end without one is ClientGone."""
    near, far = pair
    near.sendall(b"x")
    assert await raw.peek(far) == ord("x")
    assert await raw.receive(far, 1) == b"x"
    near.close()
    with pytest.raises(ClientGone):
        await raw.peek(far)


async def test_peek_record(pair: tuple[socket.socket, socket.socket]) -> None:
    """Waits for the whole record without being woken for less, leaves it there, and wakes for single bytes again."""
    near, far = pair
    peeking = spawn("peek", raw.peek_record(far))
    for part in (RECORD[:3], RECORD[3:-1]):
        near.sendall(part)
        await never(peeking.done, during=0.03)
    near.sendall(RECORD[-1:] + b"next")
    assert await peeking == RECORD
    assert await raw.receive(far, len(RECORD) + 4) == RECORD + b"next"
    near.sendall(b"x")
    assert await raw.peek(far) == ord("x")


async def test_peek_record_that_is_there(pair: tuple[socket.socket, socket.socket]) -> None:
    """The usual case: all of it has come, more behind it or not."""
    near, far = pair
    near.sendall(RECORD * 2)
    assert await raw.peek_record(far) == RECORD
    assert far.getsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT) == 1


@pytest.mark.parametrize(
    ("sent", "seen"),
    [
        (b"\0\0\0\x08\x04\xd2\x16\x2f", b"\0\0\0\x08\x04"),
        (b"\x16\x03\x01\x40\x01" + b"x" * 50, b"\x16\x03\x01\x40\x01"),
        (RECORD[:7], RECORD[:7]),
        (RECORD[:2], RECORD[:2]),
        (b"", b""),
    ],
    ids=["no record", "too long", "cut", "cut header", "nothing"],
)
async def test_peek_at_what_is_no_record(pair: tuple[socket.socket, socket.socket], sent: bytes, seen: bytes) -> None:
    """It does not wait for what cannot come."""
    near, far = pair
    near.sendall(sent)
    if len(sent) < 8:
        near.shutdown(socket.SHUT_WR)
    async with asyncio.timeout(5):
        assert await raw.peek_record(far) == seen
