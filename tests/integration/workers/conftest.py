"""Proxies of several workers, and what tests ask of them."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, TypeAlias

import pytest

from proxy.contract.record import SessionStart, decode
from tests.conftest import MakeProxy
from tests.harness import journals
from tests.harness.certs import Authority
from tests.harness.postgres import Cluster
from tests.harness.proc import children, open_files
from tests.harness.proxy import Proxy
from tests.harness.waiting import eventually
from tests.harness.wire import PROTOCOL_3_0, Wire

MakeWorkers: TypeAlias = Callable[..., Proxy]


@pytest.fixture(scope="package")
def pair(postgres: Cluster, ca: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    """A proxy of two workers, shared by this folder's tests. Leave it running as it is, with nobody in it."""
    with Proxy(cluster=postgres, ca=ca, folder=tmp_path_factory.mktemp("pair"), options={"workers": 2}) as started:
        yield started


@pytest.fixture
def make_workers(make_proxy: MakeProxy, postgres: Cluster) -> MakeWorkers:
    """Makes and starts proxies of two workers of the test's own, with changed options."""

    def make(**options: Any) -> Proxy:  # noqa: ANN401 any option of [proxy]
        return make_proxy(postgres, options={"workers": 2, **options})

    return make


async def log_in(proxy: Proxy, token: str | None = None, version: int = PROTOCOL_3_0) -> Wire:
    """A session."""
    wire = await Wire.tls(proxy.port, proxy.ca.client_context())
    try:
        await wire.log_in(token or proxy.token(), version=version)
    except BaseException:
        wire.cut()
        raise
    return wire


@asynccontextmanager
async def sessions(proxy: Proxy, count: int, version: int = PROTOCOL_3_0) -> AsyncIterator[list[Wire]]:
    """So many sessions at once."""
    async with AsyncExitStack() as stack:
        made = await asyncio.gather(*(log_in(proxy, version=version) for _ in range(count)))
        yield [await stack.enter_async_context(one) for one in made]


def worker_pids(proxy: Proxy) -> list[int]:
    """The workers' process ids."""
    assert proxy.process is not None
    return children(proxy.process.pid)


def backends_of(proxy: Proxy, worker: int) -> list[int]:
    """The backends of the sessions in this worker's journal, ended ones too."""
    lines = [line for line in journals.written(proxy.state / f"worker-{worker}") if b'"session.start"' in line]
    return [record.backend_pid for record in map(decode, lines) if isinstance(record, SessionStart)]


async def emptied(proxy: Proxy) -> None:
    """Wait until nobody is in."""
    await eventually(lambda: proxy.metrics()["curfew_sessions_live"] == 0)


async def kill_worker(proxy: Proxy, number: int) -> None:
    """SIGKILL to worker `number`, found by what it holds open; returns once it is dead."""
    folder = str(proxy.state / f"worker-{number}")
    (pid,) = [pid for pid in worker_pids(proxy) if any(one.startswith(folder) for one in open_files(pid))]
    os.kill(pid, signal.SIGKILL)
    await eventually(lambda: pid not in worker_pids(proxy))


async def reload(proxy: Proxy, says: str, times: int) -> None:
    """Have the proxy read its configuration, and wait until it has said so as often."""
    said = proxy.log().count(says)
    proxy.signal(signal.SIGHUP)
    await eventually(lambda: proxy.log().count(says) == said + times, what=says)


async def serials(proxy: Proxy) -> set[str]:
    """The numbers of the certificates that eight newcomers at once are shown, who come to both workers."""

    async def one() -> Wire:
        return await Wire.tls(proxy.port, proxy.ca.client_context())

    wires = await asyncio.gather(*(one() for _ in range(8)))
    found = {str(wire.certificate["serialNumber"]) for wire in wires}
    for wire in wires:
        async with wire:
            pass
    return found
