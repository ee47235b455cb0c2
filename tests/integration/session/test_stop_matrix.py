"""The verified stop: whatever a session is doing when its grant ends, its backend is gone within a second."""

import time
from collections.abc import AsyncIterator

import pytest

from proxy.contract.record import Copy, SessionEnd, decode
from tests.conftest import Watcher
from tests.harness.postgres import Cluster
from tests.harness.proxy import Proxy, new_grant_id
from tests.harness.tokens import grant as make_grant
from tests.harness.waiting import eventually
from tests.harness.wire import Wire
from tests.integration.session.stops import CASES, ROWS, Case

LEAD_S = 0.7
"""How long before its end a session starts."""
WITHIN_S = 1.0
"""DESIGN.md, promise 2."""


@pytest.fixture
async def table(postgres: Cluster, database: str) -> AsyncIterator[Watcher]:
    """The table that the cases change, on a connection that no proxy sees."""
    connection = await postgres.connect(database=database)
    await connection.execute(
        f"CREATE TABLE work (n int); INSERT INTO work SELECT generate_series(1, {ROWS});"
        "ALTER TABLE work OWNER TO curfew_app; SELECT pg_advisory_lock(4711)"
    )
    yield connection
    await connection.close()


async def gone_at(watcher: Watcher, pid: int) -> float:
    """When the backend was first seen to be gone."""

    async def gone() -> float:
        alive = await watcher.fetchval("SELECT count(*) FROM pg_stat_activity WHERE pid = $1", pid)
        return 0.0 if alive else time.time()

    return await eventually(gone, what=f"the end of backend {pid}")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_grant_ends(case: Case, proxy: Proxy, database: str, table: Watcher, watcher: Watcher) -> None:
    """The backend is gone in time, nothing is committed after the cut, the client is told, the record is whole."""
    end = time.time() + LEAD_S
    async with await Wire.tls(proxy.port, proxy.ca.client_context()) as wire:
        grant = new_grant_id()
        token = proxy.signer.token(make_grant(id=grant, profile="app"), exp=end)
        await wire.log_in(token, ("user", "dba1"), ("database", f"orders/{database}"))
        await case.begin(wire)

        async def is_there() -> bool:
            asked = await watcher.fetchrow("SELECT state, wait_event FROM pg_stat_activity WHERE pid = $1", wire.pid)
            there = asked is not None and asked["state"] == case.waits
            return there and case.event in (None, asked["wait_event"])

        await eventually(is_there, within=LEAD_S)
        gone = await gone_at(watcher, wire.pid)
        assert end <= gone <= end + WITHIN_S
        said = await wire.rest()
    assert said, "nothing was said to the client"
    told = said[-1].fields
    assert (told["S"], told["V"], told["C"]) == ("FATAL", "FATAL", "57P01")
    assert f"access to orders has ended: the grant has expired (grant {grant}" in told["M"]
    assert told["D"].startswith("Work that was open: ")
    assert "curfew request orders app" in told["H"]
    assert await table.fetchval("SELECT count(*) FROM work WHERE n < 0") == case.changed
    assert await table.fetchval("SELECT count(*) FROM work WHERE n > 0") == ROWS
    await check_record(proxy, grant, case, end, told["D"])


async def check_record(proxy: Proxy, grant: str, case: Case, end: float, detail: str) -> None:
    """The session's records: chained, signed, and true."""
    lines = await proxy.session_of(grant)
    last = decode(lines[-1])
    assert isinstance(last, SessionEnd)
    copies = [record for record in map(decode, lines) if isinstance(record, Copy)]
    assert tuple(copy.direction for copy in copies) == case.copies
    assert all(copy.failed and copy.bytes for copy in copies)
    assert last.reason == "expired"
    assert last.outcome in case.outcomes
    assert detail == f"Work that was open: {last.outcome}."
    assert end <= last.decided_at / 1e9 <= end + 0.5
    assert last.gone_at is not None
    assert 0 < last.gone_at - last.decided_at < WITHIN_S * 1e9
