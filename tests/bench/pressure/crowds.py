"""Connections that never authenticate: what they cost a good login, and the process (PROTOCOL.md, rows 14 and 35, T6).

The lobby's own limits are raised where a crowd is to stay: with the defaults it would be thrown out, which is easier.
"""

import asyncio
import resource
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager
from statistics import median
from typing import Any

from tests.bench.pressure.finding import Finding
from tests.bench.pressure.memory import resident_kb
from tests.bench.pressure.stand import Stand, Way
from tests.harness.waiting import eventually

SLOW, SILENT = 500, 10_000
LOGINS = 60
"""Before, under and behind each crowd."""
DRIP_S = 10.0
FACTOR = 2.0
AIM_MB = 50.0
AIM_MB_EACH = 0.01
"""T6 has 50 MB for 5,000; here every one of a crowd is let stay."""
WITHIN_S = 120.0
_ADDRESSES = 200
_AT_ONCE = 50
_SPARE_DESCRIPTORS = 500
_FIRST_BYTES = bytes((0, 0, 0, 60, 0, 3, 0, 0)) + b"user\0" + bytes(40)
"""The start of a startup packet, for whoever sends a byte now and then."""


async def crowd(way: Way, count: int, held: ExitStack) -> list[socket.socket]:
    """Connections from many addresses, on which nothing is said."""
    loop = asyncio.get_running_loop()
    gate = asyncio.Semaphore(_AT_ONCE)

    async def connect(number: int) -> socket.socket:
        async with gate:
            raw = held.enter_context(socket.socket())
            raw.setblocking(False)  # noqa: FBT003 the socket module takes it by position
            raw.bind((f"127.0.1.{1 + number % _ADDRESSES}", 0))
            await loop.sock_connect(raw, ("127.0.0.1", way.proxy.port))
            return raw

    return list(await asyncio.gather(*(connect(number) for number in range(count))))


async def logins_ms(way: Way, count: int = LOGINS) -> list[float]:
    """How long good logins take, one after the other."""
    taken = []
    for _ in range(count):
        begun = time.perf_counter()
        async with await way.session() as wire:
            assert await wire.value("SELECT 1") == "1"
            taken.append((time.perf_counter() - begun) * 1_000)
    return taken


@asynccontextmanager
async def dripping(raws: list[socket.socket]) -> AsyncIterator[None]:
    """A byte on each of them every DRIP_S, spread over that time."""
    loop = asyncio.get_running_loop()

    async def drip(number: int, raw: socket.socket) -> None:
        await asyncio.sleep(DRIP_S * number / len(raws))  # They take turns.
        for byte in _FIRST_BYTES:
            await loop.sock_sendall(raw, bytes([byte]))
            await asyncio.sleep(DRIP_S)  # Slow on purpose.

    async with asyncio.TaskGroup() as group:
        drips = [group.create_task(drip(number, raw)) for number, raw in enumerate(raws)]
        yield
        for one in drips:
            one.cancel()


async def under(way: Way, what: str, count: int, *, slow: bool, say: Callable[[str], None]) -> list[Finding]:
    """Good logins before, under and behind such a crowd, and what it costs in memory."""
    assert way.proxy.process is not None
    before = await logins_ms(way)
    memory = resident_kb(way.proxy.process.pid)
    with ExitStack() as held:
        raws = await crowd(way, count, held)
        await eventually(lambda: way.proxy.metrics()["curfew_unauthenticated"] >= count, within=WITHIN_S)
        async with dripping(raws if slow else []):
            during = await logins_ms(way)
        assert way.proxy.metrics()["curfew_unauthenticated"] >= count, "the crowd did not stay"
        grown = (resident_kb(way.proxy.process.pid) - memory) / 1_024
    await eventually(lambda: way.proxy.metrics()["curfew_unauthenticated"] == 0, within=WITHIN_S)
    usual = median(before + await logins_ms(way))
    say(f"crowds  {what}: login {usual:.1f} ms usually, {median(during):.1f} ms (median of {len(during)})")
    return [
        Finding(what=f"login under {what}: times its usual", measured=median(during) / usual, unit="x", aim=FACTOR),
        Finding(what=f"memory for {what}", measured=grown, unit="MB", aim=max(AIM_MB, count * AIM_MB_EACH)),
    ]


async def exhausted(way: Way, say: Callable[[str], None]) -> list[Finding]:
    """With hardly a descriptor left: logins are served among those who take them all, and again behind them."""
    assert way.proxy.process is not None
    await logins_ms(way, 2)
    limit = way.proxy.descriptors() + 20
    resource.prlimit(way.proxy.process.pid, resource.RLIMIT_NOFILE, (limit, limit))
    failed = 0
    with ExitStack() as held:
        await crowd(way, limit * 4, held)
        for _ in range(10):
            try:
                await logins_ms(way, 1)
            except (OSError, EOFError, AssertionError):
                failed += 1
    await eventually(lambda: way.proxy.metrics()["curfew_unauthenticated"] == 0, within=WITHIN_S)
    await logins_ms(way, 2)
    say(
        f"crowds  {limit} descriptors: {10 - failed} of 10 logins served beside {limit * 4} connections, and all behind"
    )
    return [Finding(what="logins that failed with no descriptor to spare", measured=failed, unit="", aim=0)]


async def measure(stand: Stand, say: Callable[[str], None]) -> list[Finding]:
    """The slow and the silent, and those who leave no descriptor."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    silent = min(SILENT, hard - _SPARE_DESCRIPTORS) if hard != resource.RLIM_INFINITY else SILENT
    room: dict[str, Any] = {
        "max_connections": 2 * SILENT,
        "max_unauthenticated": 2 * SILENT,
        "max_unauthenticated_per_address": SILENT,
    }
    found: list[Finding] = []
    with stand.proxy(tls=True, auth_timeout_s=600, **room) as way:
        found += await under(way, f"{SLOW} slow ones", SLOW, slow=True, say=say)
        found += await under(way, f"{silent:,} silent ones", silent, slow=False, say=say)
    with stand.proxy(tls=True) as way:
        found += await exhausted(way, say)
    return found
