"""The workloads that are run and run again: pgbench, a random one, a restore."""

import asyncio
from typing import Any

from tests.rerun.conversation import SCHEMA, talk
from tests.rerun.stand import Stand


def pgbench(stand: Stand, *, mode: str, clients: int, transactions: int) -> dict[str, Any]:
    """TPC-B as it comes with pgbench; what the command said of its re-execution.

    Each row of its history has the moment it was made, which is another one the second time: it is taken out of both.
    """
    stand.program("pgbench", "-i", "-q", "-s", "1")
    stand.clone()
    before = stand.mark()
    counts = ("-c", str(clients), "-j", str(clients), "-t", str(transactions))
    stand.through("pgbench", "-n", "-M", mode, *counts)
    said = stand.rerun(stand.recorded(before))
    for database in (stand.database, stand.clone_name):
        stand.program("psql", "-Xqc", "UPDATE pgbench_history SET mtime = NULL", database=database)
    return said


async def conversation(stand: Stand, *, seed: int, people: int, turns: int) -> dict[str, Any]:
    """A random one; what the command said of its re-execution."""
    stand.program("psql", "-Xqc", SCHEMA)
    stand.clone()
    before = stand.mark()
    await talk(stand.proxy, seed=seed, people=people, turns=turns)
    return await asyncio.to_thread(lambda: stand.rerun(stand.recorded(before)))
