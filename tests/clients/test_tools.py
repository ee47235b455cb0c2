"""pgbench in all its modes, pg_dump and pg_restore."""

from pathlib import Path

import pytest

from proxy.contract.record import Copy, StatementStart
from tests.clients.stand import Stand
from tests.harness import roles

MODES = [["-M", mode, *more] for mode in ("simple", "extended", "prepared") for more in ([], ["-C"])]
CLIENTS, TRANSACTIONS = 4, 25


@pytest.mark.parametrize("mode", MODES, ids="".join)
async def test_pgbench(stand: Stand, mode: list[str]) -> None:
    """Every transaction succeeds, and each of its statements is on record with its values."""
    stand.run("pgbench", "-i", "-q")
    counts = ["-c", str(CLIENTS), "-j", "2", "-t", str(TRANSACTIONS)]
    said = stand.run("pgbench", "-n", *counts, *mode)
    assert f"number of transactions actually processed: {CLIENTS * TRANSACTIONS}/{CLIENTS * TRANSACTIONS}" in said
    await stand.assert_recorded()
    begun = sum(count for (text, _), count in (await stand.executed()).items() if text == "BEGIN;")
    assert begun == CLIENTS * TRANSACTIONS


async def test_pgbench_select_only(stand: Stand) -> None:
    """The simplest load, prepared, 8 clients."""
    stand.run("pgbench", "-i", "-q")
    stand.run("pgbench", "-n", "-S", "-M", "prepared", "-c", "8", "-t", "50")
    await stand.assert_recorded()


async def test_pgbench_pipeline(stand: Stand, tmp_path: Path) -> None:
    """The pipelines that pgbench itself can make."""
    script = tmp_path / "script"
    selects = "SELECT :n;\nSELECT :n + 1;\n" * 10
    script.write_text(f"\\set n random(1, 1000)\n\\startpipeline\n{selects}\\endpipeline\n")
    said = stand.run("pgbench", "-n", "-M", "extended", "-c", "4", "-t", "20", "-f", str(script))
    assert "number of failed transactions: 0" in said
    await stand.assert_recorded()


SCHEMA = """
CREATE SCHEMA s;
CREATE TYPE s.mood AS ENUM ('sad', 'ok');
CREATE TABLE s.parent (id int PRIMARY KEY, body text, mood s.mood DEFAULT 'ok', at timestamptz DEFAULT '2026-11-22');
CREATE TABLE s.child (id serial PRIMARY KEY, parent int REFERENCES s.parent, x bytea);
INSERT INTO s.parent SELECT n, repeat('Zoë ' || n, n % 50) FROM generate_series(1, 3000) n;
INSERT INTO s.child (parent, x) SELECT n, decode(md5(n::text), 'hex') FROM generate_series(1, 3000) n;
CREATE VIEW s.v AS SELECT * FROM s.parent WHERE id < 10;
CREATE FUNCTION s.f(int) RETURNS int LANGUAGE plpgsql AS $$ BEGIN RETURN $1 + 1; END $$;
"""
DIGEST = (
    "SELECT md5(string_agg(p::text || c::text, '' ORDER BY p.id)) FROM s.parent p JOIN s.child c ON c.parent = p.id"
)


@pytest.mark.parametrize("form", ["plain", "custom", "directory"])
async def test_dump_and_restore(stand: Stand, tmp_path: Path, form: str) -> None:
    """A dump through the proxy, restored through it (by two jobs where the format allows), is the same database."""
    stand.run("psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-f", "-", text=SCHEMA)
    before, dump = stand.psql(DIGEST), tmp_path / "dump"
    jobs = ["-j", "2"] if form == "directory" else []
    stand.run("pg_dump", "-F", form[0], *jobs, "-f", str(dump))
    copy = f"{stand.database}_copy"
    roles.create_database(stand.cluster, copy)
    try:
        into = f"orders/{copy}"
        if form == "plain":
            stand.run("psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", into, "-f", str(dump))
        else:
            stand.run("pg_restore", "-j", "2", "-d", into, "--exit-on-error", "--no-owner", str(dump))
        assert stand.run("psql", "-X", "-A", "-t", "-q", "-d", into, "-c", DIGEST) == before
    finally:
        roles.drop_database(stand.cluster, copy)
    await stand.assert_recorded()
    records = await stand.records()
    copied = [one.direction for one in records if isinstance(one, Copy)]
    assert copied == ["out", "out"]
    assert sum(isinstance(one, StatementStart) and one.sql.startswith("COPY s.") for one in records) == 2


async def test_dumpall_of_what_is_not_granted(stand: Stand) -> None:
    """pg_dumpall wants roles' passwords: PostgreSQL says no, through the proxy as without it."""
    said = stand.run("pg_dumpall", "--roles-only", "-l", stand.dbname, check=False)
    assert "permission denied for table pg_authid" in said


async def test_other_tools(stand: Stand) -> None:
    """pg_isready, vacuumdb, reindexdb, clusterdb."""
    stand.psql("CREATE TABLE t AS SELECT generate_series(1, 100) AS n", "CREATE INDEX i ON t (n)", "CLUSTER t USING i")
    assert "accepting connections" in stand.run("pg_isready")
    for tool in ("vacuumdb", "reindexdb", "clusterdb"):
        stand.run(tool, "-t", "t", "--echo", stand.dbname)
    await stand.assert_recorded()
