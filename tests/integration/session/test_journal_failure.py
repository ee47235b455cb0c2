"""A journal that takes nothing more: no statement is executed without its record (DESIGN.md, promise 4)."""

import resource
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from proxy.contract.record import SessionEnd, StatementEnd, decode
from tests.conftest import MakeProxy
from tests.harness import disks
from tests.harness.certs import Authority
from tests.harness.postgres import Cluster
from tests.harness.proxy import Proxy, new_grant_id
from tests.harness.waiting import eventually
from tests.harness.wire import COPY_DONE, SYNC, Message, Refused, Wire, message, one_by_one, query

DISK_BYTES = 1024 * 1024
PAGE_BYTES = 4096
REFUSED = "the statement was not executed: its record could not be written"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of DISK_BYTES."""
    with disks.small_disk(tmp_path / "disk", DISK_BYTES) as disk:
        yield disk


async def session(proxy: Proxy, grant: str) -> Wire:
    """A session on `grant`."""
    wire = await Wire.tls(proxy.port, proxy.ca.client_context())
    await wire.log_in(proxy.token(id=grant))
    return wire


def assert_refused(said: list[Message]) -> None:
    """The last word was that there is no journal."""
    told = said[-1].fields
    assert (told["V"], told["C"], told["M"]) == ("FATAL", "58030", REFUSED)


def fill(disk: Path) -> Path:
    """Leave no room on the disk; returns the file that takes it."""
    ballast = disk / "ballast"
    with suppress(OSError), ballast.open("wb", buffering=0) as file:
        while file.write(b"x" * PAGE_BYTES):
            pass
    return ballast


INSERT = f"INSERT INTO work VALUES (1) -- {'x' * 2 * PAGE_BYTES}"
"""Longer than what the journal's last page may still have room for."""
STATEMENTS = {"Query": query(INSERT), "Execute": one_by_one(INSERT) + SYNC, "several": query(INSERT) * 3}


@pytest.mark.parametrize("data", STATEMENTS.values(), ids=STATEMENTS)
async def test_full_disk(small_disk: Path, ca: Authority, postgres: Cluster, database: str, data: bytes) -> None:
    """The statement is refused and not executed; with room again the journal heals, and no chain has a gap."""
    with Proxy(cluster=postgres, ca=ca, folder=small_disk, database=database) as proxy:
        grant = new_grant_id()
        async with await session(proxy, grant) as wire, await session(proxy, new_grant_id()) as other:
            await wire.run("CREATE TABLE work (n int)")
            ballast = fill(small_disk)
            wire.send(data)
            assert_refused(await wire.rest())
            status, why = proxy.ops("/readyz")
            assert (status, "No space left on device; make room" in why) == (503, True)
            assert proxy.ops("/livez") == (200, "ok\n")
            with pytest.raises(Refused) as caught:
                await session(proxy, new_grant_id())
            assert caught.value.fields["C"] == "58030"
            ballast.unlink()
            await eventually(lambda: proxy.ops("/readyz") == (200, "ok\n"))
            assert await other.value("SELECT count(*) FROM work") == "0"
            async with await session(proxy, new_grant_id()) as fresh:
                assert await fresh.value("SELECT 1") == "1"
        last = decode((await proxy.session_of(grant))[-1])
        assert isinstance(last, SessionEnd)
        assert (last.reason, last.gone_at is not None) == ("journal", True)


async def test_statement_that_was_recorded_in_time(
    small_disk: Path, ca: Authority, postgres: Cluster, database: str
) -> None:
    """What was on record before may finish; its end waits in memory until there is room, and then is on record too."""
    with Proxy(cluster=postgres, ca=ca, folder=small_disk, database=database) as proxy:
        grant = new_grant_id()
        async with await session(proxy, grant) as wire:
            await wire.run("CREATE TABLE work (n int)")
            wire.send(query("COPY work FROM STDIN"))
            await wire.until("G")
            ballast = fill(small_disk)
            wire.send(message("d", b"1\n" * 1000) * 100 + COPY_DONE)
            assert (await wire.until("C"))[-1].body == b"COPY 100000\0"
            wire.send(query(INSERT))
            assert_refused(await wire.rest())
        ballast.unlink()
        records = [decode(line) for line in await proxy.session_of(grant)]
        ends = [one.tags for one in records if isinstance(one, StatementEnd)]
        assert ends[:2] == [["CREATE TABLE"], ["COPY 100000"]]
        assert (await postgres.sql("SELECT count(*) AS n FROM work", database=database))[0]["n"] == 100_000


async def test_journal_that_stays_shut(make_proxy: MakeProxy, postgres: Cluster, database: str) -> None:
    """An error that does not pass by itself: everything is refused, until a restart finds the journal whole."""
    proxy = make_proxy(postgres, database=database)
    grant = new_grant_id()
    assert proxy.process is not None
    async with await session(proxy, grant) as wire:
        await wire.run("CREATE TABLE work (n int)")
        size = sum(path.stat().st_size for path in (proxy.state / "journal").glob("*.ndjson"))
        resource.prlimit(proxy.process.pid, resource.RLIMIT_FSIZE, (size, size))
        wire.send(query("INSERT INTO work VALUES (1)"))
        assert_refused(await wire.rest())
    with pytest.raises(Refused) as caught:
        await session(proxy, new_grant_id())
    assert caught.value.fields["C"] == "58030"
    assert proxy.ops("/readyz")[0] == 503
    assert (await postgres.sql("SELECT count(*) AS n FROM work", database=database))[0]["n"] == 0
    assert "the journal takes no more records" in proxy.log()
    proxy.process.stop()
    proxy.start()
    last = decode((await proxy.session_of(grant))[-1])
    assert isinstance(last, SessionEnd)
    assert last.reason == "crashed"
    async with await session(proxy, new_grant_id()) as wire:
        assert await wire.value("SELECT count(*) FROM work") == "0"
