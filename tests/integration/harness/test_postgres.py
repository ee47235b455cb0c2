"""The Cluster: TLS and SCRAM only, kill and restart, configuration, logs, and the logins that Curfew uses."""

import signal
from pathlib import Path

import asyncpg
import pytest

from tests.harness import roles
from tests.harness.certs import Authority
from tests.harness.postgres import Cluster
from tests.harness.proc import children, runs
from tests.harness.serverlog import statements
from tests.harness.waiting import eventually


async def test_connections_are_encrypted_and_not_by_root(postgres: Cluster) -> None:
    """A connection goes over TLS, and the server runs as nobody special."""
    rows = await postgres.sql("SELECT ssl, version FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
    assert rows[0]["ssl"] is True
    assert Path(f"/proc/{postgres.pid}").stat().st_uid != 0


async def test_plain_text_is_rejected(postgres: Cluster) -> None:
    """pg_hba.conf has no line for a connection over TCP without TLS."""
    with pytest.raises(asyncpg.InvalidAuthorizationSpecificationError, match="no encryption"):
        await asyncpg.connect(
            host=postgres.host, port=postgres.port, user=postgres.superuser, password=postgres.password, ssl=False
        )


async def test_wrong_password_is_rejected(postgres: Cluster) -> None:
    """SCRAM is really asked for."""
    with pytest.raises(asyncpg.InvalidPasswordError):
        await postgres.connect(user=roles.APP.user, password="wrong")


@pytest.mark.parametrize("login", [roles.KEEPER, roles.APP, roles.READONLY], ids=lambda login: login.user)
async def test_logins_work(postgres: Cluster, login: roles.Login) -> None:
    """Each login that the tests use connects, with its password's odd characters."""
    connection = await postgres.connect(user=login.user, password=login.password)
    assert await connection.fetchval("SELECT current_user") == login.user
    await connection.close()


async def test_dsn_is_libpqs(postgres: Cluster, database: str) -> None:
    """The URI is read, password and all, and leads to the database named."""
    connection = await asyncpg.connect(postgres.dsn(roles.APP.user, roles.APP.password, database))
    assert await connection.fetchval("SELECT current_database()") == database
    await connection.execute("CREATE TABLE owned (id int)")
    await connection.close()


async def test_keeper_sees_and_ends_others(postgres: Cluster) -> None:
    """deploy/keeper.sql is enough to read a backend's start and transaction and to terminate it."""
    app = await postgres.connect(user=roles.APP.user, password=roles.APP.password)
    keeper = await postgres.connect(user=roles.KEEPER.user, password=roles.KEEPER.password)
    pid = app.get_server_pid()
    query = "SELECT backend_start, state FROM pg_stat_activity WHERE pid = $1"
    row = await keeper.fetchrow(query, pid)
    assert row is not None
    assert row["backend_start"] is not None
    assert row["state"] == "idle"
    assert await keeper.fetchval("SELECT pg_terminate_backend($1)", pid) is True

    async def gone() -> bool:
        return await keeper.fetchrow(query, pid) is None

    await eventually(gone)
    await keeper.close()
    app.terminate()


async def test_keeper_is_no_more_than_that(postgres: Cluster, database: str) -> None:
    """The keeper reads no table and cannot end a superuser's backend."""
    await postgres.sql("CREATE TABLE private AS SELECT 1 AS n", database=database)
    boss = await postgres.connect()
    keeper = await postgres.connect(user=roles.KEEPER.user, password=roles.KEEPER.password, database=database)
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await keeper.fetch("SELECT * FROM public.private")
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await keeper.fetch("SELECT pg_terminate_backend($1)", boss.get_server_pid())
    await keeper.close()
    await boss.close()


async def test_kill_and_restart(own_postgres: Cluster) -> None:
    """A killed server leaves no process behind and comes back on its port."""
    port, pid = own_postgres.port, own_postgres.pid
    left = children(pid)
    assert left
    own_postgres.kill()
    await eventually(lambda: not any(map(runs, left)))
    with pytest.raises(ConnectionError):
        await own_postgres.connect()
    own_postgres.start()
    assert own_postgres.port == port
    assert (await own_postgres.sql("SELECT 1 AS one"))[0]["one"] == 1


async def test_settings_and_log(own_postgres: Cluster) -> None:
    """A setting counts after a reload, and the csvlog has simple and prepared statements, over several lines."""
    own_postgres.configure(work_mem="'7MB'")
    own_postgres.reload()

    async def in_force() -> bool:
        return bool((await own_postgres.sql("SHOW work_mem"))[0]["work_mem"] == "7MB")

    await eventually(in_force)
    app = await own_postgres.connect(user=roles.APP.user, password=roles.APP.password)
    await app.execute("SELECT 'one',\n'two'")
    await app.fetch("SELECT $1::int + 1", 41)
    await app.close()
    await eventually(lambda: "SELECT $1::int + 1" in statements(own_postgres, user=roles.APP.user))
    assert "SELECT 'one',\n'two'" in statements(own_postgres, user=roles.APP.user, database="postgres")


def test_taken_port_is_exchanged(ca: Authority, postgres: Cluster) -> None:
    """A server whose port somebody else listens on comes up on another one."""
    cluster = Cluster(ca, log_statements=True)
    cluster.port = postgres.port
    with cluster:
        assert cluster.port != postgres.port
        assert cluster.psql("SELECT 1") == "1"
    assert not cluster.folder.exists()


def test_failing_start_says_why(ca: Authority) -> None:
    """A server that cannot start raises with PostgreSQL's own words, and its folder goes all the same."""
    cluster = Cluster(ca, settings={"shared_buffers": "'nonsense'"})
    try:
        with pytest.raises(RuntimeError, match="shared_buffers"):
            cluster.start()
    finally:
        cluster.close()
    assert not cluster.folder.exists()


def test_two_clusters_at_once(ca: Authority, postgres: Cluster) -> None:
    """Two servers share a machine, and stopping one does not touch the other."""
    with Cluster(ca) as other:
        assert other.psql("SELECT 1") == "1"
        other.stop(how=signal.SIGTERM)
    assert postgres.psql("SELECT 1") == "1"
