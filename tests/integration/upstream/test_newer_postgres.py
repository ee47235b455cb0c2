"""What PostgreSQL 15 does not know, on the newest one that PyPI has: direct TLS, protocol 3.2, long cancel keys."""

import asyncio
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from proxy.config import read_secret
from proxy.stop import Keeper
from proxy.upstream import UpstreamError
from proxy.wire import messages
from tests.conftest import MakeProxy
from tests.harness import roles
from tests.harness.binaries import version_bin
from tests.harness.certs import Authority
from tests.harness.postgres import Cluster
from tests.harness.upstream import Client, FakeUpstream
from tests.harness.waiting import eventually
from tests.integration.upstream.stage import PROFILE, STARTUP, dialler_for, honest, refused
from tests.integration.upstream.targets import dialler_of, log_in, profile_of, target_of

DIRECT: dict[str, Any] = {"sslnegotiation": "direct"}


@pytest.fixture(scope="module")
def newer(ca: Authority) -> Iterator[Cluster]:
    """A PostgreSQL 18 or newer with the usual logins."""
    with Cluster(ca, programs=version_bin(18)) as cluster:
        roles.install(cluster)
        yield cluster


@pytest.mark.parametrize("sslmode", ["require", "verify-ca", "verify-full"])
async def test_direct_tls(newer: Cluster, tmp_path: Path, sslmode: str) -> None:
    """TLS from the first byte, with our ALPN, and channel binding in it."""
    dialler = dialler_of(newer, tmp_path, **DIRECT, sslmode=sslmode, channel_binding="require")
    backend = await log_in(dialler, profile_of(roles.APP, tmp_path))
    assert backend.connected.leg.transport.get_extra_info("ssl_object").selected_alpn_protocol() == "postgresql"
    backend.close()


async def test_direct_tls_is_no_matter_on_a_unix_socket(newer: Cluster, tmp_path: Path) -> None:
    """As in libpq."""
    dialler = dialler_of(newer, tmp_path, **DIRECT, host=str(newer.folder))
    (await log_in(dialler, profile_of(roles.APP, tmp_path))).close()


async def test_direct_tls_with_an_older_server(postgres: Cluster, tmp_path: Path) -> None:
    """PostgreSQL 15 hangs up, and there is no falling back to anything."""
    with pytest.raises(UpstreamError) as caught:
        await log_in(dialler_of(postgres, tmp_path, **DIRECT), profile_of(roles.APP, tmp_path))
    refused(caught.value)


@pytest.mark.parametrize("negotiation", ["direct", "postgres"])
async def test_the_name_is_checked(newer: Cluster, tmp_path: Path, negotiation: str) -> None:
    """Direct or not, verify-full is verify-full."""
    dialler = dialler_of(newer, tmp_path, sslnegotiation=negotiation, ca_file=None)
    with pytest.raises(UpstreamError, match="CERTIFICATE_VERIFY_FAILED"):
        await log_in(dialler, profile_of(roles.APP, tmp_path))


@pytest.mark.parametrize(("version", "secret"), [("3.2", 32), ("3.0", 4)])
@pytest.mark.parametrize("negotiation", ["direct", "postgres"])
async def test_cancel(newer: Cluster, tmp_path: Path, version: str, secret: int, negotiation: str) -> None:
    """A key of 32 bytes in 3.2 and of 4 in 3.0; a cancel goes the way that the session went."""
    dialler = dialler_of(newer, tmp_path, max_protocol_version=version, sslnegotiation=negotiation)
    backend = await log_in(dialler, profile_of(roles.APP, tmp_path))
    connected = backend.connected
    assert len(connected.secret) == secret
    backend.send("SELECT pg_sleep(60)")

    async def sleeps() -> bool:
        rows = await newer.sql("SELECT wait_event FROM pg_stat_activity WHERE pid = $1", backend.pid)
        return bool(rows[0]["wait_event"] == "PgSleep")

    await eventually(sleeps)
    await dialler.cancel(connected.server, connected.pid, connected.secret[:-1] + b"\0")
    await dialler.cancel(connected.server, connected.pid, connected.secret)
    async with asyncio.timeout(5):
        said = [await backend.read() for _ in range(3)]
    assert messages.parse_error(said[1][1])["C"] == "57014"
    backend.close()


async def test_the_keeper_speaks_it_too(newer: Cluster, tmp_path: Path) -> None:
    """It is direct where sessions are."""
    keeper = Keeper("orders", target_of(newer, tmp_path, **DIRECT), read_secret=read_secret)
    await keeper.start()
    backend = await log_in(dialler_of(newer, tmp_path, **DIRECT), profile_of(roles.APP, tmp_path))
    gone = await keeper.stop(backend.pid, await keeper.backend_start(backend.pid))
    assert gone.transaction == "none"
    backend.close()
    await keeper.close()


async def test_a_whole_session(newer: Cluster, make_proxy: MakeProxy) -> None:
    """Through a real proxy: asyncpg speaks 3.0 to it, it speaks 3.2 to PostgreSQL, and a cancel crosses both."""
    proxy = make_proxy(newer, target=DIRECT)
    connection = await proxy.connect()
    with pytest.raises(TimeoutError):
        await connection.fetch("SELECT pg_sleep(60)", timeout=0.3)
    assert await connection.fetchval("SELECT 1") == 1
    await connection.close()


# Servers that speak something else inside direct TLS


@pytest.mark.parametrize("protocols", [None, ["http/1.1"]])
async def test_a_server_without_our_protocol(
    ca: Authority, server_context: ssl.SSLContext, protocols: list[str] | None
) -> None:
    """Whoever does not choose `postgresql` gets no startup packet (ALPACA); behind SSLRequest, silence will do."""
    if protocols is not None:
        server_context.set_alpn_protocols(protocols)
    changed = {"sslmode": "verify-full", "ca_file": str(ca.file)}
    async with FakeUpstream(Client.until_gone, tls=server_context) as rogue:
        with pytest.raises(UpstreamError, match="chose the protocol None in TLS, not 'postgresql'") as caught:
            await dialler_for(rogue, **changed, **DIRECT).connect(PROFILE, STARTUP)
        assert (await rogue.client()).heard == b""
    refused(caught.value)

    async def script(client: Client) -> None:
        await client.starts_tls(server_context)
        await honest(client)

    async with FakeUpstream(script) as rogue:
        (await dialler_for(rogue, **changed).connect(PROFILE, STARTUP)).leg.transport.abort()
        await rogue.client()
