"""A log that takes nothing more: it must not keep a session from its work, or from its end."""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from proxy.contract.record import SessionEnd, decode
from tests.conftest import MakeProxy
from tests.harness.postgres import Cluster
from tests.harness.proxy import Proxy, new_grant_id
from tests.harness.wire import query


@pytest.fixture
def unread_pipe(tmp_path: Path) -> Iterator[Path]:
    """A pipe with something in it that nobody reads, and room for a page or so."""
    path = tmp_path / "log"
    os.mkfifo(path)
    ours = os.open(path, os.O_RDWR | os.O_NONBLOCK)
    filling = b"x" * 4096
    with suppress(BlockingIOError):
        while os.write(ours, filling):
            pass
    os.read(ours, len(filling))
    yield path
    os.close(ours)


async def work_and_be_cut(proxy: Proxy) -> None:
    """One session that works, and whose client is lost in a statement."""
    grant = new_grant_id()
    async with proxy.wire(proxy.token(id=grant)) as wire:
        for _ in range(3):
            assert await wire.value("SELECT 1") == "1"
        wire.send(query("SELECT pg_sleep(60)"))
        await wire.drain()
    last = decode((await proxy.session_of(grant))[-1])
    assert isinstance(last, SessionEnd)
    assert (last.reason, last.outcome) == ("client_lost", "rolled back")
    assert proxy.metrics()["curfew_log_lines_lost_total"] > 0


async def test_a_full_disk(make_proxy: MakeProxy, postgres: Cluster) -> None:
    """Each line fails to be written."""
    await work_and_be_cut(make_proxy(postgres, log_to=Path("/dev/full")))


async def test_nobody_reads_it(make_proxy: MakeProxy, postgres: Cluster, unread_pipe: Path) -> None:
    """Each line would wait for ever."""
    await work_and_be_cut(make_proxy(postgres, log_to=unread_pipe))
