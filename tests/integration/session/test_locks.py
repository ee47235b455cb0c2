"""Locks: who is covered is out within a second and stays out, restarts of the proxy included, until it is lifted."""

import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from proxy.contract.directive import Lock, Locked, Unlock
from tests.harness.certs import Authority
from tests.harness.postgres import Cluster
from tests.harness.proxy import new_grant_id
from tests.harness.waiting import eventually
from tests.harness.wire import query
from tests.integration.session.governed import Governed, now_ns

STRANGE = "o'brien \"\\ \N{PILE OF POO}; DROP\nROLE x"


@pytest.fixture
async def governed(postgres: Cluster, ca: Authority, tmp_path: Path) -> AsyncIterator[Governed]:
    """A proxy under a control of the test's."""
    async with Governed(postgres, ca, tmp_path, further={"other": {}}) as stand:
        yield stand


def lock(id: str, **names: str | float) -> Lock:  # noqa: A002 the field's own name
    """A lock that eve decided just now."""
    locked = Locked(id=id, by="eve", decided_at=now_ns(), **names)  # type: ignore[arg-type]  # names alone, and `until`
    return Lock(cursor=1, at=now_ns(), lock=locked)


async def test_a_lock(governed: Governed) -> None:
    """One person's sessions end, verified, and a new one is refused as garbage is; nobody else notices."""
    mine, strange = new_grant_id(), new_grant_id()
    async with await governed.log_in() as other, await governed.log_in(mine, target="other") as elsewhere:
        async with await governed.log_in(strange, person=STRANGE) as wire:
            wire.send(query("SELECT pg_sleep(60)"))
            decided = time.time()
            governed.control.tell(lock("lck_1", person=STRANGE))
            told = (await wire.rest())[-1].fields
            assert time.time() < decided + 1
        assert (told["C"], told["D"]) == ("57P01", "Work that was open: rolled back.")
        assert "access was locked by eve" in told["M"]
        assert told["H"].endswith("ask whoever set it.")
        garbage = await governed.refusal(lasts_s=-1)
        assert await governed.refusal(person=STRANGE) == garbage
        assert garbage["C"] == "28P01"
        governed.control.tell(lock("lck_2", target="other", profile="app", proxy="proxy-test"))
        assert (await elsewhere.rest())[-1].fields["C"] == "57P01"
        assert await other.value("SELECT 1") == "1"
    last = await governed.last(strange)
    assert (last.reason, last.by, last.outcome) == ("locked", "eve", "rolled back")
    assert decided <= last.decided_at / 1e9 <= last.gone_at / 1e9 < decided + 1  # type: ignore[operator]  # it is set
    governed.control.tell(Unlock(cursor=2, at=now_ns(), lock="lck_1", by="eve"))
    await eventually(lambda: _admitted(governed, person=STRANGE))


async def _admitted(governed: Governed, **facts: str) -> bool:
    return not await governed.refusal(**facts)


async def test_locks_outlive_the_proxy_and_not_control_s_word(governed: Governed) -> None:
    """After a kill -9, with control away, a lock still holds; the next snapshot without it lifts it."""
    kept = governed.proxy.state / "joined.json"
    governed.control.tell(lock("lck_1", person="dba1"))
    await eventually(lambda: kept.exists() and b"lck_1" in kept.read_bytes())
    await governed.control.stop()
    assert governed.proxy.process is not None
    governed.proxy.process.kill()
    governed.proxy.target = {"lost_lease": "run-on"}
    await governed.start_proxy()
    async with AsyncExitStack() as sessions:
        wire = await sessions.enter_async_context(await governed.log_in(person="dba2"))
        assert await governed.refusal()
        governed.control.locks = [Locked(id="lck_2", person="dba2", by="eve", decided_at=now_ns())]
        await governed.control.start()
        assert "access was locked by eve" in (await wire.rest())[-1].fields["M"]
        assert await _admitted(governed)
        assert await governed.refusal(person="dba2")
