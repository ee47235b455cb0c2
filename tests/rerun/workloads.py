"""The workloads that are run and run again: pgbench, a random one, a restore."""

import asyncio
from typing import Any

from tests.rerun.conversation import SCHEMA, talk
from tests.rerun.stand import Stand

_TABLES = r"""
CREATE TABLE small (id serial PRIMARY KEY, t text, b bytea, CHECK (t <> 'never'));
CREATE TABLE big (id int REFERENCES small, n numeric, at timestamptz, tags text[]);
INSERT INTO small (t, b) SELECT E'\\\\.\t\n' || g, decode(md5(g::text), 'hex') FROM generate_series(1, :rows) g;
INSERT INTO big SELECT 1 + g % :rows, g / 7.0, 'epoch'::timestamptz + g * interval '1 s', ARRAY[g::text, NULL, '"']
FROM generate_series(1, :rows * 10) g;
CREATE INDEX ON big (at);
"""


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
    await talk(stand.proxy, stand.way, seed=seed, people=people, turns=turns)
    return await asyncio.to_thread(lambda: stand.rerun(stand.recorded(before)))


def restore(stand: Stand, *, rows: int, jobs: int) -> dict[str, Any]:
    """A dump, restored through the proxy by several sessions at once; what the command said of its re-execution."""
    stand.program("psql", "-Xqv", "ON_ERROR_STOP=1", text=_TABLES.replace(":rows", str(rows)))
    file = stand.folder / "dump"
    stand.program("pg_dump", "-Fc", "-f", str(file))
    stand.program("psql", "-Xqc", "DROP TABLE small, big")
    stand.clone()
    before = stand.mark()
    stand.through("pg_restore", "--no-owner", "-j", str(jobs), "-d", stand.way, str(file))
    return stand.rerun(stand.recorded(before))
