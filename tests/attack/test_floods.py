"""Connections in masses: nobody else notices, memory and descriptors are bounded, and nothing is left of them."""

import asyncio
import os
import resource
import socket
import time
from contextlib import ExitStack
from typing import Any

import pytest

from tests.conftest import MakeProxy
from tests.harness.postgres import Cluster
from tests.harness.proxy import Proxy
from tests.harness.waiting import eventually
from tests.harness.wire import SSL_REQUEST, Wire, startup

FLOOD = int(os.environ.get("CURFEW_TEST_FLOOD", "1500"))
"""How many connections: 10000 shows what DESIGN.md asks for, and takes a while."""
AT_ONCE = 50
MEMORY_BYTES = 50 * 1024 * 1024
LOGIN_S = 5.0
"""A good login during a flood, behind thousands in the backlog, on a machine that also runs the flood."""
LORIS_S = 2.5
"""What a login may take where somebody holds others up: more than one takes on such a machine."""
BEGINNINGS = (b"", b"\0", SSL_REQUEST, SSL_REQUEST + b"\x16\x03\x01\x02\0", startup(("user", "dba1")), bytes(8))


async def flood(proxy: Proxy, count: int, held: ExitStack) -> None:
    """Open `count` connections from 20 addresses, each with some beginning, and keep all of them open."""
    loop = asyncio.get_running_loop()
    gate = asyncio.Semaphore(AT_ONCE)

    async def connect(number: int) -> None:
        async with gate:
            raw = held.enter_context(socket.socket())
            raw.setblocking(False)  # noqa: FBT003 the socket module takes it by position
            raw.bind((f"127.0.0.{2 + number % 20}", 0))
            await loop.sock_connect(raw, ("127.0.0.1", proxy.port))
            if beginning := BEGINNINGS[number % len(BEGINNINGS)]:
                await loop.sock_sendall(raw, beginning)

    await asyncio.gather(*(connect(number) for number in range(count)), return_exceptions=True)


async def login_s(proxy: Proxy) -> float:
    """How long a good login takes; whoever is pushed out by a flood tries again."""
    begun = time.monotonic()
    while True:
        try:
            async with await Wire.tls(proxy.port, proxy.ca.client_context()) as wire:
                await wire.log_in(proxy.token())
                assert await wire.value("SELECT 1") == "1"
                return time.monotonic() - begun
        except (ConnectionError, EOFError):
            assert time.monotonic() - begun < LOGIN_S


async def logins_during(proxy: Proxy, flooding: asyncio.Future[Any]) -> list[float]:
    """The times of good logins, one after the other, until the flood is over; and of one behind it."""
    taken = [await login_s(proxy)]
    while not flooding.done():
        taken.append(await login_s(proxy))
    return [*taken, await login_s(proxy)]


@pytest.mark.timeout(600)
async def test_connections_that_never_authenticate(make_proxy: MakeProxy, postgres: Cluster) -> None:
    """Thousands of them: good logins go on, memory is bounded, and every descriptor comes back."""
    target = make_proxy(postgres, options={"auth_timeout_s": 5})
    await login_s(target)
    memory = target.resident_bytes()
    await eventually(lambda: target.metrics()["curfew_sessions_live"] == 0)
    descriptors = target.descriptors()
    with ExitStack() as held:
        flooding = asyncio.gather(flood(target, FLOOD, held))
        taken = await logins_during(target, flooding)
        await flooding
        grown = target.resident_bytes() - memory
        assert target.metrics()["curfew_unauthenticated"] <= 500
        assert target.descriptors() <= descriptors + 520
    await eventually(lambda: target.descriptors() <= descriptors)
    assert target.metrics()["curfew_connections_total"] >= FLOOD
    assert grown < MEMORY_BYTES
    assert max(taken) < LOGIN_S, sorted(taken)[-5:]
    assert await login_s(target) < LOGIN_S


async def test_slow_loris(make_proxy: MakeProxy, postgres: Cluster) -> None:
    """A byte now and then does not prolong anybody's time, and keeps nobody else out."""
    target = make_proxy(postgres, options={"auth_timeout_s": LORIS_S})
    await login_s(target)
    data = SSL_REQUEST[:6]

    async def drip(wire: Wire) -> float:
        begun = time.monotonic()
        for byte in data:
            wire.send(bytes([byte]))
            if wire.closing:
                break
            await asyncio.sleep(LORIS_S / 4)  # This client is slow on purpose.
        assert await wire.bytes_left() == b""
        return time.monotonic() - begun

    async def loris() -> float:
        async with await Wire.plain(target.port) as wire:
            return await drip(wire)

    drips = asyncio.gather(*(loris() for _ in range(80)))
    assert max(await logins_during(target, asyncio.gather(drips))) < LOGIN_S
    assert max(await drips) < LORIS_S + 2


async def test_oldest_guest_makes_room(make_proxy: MakeProxy, postgres: Cluster) -> None:
    """A full lobby drops its oldest guest of the same address, and says so in a metric."""
    target = make_proxy(postgres, options={"max_unauthenticated_per_address": 3})
    wires = [await Wire.plain(target.port) for _ in range(3)]
    await eventually(lambda: target.metrics()["curfew_unauthenticated"] == 3)
    async with wires[0] as first, wires[1] as second, wires[2]:
        await login_s(target)
        assert await first.bytes_left() == b""
        with pytest.raises(AssertionError, match="no answer"):
            await second.read(within=0.2)
    assert target.metrics()['curfew_limited_total{limit="unauthenticated_per_address"}'] == 1


async def test_max_connections(make_proxy: MakeProxy, postgres: Cluster) -> None:
    """Above it a connection is closed at once; the sessions that there are go on."""
    target = make_proxy(postgres, options={"max_connections": 2})
    async with (
        await Wire.tls(target.port, target.ca.client_context()) as one,
        await Wire.tls(target.port, target.ca.client_context()) as two,
    ):
        await one.log_in(target.token())
        await two.log_in(target.token())
        async with await Wire.plain(target.port) as three:
            assert await three.bytes_left() == b""
        assert await one.value("SELECT 1") == "1"
    await eventually(lambda: target.metrics()["curfew_sessions_live"] == 0)
    await login_s(target)


async def test_too_many_sessions(make_proxy: MakeProxy, postgres: Cluster) -> None:
    """`max_sessions`: one more is told 53300, and gets in once another has left."""
    target = make_proxy(postgres, options={"max_sessions": 1})
    async with await Wire.tls(target.port, target.ca.client_context()) as one:
        await one.log_in(target.token())
        assert (await refused(target, target.token()))["C"] == "53300"
    await eventually(lambda: target.metrics()["curfew_sessions_live"] == 0)
    await login_s(target)


async def test_too_many_sessions_of_a_grant(proxy: Proxy) -> None:
    """What the grant itself says counts for it alone."""
    token = proxy.token(max_sessions=1)
    async with await Wire.tls(proxy.port, proxy.ca.client_context()) as one:
        await one.log_in(token)
        told = await refused(proxy, token)
        assert (told["C"], told["D"].endswith("allows 1 at once.")) == ("53300", True)
        await login_s(proxy)


async def refused(proxy: Proxy, token: str) -> dict[str, str]:
    """What a login is told that is refused."""
    async with await Wire.tls(proxy.port, proxy.ca.client_context()) as wire:
        with pytest.raises(AssertionError) as caught:
            await wire.log_in(token)
    fields: dict[str, str] = caught.value.fields  # type: ignore[attr-defined]
    return fields


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
async def test_out_of_descriptors(make_proxy: MakeProxy, postgres: Cluster, loop: str) -> None:
    """The process lives, its sessions go on, and it serves again as soon as there is room."""
    target = make_proxy(postgres, environment={"CURFEW_LOOP": loop})
    assert target.process is not None
    async with await Wire.tls(target.port, target.ca.client_context()) as wire:
        await wire.log_in(target.token())
        limit = target.descriptors() + 20
        resource.prlimit(target.process.pid, resource.RLIMIT_NOFILE, (limit, limit))
        with ExitStack() as held:
            await flood(target, 200, held)
            assert await wire.value("SELECT 1") == "1"
            assert target.ops("/livez") == (200, "ok\n")
            await login_s(target)
        await eventually(lambda: target.metrics()["curfew_unauthenticated"] == 0)
        await login_s(target)
        assert await wire.value("SELECT 2") == "2"


async def test_not_one_descriptor_left(make_proxy: MakeProxy, postgres: Cluster) -> None:
    """The process says so and waits; who knocked meanwhile is served when there is room again."""
    target = make_proxy(postgres)
    assert target.process is not None
    async with await Wire.tls(target.port, target.ca.client_context()) as wire:
        await wire.log_in(target.token())
        used, before = target.descriptors(), resource.prlimit(target.process.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(target.process.pid, resource.RLIMIT_NOFILE, (used, before[1]))
        waiting = asyncio.gather(login_s(target))
        await eventually(lambda: "no descriptors left to accept a connection with" in target.log())
        assert await wire.value("SELECT 1") == "1"
        resource.prlimit(target.process.pid, resource.RLIMIT_NOFILE, before)
        await waiting
