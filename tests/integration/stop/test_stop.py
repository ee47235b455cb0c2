"""The verified stop, whatever the backend is doing: it is gone, and nothing that was running commits."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from proxy import backends
from proxy.query import Connection
from proxy.stop import Gone, Keeper, KeeperError
from tests.harness import roles
from tests.harness.postgres import Cluster
from tests.harness.waiting import eventually
from tests.integration.stop.conftest import Victims
from tests.integration.upstream.targets import Raw, dialler_of, log_in, profile_of

WITHIN_S = 1.0


@dataclass(frozen=True, slots=True)
class Stopped:
    """A stop, and how long it took."""

    gone: Gone
    took_s: float


@pytest.fixture
def stop(keeper: Keeper) -> Callable[[Raw], Awaitable[Stopped]]:
    """Look the victim's start up and stop it."""

    async def look_up_and_stop(victim: Raw) -> Stopped:
        started = await keeper.backend_start(victim.pid)
        before = time.time_ns()
        gone = await keeper.stop(victim.pid, started)
        assert before <= gone.gone_at <= time.time_ns()
        return Stopped(gone, (gone.gone_at - before) / 1e9)

    return look_up_and_stop


Stopper = Callable[[Raw], Awaitable[Stopped]]


async def alive(postgres: Cluster, victim: Raw) -> bool:
    """Whether pg_stat_activity has the victim."""
    return bool(await postgres.sql("SELECT FROM pg_stat_activity WHERE pid = $1", victim.pid))


async def doing(postgres: Cluster, victim: Raw, condition: str) -> None:
    """Wait until the victim's row in pg_stat_activity meets `condition`."""

    async def meets() -> bool:
        return bool(await postgres.sql(f"SELECT FROM pg_stat_activity WHERE pid = $1 AND ({condition})", victim.pid))

    await eventually(meets, what=condition)


async def count(postgres: Cluster, database: str, where: str = "true") -> int:
    """Rows of `work` that meet `where`."""
    rows = await postgres.sql(f"SELECT count(*) FROM work WHERE {where}", database=database)
    return int(rows[0][0])


@pytest.fixture
async def work(postgres: Cluster, database: str) -> None:
    """A table to work on: 10,000 rows, none done."""
    await postgres.sql(
        "CREATE TABLE work AS SELECT n, false AS done, repeat('x', 1000) AS bulk FROM generate_series(1, 10000) AS n",
        database=database,
    )
    await postgres.sql("GRANT ALL ON work TO PUBLIC", database=database)


async def test_idle(postgres: Cluster, victim: Raw, stop: Stopper) -> None:
    """Idle, outside a transaction: gone, and it had none."""
    stopped = await stop(victim)
    assert not await alive(postgres, victim)
    assert stopped.gone.transaction == "none"
    assert stopped.took_s < WITHIN_S


@pytest.mark.usefixtures("work")
async def test_idle_in_transaction(postgres: Cluster, database: str, victim: Raw, stop: Stopper) -> None:
    """Idle in a transaction that wrote: rolled back."""
    await victim.run("BEGIN; UPDATE work SET done = true")
    stopped = await stop(victim)
    assert stopped.gone.transaction == "aborted"
    assert await count(postgres, database, "done") == 0


async def test_idle_in_transaction_that_only_read(victim: Raw, stop: Stopper) -> None:
    """A transaction without an id wrote nothing, so there is no fate to ask about."""
    await victim.run("BEGIN; SELECT count(*) FROM pg_class")
    assert (await stop(victim)).gone.transaction == "none"


@pytest.mark.usefixtures("work")
async def test_running_update(postgres: Cluster, database: str, victim: Raw, stop: Stopper) -> None:
    """An autocommit UPDATE in its middle: none of its rows."""
    victim.send("UPDATE work SET done = (pg_sleep(0.001) IS NULL) IS NOT NULL")
    await doing(postgres, victim, "backend_xid IS NOT NULL")
    stopped = await stop(victim)
    assert stopped.gone.transaction == "aborted"
    assert stopped.took_s < WITHIN_S
    assert await count(postgres, database, "done") == 0


@pytest.mark.usefixtures("work")
async def test_trapped_cancel(postgres: Cluster, database: str, victim: Raw, stop: Stopper) -> None:
    """SQL that catches query_canceled, and would go on: a cancel does not end it, the stop does."""
    victim.send(
        "DO $$ BEGIN LOOP BEGIN UPDATE work SET done = true WHERE n = 1; PERFORM pg_sleep(60);"
        " EXCEPTION WHEN query_canceled THEN NULL; END; END LOOP; END $$"
    )
    await doing(postgres, victim, "wait_event = 'PgSleep'")
    await postgres.sql("SELECT pg_cancel_backend($1)", victim.pid)
    await doing(postgres, victim, "wait_event = 'PgSleep'")
    stopped = await stop(victim)
    assert stopped.gone.transaction == "aborted"
    assert stopped.took_s < WITHIN_S
    assert await count(postgres, database, "done") == 0


@pytest.mark.usefixtures("work")
async def test_many_statements_in_one_message(postgres: Cluster, database: str, victim: Raw, stop: Stopper) -> None:
    """BEGIN, sleep, UPDATE, COMMIT in one message, stopped in the sleep: the rest never runs."""
    victim.send("BEGIN; SELECT pg_sleep(3); UPDATE work SET done = true; COMMIT")
    await doing(postgres, victim, "wait_event = 'PgSleep'")
    stopped = await stop(victim)
    assert stopped.gone.transaction == "none"
    assert stopped.took_s < WITHIN_S
    assert await count(postgres, database, "done") == 0


@pytest.mark.usefixtures("work")
async def test_copy_in(postgres: Cluster, database: str, victim: Raw, stop: Stopper) -> None:
    """COPY IN that waits for more data: none of what it had."""
    victim.send("COPY work FROM STDIN")
    while (await victim.read())[0] != ord("G"):
        pass
    row = b"-1\tt\tcopied\n"
    victim.connected.leg.write(b"".join(b"d%b%b" % ((len(row) + 4).to_bytes(4), row) for _ in range(20_000)))
    await doing(postgres, victim, "backend_xid IS NOT NULL AND wait_event = 'ClientRead'")
    stopped = await stop(victim)
    assert stopped.gone.transaction == "aborted"
    assert stopped.took_s < WITHIN_S
    assert await count(postgres, database, "n = -1") == 0


@pytest.mark.usefixtures("work")
async def test_copy_out_that_nobody_reads(postgres: Cluster, victim: Raw, stop: Stopper) -> None:
    """COPY OUT to a client that does not read: the server hangs in its send, and is ended all the same."""
    await victim.run("BEGIN; UPDATE work SET done = true WHERE n = 1")
    victim.send("COPY (SELECT work.bulk FROM work, work AS again) TO STDOUT")
    await doing(postgres, victim, "wait_event = 'ClientWrite'")
    stopped = await stop(victim)
    assert stopped.gone.transaction == "aborted"
    assert stopped.took_s < WITHIN_S


@pytest.mark.usefixtures("work")
async def test_waiting_for_a_lock(postgres: Cluster, new_victim: Victims, stop: Stopper) -> None:
    """Waiting for somebody else's lock; whoever holds it is not touched."""
    holder, waiter = await new_victim(), await new_victim()
    await holder.run("BEGIN; LOCK TABLE work")
    waiter.send("UPDATE work SET done = true")
    await doing(postgres, waiter, "wait_event_type = 'Lock'")
    assert (await stop(waiter)).took_s < WITHIN_S
    assert await alive(postgres, holder)


@pytest.mark.usefixtures("work")
async def test_committed_before(postgres: Cluster, database: str, victim: Raw, stop: Stopper) -> None:
    """What was committed before the stop is not called open, and stays."""
    await victim.run("UPDATE work SET done = true")
    assert (await stop(victim)).gone.transaction == "none"
    assert await count(postgres, database, "done") == 10_000


@pytest.mark.usefixtures("work")
async def test_committed_and_still_writing(postgres: Cluster, database: str, tmp_path: Path, stop: Stopper) -> None:
    """Committed, and hanging in the writes to a client that does not read: that it has no transaction id says nothing.

    Every COMMIT behind the first says no more than that it is complete; a unix socket holds some 200 kB of that.
    """
    on_socket = dialler_of(postgres, tmp_path, host=str(postgres.folder))
    writer = await log_in(on_socket, profile_of(roles.APP, tmp_path), database)
    await writer.run("SET client_min_messages = error")
    writer.send("UPDATE work SET done = true; " + "COMMIT;" * 60_000)
    await doing(postgres, writer, "wait_event = 'ClientWrite' AND state = 'active' AND xact_start IS NULL")
    stopped = await stop(writer)
    assert stopped.gone.seen
    assert stopped.gone.transaction is None
    assert await count(postgres, database, "done") == 10_000
    writer.close()


async def test_committed_meanwhile(postgres: Cluster, database: str, keeper: Keeper, victim: Raw) -> None:
    """A transaction that is past the point of no return when the signal comes: committed, says pg_xact_status.

    Commit waits here, with interrupts held, for a standby that is not there; the signal cancels that wait alone.
    """
    await postgres.sql("CREATE TABLE late (n int)", database=database)
    await postgres.sql("GRANT ALL ON late TO PUBLIC", database=database)
    await victim.run("SET synchronous_commit = on")
    postgres.configure(synchronous_standby_names="'nobody'")
    postgres.reload()
    sent = 0

    async def stalls() -> bool:
        nonlocal sent
        sent += 1
        try:
            async with asyncio.timeout(0.5):
                await victim.run("INSERT INTO late VALUES (1)")
        except TimeoutError:
            return True
        return False

    try:
        await eventually(stalls, what="the setting in force, which another process makes it")
        await doing(postgres, victim, "wait_event = 'SyncRep'")
        gone = await keeper.stop(victim.pid, await keeper.backend_start(victim.pid))
    finally:
        postgres.configure(synchronous_standby_names="''")
        postgres.reload()
    assert gone.transaction == "committed"
    assert (await postgres.sql("SELECT count(*) FROM late", database=database))[0][0] == sent


async def test_recycled_pid(postgres: Cluster, keeper: Keeper, victim: Raw) -> None:
    """A pid with another start is somebody else: it is not touched, and the one asked for is gone."""
    started = datetime.fromisoformat(await keeper.backend_start(victim.pid))
    gone = await keeper.stop(victim.pid, (started - timedelta(microseconds=1)).isoformat())
    assert gone.transaction is None
    assert await alive(postgres, victim)
    assert await victim.value("SELECT 1") == "1"


async def test_gone_already(keeper: Keeper, stop: Stopper, victim: Raw) -> None:
    """A second stop of the same backend finds it gone, at once and without a word on its transaction."""
    started = await keeper.backend_start(victim.pid)
    await stop(victim)
    before = time.monotonic()
    assert (await keeper.stop(victim.pid, started)).transaction is None
    assert time.monotonic() - before < WITHIN_S


@pytest.mark.usefixtures("work")
async def test_fifty_at_once(
    postgres: Cluster, database: str, new_victim: Victims, keeper: Keeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fifty stops together take no longer than one, and share their statements."""
    asked: list[int] = []
    original = backends.sight

    async def sight(
        connection: Connection, wanted: Sequence[backends.Wanted], *, timeout_s: float
    ) -> list[backends.Sighting | None]:
        asked.append(len(wanted))
        return await original(connection, wanted, timeout_s=timeout_s)

    monkeypatch.setattr(backends, "sight", sight)
    victims = await asyncio.gather(*(new_victim() for _ in range(50)))
    starts = await asyncio.gather(*(keeper.backend_start(victim.pid) for victim in victims))
    for victim in victims[::2]:
        await victim.run("BEGIN; INSERT INTO work VALUES (-1)")
    for victim in victims[1::2]:
        victim.send("SELECT pg_sleep(60)")
    await doing(postgres, victims[-1], "wait_event = 'PgSleep'")
    before = time.monotonic()
    stops = (keeper.stop(victim.pid, started) for victim, started in zip(victims, starts, strict=True))
    gone = await asyncio.gather(*stops)
    assert time.monotonic() - before < 3
    assert [one.transaction for one in gone] == ["aborted", "none"] * 25
    assert asked[0] == 50
    assert await count(postgres, database, "n = -1") == 0


async def test_backend_start(postgres: Cluster, keeper: Keeper, new_victim: Victims) -> None:
    """The start is what pg_stat_activity says, to the microsecond, with its offset; asked for together."""
    victims = await asyncio.gather(*(new_victim() for _ in range(5)))
    starts = await asyncio.gather(*(keeper.backend_start(victim.pid) for victim in victims))
    for victim, started in zip(victims, starts, strict=True):
        rows = await postgres.sql("SELECT backend_start FROM pg_stat_activity WHERE pid = $1", victim.pid)
        assert datetime.fromisoformat(started) == rows[0]["backend_start"]
        assert len(started) == len("2026-11-22T01:44:00.123456+00:00")
        assert datetime.fromisoformat(started).tzinfo == UTC


async def test_backend_that_does_not_exist(keeper: Keeper) -> None:
    """Asking for the start of nobody is an error, at once."""
    async with asyncio.timeout(WITHIN_S):
        with pytest.raises(KeeperError, match="does not exist"):
            await keeper.backend_start(2**31 - 1)
