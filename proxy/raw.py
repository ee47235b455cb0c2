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
    first = await _peek_at(sock, 1)
    if not first:
        raise ClientGone
    return first[0]


async def peek_record(sock: socket.socket) -> bytes:
    """A TLS record of the handshake, left where it is; less, where the stream ends in it or it is none."""
    try:
        header = await _peek_at(sock, RECORD_HEADER_BYTES)
        length = int.from_bytes(header[3:])
        if len(header) < RECORD_HEADER_BYTES or header[0] != HANDSHAKE or length > RECORD_BYTES:
            return header
        return await _peek_at(sock, RECORD_HEADER_BYTES + length)
    finally:
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


async def _peek_at(sock: socket.socket, count: int) -> bytes:
    """The next `count` bytes, left where they are; less, where the stream ends."""
    if count > 1:
        # The kernel says "readable" from so many bytes on (socket(7)): a peer that dribbles keeps nobody busy.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, count)
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()
    loop.add_reader(sock, _set, ready)
    try:
        await ready
    finally:
        loop.remove_reader(sock)
    return sock.recv(count, socket.MSG_PEEK)


def _set(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
