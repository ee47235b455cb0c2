"""Listening: bind, accept, and survive what goes wrong with it. What an accepted socket becomes is the server's."""

import asyncio
import errno
import socket
from collections.abc import Callable

import structlog

BACKLOG = 4096
PAUSE_S = 0.05
EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})

log = structlog.get_logger(__name__)


def bind(host: str, port: int) -> list[socket.socket]:
    """Listening sockets for every address that `host` names. Raises OSError."""
    bound: list[socket.socket] = []
    try:
        for family, kind, protocol, _, address in socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        ):
            listening = socket.socket(family, kind, protocol)
            bound.append(listening)
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            listening.setblocking(False)  # noqa: FBT003 the socket module takes it by position
            listening.bind(address)
            listening.listen(BACKLOG)
    except OSError:
        for listening in bound:
            listening.close()
        raise
    return bound


async def accept(
    listening: socket.socket,
    welcome: Callable[[socket.socket, tuple[str, int]], None],
    make_room: Callable[[], bool],
) -> None:
    """Hand every accepted socket to `welcome`, until cancelled. Out of descriptors, `make_room` and go on."""
    loop = asyncio.get_running_loop()
    while True:
        try:
            accepted, address = await loop.sock_accept(listening)
        except OSError as error:
            if error.errno not in EXHAUSTED:
                log.warning("a connection was lost before it was accepted", error=str(error))
            elif not make_room():
                log.error("no descriptors left to accept a connection with; raise the limit (ulimit -n)")  # noqa: TRY400 expected
            await asyncio.sleep(PAUSE_S)
            continue
        tune(accepted)
        welcome(accepted, address[:2])


def tune(accepted: socket.socket) -> None:
    """No waiting for more to send; a peer that is gone is noticed within about 90 s."""
    accepted.setblocking(False)  # noqa: FBT003 the socket module takes it by position
    for level, option, value in (
        (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
        (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
        (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 60),
        (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 10),
        (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
        (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 90_000),
    ):
        accepted.setsockopt(level, option, value)
