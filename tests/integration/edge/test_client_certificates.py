"""Client certificates, and grants that are bound to one (`cnf`, RFC 8705): of use to nobody who has not its key."""

import asyncio
import base64
import hashlib
import signal
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest

from proxy.contract.record import AuthRefused, SessionStart, decode
from tests.attack.test_cancel import begin_sleep, sqlstate
from tests.conftest import MakeProxy, Watcher
from tests.harness.binaries import postgresql_bin
from tests.harness.certs import Authority, CertificateFiles
from tests.harness.postgres import Cluster
from tests.harness.processes import run
from tests.harness.proxy import Proxy, new_grant_id
from tests.harness.waiting import eventually
from tests.harness.wire import SSL_REQUEST, Refused, Wire, cancel_request

VERSIONS = (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Who signs people's certificates: not who signs the servers'."""
    return Authority(tmp_path_factory.mktemp("people"))


@pytest.fixture(scope="module")
def mine(people: Authority) -> CertificateFiles:
    """A person's certificate."""
    return people.client("dba1", stem="mine")


@pytest.fixture(scope="module")
def anothers(people: Authority) -> CertificateFiles:
    """Another one of the same authority, for the same name."""
    return people.client("dba1", stem="anothers")


def thumbprint(files: CertificateFiles) -> str:
    """As RFC 8705 has it in `x5t#S256`, by the standard library alone."""
    first = files.certificate.read_text().split("-----END CERTIFICATE-----")[0] + "-----END CERTIFICATE-----"
    digest = hashlib.sha256(ssl.PEM_cert_to_DER_cert(first)).digest()
    return base64.urlsafe_b64encode(digest).decode().rstrip("=")


@pytest.fixture(scope="module")
def asking(
    postgres: Cluster, ca: Authority, people: Authority, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Proxy]:
    """A proxy that asks for certificates and goes without."""
    options = {"tls_client_ca_file": str(people.file)}
    with Proxy(cluster=postgres, ca=ca, folder=tmp_path_factory.mktemp("asking"), options=options) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def demanding(
    postgres: Cluster, ca: Authority, people: Authority, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Proxy]:
    """A proxy that insists on one."""
    options = {"tls_client_ca_file": str(people.file), "tls_client_certificate": "required"}
    with Proxy(cluster=postgres, ca=ca, folder=tmp_path_factory.mktemp("demanding"), options=options) as proxy:
        yield proxy


async def log_in(
    proxy: Proxy, token: str, shows: CertificateFiles | None, version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3
) -> None:
    """A session that begins and ends."""
    context = proxy.ca.client_context(shows)
    context.maximum_version = version
    async with await Wire.tls(proxy.port, context) as wire:
        await wire.log_in(token)
        assert await wire.value("SELECT 1") == "1"


@pytest.mark.parametrize("version", VERSIONS)
async def test_recorded(asking: Proxy, mine: CertificateFiles, version: ssl.TLSVersion) -> None:
    """Whichever certificate was shown is on record, needed or not."""
    bound, free, bare = new_grant_id(), new_grant_id(), new_grant_id()
    await log_in(asking, asking.token(id=bound, certificate=thumbprint(mine)), mine, version)
    await log_in(asking, asking.token(id=free), mine, version)
    await log_in(asking, asking.token(id=bare), None, version)
    for grant, expected in ((bound, thumbprint(mine)), (free, thumbprint(mine)), (bare, None)):
        start = decode((await asking.session_of(grant))[0])
        assert isinstance(start, SessionStart)
        assert start.tls is not None
        assert start.tls.certificate == expected


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("shown", ["none", "another"])
async def test_a_bound_grant_without_its_certificate(
    asking: Proxy, mine: CertificateFiles, anothers: CertificateFiles, shown: str, version: ssl.TLSVersion
) -> None:
    """A stolen token is of no use; its thief is told what every refused one is told."""
    grant = new_grant_id()
    token = asking.token(id=grant, certificate=thumbprint(mine))
    with pytest.raises(Refused) as caught:
        await log_in(asking, token, anothers if shown == "another" else None, version)
    with pytest.raises(Refused) as other:
        await log_in(asking, asking.token(target="stock"), None, version)
    assert caught.value.fields == other.value.fields
    refusals = [one.refusal for one in asking.records() if isinstance(one, AuthRefused) and one.grant == grant]
    assert refusals == ["wrong_certificate"]


async def test_a_bound_grant_where_none_is_asked_for(proxy: Proxy, mine: CertificateFiles) -> None:
    """A proxy that asks for no certificate refuses it: it cannot hold anybody to it."""
    with pytest.raises(Refused):
        await log_in(proxy, proxy.token(certificate=thumbprint(mine)), mine)


async def test_in_clear(make_proxy: MakeProxy, postgres: Cluster, mine: CertificateFiles) -> None:
    """Nor is there a certificate without TLS."""
    lenient = make_proxy(postgres, options={"plaintext": "loopback"})
    async with await Wire.plain(lenient.port) as wire:
        with pytest.raises(Refused) as caught:
            await wire.log_in(lenient.token(certificate=thumbprint(mine)))
    assert caught.value.fields["C"] == "28P01"


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_certificate_that_does_not_count(
    asking: Proxy, people: Authority, tmp_path: Path, version: ssl.TLSVersion
) -> None:
    """An expired one or another authority's gets no TLS, although none would have: who shows one is held to it."""
    past = datetime(2026, 1, 1, tzinfo=UTC)
    expired = people.client("dba1", stem="expired", folder=tmp_path, until=past)
    for bad in (asking.ca.client("dba1", folder=tmp_path), expired):
        with pytest.raises((OSError, EOFError)):
            await log_in(asking, asking.token(), bad, version)

    def told() -> bool:
        said = [one for one in asking.log().splitlines() if "the client's certificate does not do" in one]
        return all(any(why in one for one in said) for why in ("self-signed", "has expired"))

    await eventually(told)
    await log_in(asking, asking.token(), None, version)


@pytest.mark.parametrize("version", VERSIONS)
async def test_required(demanding: Proxy, mine: CertificateFiles, watcher: Watcher, version: ssl.TLSVersion) -> None:
    """Without one there is no TLS, and in clear there is nothing; a CancelRequest in clear is taken all the same."""
    with pytest.raises((OSError, EOFError)):
        await log_in(demanding, demanding.token(), None, version)
    await eventually(lambda: "PEER_DID_NOT_RETURN_A_CERTIFICATE" in demanding.log())
    await log_in(demanding, demanding.token(), mine, version)
    async with await Wire.tls(demanding.port, demanding.ca.client_context(mine)) as wire:
        await wire.log_in(demanding.token())
        await begin_sleep(wire, watcher)
        async with await Wire.plain(demanding.port) as canceller:
            canceller.send(cancel_request(wire.pid, wire.secret))
            assert await canceller.bytes_left() == b""
        assert sqlstate(await wire.until("Z")) == "57014"


async def test_without_the_key(asking: Proxy, mine: CertificateFiles) -> None:
    """The certificate itself is no secret: who shows it without its key gets no TLS."""
    said = run(
        [
            "openssl", "s_client", "-connect", f"127.0.0.1:{asking.port}", "-starttls", "postgres", "-tls1_2",
            "-cert", mine.certificate, "-key", asking.folder / "proxy.key",
        ],
        check=False,
    )  # fmt: skip
    assert said.returncode != 0


def test_psql(demanding: Proxy, mine: CertificateFiles) -> None:
    """Psql 15 with `sslcert` and `sslkey`."""
    environment = demanding.psql_env(
        demanding.token(certificate=thumbprint(mine)), PGSSLCERT=str(mine.certificate), PGSSLKEY=str(mine.key)
    )
    done = run([postgresql_bin() / "psql", "-XAtqc", "SELECT 1"], environment=environment)
    assert done.stdout == "1\n"


@pytest.mark.parametrize("negotiation", ["postgres", "direct"])
async def test_psycopg(demanding: Proxy, mine: CertificateFiles, negotiation: str) -> None:
    """And libpq 18, whose encrypted cancel shows the certificate too."""
    connection = await psycopg.AsyncConnection.connect(
        host="localhost",
        port=demanding.port,
        user="dba1",
        dbname="orders",
        password=demanding.token(certificate=thumbprint(mine)),
        sslmode="verify-full",
        sslrootcert=str(demanding.ca.file),
        sslcert=str(mine.certificate),
        sslkey=str(mine.key),
        sslnegotiation=negotiation,
        autocommit=True,
    )
    async with connection:
        running = asyncio.gather(connection.execute("SELECT pg_sleep(60)"), return_exceptions=True)
        await eventually(lambda: demanding.metrics()["curfew_sessions_live"] > 0)
        await connection.cancel_safe(timeout=10)
        while not running.done():
            await connection.cancel_safe(timeout=10)
            await asyncio.wait([running], timeout=0.2)
        (error,) = await running
        assert isinstance(error, psycopg.errors.QueryCanceled)


async def test_another_authority_at_a_reload(
    make_proxy: MakeProxy, postgres: Cluster, people: Authority, mine: CertificateFiles, tmp_path: Path
) -> None:
    """The old one's certificates count no more, and the session that came with one goes on."""
    authorities = tmp_path / "authorities.pem"
    authorities.write_bytes(people.file.read_bytes())
    (tmp_path / "new").mkdir()
    new = Authority(tmp_path / "new")
    theirs = new.client("dba1")
    proxy = make_proxy(postgres, options={"tls_client_ca_file": str(authorities)})
    async with await Wire.tls(proxy.port, proxy.ca.client_context(mine), SSL_REQUEST) as wire:
        await wire.log_in(proxy.token(certificate=thumbprint(mine)))
        authorities.write_bytes(new.file.read_bytes())
        proxy.signal(signal.SIGHUP)
        await eventually(lambda: "configuration reloaded" in proxy.log())
        with pytest.raises((OSError, EOFError)):
            await log_in(proxy, proxy.token(), mine)
        await log_in(proxy, proxy.token(certificate=thumbprint(theirs)), theirs)
        assert await wire.value("SELECT 1") == "1"
