"""PROXY headers: believed from the load balancer alone, and whoever else sends one has sent garbage (T18)."""

import asyncio
import socket
from collections.abc import Iterator
from ipaddress import ip_address

import pytest

from proxy.contract.record import AuthRefused, Cancel, SessionStart, decode
from tests.attack.test_cancel import begin_sleep, sqlstate
from tests.conftest import Watcher
from tests.harness.certs import Authority
from tests.harness.load_balancer import LOCAL, SIGNATURE, header
from tests.harness.postgres import Cluster
from tests.harness.proxy import Proxy, new_grant_id
from tests.harness.waiting import eventually
from tests.harness.wire import SSL_REQUEST, Refused, Wire, asked_for_tls, cancel_request, startup

CLIENT = "192.0.2.7"
BALANCER, STRANGER = "127.0.0.1", "127.0.0.9"


def behind(postgres: Cluster, ca: Authority, folder: object, **options: object) -> Proxy:
    """A proxy that trusts the load balancer at BALANCER."""
    return Proxy(cluster=postgres, ca=ca, folder=folder, options=options)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def strict(postgres: Cluster, ca: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    """It takes nothing from the load balancer without a header."""
    options = {"proxy_protocol": {"trusted": [f"{BALANCER}/32", "::1/128"]}, "plaintext": "loopback"}
    with behind(postgres, ca, tmp_path_factory.mktemp("strict"), **options) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def lenient(postgres: Cluster, ca: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    """The load balancer may also connect for itself; two guests for each address."""
    options = {
        "proxy_protocol": {"trusted": [f"{BALANCER}/32"], "required": False},
        "max_unauthenticated_per_address": 2,
        "auth_timeout_s": 1,
    }
    with behind(postgres, ca, tmp_path_factory.mktemp("lenient"), **options) as proxy:
        yield proxy


async def secure(proxy: Proxy, first: bytes) -> Wire:
    """TLS behind `first`, which is sent together with SSLRequest."""
    return await Wire.tls(proxy.port, proxy.ca.client_context(), first + SSL_REQUEST)


async def answer(proxy: Proxy, data: bytes, *, source: str = BALANCER) -> bytes:
    """Everything that is said to `data` from `source`, until it is closed."""
    raw = socket.socket()
    raw.setblocking(False)  # noqa: FBT003 the socket module takes it by position
    raw.bind((source, 0))
    await asyncio.get_running_loop().sock_connect(raw, ("127.0.0.1", proxy.port))
    async with Wire(*await asyncio.open_connection(sock=raw)) as wire:
        wire.send(data)
        return await wire.bytes_left()


async def started(proxy: Proxy, grant: str) -> SessionStart:
    """The first record of the session on this grant."""
    start = decode((await proxy.session_of(grant))[0])
    assert isinstance(start, SessionStart)
    return start


@pytest.mark.parametrize("client", [CLIENT, "2001:db8::7", "::ffff:192.0.2.7"])
async def test_believed(strict: Proxy, client: str) -> None:
    """The address counts for the grant and stands in the record, with the load balancer's beside it."""
    grant, address = new_grant_id(), "192.0.2.7" if client.endswith(CLIENT) else client
    token = strict.token(id=grant, addresses=(address,))
    async with await secure(strict, header(client, more=b"\xea\0\x04vpce" + bytes(100))) as wire:
        await wire.log_in(token)
    start = await started(strict, grant)
    assert (start.address, start.via) == (address, BALANCER)
    assert f'"address": "{address}", "via": "{BALANCER}"' in strict.log()


async def test_the_grants_addresses(strict: Proxy) -> None:
    """The load balancer's own is not the client's; and the refusal names the client's."""
    grant = new_grant_id()
    async with await secure(strict, header(CLIENT)) as wire:
        with pytest.raises(Refused) as caught:
            await wire.log_in(strict.token(id=grant, addresses=(f"{BALANCER}/32",)))
    assert caught.value.fields["C"] == "28P01"
    refusals = [one for one in strict.records() if isinstance(one, AuthRefused) and one.grant == grant]
    assert [(one.refusal, one.address) for one in refusals] == [("wrong_address", CLIENT)]


async def test_cancel(strict: Proxy, watcher: Watcher) -> None:
    """A CancelRequest comes with a header too, and is recorded with the client's address."""
    grant = new_grant_id()
    async with await secure(strict, header(CLIENT)) as wire:
        await wire.log_in(strict.token(id=grant))
        await begin_sleep(wire, watcher)
        assert await answer(strict, header("192.0.2.8") + cancel_request(wire.pid, wire.secret)) == b""
        assert sqlstate(await wire.until("Z")) == "57014"
    cancels = [one for line in await strict.session_of(grant) if isinstance(one := decode(line), Cancel)]
    assert [one.address for one in cancels] == ["192.0.2.8"]


async def test_in_pieces(strict: Proxy) -> None:
    """Byte by byte, and not one byte behind it is taken."""
    raw = socket.socket()
    raw.setblocking(False)  # noqa: FBT003 the socket module takes it by position
    raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(raw, ("127.0.0.1", strict.port))
    for byte in header(CLIENT, more=bytes(20)) + SSL_REQUEST:
        await loop.sock_sendall(raw, bytes([byte]))
    assert await loop.sock_recv(raw, 10) == b"S"
    async with await Wire.secure(raw, strict.ca.client_context()) as wire:
        await wire.log_in(strict.token())


@pytest.mark.parametrize("client", [CLIENT, "127.0.0.1"])
async def test_clear_text(strict: Proxy, client: str) -> None:
    """That the load balancer is on this machine does not put its clients there: `plaintext` is not for them."""
    async with await Wire.plain(strict.port) as wire:
        wire.send(header(client))
        if ip_address(client).is_loopback:
            await wire.log_in(strict.token())
            return
        wire.send(startup(("user", "dba1")))
        assert (await wire.rest())[-1].fields["C"] == "28000"


NO_HEADER = {
    "SSLRequest": SSL_REQUEST,
    "version 1": f"PROXY TCP4 {CLIENT} 192.0.2.1 40000 6432\r\n".encode() + SSL_REQUEST,
    "a wrong signature": SIGNATURE[:-1] + b"x" + header(CLIENT)[12:] + SSL_REQUEST,
    "version 3": SIGNATURE + b"\x31" + header(CLIENT)[13:] + SSL_REQUEST,
    "an unspecified client": SIGNATURE + b"\x21\0\0\0" + SSL_REQUEST,
    "a unix socket's client": SIGNATURE + b"\x21\x31\0\xd8" + bytes(216) + SSL_REQUEST,
    "64 kB": SIGNATURE + b"\x21\x11\xff\xff" + bytes(65_535),
    "cut addresses": SIGNATURE + b"\x21\x11\0\x04" + bytes(4) + SSL_REQUEST,
    "garbage": bytes(range(256)),
}


async def test_a_bare_connect(strict: Proxy) -> None:
    """A load balancer's check that only connects and leaves is nothing to write about."""
    before = strict.log().count("broke the PROXY protocol")
    async with await Wire.plain(strict.port) as wire:
        wire.close()
    await eventually(lambda: strict.metrics()["curfew_unauthenticated"] == 0)
    assert strict.log().count("broke the PROXY protocol") == before


@pytest.mark.parametrize("data", NO_HEADER.values(), ids=NO_HEADER)
async def test_no_header(strict: Proxy, data: bytes) -> None:
    """What the load balancer sends that is no header ends the connection without a word; the log has one."""
    before = strict.log().count("broke the PROXY protocol")
    assert await answer(strict, data) == b""
    await eventually(lambda: strict.log().count("broke the PROXY protocol") == before + 1)


async def test_a_second_header(strict: Proxy) -> None:
    """What a client says behind the load balancer's header is the client's: garbage."""
    assert await answer(strict, header(CLIENT) + header("10.0.0.1") + SSL_REQUEST) == b""


@pytest.mark.parametrize("first", [header("10.0.0.1"), LOCAL], ids=["PROXY", "LOCAL"])
async def test_from_a_stranger(strict: Proxy, first: bytes) -> None:
    """The same bytes from anybody else are no PostgreSQL; without them the stranger is served as it is."""
    assert await answer(strict, first + SSL_REQUEST, source=STRANGER) == b""
    assert await answer(strict, SSL_REQUEST + b"x" * 8, source=STRANGER) != b""


async def test_where_nobody_is_trusted(proxy: Proxy) -> None:
    """As everything is by default."""
    assert await answer(proxy, header("10.0.0.1") + SSL_REQUEST) == b""


async def test_a_connection_of_the_load_balancers_own(strict: Proxy) -> None:
    """LOCAL: served under its own address, as for a health check."""
    grant = new_grant_id()
    async with await secure(strict, LOCAL) as wire:
        await wire.log_in(strict.token(id=grant, addresses=(BALANCER,)))
    start = await started(strict, grant)
    assert (start.address, start.via) == (BALANCER, None)


@pytest.mark.parametrize("first", [b"", LOCAL, header(CLIENT)], ids=["none", "LOCAL", "PROXY"])
async def test_where_it_is_not_required(lenient: Proxy, first: bytes) -> None:
    """With a header and without one."""
    grant = new_grant_id()
    async with await secure(lenient, first) as wire:
        await wire.log_in(lenient.token(id=grant))
    start = await started(lenient, grant)
    assert (start.address, start.via) == ((CLIENT, BALANCER) if first == header(CLIENT) else (BALANCER, None))


async def test_the_limit_for_one_address(lenient: Proxy) -> None:
    """Counts the clients, not the load balancer that they all come from."""
    async with (
        await secure(lenient, header("192.0.2.1")) as one,
        await secure(lenient, header("192.0.2.2")) as two,
        await secure(lenient, header("192.0.2.3")) as three,
        await secure(lenient, header("192.0.2.3")) as four,
        await secure(lenient, header("192.0.2.3")) as five,
    ):
        assert await three.bytes_left() == b""
        for wire in (one, two, four, five):
            await wire.log_in(lenient.token())


async def test_silence(lenient: Proxy) -> None:
    """Half a header is waited for no longer than the token is."""
    begun = (b"", header(CLIENT)[:5], header(CLIENT)[:20])
    async with asyncio.timeout(4):
        assert await asyncio.gather(*(answer(lenient, one) for one in begun)) == [b""] * 3
    await eventually(lambda: lenient.metrics()["curfew_unauthenticated"] == 0)


async def test_tls_behind_a_header_is_bound_by_its_own_rules(strict: Proxy) -> None:
    """CVE-2021-23214 behind a header: nothing in clear is ever taken for decrypted."""
    raw = await asked_for_tls(strict.port, header(CLIENT) + SSL_REQUEST + startup(("user", "mallory")))
    with pytest.raises((OSError, asyncio.IncompleteReadError)):
        await Wire.secure(raw, strict.ca.client_context())
    assert "mallory" not in strict.log()
