"""Listening: bind, accept, and survive what goes wrong with it. What an accepted socket becomes is the server's."""

import asyncio
import contextlib
import errno
import fcntl
import os
import resource
import select
import socket
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass

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


@dataclass(frozen=True, slots=True, kw_only=True)
class SocketFile:
    """A unix socket's place in the file system."""

    path: str
    device: int
    inode: int

    def remove(self) -> None:
        """Remove it, if it is still the one that was made: somebody else's is left alone."""
        with contextlib.suppress(OSError):
            found = os.lstat(self.path)
            if (found.st_dev, found.st_ino) == (self.device, self.inode):
                os.unlink(self.path)  # noqa: PTH108 a path that was never a Path


def bind_unix(path: str, *, mode: int, gid: int) -> tuple[socket.socket, SocketFile]:
    """A listening unix socket, and its file. What a dead process left there goes. Raises OSError."""
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listening.setblocking(False)  # noqa: FBT003 the socket module takes it by position
        with _locked(os.path.dirname(path)):  # noqa: PTH120 as above
            _clear(path)
            # Nobody gets in before the mode and the group are what they should be.
            mask = os.umask(0o777)
            try:
                listening.bind(path)
            finally:
                os.umask(mask)
        made = os.lstat(path)
        file = SocketFile(path=path, device=made.st_dev, inode=made.st_ino)
        try:
            if gid >= 0:
                os.chown(path, -1, gid)
            os.chmod(path, mode)  # noqa: PTH101 as above
            listening.listen(BACKLOG)
        except OSError:
            file.remove()
            raise
    except OSError:
        listening.close()
        raise
    return listening, file


@contextlib.contextmanager
def _locked(folder: str) -> Iterator[None]:
    """One process at a time looks whether a socket here is alive and makes its own: two would remove each other's."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _clear(path: str) -> None:
    """Remove a socket that nobody listens on any more. Raises OSError for one that is in use, and for what is none."""
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise FileExistsError(errno.EEXIST, "there is a file, and it is no socket", path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)  # noqa: FBT003 the socket module takes it by position
        if probe.connect_ex(path) != errno.ECONNREFUSED:
            raise OSError(errno.EADDRINUSE, "another process listens there", path)
    os.unlink(path)  # noqa: PTH108 as above


async def accept(
    listening: socket.socket,
    welcome: Callable[[socket.socket, str], None],
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
        welcome(accepted, address[0] if listening.family != socket.AF_UNIX else "")
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

    No TCP_USER_TIMEOUT: Linux applies it to a peer that lives and only does not read (a person in a pager), too. One
    that vanishes with data on its way to it is `proxy.vanished`'s to find.
    """
    accepted.setblocking(False)  # noqa: FBT003 the socket module takes it by position
    if accepted.family == socket.AF_UNIX:
        return
    for level, option, value in (
        (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
        (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
        (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 60),
        (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 10),
        (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
    ):
        accepted.setsockopt(level, option, value)
