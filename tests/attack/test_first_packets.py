"""The first bytes on a connection: PostgreSQL's own requests in every order, and everything that is none of them."""

import asyncio
import socket
import ssl
import struct
from collections.abc import Iterator
from contextlib import closing

import pytest

from tests.attack.opening import WHO, answer, encrypted_answer, only_error
from tests.conftest import MakeProxy
from tests.harness.certs import Authority
from tests.harness.postgres import Cluster
from tests.harness.proxy import Proxy
from tests.harness.relay import Relay, chop, hurry_tls
from tests.harness.waiting import eventually
from tests.harness.wire import (
    GSSENC_REQUEST,
    PROTOCOL_3_0,
    SSL_REQUEST,
    Wire,
    asked_for_tls,
    cancel_request,
    connected,
    message,
    startup,
)

AUTH_TIMEOUT_S = 0.5


@pytest.fixture(scope="module")
def hasty(postgres: Cluster, ca: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    """A proxy that does not wait long for a token."""
    folder = tmp_path_factory.mktemp("hasty")
    with Proxy(cluster=postgres, ca=ca, folder=folder, options={"auth_timeout_s": AUTH_TIMEOUT_S}) as proxy:
        yield proxy


async def quiet(proxy: Proxy) -> int:
    """How many descriptors the proxy has when nobody is there."""
    await eventually(lambda: proxy.metrics()["curfew_unauthenticated"] == 0)
    return proxy.descriptors()


GARBAGE = {
    "nothing but zeros": bytes(64),
    "HTTP": b"GET / HTTP/1.1\r\nHost: db.example\r\n\r\n",
    "SSH": b"SSH-2.0-OpenSSH_9.2\r\n",
    "PROXY protocol": b"PROXY TCP4 10.0.0.1 10.0.0.2 1000 6432\r\n" + SSL_REQUEST,
    "PROXY protocol 2": b"\r\n\r\n\0\r\nQUIT\n!\x11\0\x0c" + bytes(12) + SSL_REQUEST,
    "random": bytes(range(200, 256)) * 4,
    "2 GB": struct.pack("!iI", 2**31 - 1, PROTOCOL_3_0) + b"user\0dba1\0\0",
    "negative": struct.pack("!iI", -1, PROTOCOL_3_0) + b"user\0dba1\0\0",
    "most negative": struct.pack("!iI", -(2**31), PROTOCOL_3_0),
    "length 0": struct.pack("!iI", 0, PROTOCOL_3_0),
    "length 7": struct.pack("!iI", 7, PROTOCOL_3_0),
    "11 kB": startup(*WHO, ("options", "x" * 11_000)),
    "10,005 bytes": struct.pack("!iI", 10_005, PROTOCOL_3_0) + b"user\0" * 3_000,
    "SSLRequest of 9 bytes": struct.pack("!iI", 9, 80_877_103) + b"x",
    "a cancel without a secret": struct.pack("!iIi", 12, 80_877_102, 1),
    "a cancel with a long secret": cancel_request(1, b"x" * 257),
}


@pytest.mark.parametrize("data", GARBAGE.values(), ids=GARBAGE)
async def test_garbage(proxy: Proxy, data: bytes) -> None:
    """What is no first packet of PostgreSQL's gets no answer, in clear or within TLS; nothing is echoed."""
    assert await answer(proxy, data) == b""
    assert await encrypted_answer(proxy, data) == []


async def test_a_bare_connect(proxy: Proxy) -> None:
    """Who connects and leaves without a byte, as a load balancer's check does, is nothing to write about."""
    nobodys = "127.0.0.77"
    with closing(socket.socket()) as raw:
        raw.setblocking(False)  # noqa: FBT003 the socket module takes it by position
        raw.bind((nobodys, 0))
        await asyncio.get_running_loop().sock_connect(raw, ("127.0.0.1", proxy.port))
        raw.shutdown(socket.SHUT_WR)
        assert await asyncio.get_running_loop().sock_recv(raw, 1) == b""
    await quiet(proxy)
    assert nobodys not in proxy.log()


async def test_garbage_behind_tls(proxy: Proxy) -> None:
    """What starts as TLS and is none gets at most a TLS alert."""
    said = await answer(proxy, b"\x16\x03\x01\x00\x05hello" + bytes(100))
    assert said == b"" or said[0] == 0x15


@pytest.mark.parametrize(
    "begun",
    [b"", b"\0", SSL_REQUEST[:7], cancel_request(1, b"1234")[:10], b"\x16\x03\x01"],
    ids=["silence", "1", "7", "10", "TLS"],
)
async def test_half_a_packet_and_silence(hasty: Proxy, begun: bytes) -> None:
    """The authentication timeout closes it; nothing is left of it."""
    assert await answer(hasty, begun) in (b"", b"\x15\x03\x01\0\2\2\x28")
    await eventually(lambda: hasty.metrics()["curfew_unauthenticated"] == 0)


@pytest.mark.parametrize(
    "begun", [b"", startup(*WHO)[:5], startup(*WHO)[:20]], ids=["silence", "5 bytes", "half a packet"]
)
async def test_silence_within_tls(hasty: Proxy, begun: bytes) -> None:
    """The same behind a handshake: also this socket is closed, by the proxy."""
    before = await quiet(hasty)
    async with await Wire.tls(hasty.port, hasty.ca.client_context()) as wire:
        wire.send(begun)
        assert await wire.rest(within=AUTH_TIMEOUT_S + 5) == []
    await eventually(lambda: hasty.descriptors() <= before)


async def test_silence_in_the_handshake(hasty: Proxy) -> None:
    """A peer that asks for TLS and then says nothing is let go as well."""
    before = await quiet(hasty)
    raw = await asked_for_tls(hasty.port)
    with closing(raw):
        async with asyncio.timeout(AUTH_TIMEOUT_S + 5):
            assert await asyncio.get_running_loop().sock_recv(raw, 100) == b""
    await eventually(lambda: hasty.descriptors() <= before)


@pytest.mark.parametrize("begun", [b"", b"p", b"p\0\0\1\0half a token"], ids=["silence", "a byte", "half"])
async def test_silence_instead_of_a_token(hasty: Proxy, begun: bytes) -> None:
    """Whoever was asked for the token is told that it took too long."""
    async with await Wire.tls(hasty.port, hasty.ca.client_context()) as wire:
        wire.send(startup(*WHO) + begun)
        assert (await wire.read()).kind == "R"
        told = only_error(await wire.rest(within=AUTH_TIMEOUT_S + 5))
    assert (told["C"], told["M"]) == ("57014", "canceling authentication due to timeout")


# Encryption.


async def test_plaintext_behind_the_request_is_never_read(proxy: Proxy) -> None:
    """CVE-2021-23214: what was sent in clear behind SSLRequest must not be taken for decrypted."""
    raw = await connected(proxy.port)
    with closing(raw):
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(raw, SSL_REQUEST + startup(("user", "mallory"), ("database", "orders")))
        assert await loop.sock_recv(raw, 1) == b"S"
        with pytest.raises((OSError, asyncio.IncompleteReadError)):
            await Wire.secure(raw, proxy.ca.client_context())
    assert "mallory" not in proxy.log()


async def test_client_hello_that_rides_with_the_request(proxy: Proxy) -> None:
    """PostgreSQL 17 allows a client to send it at once; it must reach the TLS engine."""
    context = proxy.ca.client_context()
    async with Relay(proxy.port, opening=hurry_tls) as relay, await Wire.tls(relay.port, context) as wire:
        await wire.log_in(proxy.token())
        assert await wire.value("SELECT 1") == "1"


@pytest.mark.parametrize(
    "requests",
    [(SSL_REQUEST,), (GSSENC_REQUEST, SSL_REQUEST)],
    ids=["SSL", "GSS, then SSL"],
)
async def test_encryption_requests(proxy: Proxy, requests: tuple[bytes, ...]) -> None:
    """GSSENCRequest gets an `N` and the connection goes on."""
    raw = await connected(proxy.port)
    loop = asyncio.get_running_loop()
    for request in requests:
        await loop.sock_sendall(raw, request)
        assert await loop.sock_recv(raw, 10) == (b"S" if request == SSL_REQUEST else b"N")
    async with await Wire.secure(raw, proxy.ca.client_context()) as wire:
        await wire.log_in(proxy.token())


async def test_second_gss_request(proxy: Proxy) -> None:
    """Asking twice is no protocol of PostgreSQL's."""
    assert await answer(proxy, GSSENC_REQUEST * 2) == b"N"


async def test_ssl_request_twice(proxy: Proxy) -> None:
    """The second one is no ClientHello, so there is no TLS: at most its alert is said."""
    said = await answer(proxy, SSL_REQUEST * 2)
    assert said[:1] == b"S"
    assert said[1:2] in (b"", b"\x15")


@pytest.mark.parametrize("request_", [SSL_REQUEST, GSSENC_REQUEST], ids=["SSL", "GSS"])
async def test_encryption_request_within_tls(proxy: Proxy, request_: bytes) -> None:
    """There is no TLS within TLS."""
    assert only_error(await encrypted_answer(proxy, request_))["C"] == "0A000"


async def test_clear_text_startup(proxy: Proxy) -> None:
    """Refused before a token is asked for, so that none is ever sent in clear."""
    async with await Wire.plain(proxy.port) as wire:
        wire.send(startup(*WHO))
        told = only_error(await wire.rest())
    assert (told["C"], told["M"]) == ("28000", "connections to this proxy must use TLS")
    assert "sslmode=verify-full" in told["H"]


async def test_clear_text_on_loopback_where_allowed(make_proxy: MakeProxy, postgres: Cluster) -> None:
    """`plaintext = "loopback"` means what it says."""
    lenient = make_proxy(postgres, options={"plaintext": "loopback"})
    async with await Wire.plain(lenient.port) as wire:
        await wire.log_in(lenient.token())
        assert await wire.value("SELECT 1") == "1"


@pytest.mark.parametrize(
    ("protocols", "served"), [(["postgresql"], True), ([], False), (["http/1.1"], False), (["h2", "postgresql"], True)]
)
async def test_direct_tls(proxy: Proxy, protocols: list[str], served: bool) -> None:  # noqa: FBT001 a table's column
    """Direct TLS must ask for PostgreSQL's own protocol by ALPN, so that no other protocol's client ends up here."""
    context = proxy.ca.client_context()
    if protocols:
        context.set_alpn_protocols(protocols)
    try:
        async with await Wire.tls(proxy.port, context, first=b"") as wire:
            if served:
                await wire.log_in(proxy.token())
                return
            wire.send(startup(*WHO))
            assert await wire.bytes_left() == b""
    except OSError:
        assert not served


@pytest.mark.parametrize("first", [SSL_REQUEST, b""], ids=["behind SSLRequest", "direct"])
async def test_another_protocols_client(proxy: Proxy, first: bytes) -> None:
    """ALPACA: a browser that is led here is told so by TLS itself (no_application_protocol), and nothing is served."""
    context = proxy.ca.client_context()
    context.set_alpn_protocols(["h2", "http/1.1"])
    with pytest.raises(ssl.SSLError, match="no application protocol"):
        await Wire.tls(proxy.port, context, first)


async def test_client_hello_in_pieces(proxy: Proxy) -> None:
    """Byte for byte: it is looked at once it is whole, and the handshake goes on with all of it."""
    context = proxy.ca.client_context()
    context.set_alpn_protocols(["postgresql"])
    async with Relay(proxy.port, client=[chop()]) as relay, await Wire.tls(relay.port, context) as wire:
        await wire.log_in(proxy.token())
        assert await wire.value("SELECT 1") == "1"


# The token's message.


@pytest.mark.parametrize(
    ("data", "sqlstate"),
    [
        (message("Q", b"SELECT 1\0"), "08P01"),
        (message("X"), "08P01"),
        (message("p", b"no end"), "08P01"),
        (message("p", b"one\0two\0"), "08P01"),
        (message("p", b"SCRAM-SHA-256\0\0\0\0\3n,,"), "08P01"),
        (b"p" + struct.pack("!i", 2**31 - 1), "08P01"),
        (b"p" + struct.pack("!i", -1), "08P01"),
        (b"p" + struct.pack("!i", 3), "08P01"),
        (message("p"), "08P01"),
        (message("p", b"x" * 65_531 + b"\0"), "08P01"),
        (message("p", b"x" * 65_530 + b"\0"), "28P01"),
    ],
    ids=[
        "Query",
        "Terminate",
        "no end",
        "two",
        "SASL",
        "2 GB",
        "negative",
        "length 3",
        "nothing",
        "64 kB + 1",
        "64 kB",
    ],
)
async def test_instead_of_the_token(proxy: Proxy, data: bytes, sqlstate: str) -> None:
    """Whatever is no PasswordMessage, or a far too long one, ends the connection."""
    async with await Wire.tls(proxy.port, proxy.ca.client_context()) as wire:
        wire.send(startup(*WHO) + data)
        said = await wire.rest()
    assert [one.kind for one in said] == ["R", "E"]
    assert said[1].fields["C"] == sqlstate


@pytest.mark.parametrize("begun", [b"", b"p", b"p\0\0\1\0half a token"], ids=["nothing", "a byte", "half"])
async def test_leaving_instead_of_a_token(proxy: Proxy, begun: bytes) -> None:
    """Whoever closes instead, as psql does to ask its user, is told nothing more, and nothing is left."""
    before = await quiet(proxy)
    async with await Wire.tls(proxy.port, proxy.ca.client_context()) as wire:
        wire.send(startup(*WHO) + begun)
        assert (await wire.read()).kind == "R"
        wire.close()
        assert await wire.rest() == []
    await eventually(lambda: proxy.descriptors() <= before)
