"""Whatever a client of the protocol may say, run again on a clone."""

import asyncio

import pytest

from tests.harness.waiting import eventually
from tests.harness.wire import bind, execute, message, parse, query
from tests.rerun import workloads
from tests.rerun.stand import Stand


@pytest.mark.parametrize("seed", [1, 2])
async def test_a_random_conversation(stand: Stand, seed: int) -> None:
    """All statements go as they had, and both databases dump the same."""
    said = await workloads.conversation(stand, seed=seed, people=3, turns=150)
    assert said["differences"] == []
    assert said["lost"] == []
    one, other = stand.dumps()
    assert one == other


async def test_what_no_library_sends(stand: Stand) -> None:
    """A query before the Sync: it ends the round, or is skipped with it; and a statement that was canceled."""
    stand.program("psql", "-Xqc", "CREATE TABLE t (i int PRIMARY KEY)")
    stand.clone()
    before = stand.mark()

    def insert(number: int) -> bytes:
        return parse(f"INSERT INTO t VALUES ({number})") + bind() + execute()

    async with stand.proxy.wire(database=stand.way) as wire:
        for first, last, ends in ((1, 2, 2), (1, 3, 1), (4, 4, 2)):
            wire.send(insert(first) + query(f"INSERT INTO t VALUES ({last})") + message("S"))
            for _ in range(ends):
                await wire.until("Z")
        wire.send(query("BEGIN; INSERT INTO t VALUES (5); SELECT pg_sleep(60)"))
        running = "SELECT pid FROM pg_stat_activity WHERE wait_event = 'PgSleep'"
        [row] = await eventually(lambda: stand.cluster.sql(running))
        await stand.cluster.sql("SELECT pg_cancel_backend($1)", row["pid"])
        await wire.until("Z")
        wire.send(message("X"))
        await wire.rest()
    records = await asyncio.to_thread(lambda: stand.recorded(before))
    marked = records.read_bytes()
    assert marked.count(b'"pipelined":true') == 3
    said = await asyncio.to_thread(lambda: stand.rerun(records))
    assert said["differences"] == []
    one, other = stand.dumps()
    assert one == other


async def test_a_session_that_waits_for_another_one(stand: Stand) -> None:
    """They do again, in the same order, which the row shows."""
    stand.program("psql", "-Xqc", "CREATE TABLE t (i int PRIMARY KEY, n int); INSERT INTO t VALUES (1, 1), (2, 1)")
    stand.clone()
    before = stand.mark()
    waiting = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND usename = 'curfew_app'"
    async with stand.proxy.wire(database=stand.way) as one, stand.proxy.wire(database=stand.way) as two:
        await one.run("BEGIN")
        await one.run("UPDATE t SET n = n * 10 WHERE i = 1")
        two.send(query("UPDATE t SET n = n + 3 WHERE i = 1"))
        await eventually(lambda: stand.cluster.sql(waiting))
        await one.run("UPDATE t SET n = n + 1 WHERE i = 2")
        await one.run("COMMIT")
        await two.until("Z")
        for wire in (one, two):
            wire.send(message("X"))
            await wire.rest()
    said_again = await asyncio.to_thread(lambda: stand.rerun(stand.recorded(before)))
    assert said_again["differences"] == []
    assert said_again["reordered"] == 0
    dumped, other = stand.dumps()
    assert dumped == other
