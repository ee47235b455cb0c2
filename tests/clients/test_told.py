"""What a person sees when access ends: each client's own way of showing the proxy's last words."""

import asyncio
import time

import asyncpg
import psycopg
import pytest

from tests.clients.stand import Connection, Stand
from tests.harness.proxy import new_grant_id
from tests.harness.tokens import grant as make_grant
from tests.harness.waiting import eventually

LASTS_S = 0.8


@pytest.fixture
def short(stand: Stand) -> Stand:
    """The same with a grant that ends soon."""
    grant = new_grant_id()
    token = stand.proxy.signer.token(make_grant(id=grant, profile="app"), exp=time.time() + LASTS_S)
    return Stand(cluster=stand.cluster, proxy=stand.proxy, database=stand.database, grant=grant, token=token)


async def test_psql(short: Stand) -> None:
    """The person sees message, detail and hint, during a query."""
    said = short.run("psql", "-X", "-c", "SELECT pg_sleep(60)", check=False)
    assert f"FATAL:  access to orders has ended: the grant has expired (grant {short.grant}" in said
    assert "DETAIL:  Work that was open: rolled back." in said
    assert "HINT:  Ask again: curfew request orders app --for 1h --reason '...'" in said


async def test_psycopg(short: Stand) -> None:
    """It raises AdminShutdown with all of it."""
    connection = await short.psycopg()
    with pytest.raises(psycopg.errors.AdminShutdown, match="the grant has expired") as caught:
        await connection.execute("SELECT pg_sleep(60)")
    diagnostics = caught.value.diag
    assert diagnostics.sqlstate == "57P01"
    assert diagnostics.severity == "FATAL"
    assert diagnostics.message_detail == "Work that was open: rolled back."
    await connection.close()


async def test_psycopg_in_copy(short: Stand) -> None:
    """Also in the middle of a COPY, where PostgreSQL's own FATAL would be lost to a reset connection."""
    connection = await short.psycopg()
    await connection.execute("CREATE TABLE t (x text)")
    with pytest.raises(psycopg.errors.AdminShutdown, match="the grant has expired"):
        await copy_for(connection, LASTS_S + 0.5)
    await connection.close()


async def copy_for(connection: Connection, seconds: float) -> None:
    """COPY in rows now and then, and finish."""
    end = time.monotonic() + seconds
    async with connection.cursor() as cursor, cursor.copy("COPY t FROM STDIN") as copy:
        while time.monotonic() < end:
            await copy.write("x\n" * 1_000)
            await asyncio.sleep(0.01)  # What a COPY's source takes to give more.


async def test_asyncpg_running(short: Stand) -> None:
    """It has an error of its own for this, with the text in it."""
    connection = await short.asyncpg()
    with pytest.raises(asyncpg.ConnectionDoesNotExistError, match="the grant has expired"):
        await connection.fetch("SELECT pg_sleep(60)")
    await eventually(connection.is_closed)


async def test_asyncpg_idle(short: Stand) -> None:
    """An idle connection is closed, and its next use says so."""
    connection = await short.asyncpg()
    await eventually(connection.is_closed)
    with pytest.raises(asyncpg.InterfaceError, match="connection is closed"):
        await connection.fetch("SELECT 1")
