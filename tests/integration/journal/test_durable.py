"""A target whose records must be on disk: everything works as otherwise, and each statement waits for a sync."""

import asyncio
from typing import Any

from tests.conftest import MakeProxy
from tests.harness.postgres import Cluster
from tests.harness.proxy import new_grant_id

CLIENTS = 8
STATEMENTS = 20


async def test_disk(make_proxy: MakeProxy, postgres: Cluster, database: str) -> None:
    """Prepared statements of many at once, a transaction, COPY in and out; syncs are counted, and shared."""
    proxy = make_proxy(postgres, target={"durability": "disk"})

    async def work(number: int) -> list[Any]:
        connection = await proxy.connect(database=f"orders/{database}")
        found = [await connection.fetchval("SELECT $1::int + $2", number, one) for one in range(STATEMENTS)]
        await connection.close()
        return found

    found = await asyncio.gather(*(work(number) for number in range(CLIENTS)))
    assert found == [[number + one for one in range(STATEMENTS)] for number in range(CLIENTS)]
    syncs = proxy.metrics()["curfew_journal_syncs_total"]
    assert STATEMENTS <= syncs < CLIENTS * STATEMENTS, "no statement without a sync, and not one for each of them"

    grant = new_grant_id()
    connection = await proxy.connect(proxy.token(id=grant), database=f"orders/{database}")
    await connection.execute("CREATE TEMP TABLE work (n int)")
    rows = [(n,) for n in range(100_000)]
    async with connection.transaction():
        assert await connection.copy_records_to_table("work", records=rows) == "COPY 100000"
    assert await connection.fetchval("SELECT sum(n) FROM work") == sum(n for (n,) in rows)
    await connection.close()
    await proxy.session_of(grant)
