"""Listening: bind, accept, and survive what goes wrong with it. What an accepted socket becomes is the server's."""

import asyncio
import errno
import resource
import select
import socket
from collections.abc import Callable

import structlog

BACKLOG = 4096
PAUSE_S = 0.05
DEFER_S = 0.01
DEFER_TIMES = 10
"""How long, and how often again, a process leaves a connection to another one whose turn it is."""
RESERVED_DESCRIPTORS = 32
"""For what is no connection: the journal, the ops port, a password's file, a name being looked up."""
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
    my_turn: Callable[[], bool] | None = None,
) -> None:
    """Hand every accepted socket to `welcome`, until cancelled. Out of descriptors, `make_room` and go on.

    Where other processes accept from the same socket, `my_turn` says whether this one should be the first to.
    """
    loop = asyncio.get_running_loop()
    while True:
        try:
            if my_turn is None:
                accepted, address = await loop.sock_accept(listening)
            else:
                accepted, address = await _accept_in_turn(loop, listening, my_turn)
        except OSError as error:
            if error.errno not in EXHAUSTED:
                log.warning("a connection was lost before it was accepted", error=str(error))
            elif _somebody_waits(listening) and not make_room():
                log.error("no descriptors left to accept a connection with; raise the limit (ulimit -n)")  # noqa: TRY400 expected
            await asyncio.sleep(PAUSE_S)
            continue
        tune(accepted)
        welcome(accepted, address[:2])
        # Its task must begin before the next one may push it out: one that is cancelled before that closes no socket.
        # And an accept that need not wait lets nobody else run.
        await asyncio.sleep(0)


async def _accept_in_turn(
    loop: asyncio.AbstractEventLoop, listening: socket.socket, my_turn: Callable[[], bool]
) -> tuple[socket.socket, tuple[str, int]]:
    """Accept; out of turn, only what nobody else has taken after a while."""
    while True:
        await _readable(loop, listening)
        for _ in range(DEFER_TIMES):
            if my_turn():
                break
            await asyncio.sleep(DEFER_S)
        try:
            return listening.accept()
        except (BlockingIOError, InterruptedError):
            continue  # somebody else was quicker


async def _readable(loop: asyncio.AbstractEventLoop, listening: socket.socket) -> None:
    waiting = asyncio.Event()
    loop.add_reader(listening, waiting.set)
    try:
        await waiting.wait()
    finally:
        loop.remove_reader(listening)


def _somebody_waits(listening: socket.socket) -> bool:
    """Whether there is a connection to accept: accept(2) takes a descriptor first, and fails where nobody waits too."""
    poll = select.poll()
    poll.register(listening, select.POLLIN)
    return bool(poll.poll(0))


def raise_descriptor_limit() -> None:
    """Use all the descriptors that the machine's administrator allows (the hard limit)."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def descriptors_for_guests(*, sessions: int, targets: int) -> int:
    """How many unauthenticated connections leave enough descriptors for the sessions, and for the next login."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(1, soft - RESERVED_DESCRIPTORS - 2 * sessions - targets)


def tune(accepted: socket.socket) -> None:
    """No waiting for more to send; an idle peer that is gone is noticed within about 90 s.

    No TCP_USER_TIMEOUT: Linux applies it to a peer that lives and only does not read (a person in a pager), too.
    """
    accepted.setblocking(False)  # noqa: FBT003 the socket module takes it by position
    for level, option, value in (
        (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
        (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
        (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 60),
        (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 10),
        (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
    ):
        accepted.setsockopt(level, option, value)
