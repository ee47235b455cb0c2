"""Revoking, from the approver's call to the proof: nobody new gets in, and whoever is in is out within a second."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Watcher
from tests.harness import serverlog
from tests.harness.binaries import postgresql_bin
from tests.harness.postgres import Cluster
from tests.harness.processes import run
from tests.harness.roles import APP
from tests.harness.waiting import eventually
from tests.integration.session.stops import CASES, ROWS, Case
from tests.integration.whole.stand import GARBAGE, Pass, Whole

WITHIN_S = 1.0
"""DESIGN.md, promise 2."""
WHILE = (
    "idle",
    "idle in transaction",
    "a running UPDATE",
    "DO that traps query_canceled",
    "COPY out to a client that does not read",
)
CHOSEN = [case for case in CASES if case.name in WHILE]


def logins(cluster: Cluster) -> list[int]:
    """Every connection that PostgreSQL was asked for and that is neither the keeper's nor a test's own, by its log."""
    log = serverlog.read_log(cluster)
    others = {one.pid for one in log if one.message.startswith("connection authorized") and one.user != APP.user}
    return [one.pid for one in log if one.message.startswith("connection received") and one.pid not in others]


async def psql(whole: Whole, one: Pass) -> str:
    """What psql says where it is not let in."""
    command: list[str | Path] = [postgresql_bin() / "psql", "-XAtw", "-c", "SELECT 1"]
    done = await asyncio.to_thread(run, command, environment=whole.psql_environment(one), check=False)
    assert done.returncode == 2, done.stdout
    return done.stderr


async def test_revoked_tokens_are_refused_like_garbage(whole: Whole, cluster: Cluster) -> None:
    """One that was never used, and one that is used again: the very same text, and PostgreSQL hears nothing of it."""
    unused, used = await whole.grant(), await whole.grant()
    async with await whole.log_in(used) as wire:
        await wire.run("SELECT 1")
        await whole.revoke(unused)
        await whole.revoke(used)
        assert (await wire.rest())[-1].fields["C"] == "57P01"
    before = logins(cluster)

    told = [await whole.refusal(one) for one in (GARBAGE, unused, used)]
    assert told[0] is not None
    assert told[0]["C"] == "28P01"
    assert told == told[:1] * 3
    said = [await psql(whole, one) for one in (GARBAGE, unused, used)]
    assert "FATAL:  access refused: the token is not valid for this connection" in said[0]
    assert said == said[:1] * 3

    async with await whole.log_in(await whole.grant()):
        # The log is written in order: where this one is, an earlier one would be.
        await eventually(lambda: len(logins(cluster)) > len(before))
    assert len(logins(cluster)) == len(before) + 1


async def test_a_refusal_is_in_the_books_and_proven(whole: Whole) -> None:
    """An auditor sees which grant it was and why, and that the proxy signed it."""
    one = await whole.grant()
    await whole.revoke(one)
    await eventually(lambda: whole.refusal(one))

    async def listed() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = (await whole.api("eve", "GET", f"/sessions?state=refused&grant={one.grant}"))[
            "items"
        ]
        return found

    session = (await eventually(listed))[0]["id"]
    *books, item = (await whole.api("eve", "GET", f"/sessions/{session}/timeline"))["items"]
    assert [one["kind"] for one in books] == ["request", "decision", "revocation"]
    assert (item["kind"], item["refusal"], item["grant"]) == ("refused", "revoked", one.grant)
    refused = f"ok: session {session}: a refused connection, signed by its proxy, all in the log\n"
    assert (await whole.verify(session)).startswith(refused)


@pytest.fixture
async def table(behind: Watcher) -> AsyncIterator[Watcher]:
    """The table that the cases change, on a connection that no proxy sees."""
    await behind.execute(
        f"CREATE TABLE work (n int); INSERT INTO work SELECT generate_series(1, {ROWS});"
        f"ALTER TABLE work OWNER TO {APP.user}"
    )
    yield behind
    await behind.execute("DROP TABLE work")


@pytest.mark.parametrize("case", CHOSEN, ids=lambda case: case.name)
async def test_a_revocation_ends_whatever_runs(case: Case, whole: Whole, table: Watcher) -> None:
    """The backend is gone within a second of the call's return, nothing is committed, and the books tell it all."""
    one = await whole.grant()
    async with await whole.log_in(one) as wire:
        await case.begin(wire)

        async def is_there() -> bool:
            state = await table.fetchval("SELECT state FROM pg_stat_activity WHERE pid = $1", wire.pid)
            return bool(state == case.waits)

        async def is_gone() -> bool:
            return not await table.fetchval("SELECT count(*) FROM pg_stat_activity WHERE pid = $1", wire.pid)

        await eventually(is_there)
        await whole.revoke(one)
        await eventually(is_gone, within=WITHIN_S, what=f"the end of backend {wire.pid}")
        told = (await wire.rest())[-1].fields
    assert (told["S"], told["C"]) == ("FATAL", "57P01")
    assert "revoked by carol" in told["M"]
    assert await table.fetchval("SELECT count(*) FROM work WHERE n < 0") == 0
    assert await table.fetchval("SELECT count(*) FROM work WHERE n > 0") == ROWS
    await check_books(whole, one, case)


async def check_books(whole: Whole, one: Pass, case: Case) -> None:
    """What control shows of the session and its grant, and that its records are the proxy's."""
    session = await whole.ended(one)
    assert session["end_reason"] == "revoked"
    assert session["outcome"] in case.outcomes
    assert 0 < session["stop_s"] < WITHIN_S
    last = (await whole.api("eve", "GET", f"/sessions/{session['id']}/timeline"))["items"][-1]
    assert (last["kind"], last["reason"], last["by"]) == ("end", "revoked", "carol")
    grant = await whole.api("carol", "GET", f"/grants/{one.grant}")
    assert (grant["state"], grant["revoked_by"], grant["revoke_reason"]) == ("revoked", "carol", "enough")
    verified = await whole.verify(session["id"])
    assert verified.startswith(f"ok: session {session['id']}: ")
    assert "chain whole, signed by proxy edge, all in the log\n" in verified
