"""What the command refuses, shows and finds."""

import asyncio
from pathlib import Path

from tests.harness.wire import message
from tests.rerun.stand import Stand


def in_sql(stand: Stand, *statements: str, name: str = "records.ndjson") -> Path:
    """The records of a psql that sent these."""
    before = stand.mark()
    commands = [part for statement in statements for part in ("-c", statement)]
    stand.through("psql", "-Xq", *commands)
    return stand.recorded(before, name=name)


def test_nothing_is_run_that_is_not_proven_whole_and_wanted(stand: Stand) -> None:
    """A changed record, a missing key, nobody to ask, what is not on record, the sessions' own database."""
    stand.clone()
    records = in_sql(stand, "CREATE TABLE t (i int)", "CREATE ROLE x PASSWORD 'secret'", "SELECT 1")
    refused = {
        "not all that is needed was recorded": stand.command(records, "--yes"),
        "3 statements of 1 sessions will be executed in": stand.command(in_sql(stand, *["SELECT 1"] * 3, name="two")),
    }
    own = stand.clone_name
    try:
        stand.clone_name = stand.database
        refused["that may be the very database that session"] = stand.command(records, "--yes", "--skip-unknown")
    finally:
        stand.clone_name = own
    tampered = stand.folder / "tampered.ndjson"
    tampered.write_bytes(records.read_bytes().replace(b"SELECT 1", b"SELECT 2"))
    refused["the record before it was changed"] = stand.command(tampered, "--yes")
    for words, done in refused.items():
        assert done.returncode == 1, words
        assert words in done.stderr, done.stderr
        assert "Traceback" not in done.stderr
    assert stand.program("psql", "-XAtc", "SELECT to_regclass('t') IS NULL", database=own).strip() == "t"


def test_what_differs_is_told(stand: Stand) -> None:
    """With another row in the clone: which statement, and how; a dry run tells the plan and does nothing."""
    stand.program("psql", "-Xqc", "CREATE TABLE t (i int)")
    stand.clone()
    stand.program("psql", "-Xqc", "INSERT INTO t VALUES (7)", database=stand.clone_name)
    records = in_sql(stand, "UPDATE t SET i = 1", "SELECT 1 / count(*) FROM t", "SELECT '\x1b[2J'")
    plan = stand.command(records, "--dry-run")
    assert plan.returncode == 0
    assert "#1 UPDATE t SET i = 1\n" in plan.stdout
    assert "3 statements to run, of 1 sessions" in plan.stdout
    done = stand.command(records, "--yes")
    assert done.returncode == 1
    assert "#1: UPDATE t SET i = 1\n  tags: UPDATE 0, now UPDATE 1\n" in done.stdout
    assert "  sqlstate: 22012, now none\n  message: division by zero, now none\n" in done.stdout
    assert f"3 statements run against {stand.clone_name} at 127.0.0.1:" in done.stdout
    assert done.stdout.endswith(": 2 differently\n")
    assert "\x1b" not in plan.stdout + done.stdout
    assert stand.direct("x")["PGPASSWORD"] not in done.stdout + done.stderr


async def test_text_in_the_clients_own_encoding(stand: Stand) -> None:
    """The bytes that went are sent again, in the encoding that the client had asked for."""
    stand.program("psql", "-Xqc", "CREATE TABLE t (x text)")
    stand.clone()
    before = stand.mark()
    async with stand.proxy.wire(database=stand.way, client_encoding="LATIN1") as wire:
        wire.send(message("Q", b"INSERT INTO t VALUES ('\xfc')\0"))
        await wire.until("Z")
    said = await asyncio.to_thread(lambda: stand.rerun(stand.recorded(before)))
    assert said["equal"]
    assert stand.program("psql", "-XAtc", "SELECT x = 'ü' FROM t", database=stand.clone_name).strip() == "t"
