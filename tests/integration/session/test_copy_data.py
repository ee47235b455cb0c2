"""COPY with its data on record, against a real PostgreSQL: psql and asyncpg, text and binary, both ways."""

import asyncio
from base64 import b64decode
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from proxy.contract.record import AnyRecord, Copy, CopyData, decode
from tests.conftest import MakeProxy
from tests.harness.binaries import postgresql_bin
from tests.harness.postgres import Cluster
from tests.harness.processes import run
from tests.harness.proxy import Proxy, new_grant_id
from tests.harness.roles import APP

ROWS = 20_000
BIG = "x" * 200_000


def access(copy_data: str) -> dict[str, Any]:
    """The profile, with its COPY data on record."""
    return {"app": {"user": APP.user, "password": {"command": ["echo", APP.password]}, "copy_data": copy_data}}


def copied(records: list[AnyRecord], direction: str) -> bytes:
    """The data on record, end to end."""
    found = [one for one in records if isinstance(one, CopyData) and one.direction == direction]
    return b"".join(b64decode(one.base64) for one in found)


async def records_of(proxy: Proxy, grant: str) -> list[AnyRecord]:
    """All records of the grant's session, once it is over."""
    return [decode(line) for line in await proxy.session_of(grant)]


@pytest.mark.parametrize("durability", ["process", "disk"])
async def test_psql(make_proxy: MakeProxy, postgres: Cluster, database: str, tmp_path: Path, durability: str) -> None:
    r"""`\copy` from a file: what is on record is the file; what it copies out is counted alone."""
    proxy = make_proxy(postgres, target={"durability": durability, "access": access("in")})
    grant = new_grant_id()
    file = tmp_path / "rows"
    file.write_text("".join(f"{number}\t{BIG if number == 7 else 'row'}\n" for number in range(ROWS)))
    script = ["CREATE TEMP TABLE t (n int, s text)", f"\\copy t from {file}", "SELECT count(*) FROM t"]
    said = await asyncio.to_thread(
        run,
        [
            postgresql_bin() / "psql",
            "-XqAt",
            *(part for one in [*script, r"\copy t to /dev/null"] for part in ("-c", one)),
        ],
        environment=proxy.psql_env(proxy.token(id=grant), PGDATABASE=f"orders/{database}"),
    )
    assert said.stdout.split() == [str(ROWS)]
    records = await records_of(proxy, grant)
    size = file.stat().st_size
    assert (copied(records, "in"), copied(records, "out")) == (file.read_bytes(), b"")
    assert [(one.direction, one.bytes) for one in records if isinstance(one, Copy)] == [("in", size), ("out", size)]
    assert sum(isinstance(one, CopyData) for one in records) < ROWS / 20, "no record for a row"


async def test_asyncpg_binary(make_proxy: MakeProxy, postgres: Cluster, database: str) -> None:
    """Binary COPY, in and out: the same bytes on record both ways; and one that PostgreSQL refuses."""
    proxy = make_proxy(postgres, target={"access": access("full")})
    grant = new_grant_id()
    connection = await proxy.connect(proxy.token(id=grant), database=f"orders/{database}")
    await connection.execute("CREATE TEMP TABLE t (n int, s text, b bytea)")
    rows = [(number, None if number % 3 else BIG, bytes(range(256))) for number in range(30)]
    assert await connection.copy_records_to_table("t", records=rows) == "COPY 30"
    came: list[bytes] = []

    async def keep(data: bytes) -> None:
        came.append(data)

    await connection.copy_from_table("t", output=keep, format="binary")
    with pytest.raises(asyncpg.BadCopyFileFormatError):
        await connection.copy_to_table("t", source=_rubbish(), format="binary")
    assert await connection.fetchval("SELECT count(*) FROM t") == len(rows)
    await connection.close()
    records = await records_of(proxy, grant)
    assert copied(records, "out") == b"".join(came)
    assert copied(records, "in") == b"".join(came) + b"rubbish, no COPY data"
    assert [one.failed for one in records if isinstance(one, Copy)] == [False, False, True]


async def _rubbish() -> AsyncIterator[bytes]:
    yield b"rubbish, no COPY data"
