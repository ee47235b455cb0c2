"""Several hosts: the order, what counts as a reason to try the next one, roles, and who ends what."""

import asyncio
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from structlog.testing import capture_logs

from proxy import hosts
from proxy.contract.record import SessionStart
from proxy.upstream import UpstreamError
from tests.conftest import MakeProxy
from tests.harness import roles
from tests.harness.certs import Authority
from tests.harness.ports import free_port
from tests.harness.postgres import Cluster
from tests.harness.upstream import Client, FakeUpstream, error
from tests.harness.waiting import eventually
from tests.integration.upstream.stage import NEUTRAL, after_startup, refused
from tests.integration.upstream.targets import dialler_of, log_in, profile_of

LOCAL = "127.0.0.1"


@pytest.fixture(scope="module")
def standby(ca: Authority) -> Iterator[Cluster]:
    """A PostgreSQL in recovery that takes connections, with the usual logins."""
    with Cluster(ca) as cluster:
        roles.install(cluster)
        cluster.stop()
        (cluster.data / "standby.signal").touch()
        cluster.start()
        yield cluster


@pytest.fixture
def servers(postgres: Cluster, standby: Cluster) -> dict[str, Cluster]:
    """Both, by their role."""
    return {"primary": postgres, "standby": standby}


@pytest.fixture
def hole() -> Iterator[int]:
    """A port that takes connections and never says anything."""
    with socket.create_server((LOCAL, 0)) as listening:
        yield listening.getsockname()[1]


async def chosen(cluster: Cluster, folder: Path, ports: list[int], **changed: Any) -> int:  # noqa: ANN401 any field of Target
    """The port of the host that a session gets."""
    dialler = dialler_of(cluster, folder, host=[LOCAL] * len(ports), port=ports, **changed)
    backend = await log_in(dialler, profile_of(roles.APP, folder))
    backend.close()
    return backend.connected.server.host.port


async def test_a_host_that_is_not_there(postgres: Cluster, tmp_path: Path) -> None:
    """The next one is taken, and the log says which, and why not the other."""
    closed = free_port()
    with capture_logs() as logs:
        assert await chosen(postgres, tmp_path, [closed, postgres.port]) == postgres.port
    assert [(line["event"], line["host"]) for line in logs] == [("host chosen", f"{LOCAL}:{postgres.port}")]
    assert "Connect call failed" in logs[0]["passed_over"][f"{LOCAL}:{closed}"]


async def test_names_and_sockets(postgres: Cluster, tmp_path: Path) -> None:
    """A name that nobody knows, a unix socket that is not there, and one that is."""
    hosts = ["no-such-host.invalid", str(tmp_path), str(postgres.folder)]
    dialler = dialler_of(postgres, tmp_path, host=hosts, port=postgres.port)
    backend = await log_in(dialler, profile_of(roles.APP, tmp_path))
    backend.close()
    assert backend.connected.server.host.name == str(postgres.folder)


@pytest.mark.parametrize("sslmode", ["disable", "verify-full"])
async def test_a_host_that_says_nothing(postgres: Cluster, tmp_path: Path, hole: int, sslmode: str) -> None:
    """It costs its share of the connect timeout, and is tried last for a while."""
    ports = [hole, postgres.port]
    changed = {"host": [LOCAL, str(postgres.folder)], "sslmode": sslmode, "connect_timeout_s": 1.0}
    dialler = dialler_of(postgres, tmp_path, port=ports, **changed)
    profile = profile_of(roles.APP, tmp_path)
    loop = asyncio.get_running_loop()
    before = loop.time()
    (await log_in(dialler, profile)).close()
    assert 0.4 < loop.time() - before < 0.9
    before = loop.time()
    (await log_in(dialler, profile)).close()
    assert loop.time() - before < 0.4


async def test_a_host_that_is_back_is_first_again(
    postgres: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After RECHECK_S, in the order of the configuration."""
    monkeypatch.setattr(hosts, "RECHECK_S", 0.2)
    profile = profile_of(roles.APP, tmp_path)
    async with FakeUpstream(after_startup(error("57P03", "starting"))) as rogue:
        dialler = dialler_of(
            postgres, tmp_path, host=[LOCAL, str(postgres.folder)], port=[rogue.port, postgres.port], sslmode="disable"
        )
        for heard in (True, False):
            (await log_in(dialler, profile)).close()
            if heard:
                await rogue.client()
        assert rogue.played == 1

        async def asked_again() -> bool:
            (await log_in(dialler, profile)).close()
            return rogue.played == 2

        await eventually(asked_again)


async def test_a_host_that_is_starting(postgres: Cluster, tmp_path: Path) -> None:
    """57P03 is a reason to try the next one, as in libpq; alone, it is what the client is told."""
    async with FakeUpstream(after_startup(error("57P03", "the database system is starting up"))) as rogue:
        changed = {"host": [LOCAL, str(postgres.folder)], "sslmode": "disable"}
        dialler = dialler_of(postgres, tmp_path, port=[rogue.port, postgres.port], **changed)
        (await log_in(dialler, profile_of(roles.APP, tmp_path))).close()
        await rogue.client()
        with pytest.raises(UpstreamError) as caught:
            await chosen(postgres, tmp_path, [free_port(), rogue.port], sslmode="disable")
        await rogue.client()
    assert (caught.value.sqlstate, caught.value.public) == ("57P03", "the database system is starting up")


@pytest.mark.parametrize("sqlstate", ["28P01", "28000", "53300", "XX000"])
async def test_a_host_that_refuses_the_login(postgres: Cluster, tmp_path: Path, sqlstate: str) -> None:
    """No other host is tried: as in libpq, a host that answers is the host."""
    async with FakeUpstream(after_startup(error(sqlstate, "no"))) as rogue:
        with pytest.raises(UpstreamError, match=sqlstate):
            await chosen(postgres, tmp_path, [rogue.port, postgres.port], sslmode="disable")
        await rogue.client()


async def test_a_host_that_is_not_trusted(postgres: Cluster, tmp_path: Path) -> None:
    """No other host is tried: somebody may be in the way of the first one, and that is to be seen."""

    async def no_tls(client: Client) -> None:
        await client.first_packet()
        client.say(b"N")

    async with FakeUpstream(no_tls) as rogue:
        with pytest.raises(UpstreamError, match="does not speak TLS") as caught:
            await chosen(postgres, tmp_path, [rogue.port, postgres.port])
        await rogue.client()
    refused(caught.value)


@pytest.mark.parametrize(("says", "sslmode"), [(b"", "require"), (b"S", "require"), (b"", "disable")])
async def test_a_host_that_hangs_up(postgres: Cluster, tmp_path: Path, says: bytes, sslmode: str) -> None:
    """When asked for TLS, in the midst of its handshake, and without it at the startup packet: a balancer, say."""

    async def script(client: Client) -> None:
        await client.first_packet()
        client.writer.write(says)
        client.writer.close()

    async with FakeUpstream(script) as rogue:
        hosts, ports = [LOCAL, str(postgres.folder)], [rogue.port, postgres.port]
        dialler = dialler_of(postgres, tmp_path, host=hosts, port=ports, sslmode=sslmode)
        (await log_in(dialler, profile_of(roles.APP, tmp_path))).close()
        await rogue.client()


async def test_nobody_is_there(postgres: Cluster, tmp_path: Path, hole: int) -> None:
    """Every host is in the log's text, none in the client's."""
    ports = [free_port(), hole]
    with pytest.raises(UpstreamError) as caught:
        await chosen(postgres, tmp_path, ports, connect_timeout_s=0.4)
    text = refused(caught.value)
    assert all(f"{LOCAL}:{port}: " in text for port in ports)


# Roles


@pytest.mark.parametrize(
    ("wanted", "standby_first", "primary_first"),
    [
        ("any", "standby", "primary"),
        ("primary", "primary", "primary"),
        ("read-write", "primary", "primary"),
        ("standby", "standby", "standby"),
        ("read-only", "standby", "standby"),
        ("prefer-standby", "standby", "standby"),
    ],
)
async def test_the_role_that_is_wanted(
    servers: dict[str, Cluster], tmp_path: Path, wanted: str, standby_first: str, primary_first: str
) -> None:
    """In both orders; in the end nothing is left of the logins that were only to look."""
    for expected, order in ((standby_first, ("standby", "primary")), (primary_first, ("primary", "standby"))):
        ports = [servers[name].port for name in order]
        got = await chosen(servers["primary"], tmp_path, ports, target_session_attrs=wanted)
        assert got == servers[expected].port

    async def gone() -> bool:
        count = "SELECT count(*) AS left FROM pg_stat_activity WHERE usename = $1"
        return all([(await one.sql(count, roles.APP.user))[0]["left"] == 0 for one in servers.values()])

    await eventually(gone)


async def test_a_role_that_nobody_has(postgres: Cluster, standby: Cluster, tmp_path: Path) -> None:
    """One host or several; and prefer-standby takes what there is."""
    for ports, wanted in (([standby.port], "read-write"), ([postgres.port, free_port()], "standby")):
        with pytest.raises(UpstreamError, match=f"it is not {wanted}") as caught:
            await chosen(postgres, tmp_path, ports, target_session_attrs=wanted)
        assert caught.value.public == NEUTRAL
    ports = [free_port(), postgres.port]
    assert await chosen(postgres, tmp_path, ports, target_session_attrs="prefer-standby") == postgres.port


async def test_a_login_that_only_reads(postgres: Cluster, tmp_path: Path) -> None:
    """`read-write` heeds what the session itself is set to, `primary` does not: so it is in libpq."""
    for wanted, fits in (("primary", True), ("read-write", False)):
        dialler = dialler_of(postgres, tmp_path, target_session_attrs=wanted)
        profile = profile_of(roles.APP, tmp_path)
        try:
            (await log_in(dialler, profile, options="-c default_transaction_read_only=on")).close()
        except UpstreamError:
            assert not fits
        else:
            assert fits


# A whole proxy


async def test_a_crashed_session_is_ended_where_it_was(
    postgres: Cluster, standby: Cluster, make_proxy: MakeProxy
) -> None:
    """The record says on which of the two servers; the next start ends it there."""
    target = {"host": [LOCAL, "localhost"], "port": [standby.port, postgres.port], "target_session_attrs": "primary"}
    proxy = make_proxy(postgres, target=target)
    connection = await proxy.connect()
    pid = connection.get_server_pid()
    sleep = asyncio.get_running_loop().create_task(connection.execute("SELECT pg_sleep(60)"))
    state = "SELECT wait_event FROM pg_stat_activity WHERE pid = $1"

    async def sleeps() -> bool:
        return bool((await postgres.sql(state, pid))[0]["wait_event"] == "PgSleep")

    await eventually(sleeps)
    proxy.signal(signal.SIGKILL)
    proxy.close()
    with pytest.raises(asyncpg.ConnectionDoesNotExistError):
        await sleep
    assert await sleeps()
    proxy.start()
    ended = (await eventually(proxy.ended))[0]
    assert (ended.reason, ended.gone_at is not None) == ("crashed", True)
    assert await postgres.sql(state, pid) == []


async def test_a_session_is_ended_where_it_is(postgres: Cluster, standby: Cluster, make_proxy: MakeProxy) -> None:
    """Two servers in one target: a verified stop on the second one, by its own keeper, and a cancel before it."""
    ports = [standby.port, postgres.port]
    target = {"host": ["localhost", LOCAL], "port": ports, "target_session_attrs": "primary"}
    proxy = make_proxy(postgres, target=target)
    token = proxy.token(lasts_s=2.0)
    connection = await proxy.connect(token)
    pid = connection.get_server_pid()
    found = await postgres.sql("SELECT usename FROM pg_stat_activity WHERE pid = $1", pid)
    assert [row["usename"] for row in found] == [roles.APP.user]
    with pytest.raises(TimeoutError):
        await connection.fetch("SELECT pg_sleep(60)", timeout=0.3)
    assert await connection.fetchval("SELECT 1") == 1
    ended = (await eventually(proxy.ended))[0]
    connection.terminate()
    assert (ended.reason, ended.outcome) == ("expired", "nothing open")
    assert ended.gone_at is not None
    assert await postgres.sql("SELECT FROM pg_stat_activity WHERE pid = $1", pid) == []
    start = proxy.records(ended.session)[0]
    assert isinstance(start, SessionStart)
    assert start.server == f"{LOCAL}:{postgres.port}"
    assert f'"server": "{LOCAL}:{postgres.port}"' in proxy.log()
