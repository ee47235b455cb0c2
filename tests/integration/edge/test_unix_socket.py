"""By the unix socket, as libpq finds it: without TLS, with a token, and on record with the system's user."""

import asyncio
import os
import signal
from pathlib import Path

import psycopg
import pytest

from proxy.contract.record import Cancel, SessionStart, decode
from tests.harness.binaries import postgresql_bin
from tests.harness.certs import Authority
from tests.harness.postgres import Cluster
from tests.harness.processes import run, unprivileged
from tests.harness.proxy import Proxy, new_grant_id
from tests.harness.waiting import eventually
from tests.harness.wire import GSSENC_REQUEST, SSL_REQUEST, Refused, Wire, cancel_request, message, startup
from tests.integration.edge.conftest import on_unix

WHO = (("user", "dba1"), ("database", "orders"))


def psql(proxy: Proxy, sockets: Path, **changes: str) -> str:
    """What psql says by the socket."""
    environment = proxy.psql_env(PGHOST=str(sockets), **changes)
    del environment["PGHOSTADDR"]
    done = run([postgresql_bin() / "psql", "-XAtqc", "SELECT current_user"], environment=environment, check=False)
    return done.stdout + done.stderr


@pytest.mark.parametrize("sslmode", ["disable", "prefer", "verify-full"])
def test_psql(unix_proxy: Proxy, sockets: Path, sslmode: str) -> None:
    """Whatever its sslmode says: libpq has no TLS on a unix socket."""
    assert psql(unix_proxy, sockets, PGSSLMODE=sslmode) == "curfew_app\n"


def test_no_token(unix_proxy: Proxy, sockets: Path) -> None:
    """A file's mode is no grant."""
    assert "access refused: the token is not valid" in psql(unix_proxy, sockets, PGPASSWORD="wrong")
    bound = unix_proxy.token(addresses=("127.0.0.0/8",))
    assert "access refused: the token is not valid" in psql(unix_proxy, sockets, PGPASSWORD=bound)


def test_who_connects_as_libpq_sees_it(unix_proxy: Proxy, sockets: Path) -> None:
    """`requirepeer`: libpq too can ask the kernel who is at the other end."""
    environment = unix_proxy.psql_env(PGHOST=str(sockets), PGREQUIREPEER="mail")
    del environment["PGHOSTADDR"]
    done = run([postgresql_bin() / "psql", "-c", "SELECT 1"], environment=environment, check=False)
    assert "requirepeer specifies" in done.stderr


async def test_recorded(unix_proxy: Proxy, path: str) -> None:
    """No address and no TLS, but the user's number."""
    grant = new_grant_id()
    async with await Wire.unix(path) as wire:
        await wire.log_in(unix_proxy.token(id=grant))
        assert await wire.value("SELECT 1") == "1"
        wire.close()
    start = decode((await unix_proxy.session_of(grant))[0])
    assert isinstance(start, SessionStart)
    assert (start.address, start.tls, start.uid) == (None, None, os.getuid())
    assert f'"address": "unix:{os.getuid()}"' in unix_proxy.log()


async def test_cancel(unix_proxy: Proxy, sockets: Path) -> None:
    """A driver sends it the way it came, and the record says so."""
    grant = new_grant_id()
    connection = await psycopg.AsyncConnection.connect(
        host=str(sockets),
        port=unix_proxy.port,
        user="dba1",
        dbname="orders",
        password=unix_proxy.token(id=grant),
        autocommit=True,
    )
    async with connection:
        running = asyncio.gather(connection.execute("SELECT pg_sleep(60)"), return_exceptions=True)

        async def sleeps() -> bool:
            return bool(
                await unix_proxy.cluster.sql(
                    "SELECT FROM pg_stat_activity WHERE pid = $1 AND wait_event = 'PgSleep'",
                    connection.info.backend_pid,
                )
            )

        await eventually(sleeps)
        await connection.cancel_safe(timeout=10)
        (error,) = await running
        assert isinstance(error, psycopg.errors.QueryCanceled)
    cancels = [one for line in await unix_proxy.session_of(grant) if isinstance(one := decode(line), Cancel)]
    assert [(one.forwarded, one.address) for one in cancels] == [(True, f"unix:{os.getuid()}")]


@pytest.mark.parametrize(
    "requests",
    [(SSL_REQUEST,), (GSSENC_REQUEST,), (SSL_REQUEST, GSSENC_REQUEST), (GSSENC_REQUEST, SSL_REQUEST)],
    ids=["SSL", "GSS", "SSL, GSS", "GSS, SSL"],
)
async def test_encryption_requests(unix_proxy: Proxy, path: str, requests: tuple[bytes, ...]) -> None:
    """Each gets its `N`, in either order, and the connection goes on."""
    async with await Wire.unix(path) as wire:
        for request in requests:
            wire.send(request)
            assert await wire._reader.readexactly(1) == b"N"
        await wire.log_in(unix_proxy.token())


@pytest.mark.parametrize("request_", [SSL_REQUEST, GSSENC_REQUEST], ids=["SSL", "GSS"])
async def test_an_encryption_request_twice(path: str, request_: bytes) -> None:
    """Is no protocol of PostgreSQL's; nobody is kept busy with it."""
    async with await Wire.unix(path) as wire:
        wire.send(request_ * 2)
        assert await wire.bytes_left() == b"N"


async def test_direct_tls(path: str) -> None:
    """There is none here."""
    async with await Wire.unix(path) as wire:
        wire.send(b"\x16\x03\x01\x00\x05hello")
        assert await wire.bytes_left() == b""


async def test_users(postgres: Cluster, ca: Authority, sockets: Path, tmp_path: Path) -> None:
    """Whom the configuration does not name is told so before the token is asked for, and can cancel nothing."""
    made = Proxy(cluster=postgres, ca=ca, folder=tmp_path, options={"unix_socket": {"users": [str(os.getuid() + 1)]}})
    with on_unix(made, sockets) as proxy:
        path = f"{sockets}/.s.PGSQL.{proxy.port}"
        async with await Wire.unix(path) as wire:
            wire.send(startup(*WHO) + message("p", proxy.token().encode() + b"\0"))
            (told,) = await wire.rest()
        assert (told.fields["C"], told.fields["M"]) == ("28000", "this system user may not connect to this proxy")
        async with await Wire.tls(proxy.port, ca.client_context()) as session, await Wire.unix(path) as wire:
            await session.log_in(proxy.token())
            wire.send(cancel_request(session.pid, session.secret))
            assert await wire.bytes_left() == b""
            assert proxy.metrics()["curfew_cancel_requests_total"] == 0


@pytest.mark.skipif(os.getuid() != 0, reason="only root can be somebody else")
def test_mode(unix_proxy: Proxy, sockets: Path, path: str) -> None:
    """0660 lets in neither others nor another group."""
    assert Path(path).stat().st_mode & 0o777 == 0o660
    environment = unix_proxy.psql_env(PGHOST=str(sockets))
    del environment["PGHOSTADDR"]
    command = (postgresql_bin() / "psql", "-XAtqc", "SELECT 1")
    done = run(command, environment=environment, account=unprivileged(), check=False)
    assert "Permission denied" in done.stderr


async def test_killed_and_started_again(
    postgres: Cluster, ca: Authority, sockets: Path, tmp_path: Path, unix_proxy: Proxy
) -> None:
    """The socket that a killed proxy leaves is no obstacle; a live one's is; and a stopped proxy leaves none."""
    made = on_unix(Proxy(cluster=postgres, ca=ca, folder=tmp_path), sockets)
    path = Path(f"{sockets}/.s.PGSQL.{made.port}")
    with made as proxy:
        assert proxy.process is not None
        proxy.process.kill()
        assert path.is_socket()
        proxy.start()
        async with await Wire.unix(str(path)) as wire:
            await wire.log_in(proxy.token())
            proxy.signal(signal.SIGTERM)
            await eventually(lambda: not path.exists())
            wire.close()
    other = Proxy(cluster=postgres, ca=ca, folder=tmp_path / "other")
    other.options = {"listen": [f"{sockets}:{unix_proxy.port}"]}
    with pytest.raises(AssertionError, match=r"another process listens there: '.*/\.s\.PGSQL\."), other:
        pass
    async with await Wire.unix(f"{sockets}/.s.PGSQL.{unix_proxy.port}") as wire:
        await wire.log_in(unix_proxy.token())


async def test_many_silent_ones(postgres: Cluster, ca: Authority, sockets: Path, tmp_path: Path) -> None:
    """The limit for one address counts here for one user; TCP's guests are not touched by it."""
    made = Proxy(cluster=postgres, ca=ca, folder=tmp_path, options={"max_unauthenticated_per_address": 2})
    with on_unix(made, sockets) as proxy:
        path = f"{sockets}/.s.PGSQL.{proxy.port}"
        async with await Wire.plain(proxy.port) as tcp, await Wire.unix(path) as one, await Wire.unix(path) as two:
            await eventually(lambda: proxy.metrics()["curfew_unauthenticated"] == 3)
            async with await Wire.unix(path) as three:
                assert await one.bytes_left() == b""
                await three.log_in(proxy.token())
            for other in (tcp, two):
                other.send(startup(("database", "orders")))
                with pytest.raises(Refused):
                    await other.until("R")
