"""The tests' event loop: a goodbye that takes its time is waited for, a forgotten connection is still warned of."""

import asyncio
import contextlib
import gc
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from tests.harness.certs import Authority
from tests.harness.loop import GoodbyeLoop


@contextlib.contextmanager
def slow_server(ca: Authority) -> Iterator[int]:
    """The port of a TLS server for one connection, which says goodbye 0.2 s after its client did."""
    context = ca.server_context()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            accepted, _ = listener.accept()
            with accepted, context.wrap_socket(accepted, server_side=True) as connection:
                connection.settimeout(5)
                while connection.recv(1):
                    pass
                time.sleep(0.2)  # the server's slowness
                with contextlib.suppress(OSError):
                    connection.unwrap()

        thread = threading.Thread(target=serve)
        thread.start()
        yield listener.getsockname()[1]
        thread.join()


def test_goodbyes_are_waited_for(ca: Authority) -> None:
    """A TLS connection that is being closed when the loop ends leaves no socket to the garbage collector."""

    async def connect_and_leave(port: int) -> None:
        transport, _ = await asyncio.get_running_loop().create_connection(
            asyncio.Protocol, "127.0.0.1", port, ssl=ca.client_context(), server_hostname="localhost"
        )
        transport.close()  # and nobody waits for it, as when a login of asyncpg's is refused

    with slow_server(ca) as port, asyncio.Runner(loop_factory=GoodbyeLoop) as runner:
        runner.run(connect_and_leave(port))
    gc.collect()  # an open transport would be a ResourceWarning here, which fails the test


def test_the_forgotten_are_still_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that nobody closes holds the loop up for `GOODBYE` seconds, then asyncio warns of it."""
    monkeypatch.setattr("tests.harness.loop.GOODBYE", 0.05)

    async def forget(port: int) -> None:
        await asyncio.get_running_loop().create_connection(asyncio.Protocol, "127.0.0.1", port)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        with asyncio.Runner(loop_factory=GoodbyeLoop) as runner:
            runner.run(forget(listener.getsockname()[1]))
        with pytest.warns(ResourceWarning, match="unclosed"):
            gc.collect()
