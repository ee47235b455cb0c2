"""A cancel request finds its session, whichever worker it comes to (PROTOCOL row 91)."""

import asyncio
from collections import Counter

from proxy.contract.record import Cancel
from tests.conftest import MakeProxy
from tests.harness.postgres import Cluster
from tests.harness.proxy import Proxy
from tests.harness.waiting import eventually
from tests.harness.wire import PROTOCOL_3_0, PROTOCOL_3_2, Wire, cancel_request, query
from tests.integration.workers.conftest import backends_of, emptied, sessions

WORKERS = 4
ROUNDS = 25


async def send_cancel(proxy: Proxy, pid: int, secret: bytes) -> bytes:
    """A CancelRequest on a connection of its own; what came back until it was closed."""
    async with await Wire.plain(proxy.port) as wire:
        wire.send(cancel_request(pid, secret))
        return await wire.bytes_left()


async def cancel_often(proxy: Proxy, wire: Wire) -> None:
    """Have a statement run and cancel it, ROUNDS times; a statement behind each must not be hit."""
    watcher = await proxy.cluster.connect()

    async def runs() -> bool:
        found = "SELECT state = 'active' AND wait_event = 'PgSleep' FROM pg_stat_activity WHERE pid = $1"
        return bool(await watcher.fetchval(found, wire.pid))

    for number in range(ROUNDS):
        wire.send(query("SELECT pg_sleep(60)"))
        await eventually(runs)
        assert await send_cancel(proxy, wire.pid, wire.secret) == b""
        said = await wire.until("Z")
        assert [one.fields["C"] for one in said if one.kind == "E"] == ["57014"]
        assert await wire.value(f"SELECT {number}") == str(number)
    await watcher.close()


async def test_a_hundred_cancels_over_four_workers(make_proxy: MakeProxy, postgres: Cluster) -> None:
    """Each ends the statement that it is for, and nothing else: three in four of them come to a wrong worker."""
    proxy = make_proxy(postgres, options={"workers": WORKERS})
    half = WORKERS // 2
    async with sessions(proxy, half, version=PROTOCOL_3_0) as old, sessions(proxy, half, version=PROTOCOL_3_2) as new:
        assert all(backends_of(proxy, worker) for worker in range(1, WORKERS + 1))
        assert [len(wire.secret) for wire in (*old, *new)] == [4] * half + [32] * half
        await asyncio.gather(*(cancel_often(proxy, wire) for wire in (*old, *new)))
    await emptied(proxy)
    records = [one for one in proxy.records() if isinstance(one, Cancel)]
    assert Counter(one.forwarded for one in records) == {True: WORKERS * ROUNDS}
    assert {one.address for one in records} == {"127.0.0.1"}
    assert proxy.metrics()["curfew_cancel_requests_total"] == WORKERS * ROUNDS


async def test_unknown_keys_find_nobody(pair: Proxy) -> None:
    """A wrong secret, and a wrong pid, whichever worker they come to: closed without a word, nothing is cancelled."""
    async with sessions(pair, 2) as held:
        for wire in held:
            wire.send(query("SELECT pg_sleep(1.5)"))
        wrong = [(wire.pid, bytes(4)) for wire in held] + [(1, held[0].secret)]
        for pid, secret in wrong * 4:
            assert await send_cancel(pair, pid, secret) == b""
        for wire in held:
            assert not [one for one in await wire.until("Z") if one.kind == "E"]
    secrets = {wire.secret.hex() for wire in held}
    assert not [secret for secret in secrets if secret in pair.log()]
    await emptied(pair)
