"""Listening: every address of a name, and accepting on when the process has run out of descriptors."""

import asyncio
import contextlib
import os
import resource
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from proxy import listener
from proxy.tasks import spawn
from tests.harness.waiting import eventually, never

DESCRIPTORS = Path("/proc/self/fd")


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    """A listening socket on a free port."""
    (bound,) = listener.bind("127.0.0.1", 0)
    with bound:
        yield bound


class Hall:
    """Where accepted sockets go, and who is asked for room."""

    def __init__(self) -> None:
        self.sockets: list[socket.socket] = []
        self.addresses: list[str] = []
        self.asked = 0
        self.room: list[int] = []
        """Descriptors that can be closed to make some."""

    def welcome(self, accepted: socket.socket, address: str) -> None:
        """Take one in."""
        self.sockets.append(accepted)
        self.addresses.append(address)

    def make_room(self) -> bool:
        """Close one of the descriptors that may be closed."""
        self.asked += 1
        if self.room:
            os.close(self.room.pop())
            return True
        return False


@pytest.fixture
def hall() -> Iterator[Hall]:
    """An empty one."""
    made = Hall()
    yield made
    for accepted in made.sockets:
        accepted.close()
    for descriptor in made.room:
        os.close(descriptor)


@contextmanager
def accepting(listening: socket.socket, hall: Hall) -> Iterator[None]:
    """Accept meanwhile."""
    task = spawn("accept", listener.accept(listening, hall.welcome, hall.make_room))
    try:
        yield
    finally:
        task.cancel()


@contextmanager
def no_descriptors(hall: Hall) -> Iterator[None]:
    """Use all the descriptors there are up to a lowered limit. The last ones are the hall's to close."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(int(one.name) for one in DESCRIPTORS.iterdir())
    with ExitStack() as taken:
        resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 8, limits[1]))
        try:
            filled: list[int] = []
            try:
                while True:
                    filled.append(os.dup(0))
            except OSError:
                hall.room += filled[-1:]
                for descriptor in filled[:-1]:
                    taken.callback(os.close, descriptor)
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)


async def test_accept(listening: socket.socket, hall: Hall) -> None:
    """Each connection is handed over with its address, ready for the event loop."""
    with accepting(listening, hall), ExitStack() as clients:
        for _ in range(3):
            clients.enter_context(socket.create_connection(listening.getsockname()))
        await eventually(lambda: len(hall.sockets) == 3)
        assert hall.addresses == ["127.0.0.1"] * 3
        assert all(not one.getblocking() for one in hall.sockets)


async def test_tuned(listening: socket.socket, hall: Hall) -> None:
    """No delay, and a dead peer is found out within about 90 s."""
    with accepting(listening, hall), socket.create_connection(listening.getsockname()):
        await eventually(lambda: hall.sockets)
        (accepted,) = hall.sockets
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        wait = accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE)
        count = accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT)
        assert wait + count * accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL) == 90


async def test_out_of_descriptors(listening: socket.socket, hall: Hall) -> None:
    """Room is asked for, and the connection that waited is taken in."""
    with ExitStack() as clients:
        clients.enter_context(socket.create_connection(listening.getsockname()))
        with no_descriptors(hall), accepting(listening, hall):
            await eventually(lambda: hall.sockets)
            assert hall.asked == 1


async def test_out_of_descriptors_with_nobody_waiting(listening: socket.socket, hall: Hall) -> None:
    """accept(2) fails then too; but nobody is dropped for nobody."""
    with no_descriptors(hall), accepting(listening, hall):
        await never(lambda: hall.asked, during=3 * listener.PAUSE_S)


async def test_out_of_descriptors_without_room(listening: socket.socket, hall: Hall) -> None:
    """It asks again, not in a hurry, and goes on by itself when descriptors come back."""
    with ExitStack() as clients:
        clients.enter_context(socket.create_connection(listening.getsockname()))
        loop = asyncio.get_running_loop()
        with no_descriptors(hall):
            kept, hall.room = hall.room, []
            began = loop.time()
            with accepting(listening, hall):
                await eventually(lambda: hall.asked >= 3)
                assert loop.time() - began >= 2 * listener.PAUSE_S
                assert not hall.sockets
                os.close(kept.pop())
                await eventually(lambda: hall.sockets)


async def test_a_connection_that_is_lost_meanwhile(listening: socket.socket, hall: Hall) -> None:
    """An error of that one connection, as Linux reports them at accept, stops nothing and costs nobody a place."""
    loop = asyncio.get_running_loop()
    real, failed = loop.sock_accept, False

    async def sometimes(sock: socket.socket) -> tuple[socket.socket, object]:
        nonlocal failed
        if not failed:
            failed = True
            raise ConnectionAbortedError(103, "Software caused connection abort")
        return await real(sock)

    loop.sock_accept = sometimes  # type: ignore[method-assign]
    with accepting(listening, hall), socket.create_connection(listening.getsockname()):
        await eventually(lambda: hall.sockets)
        assert (failed, hall.asked) == (True, 0)


def test_bind_every_address() -> None:
    """A name may have several; each has its own socket, IPv6 without IPv4 in it."""
    bound = listener.bind("localhost", 0)
    try:
        families = [one.family for one in bound]
        assert socket.AF_INET in families
        assert len(families) == len(set(families))
        for one in bound:
            if one.family == socket.AF_INET6:
                assert one.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
    finally:
        for one in bound:
            one.close()


def test_a_port_that_is_taken(listening: socket.socket) -> None:
    """Is an OSError, and leaves no socket open."""
    before = len(list(DESCRIPTORS.iterdir()))
    with pytest.raises(OSError, match="in use"):
        listener.bind(*listening.getsockname())
    assert len(list(DESCRIPTORS.iterdir())) == before


def test_descriptors_for_guests(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is left beside two for each session; one guest at least."""
    monkeypatch.setattr("proxy.listener.resource.getrlimit", lambda _: (1024, 4096))
    assert listener.descriptors_for_guests(sessions=400, targets=2) == 1024 - 32 - 800 - 2
    assert listener.descriptors_for_guests(sessions=4000, targets=2) == 1


def test_raise_descriptor_limit() -> None:
    """To the hard limit, which is the administrator's word."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, hard), hard))
        listener.raise_descriptor_limit()
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_in_turn(listening: socket.socket, hall: Hall) -> None:
    """Whose turn it is accepts; the other one does not, though it was woken as well."""
    other = Hall()
    with contextlib.closing(listening.dup()) as shared:
        tasks = [
            spawn("accept", listener.accept(listening, hall.welcome, hall.make_room, lambda: False)),
            spawn("accept", listener.accept(shared, other.welcome, other.make_room, lambda: True)),
        ]
        with ExitStack() as clients:
            for number in range(1, 4):
                clients.enter_context(socket.create_connection(listening.getsockname()))
                await eventually(lambda number=number: len(other.sockets) == number)  # type: ignore[misc]  # a default
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
    assert hall.sockets == []
    for accepted in other.sockets:
        accepted.close()


async def test_out_of_turn(listening: socket.socket, hall: Hall) -> None:
    """A connection that nobody takes whose turn it is (it hangs) is taken by another one, after a while."""
    task = spawn("accept", listener.accept(listening, hall.welcome, hall.make_room, lambda: False))
    with socket.create_connection(listening.getsockname()):
        await never(lambda: hall.sockets, during=listener.DEFER_S * (listener.DEFER_TIMES - 2))
        await eventually(lambda: hall.sockets)
    task.cancel()
