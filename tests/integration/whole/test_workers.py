"""Several workers are one proxy to control: one key, every directive heard, every record stored once."""

import asyncio
import os
import signal
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack

import pytest

from proxy.contract.record import decode
from tests.conftest import Watcher
from tests.harness.certs import Authority
from tests.harness.postgres import Cluster
from tests.harness.proc import children
from tests.harness.waiting import eventually
from tests.harness.wire import Wire, query
from tests.integration.whole.stand import Pass, Whole

WORKERS = 2


@pytest.fixture(scope="module")
def whole(cluster: Cluster, ca: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Whole]:
    """A stand whose proxy has two workers."""
    with Whole(cluster, ca, tmp_path_factory.mktemp("workers"), workers=WORKERS) as running:
        yield running


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    """What is entered here is left at the test's end."""
    async with AsyncExitStack() as made:
        yield made


async def hold(whole: Whole, stack: AsyncExitStack, one: Pass, count: int) -> list[Wire]:
    """So many sessions on this pass."""
    return [await stack.enter_async_context(await whole.log_in(one)) for _ in range(count)]


async def sessions_of(whole: Whole, one: Pass, count: int) -> list[dict[str, object]]:
    """What control knows of this grant's sessions, once it knows the end of so many."""

    async def all_ended() -> list[dict[str, object]]:
        found: list[dict[str, object]] = (await whole.api("eve", "GET", f"/sessions?grant={one.grant}"))["items"]
        return found if [session["state"] for session in found] == ["ended"] * count else []

    return await eventually(all_ended, within=20, what=f"the ends of the sessions on {one.grant}")


async def check_evidence(whole: Whole, sessions: list[dict[str, object]]) -> None:
    """Each session's records are at control, once, and whole."""
    written = Counter(decode(line).session for line in whole.lines)
    for session in sessions:
        assert session["records"] == written[str(session["id"])]
        assert session["faults"] == 0
        assert "signed by proxy edge" in await whole.verify(str(session["id"]))


async def test_a_revocation_reaches_every_worker(whole: Whole, stack: AsyncExitStack) -> None:
    """All sessions of the grant end, wherever they are; and there is one proxy, with one key, that has joined once."""
    await eventually(lambda: whole.followed == WORKERS, what="every worker to follow")
    assert whole.proxy.output.count('"joined"') == 1
    one = await whole.grant()
    wires = await hold(whole, stack, one, 4)
    for wire in wires:
        assert await wire.value("SELECT 1") == "1"
    await whole.revoke(one)
    for wire in wires:
        assert (await wire.rest())[-1].fields["C"] == "57P01"
    sessions = await sessions_of(whole, one, 4)
    assert [session["end_reason"] for session in sessions] == ["revoked"] * 4
    await check_evidence(whole, sessions)
    (proxy,) = (await whole.api("eve", "GET", "/proxies"))["items"]
    assert (proxy["name"], proxy["public_keys"]) == ("edge", [whole.public_key])


async def test_a_kill_reaches_the_right_worker(whole: Whole, stack: AsyncExitStack) -> None:
    """Of two sessions, one in each worker, the one that is meant."""
    one = await whole.grant()
    wires = await hold(whole, stack, one, 2)
    pids = [await wire.value("SELECT pg_backend_pid()") for wire in wires]

    async def known() -> list[dict[str, str]]:
        found: list[dict[str, str]] = (await whole.api("eve", "GET", f"/sessions?grant={one.grant}"))["items"]
        return found if len(found) == 2 else []

    found = await eventually(known)
    chosen = found[0]["id"]
    pid = next(
        line.split(b'"backend_pid":')[1].split(b",")[0].decode() for line in whole.lines if chosen.encode() in line
    )
    await whole.api("carol", "POST", f"/sessions/{chosen}/kill", {"reason": "a test"})
    killed, other = (wires[pids.index(pid)], wires[1 - pids.index(pid)])
    assert (await killed.rest())[-1].fields["C"] == "57P01"
    assert await other.value("SELECT 1") == "1"


async def test_fewer_workers_than_before(whole: Whole, stack: AsyncExitStack, behind: Watcher) -> None:
    """What workers that are no more have left is put in order and shipped by the one process that follows them.

    Control is away while they die, so that it knows nothing of their sessions; a revocation that it told them before is
    in force in the next run from its beginning.
    """
    one, gone = await whole.grant(), await whole.grant("archive")
    await whole.revoke(gone)
    await eventually(lambda: whole.kept_by_workers(gone.grant), what="the revocation in the workers' own books")
    await whole.kill_control()
    wires = await hold(whole, stack, one, 4)
    for wire in wires:
        wire.send(query("SELECT pg_sleep(60)"))
    await kill_all(whole)
    whole.use_workers(1)
    await whole.start_proxy()

    async def none_left() -> bool:
        left = "SELECT count(*) FROM pg_stat_activity WHERE pid = ANY($1)"
        return bool(await behind.fetchval(left, [wire.pid for wire in wires]) == 0)

    await eventually(none_left, what="the end of the backends that the workers left")
    assert await whole.refusal(gone) is not None
    await whole.start_control()
    sessions = await sessions_of(whole, one, 4)
    assert [session["end_reason"] for session in sessions] == ["crashed"] * 4
    await check_evidence(whole, sessions)


async def kill_all(whole: Whole) -> None:
    """SIGKILL to the supervisor and its workers in one moment."""
    pid = whole.proxy.pid
    workers = children(pid)
    assert len(workers) == WORKERS
    for one in (pid, *workers):
        os.kill(one, signal.SIGSTOP)
    for one in (*workers, pid):
        os.kill(one, signal.SIGKILL)
    await asyncio.to_thread(whole.proxy.wait)
