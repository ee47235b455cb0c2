"""The warnings before a grant's end: notices between two of PostgreSQL's messages, whatever is under way."""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy.contract.record import Notice, decode
from tests.harness.binaries import postgresql_bin
from tests.harness.certs import Authority
from tests.harness.postgres import Cluster
from tests.harness.processes import run
from tests.harness.proxy import Proxy, new_grant_id
from tests.harness.tokens import grant as make_grant
from tests.harness.wire import SYNC, Message, Wire, one_by_one, query

LEAD_S = 1.5
WARNINGS_S = (1.0, 0.5)


@pytest.fixture(scope="module")
def warning(postgres: Cluster, ca: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    """A proxy that warns a second and half a second before the end, and an hour before it."""
    options = {"warn_before_s": [3600, *WARNINGS_S]}
    with Proxy(cluster=postgres, ca=ca, folder=tmp_path_factory.mktemp("warning"), options=options) as proxy:
        yield proxy


DOING = {
    "nothing": b"",
    "a silent query": query("SELECT pg_sleep(30)"),
    "many small rows": query("SELECT n, pg_sleep(0.0005) FROM generate_series(1, 1000000) n"),
    "rows longer than any buffer": query("SELECT repeat('x', 3000000), pg_sleep(0.02) FROM generate_series(1, 1000)"),
    "COPY out": query("COPY (SELECT repeat('x', 300), pg_sleep(0.0005) FROM generate_series(1, 1000000)) TO STDOUT"),
    "COPY in": query("CREATE TEMP TABLE t (x int); COPY t FROM STDIN"),
    "a pipeline": b"".join(one_by_one("SELECT repeat('x', 20000), pg_sleep(0.01)") + SYNC for _ in range(1_000)),
}


@pytest.mark.parametrize("doing", DOING.values(), ids=DOING)
async def test_warnings(warning: Proxy, doing: bytes) -> None:
    """Each comes once, at its time, as a whole message; it says how long is left, and is in the record."""
    grant, end = new_grant_id(), time.time() + LEAD_S
    came: list[tuple[float, Message]] = []
    async with await Wire.tls(warning.port, warning.ca.client_context()) as wire:
        await wire.log_in(warning.signer.token(make_grant(id=grant, profile="app"), exp=end))
        wire.send(doing)
        last = await wire.read(within=LEAD_S + 5)
        while last.kind != "E":
            if last.kind == "N":
                came.append((time.time(), last))
            last = await wire.read(within=LEAD_S + 5)
    assert last.fields["C"] == "57P01"
    assert [one.fields["M"] for _, one in came] == [
        f"access to orders ends in {seconds:.0f} s (grant {grant})" for seconds in WARNINGS_S
    ]
    for (at, one), seconds in zip(came, WARNINGS_S, strict=True):
        assert (one.fields["V"], one.fields["C"]) == ("WARNING", "01000")
        assert end - seconds <= at < end - seconds + 0.4
    records = [decode(line) for line in await warning.session_of(grant)]
    assert [one.message for one in records if isinstance(one, Notice)] == [one.fields["M"] for _, one in came]


async def test_no_warning_for_a_long_grant(warning: Proxy) -> None:
    """Times that are past when the session begins are passed over."""
    async with await Wire.tls(warning.port, warning.ca.client_context()) as wire:
        await wire.log_in(warning.token(lasts_s=600))
        with pytest.raises(AssertionError, match="no answer"):
            await wire.read(within=0.3)


ROWS = "repeat('x', 500), pg_sleep(0.001) FROM generate_series(1, 1000000)"
"""Long ones: PostgreSQL sends 8 kB at once, which end in the middle of a row, and ours has to wait for the next."""
SCRIPTS = {
    "a result": ["-c", f"SELECT {ROWS}"],
    "COPY out": ["-c", f"COPY (SELECT {ROWS}) TO STDOUT"],
    "COPY in": [
        *("-c", "CREATE TEMP TABLE t (n int)"),
        *("-c", "\\copy t FROM PROGRAM 'for n in 1 2 3 4 5 6; do echo 1; sleep 0.5; done'"),
    ],
}


async def test_what_psql_shows(warning: Proxy) -> None:
    """Every warning before the last words, in whatever it is; in COPY in libpq reads only when the data have ended."""

    async def one(script: list[str]) -> str:
        token = warning.signer.token(make_grant(id=new_grant_id(), profile="app"), exp=time.time() + LEAD_S + 0.5)
        command: list[str | Path] = [postgresql_bin() / "psql", "-Xq", *script]
        return (await asyncio.to_thread(run, command, environment=warning.psql_env(token), check=False)).stderr

    for script in SCRIPTS.values():  # One by one: who is starved reads too late, and what was meant for it is dropped.
        said = await one(script)
        lines = [line for line in said.splitlines() if line.startswith(("WARNING", "FATAL", "psql"))]
        assert [line.partition(" (")[0] for line in lines[:3]] == [
            "WARNING:  access to orders ends in 1 s",
            "WARNING:  access to orders ends in 0 s",
            "FATAL:  access to orders has ended: the grant has expired",
        ], said
