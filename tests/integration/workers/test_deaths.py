"""Workers that die, and a supervisor that dies: nothing is left that nobody controls, and the others go on."""

import asyncio
import os
import signal
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from proxy.contract.record import SessionStart
from tests.conftest import Watcher
from tests.harness.certs import Authority
from tests.harness.postgres import Cluster
from tests.harness.proc import runs
from tests.harness.proxy import Proxy
from tests.harness.waiting import eventually
from tests.harness.wire import query
from tests.integration.workers.conftest import MakeWorkers, backends_of, kill_worker, sessions, worker_pids
from tests.integration.workers.house import DOORS, House, furnished

DEAD_MAN_S = 5.0


@pytest.fixture
def own_house(postgres: Cluster, ca: Authority, sockets: Path, tmp_path: Path) -> Iterator[House]:
    """A house of the test's own."""
    options = {"drain_timeout_s": 60, "unix_socket": {"mode": "0600"}}
    made = furnished(Proxy(cluster=postgres, ca=ca, folder=tmp_path / "house", options=options), sockets)
    with made.proxy:
        yield made


async def gone(watcher: Watcher, backends: list[int]) -> float:
    """Wait until none of these backends is left; how long that took."""
    began = time.monotonic()

    async def none_left() -> bool:
        left = "SELECT count(*) FROM pg_stat_activity WHERE pid = ANY($1) AND backend_type = 'client backend'"
        return bool(await watcher.fetchval(left, backends) == 0)

    await eventually(none_left, within=DEAD_MAN_S, what="the end of the backends")
    return time.monotonic() - began


async def sleeping(watcher: Watcher, backends: list[int]) -> bool:
    """Whether all of these do."""
    found = "SELECT count(*) FROM pg_stat_activity WHERE pid = ANY($1) AND wait_event = 'PgSleep'"
    return bool(await watcher.fetchval(found, backends) == len(backends))


def ends(proxy: Proxy) -> list[str]:
    """Why sessions have ended, so far."""
    return sorted(one.reason for one in proxy.ended())


async def test_a_worker_that_is_killed(own_house: House, watcher: Watcher) -> None:
    """Its backends are gone at once, the other worker's sessions notice nothing, and it comes back to its share."""
    proxy = own_house.proxy
    async with sessions(proxy, 8) as held:
        by_pid = {wire.pid: wire for wire in held}
        lost, kept = backends_of(proxy, 1), backends_of(proxy, 2)
        assert len(lost) == len(kept) == 4
        for wire in held:
            wire.send(query("SELECT pg_sleep(2)" if wire.pid in kept else "SELECT pg_sleep(60)"))
        await eventually(lambda: sleeping(watcher, [wire.pid for wire in held]))
        before = proxy.metrics()
        proxy.config.write_text("[proxy\n")  # as somebody may have left it: what is in force counts
        await kill_worker(proxy, 1)
        await gone(watcher, lost)
        # By the other worker, while the new one was starting yet.
        said = '{"backends": 4, "of": 4, "event": "ended what a dead worker has left", "worker": 2,'
        await eventually(lambda: said in proxy.log())
        assert proxy.log().partition(said)[0].count('"accepting"') == 2
        for pid in kept:
            assert not [one for one in await by_pid[pid].until("Z") if one.kind == "E"]
        for pid in lost:
            assert await by_pid[pid].bytes_left() == b""
        await eventually(lambda: proxy.ops("/readyz")[0] == 200)
        await eventually(lambda: ends(proxy) == ["crashed"] * 4)
        after = proxy.metrics()
        assert (after["curfew_workers"], after["curfew_worker_restarts_total"]) == (2, 1)
        assert after["curfew_sessions_total"] == before["curfew_sessions_total"] == 8
        async with own_house.sessions("oauth, unix", 4) as more:
            assert len(backends_of(proxy, 1)) > 4  # all four but for those that a busy machine gives to the other
            assert {await wire.value("SELECT 1") for wire in more} == {"1"}


async def test_a_worker_that_is_killed_before_it_ever_served(postgres: Cluster, ca: Authority, tmp_path: Path) -> None:
    """The supervisor took it for one that cannot start, and ended all of the proxy."""
    proxy = Proxy(cluster=postgres, ca=ca, folder=tmp_path / "proxy", options={"workers": 2})
    starting = asyncio.get_running_loop().create_task(asyncio.to_thread(proxy.start))
    try:
        first = await eventually(lambda: worker_pids(proxy) if proxy.process is not None else [], within=60)
        os.kill(first[0], signal.SIGKILL)
        await starting
        counts = proxy.metrics()
        assert (counts["curfew_workers"], counts["curfew_worker_restarts_total"]) == (2, 1)
    finally:
        await asyncio.gather(starting, return_exceptions=True)
        await asyncio.to_thread(proxy.close)


async def test_the_supervisor_is_killed(own_house: House, watcher: Watcher) -> None:
    """Its workers end what runs, verified and with a record, and then themselves.

    The ports are free again, and the unix sockets, which it could not remove, are no obstacle; a stopped one does.
    """
    proxy = own_house.proxy
    assert proxy.process is not None
    assert [path.stat().st_mode & 0o777 for path in own_house.files] == [0o600] * 2
    pids = worker_pids(proxy)
    async with AsyncExitStack() as stack:
        held = [await stack.enter_async_context(await own_house.log_in(door)) for door in DOORS]
        for wire in held:
            wire.send(query("SELECT pg_sleep(60)"))
            await wire.drain()
        proxy.signal(signal.SIGKILL)
        await gone(watcher, [wire.pid for wire in held])
        assert [(await wire.rest())[-1].fields["C"] for wire in held] == ["57P01"] * 4
    assert await asyncio.to_thread(proxy.process.wait) == -signal.SIGKILL
    await eventually(lambda: not any(map(runs, pids)), what="the workers' end")
    assert [(one.reason, one.gone_at is not None) for one in proxy.ended()] == [("drained", True)] * 4
    for one in proxy.records():
        if isinstance(one, SessionStart):
            await proxy.session_of(one.grant)  # whole, and signed
    assert all(path.is_socket() for path in own_house.files)
    proxy.start()
    async with own_house.sessions("password, unix", 1), own_house.sessions("oauth", 1):
        proxy.signal(signal.SIGTERM)
        await eventually(lambda: not any(path.exists() for path in own_house.files))


async def test_a_worker_that_dies_during_the_drain(make_workers: MakeWorkers, watcher: Watcher) -> None:
    """What it leaves is ended before the proxy is."""
    proxy = make_workers(drain_timeout_s=1.0)
    assert proxy.process is not None
    async with sessions(proxy, 2) as held:
        proxy.signal(signal.SIGTERM)
        await eventually(lambda: proxy.ops("/readyz") == (503, "draining\n"))
        await kill_worker(proxy, 1)
        assert await asyncio.to_thread(proxy.process.wait, within=20) == 0
        assert await gone(watcher, [wire.pid for wire in held]) < 1
    assert ends(proxy) == ["crashed", "drained"]
