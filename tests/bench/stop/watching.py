"""When backends are gone, by PostgreSQL's own clock and eyes: a function that looks every few milliseconds.

It runs in the server, so that nothing of ours, and no load generator, stands between it and what it sees.
"""

import asyncio
from collections.abc import Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from tests.harness.postgres import Cluster

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

_FUNCTION = """
CREATE FUNCTION watch_them_go(pids int[], within interval) RETURNS TABLE (pid int, gone_at double precision)
LANGUAGE plpgsql AS $$
DECLARE
    until timestamptz := clock_timestamp() + within;
    alive int[] := pids;
    seen int[];
BEGIN
    LOOP
        PERFORM pg_stat_clear_snapshot();
        seen := ARRAY(SELECT activity.pid FROM pg_stat_activity AS activity WHERE activity.pid = ANY (alive));
        RETURN QUERY SELECT one, extract(epoch FROM clock_timestamp())::double precision
            FROM unnest(alive) AS one WHERE NOT one = ANY (seen);
        alive := seen;
        EXIT WHEN cardinality(alive) = 0 OR clock_timestamp() > until;
        PERFORM pg_sleep(0.005);
    END LOOP;
END $$
"""


def install(cluster: Cluster) -> None:
    """Make the function, in the database `postgres`."""
    cluster.psql(_FUNCTION + ";")


@asynccontextmanager
async def watching(
    cluster: Cluster, pids: Sequence[int], *, within_s: float
) -> "AsyncIterator[asyncio.Task[dict[int, float]]]":
    """Look from here on; the task's result is when each backend was first missed, without those that never were."""
    connection = await cluster.connect()

    async def watch() -> dict[int, float]:
        rows = await connection.fetch(
            "SELECT * FROM watch_them_go($1, make_interval(secs => $2))", list(pids), within_s, timeout=within_s + 60
        )
        return {row["pid"]: row["gone_at"] for row in rows}

    task = asyncio.get_running_loop().create_task(watch())
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await connection.close()
