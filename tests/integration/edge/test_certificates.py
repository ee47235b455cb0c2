"""The certificate that a client sees: by the name it asks for, and the new one once there is one."""

import asyncio
import signal
import ssl
from collections.abc import Iterator

import psycopg
import pytest

from tests.harness.binaries import postgresql_bin
from tests.harness.certs import Authority
from tests.harness.postgres import Cluster
from tests.harness.processes import run
from tests.harness.proxy import Proxy
from tests.harness.waiting import eventually
from tests.harness.wire import Wire, asked_for_tls, connected

NAMES = {"one": ("db.example", "other.example"), "many": ("*.eu.example", "db.example")}


def serving(proxy: Proxy) -> Proxy:
    """The same with certificates for NAMES."""
    proxy.folder.mkdir(parents=True, exist_ok=True)
    more = [proxy.ca.server(*names, stem=stem, folder=proxy.folder) for stem, names in NAMES.items()]
    files = [{"certificate_file": str(one.certificate), "key_file": str(one.key)} for one in more]
    proxy.options = {"tls_certificates": files, **proxy.options}
    return proxy


@pytest.fixture(scope="module")
def named(postgres: Cluster, ca: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    """A proxy with three certificates."""
    with serving(Proxy(cluster=postgres, ca=ca, folder=tmp_path_factory.mktemp("named"))) as proxy:
        yield proxy


async def shown_to(proxy: Proxy, name: str, *, tls: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> set[str]:
    """The names in the certificate that a client of `name` is shown."""
    context = proxy.ca.client_context()
    context.check_hostname = False
    context.maximum_version = tls
    async with await Wire.secure(await asked_for_tls(proxy.port), context, name) as wire:
        return {value for kind, value in wire.certificate["subjectAltName"] if kind == "DNS"}


@pytest.mark.parametrize("tls", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize(
    ("asked", "stem"),
    [
        ("db.example", "one"),
        ("DB.Example", "one"),
        ("other.example", "one"),
        ("a.eu.example", "many"),
        ("a.b.eu.example", None),
        ("eu.example", None),
        ("db.example.org", None),
        ("unknown", None),
        ("localhost", None),
        ("127.0.0.1", None),
    ],
)
async def test_by_name(named: Proxy, asked: str, stem: str | None, tls: ssl.TLSVersion) -> None:
    """The first certificate for a name is its own; an unknown name, or none, gets the default."""
    assert await shown_to(named, asked, tls=tls) == set(NAMES[stem] if stem else ("localhost",))


async def test_a_name_that_is_none(named: Proxy) -> None:
    """Bytes that no name has get the default certificate, and no traceback on standard error."""
    outgoing = ssl.MemoryBIO()
    client = named.ca.client_context().wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="db.example")
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    hello = outgoing.read()
    assert hello.count(b"db.example") == 1
    async with Wire(*await asyncio.open_connection(sock=await asked_for_tls(named.port))) as wire:
        wire.send(hello.replace(b"db.example", b"db.\xff\xe9ample"))
        assert await wire._reader.readexactly(1) == b"\x16"
    assert await shown_to(named, "db.example") == set(NAMES["one"])
    assert "Traceback" not in named.log()


@pytest.mark.parametrize("host", ["db.example", "a.eu.example", "localhost"])
def test_psql(named: Proxy, host: str) -> None:
    """The name is said and checked by psql 15 itself."""
    environment = named.psql_env(PGHOST=host)
    done = run([postgresql_bin() / "psql", "-XAtqc", "SELECT 1"], environment=environment)
    assert done.stdout == "1\n"


@pytest.mark.parametrize("negotiation", ["postgres", "direct"])
async def test_psycopg(named: Proxy, negotiation: str) -> None:
    """And libpq 18, with direct TLS as well."""
    connection = await psycopg.AsyncConnection.connect(
        host="a.eu.example",
        hostaddr="127.0.0.1",
        port=named.port,
        user="dba1",
        dbname="orders",
        password=named.token(),
        sslmode="verify-full",
        sslrootcert=str(named.ca.file),
        sslnegotiation=negotiation,
    )
    async with connection:
        assert connection.pgconn.ssl_in_use


async def test_alpn_with_a_chosen_certificate(named: Proxy) -> None:
    """The protocol is agreed on whichever certificate it is."""
    context = named.ca.client_context()
    context.set_alpn_protocols(["postgresql"])
    async with await Wire.secure(await connected(named.port), context, "db.example") as wire:
        assert wire._writer.get_extra_info("ssl_object").selected_alpn_protocol() == "postgresql"
        await wire.log_in(named.token())


async def test_no_resumption(named: Proxy) -> None:
    """No tickets, so that who was let in once must show everything again."""
    context = named.ca.client_context()
    async with await Wire.tls(named.port, context) as wire:
        await wire.log_in(named.token())
        tls = wire._writer.get_extra_info("ssl_object")
        assert tls.session is None or not tls.session.has_ticket


async def test_reload(postgres: Cluster, ca: Authority, tmp_path_factory: pytest.TempPathFactory) -> None:
    """SIGHUP takes up every certificate at once; sessions that run do not notice, and a bad pair changes nothing."""
    made = serving(Proxy(cluster=postgres, ca=ca, folder=tmp_path_factory.mktemp("renewed")))
    with made as proxy:
        async with await Wire.secure(await asked_for_tls(proxy.port), ca.client_context(), "db.example") as wire:
            await wire.log_in(proxy.token())
            for stem in ("one", "many"):
                ca.server(f"{stem}.renewed.example", stem=stem, folder=proxy.folder)
            await hang_up(proxy, "configuration reloaded")
            assert await shown_to(proxy, "one.renewed.example") == {"one.renewed.example"}
            assert await shown_to(proxy, "db.example") == {"localhost"}
            (proxy.folder / "many.key").write_bytes((proxy.folder / "one.key").read_bytes())
            await hang_up(proxy, "the configuration was not reloaded")
            assert "proxy.tls_certificates[1].key_file: " in proxy.log()
            assert await shown_to(proxy, "many.renewed.example") == {"many.renewed.example"}
            assert await wire.value("SELECT 1") == "1"


async def hang_up(proxy: Proxy, says: str) -> None:
    """SIGHUP, and wait for what is said to it."""
    said = proxy.log().count(says)
    proxy.signal(signal.SIGHUP)
    await eventually(lambda: proxy.log().count(says) > said, what=says)


async def test_renewed(postgres: Cluster, ca: Authority, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Without a signal too, once certificate and key fit each other; sessions that run do not notice."""
    options = {"tls_renew_s": 0.05}
    with serving(Proxy(cluster=postgres, ca=ca, folder=tmp_path_factory.mktemp("renewed"), options=options)) as proxy:
        async with await Wire.secure(await asked_for_tls(proxy.port), ca.client_context(), "db.example") as wire:
            await wire.log_in(proxy.token())
            old = (proxy.folder / "one.key").read_bytes()
            ca.server("renewed.example", stem="one", folder=proxy.folder)
            new = (proxy.folder / "one.key").read_bytes()
            await eventually(lambda: "new certificates taken up" in proxy.log())
            assert await shown_to(proxy, "renewed.example") == {"renewed.example"}
            (proxy.folder / "one.key").write_bytes(old)
            await eventually(lambda: "new certificates cannot be used; the old ones stay" in proxy.log())
            assert await shown_to(proxy, "renewed.example") == {"renewed.example"}
            taken = proxy.log().count("new certificates taken up")
            (proxy.folder / "one.key").write_bytes(new)
            await eventually(lambda: proxy.log().count("new certificates taken up") > taken)
            assert await wire.value("SELECT 1") == "1"
