"""SIGTERM drains: nobody new, and those who are in may finish for a while; a second signal means now."""

import asyncio
import signal
import socket
import time

import pytest

from proxy.contract.record import SessionEnd, decode
from tests.conftest import MakeProxy, Watcher
from tests.harness.postgres import Cluster
from tests.harness.proxy import Proxy, new_grant_id
from tests.harness.waiting import eventually
from tests.harness.wire import TERMINATE, Wire, query

DRAIN_S = 1.5


@pytest.fixture
def draining(make_proxy: MakeProxy, postgres: Cluster) -> Proxy:
    """A proxy that drains quickly."""
    return make_proxy(postgres, options={"drain_timeout_s": DRAIN_S})


async def session(proxy: Proxy, grant: str) -> Wire:
    """A session on `grant`."""
    wire = await Wire.tls(proxy.port, proxy.ca.client_context())
    await wire.log_in(proxy.token(id=grant))
    return wire


async def status(proxy: Proxy) -> int:
    """The process's exit status, once it has ended."""
    assert proxy.process is not None
    return await asyncio.to_thread(proxy.process.wait)


async def check(proxy: Proxy, grant: str, told: dict[str, str], outcome: str) -> None:
    """The session was drained, its client knows, and the record is whole."""
    assert (told["V"], told["C"]) == ("FATAL", "57P01")
    assert "the proxy is shutting down" in told["M"]
    assert told["H"] == "Connect again: your grant is still valid."
    last = decode((await proxy.session_of(grant))[-1])
    assert isinstance(last, SessionEnd)
    assert (last.reason, last.outcome) == ("drained", outcome)


async def test_idle_session_is_told_at_the_end(draining: Proxy) -> None:
    """An idle session works until the timeout, newcomers are turned away at once, and the process ends cleanly."""
    grant, begun = new_grant_id(), time.monotonic()
    async with await session(draining, grant) as wire:
        draining.signal(signal.SIGTERM)
        await eventually(lambda: draining.ops("/readyz") == (503, "draining\n"))
        assert draining.ops("/livez") == (200, "ok\n")
        with pytest.raises(OSError, match="refused"), socket.create_connection(("127.0.0.1", draining.port)):
            pass
        assert await wire.value("SELECT 1") == "1"
        said = await wire.rest(within=DRAIN_S + 5)
    assert await status(draining) == 0
    assert DRAIN_S <= time.monotonic() - begun < DRAIN_S + 3
    await check(draining, grant, said[-1].fields, "nothing open")


async def test_another_one_takes_over(make_proxy: MakeProxy, postgres: Cluster) -> None:
    """A rolling restart: a second process takes the port while the first one drains, and newcomers notice nothing."""
    draining, grant = make_proxy(postgres, options={"drain_timeout_s": 60}), new_grant_id()
    async with await session(draining, grant) as old:
        draining.signal(signal.SIGTERM)
        await eventually(lambda: draining.ops("/readyz") == (503, "draining\n"))
        successor = make_proxy(postgres, options={"listen": [f"127.0.0.1:{draining.port}"]})
        successor.port = draining.port
        async with await session(successor, new_grant_id()) as new:
            assert [await wire.value("SELECT 1") for wire in (old, new)] == ["1", "1"]
            old.send(TERMINATE)
            assert await status(draining) == 0
            assert await new.value("SELECT 2") == "2"
    assert [one.reason for one in draining.ended()] == ["closed"]


async def test_ends_as_soon_as_everybody_has_left(make_proxy: MakeProxy, postgres: Cluster) -> None:
    """A drain takes no longer than its sessions."""
    proxy = make_proxy(postgres, options={"drain_timeout_s": 60})
    grant = new_grant_id()
    async with await session(proxy, grant) as wire:
        wire.send(query("SELECT pg_sleep(0.5)"))
        proxy.signal(signal.SIGTERM)
        await wire.until("Z")
        wire.send(TERMINATE)
    assert await status(proxy) == 0
    last = decode((await proxy.session_of(grant))[-1])
    assert isinstance(last, SessionEnd)
    assert last.reason == "closed"


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
async def test_second_signal(
    make_proxy: MakeProxy, postgres: Cluster, database: str, watcher: Watcher, second: signal.Signals
) -> None:
    """It ends what runs at once, verified, and nothing of it is committed."""
    proxy = make_proxy(postgres, options={"drain_timeout_s": 60}, database=database)
    grant = new_grant_id()
    async with await session(proxy, grant) as wire:
        await wire.run("CREATE TABLE work AS SELECT generate_series(1, 1000) AS n")
        wire.send(query("UPDATE work SET n = -n WHERE pg_sleep(0.02) IS NOT NULL"))
        proxy.signal(signal.SIGTERM)
        await eventually(lambda: '"draining"' in proxy.log())
        proxy.signal(second)
        said = await wire.rest()
    assert await status(proxy) == 0
    await check(proxy, grant, said[-1].fields, "rolled back")
    assert await watcher.fetchval("SELECT count(*) FROM pg_stat_activity WHERE pid = $1", wire.pid) == 0
    rows = await postgres.sql("SELECT count(*) AS n FROM work WHERE n < 0", database=database)
    assert rows[0]["n"] == 0


async def test_guests_are_let_go(draining: Proxy) -> None:
    """Who has no token yet does not hold up the end."""
    async with (
        await Wire.plain(draining.port) as silent,
        await Wire.tls(draining.port, draining.ca.client_context()) as encrypted,
    ):
        await eventually(lambda: draining.metrics()["curfew_unauthenticated"] == 2)
        draining.signal(signal.SIGTERM)
        assert await silent.bytes_left() == await encrypted.bytes_left() == b""
    assert await status(draining) == 0
