"""Signals go to the supervisor and count for all workers: drain, end now, reload. And what systemd is told."""

import asyncio
import os
import signal
import socket
from pathlib import Path

import pytest

from proxy.journal import Journal
from tests.conftest import MakeProxy
from tests.harness.certs import Authority
from tests.harness.postgres import Cluster
from tests.harness.proxy import Proxy
from tests.harness.waiting import eventually
from tests.harness.wire import TERMINATE, query
from tests.integration.workers.conftest import MakeWorkers, reload, serials, sessions, worker_pids


async def status(proxy: Proxy) -> int:
    """The proxy's exit status, once it has ended."""
    assert proxy.process is not None
    return await asyncio.to_thread(proxy.process.wait, within=20)


async def test_drain(make_proxy: MakeProxy, postgres: Cluster, tmp_path: Path) -> None:
    """Nobody new; who is in may finish, in every worker; then the proxy ends with 0.

    systemd sends SIGTERM to all processes of a service, a terminal's Ctrl-C goes to all of a group: that counts once.
    It is told when every worker is ready, and when the stopping begins, by the supervisor alone.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(20)
        proxy = make_proxy(
            postgres,
            options={"workers": 2, "drain_timeout_s": 60},
            environment={"NOTIFY_SOCKET": str(tmp_path / "notify")},
        )
        assert systemd.recv(100) == b"READY=1"
        assert proxy.log().count('"accepting"') == 2
        async with sessions(proxy, 4) as held:
            for wire in held:
                wire.send(query("SELECT pg_sleep(1)"))
            for pid in worker_pids(proxy):
                os.kill(pid, signal.SIGTERM)
            proxy.signal(signal.SIGTERM)
            await eventually(lambda: proxy.ops("/readyz") == (503, "draining\n"))
            assert proxy.ops("/livez") == (200, "ok\n")
            with pytest.raises(OSError, match="refused"), socket.create_connection(("127.0.0.1", proxy.port)):
                pass
            for wire in held:
                assert not [one for one in await wire.until("Z") if one.kind == "E"]
                wire.send(TERMINATE)
            assert await status(proxy) == 0
        assert {one.reason for one in proxy.ended()} == {"closed"}
        assert systemd.recv(100) == b"STOPPING=1"
        systemd.settimeout(0)
        with pytest.raises(BlockingIOError):
            systemd.recv(100)


async def test_second_signal(make_workers: MakeWorkers) -> None:
    """Everything that runs is ended now, verified, in every worker."""
    proxy = make_workers(drain_timeout_s=60)
    async with sessions(proxy, 4) as held:
        for wire in held:
            wire.send(query("SELECT pg_sleep(60)"))
        proxy.signal(signal.SIGTERM)
        await eventually(lambda: proxy.log().count('"draining"') == 3)
        proxy.signal(signal.SIGINT)
        assert [(await wire.rest())[-1].fields["C"] for wire in held] == ["57P01"] * 4
        assert await status(proxy) == 0
    assert [(one.reason, one.gone_at is not None) for one in proxy.ended()] == [("drained", True)] * 4


async def test_reload(pair: Proxy) -> None:
    """A new certificate is what every worker shows; a faulty file changes nothing."""
    before = await serials(pair)
    assert len(before) == 1
    pair.write_config()  # makes a new certificate
    await reload(pair, '"configuration reloaded"', 2)
    after = await serials(pair)
    assert len(after) == 1
    assert after != before
    pair.config.write_text("[proxy\n")
    await reload(pair, '"the configuration was not reloaded"', 1)
    assert await serials(pair) == after
    pair.write_config()
    await reload(pair, '"configuration reloaded"', 2)


async def test_a_worker_that_cannot_start(postgres: Cluster, ca: Authority, tmp_path: Path) -> None:
    """The reason is said, the exit status is 1, and nothing is left running: not the other worker either."""
    proxy = Proxy(cluster=postgres, ca=ca, folder=tmp_path / "proxy", options={"workers": 2})
    used = Journal.open(proxy.state / "worker-2" / "journal", segment_bytes=1 << 20, limit_bytes=1 << 22)
    with pytest.raises(AssertionError, match="the proxy did not start"):
        proxy.start()
    used.close()
    assert await status(proxy) == 1
    assert "worker-2/journal: another proxy writes this journal" in proxy.log()
    assert "curfew-proxy: a worker could not start; see above" in proxy.log()
    assert not socket_listens(proxy.port)


def socket_listens(port: int) -> bool:
    """Whether anybody does."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
