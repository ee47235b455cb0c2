"""Reading a raw socket byte-exactly, before it becomes a leg: what follows belongs to whoever reads next.

Never writes, and never interprets what it reads.
"""

import asyncio
import socket

from proxy.errors import ClientGone

HANDSHAKE = 0x16
RECORD_HEADER_BYTES = 5
RECORD_BYTES = 16_384
"""The most that a TLS record in clear carries (RFC 8446, 5.1)."""


async def peek(sock: socket.socket) -> int:
    """The first byte, left where it is. Raises ClientGone where there is none."""
    await _readable(sock)
    first = sock.recv(1, socket.MSG_PEEK)
    if not first:
        raise ClientGone
    return first[0]


async def peek_record(sock: socket.socket) -> bytes:
    """A TLS record of the handshake, left where it is; less, where the stream ends in it or it is none."""
    least = 1
    try:
        while True:
            await _readable(sock)
            found = sock.recv(RECORD_HEADER_BYTES + RECORD_BYTES, socket.MSG_PEEK)
            wanted = _wanted(found)
            if len(found) >= wanted or len(found) < least:  # the latter where the stream has ended
                return found[:wanted]
            least = wanted
            # The kernel says "readable" from so many bytes on (socket(7)): a peer that dribbles keeps nobody busy.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, least)
    finally:
        if least > 1:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)


async def receive(sock: socket.socket, count: int) -> bytes:
    """The next `count` bytes, and no more. Raises ClientGone at the end of the stream."""
    loop = asyncio.get_running_loop()
    received = b""
    while len(received) < count:
        more = await loop.sock_recv(sock, count - len(received))
        if not more:
            raise ClientGone
        received += more
    return received


def _wanted(found: bytes) -> int:
    """How many bytes the record has that begins like this, as far as can be seen; its header's, where it is none."""
    length = int.from_bytes(found[3:RECORD_HEADER_BYTES])
    if len(found) < RECORD_HEADER_BYTES or found[0] != HANDSHAKE or length > RECORD_BYTES:
        return RECORD_HEADER_BYTES
    return RECORD_HEADER_BYTES + length


async def _readable(sock: socket.socket) -> None:
    """Wait until there is something to read, or the end."""
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()
    loop.add_reader(sock, _set, ready)
    try:
        await ready
    finally:
        loop.remove_reader(sock)


def _set(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
