"""The first bytes on a connection: PostgreSQL's own requests in every order, and everything that is none of them."""

import asyncio
import socket
import ssl
import struct
from collections.abc import Iterator
from contextlib import closing

import pytest

from tests.conftest import MakeProxy
from tests.harness.certs import Authority
from tests.harness.postgres import Cluster
from tests.harness.proxy import Proxy
from tests.harness.waiting import eventually
from tests.harness.wire import (
    GSSENC_REQUEST,
    PROTOCOL_3_0,
    PROTOCOL_3_2,
    SSL_REQUEST,
    Message,
    Wire,
    asked_for_tls,
    cancel_request,
    connected,
    message,
    startup,
)

WHO = (("user", "dba1"), ("database", "orders"))
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


async def answer(proxy: Proxy, data: bytes) -> bytes:
    """Everything that is said to `data` on a plain connection, until the proxy closes it."""
    async with await Wire.plain(proxy.port) as wire:
        wire.send(data)
        return await wire.bytes_left()


async def encrypted_answer(proxy: Proxy, data: bytes) -> list[Message]:
    """The same within TLS, as whole messages."""
    async with await Wire.tls(proxy.port, proxy.ca.client_context()) as wire:
        wire.send(data)
        return await wire.rest()


def only_error(said: list[Message]) -> dict[str, str]:
    """The fields of the one ErrorResponse that was said."""
    assert [one.kind for one in said] == ["E"], [str(one) for one in said]
    assert said[0].fields["V"] == "FATAL"
    return said[0].fields


GARBAGE = {
    "nothing but zeros": bytes(64),
    "HTTP": b"GET / HTTP/1.1\r\nHost: db.example\r\n\r\n",
    "SSH": b"SSH-2.0-OpenSSH_9.2\r\n",
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
    raw = await connected(proxy.port)
    near, far = socket.socketpair()
    with closing(raw), closing(near):
        near.setblocking(False)  # noqa: FBT003 the socket module takes it by position
        far.setblocking(False)  # noqa: FBT003 as above
        async with asyncio.TaskGroup() as group:
            carrying = group.create_task(carry_eagerly(near, raw, group))
            async with await Wire.secure(far, proxy.ca.client_context()) as wire:
                await wire.log_in(proxy.token())
                assert await wire.value("SELECT 1") == "1"
            await carrying


async def carry_eagerly(near: socket.socket, raw: socket.socket, group: asyncio.TaskGroup) -> None:
    """Carry bytes between a TLS client and the proxy, the client's first ones in one segment with SSLRequest."""
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(raw, SSL_REQUEST + await loop.sock_recv(near, 65_536))
    assert await loop.sock_recv(raw, 1) == b"S"
    backwards = group.create_task(carry(raw, near))
    await carry(near, raw)
    backwards.cancel()


async def carry(source: socket.socket, sink: socket.socket) -> None:
    """Carry bytes one way until they end."""
    loop = asyncio.get_running_loop()
    while data := await loop.sock_recv(source, 65_536):
        await loop.sock_sendall(sink, data)


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
    raw = await asked_for_tls(proxy.port)
    near, far = socket.socketpair()
    with closing(raw), closing(near):
        near.setblocking(False)  # noqa: FBT003 the socket module takes it by position
        far.setblocking(False)  # noqa: FBT003 as above
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        async with asyncio.TaskGroup() as group:
            carrying = group.create_task(carry_bytewise(near, raw, group))
            context = proxy.ca.client_context()
            context.set_alpn_protocols(["postgresql"])
            async with await Wire.secure(far, context) as wire:
                await wire.log_in(proxy.token())
                assert await wire.value("SELECT 1") == "1"
            await carrying


async def carry_bytewise(near: socket.socket, raw: socket.socket, group: asyncio.TaskGroup) -> None:
    """Carry bytes between a TLS client and the proxy, the client's first message in segments of one byte."""
    loop = asyncio.get_running_loop()
    for byte in await loop.sock_recv(near, 65_536):
        await loop.sock_sendall(raw, bytes([byte]))
    backwards = group.create_task(carry(raw, near))
    await carry(near, raw)
    backwards.cancel()


# Versions and options.


def negotiated(minor: int, *options: str) -> bytes:
    """The body of NegotiateProtocolVersion."""
    return struct.pack("!iI", 0x30000 | minor, len(options)) + b"".join(name.encode() + b"\0" for name in options)


@pytest.mark.parametrize(
    ("version", "options", "expected"),
    [
        (PROTOCOL_3_0, (), None),
        (PROTOCOL_3_2, (), None),
        (0x30001, (), negotiated(0)),
        (0x30003, (), negotiated(2)),
        (0x3270F, ("_pq_.test_protocol_negotiation",), negotiated(2, "_pq_.test_protocol_negotiation")),
        (PROTOCOL_3_0, ("_pq_.x", "_pq_.y"), negotiated(0, "_pq_.x", "_pq_.y")),
        (PROTOCOL_3_2, ("_pq_.x", "_pq_."), negotiated(2, "_pq_.x", "_pq_.")),
        (0x30001, ("_pq_.x", "_pq_.x"), negotiated(0, "_pq_.x", "_pq_.x")),
        (0x3FFFF, (), negotiated(2)),
    ],
    ids=["3.0", "3.2", "3.1", "3.3", "3.9999", "3.0 with options", "3.2 with options", "3.1, one twice", "3.65535"],
)
async def test_versions(proxy: Proxy, version: int, options: tuple[str, ...], expected: bytes | None) -> None:
    """NegotiateProtocolVersion comes once, before authentication, with every option that is not known."""
    async with await Wire.tls(proxy.port, proxy.ca.client_context()) as wire:
        parameters = (*WHO, *((name, "1") for name in options))
        said = await wire.log_in(proxy.token(), *parameters, version=version)
        assert [one.body for one in said if one.kind == "v"] == ([] if expected is None else [expected])
        assert "".join(one.kind for one in said).startswith("RR" if expected is None else "vRR")
        spoken = 0 if expected is None and version == PROTOCOL_3_0 else 2
        if expected is not None:
            spoken = expected[3]
        assert len(wire.secret) == (32 if spoken else 4)
        assert await wire.value("SELECT 1") == "1"


@pytest.mark.parametrize("version", [0x20000, 0x40000, 0x10000], ids=["2.0", "4.0", "1.0"])
async def test_other_major_versions(proxy: Proxy, version: int) -> None:
    """Not negotiable."""
    told = only_error(await encrypted_answer(proxy, startup(*WHO, version=version)))
    assert told["C"] == "0A000"


# Parameters.


@pytest.mark.parametrize(
    ("data", "sqlstate"),
    [
        (startup(("database", "orders")), "28000"),
        (startup(("user", ""), ("database", "orders")), "28000"),
        (startup(("user", "dba1"), ("user", "")), "28000"),
        (struct.pack("!iI", 18, PROTOCOL_3_0) + b"user\0dba1\0", "08P01"),
        (struct.pack("!iI", 23, PROTOCOL_3_0) + b"user\0dba1\0\0more", "08P01"),
        (struct.pack("!iI", 17, PROTOCOL_3_0) + b"user\0dba1", "08P01"),
        (struct.pack("!iI", 8, PROTOCOL_3_0), "08P01"),
        (struct.pack("!iI", 20, PROTOCOL_3_0) + b"user\0dba\xff\xfe\0\0", "28000"),
    ],
    ids=["no user", "empty user", "the last user counts", "no end", "more behind the end", "no value", "8", "no UTF-8"],
)
async def test_bad_startup_packets(proxy: Proxy, data: bytes, sqlstate: str) -> None:
    """Each is told what is wrong, as PostgreSQL tells it, and nobody is asked for a token."""
    assert only_error(await encrypted_answer(proxy, data))["C"] == sqlstate


async def test_the_last_duplicate_counts(proxy: Proxy) -> None:
    """As in PostgreSQL; so the token is held against what counts."""
    async with await Wire.tls(proxy.port, proxy.ca.client_context()) as wire:
        await wire.log_in(
            proxy.token(), ("user", "mallory"), ("user", "dba1"), ("database", "x"), ("database", "orders")
        )
    refused = await refused_login(proxy, ("user", "dba1"), ("user", "mallory"), ("database", "orders"))
    assert refused["C"] == "28P01"


@pytest.mark.parametrize(
    "parameters",
    [
        (("user", "dba1"), ("database", "orders/" + "a" * 64)),
        (("user", "dba1" + "x" * 60), ("database", "orders")),
        (("user", "dba1"),),
        (("user", "dba1"), ("database", "orders/")),
        (("user", "dba1"), ("database", "orders/archive/../postgres")),
    ],
    ids=["64-byte database", "64-byte user", "no database", "empty database", "a path"],
)
async def test_names(proxy: Proxy, parameters: tuple[tuple[str, str], ...]) -> None:
    """A name that PostgreSQL would cut is not the name that was granted; none is ever another one."""
    token = proxy.token(databases=("postgres", "a" * 63))
    if parameters[-1] == ("database", "orders/"):
        async with await Wire.tls(proxy.port, proxy.ca.client_context()) as wire:
            await wire.log_in(token, *parameters)
            assert await wire.value("SELECT current_database()") == "postgres"
        return
    assert (await refused_login(proxy, *parameters, token=token))["C"] == "28P01"


@pytest.mark.parametrize("value", ["true", "database", "1", "on"])
async def test_replication(proxy: Proxy, value: str) -> None:
    """Refused in words, whoever asks."""
    told = await refused_login(proxy, *WHO, ("replication", value))
    assert (told["C"], told["D"]) == ("0A000", "Replication connections are not granted here.")


async def test_what_the_client_may_not_say_about_itself(proxy: Proxy) -> None:
    """The upstream identity, the person and the grant are the proxy's to set."""
    mine = (("curfew.person", "mallory"), ("curfew.grant", "grt_forged"), ("session_authorization", "postgres"))
    told = await refused_login(proxy, *WHO, *mine)
    assert told["C"] == "42501"
    async with await Wire.tls(proxy.port, proxy.ca.client_context()) as wire:
        await wire.log_in(proxy.token(id="grt_true"), *WHO, *mine[:2])
        assert await wire.value("SHOW curfew.person") == "dba1"
        assert await wire.value("SELECT current_setting('curfew.grant')") == "grt_true"
        assert await wire.value("SELECT session_user") == "curfew_app"


@pytest.mark.parametrize(
    ("options", "setting", "value"),
    [
        (r"-c search_path=a\,\ b", "search_path", "a, b"),
        ("-csearch_path=x --work_mem=128kB", "work_mem", "128kB"),
        (r"--DateStyle=German\,\ DMY", "DateStyle", "German, DMY"),
        (r"-c application_name=a\\b+c", "application_name", r"a\b+c"),
        ("-c curfew.person=mallory", "curfew.person", "dba1"),
    ],
)
async def test_options(proxy: Proxy, options: str, setting: str, value: str) -> None:
    """`options` reaches PostgreSQL byte for byte, and it alone reads it."""
    async with await Wire.tls(proxy.port, proxy.ca.client_context()) as wire:
        await wire.log_in(proxy.token(), *WHO, ("options", options))
        assert await wire.value(f"SHOW {setting}") == value


async def test_unknown_setting(proxy: Proxy) -> None:
    """PostgreSQL's own refusal comes through, as it words it."""
    told = await refused_login(proxy, *WHO, ("no_such_setting", "1"))
    assert (told["C"], told["M"]) == ("42704", 'unrecognized configuration parameter "no_such_setting"')
    told = await refused_login(proxy, ("user", "dba1"), ("database", "orders/nowhere"))
    assert (told["C"], told["M"]) == ("3D000", 'database "nowhere" does not exist')


async def refused_login(proxy: Proxy, *parameters: tuple[str, str], token: str = "") -> dict[str, str]:
    """What a login with a good token is told that is refused all the same."""
    async with await Wire.tls(proxy.port, proxy.ca.client_context()) as wire:
        wire.send(startup(*parameters))
        assert (await wire.read()).kind == "R"
        wire.send(message("p", (token or proxy.token()).encode() + b"\0"))
        said = await wire.rest()
    return said[-1].fields


# The token's message.


@pytest.mark.parametrize(
    ("data", "sqlstate"),
    [
        (message("Q", b"SELECT 1\0"), "08P01"),
        (message("X"), "08P01"),
        (message("p", b"no end"), "08P01"),
        (message("p", b"one\0two\0"), "08P01"),
        (b"p" + struct.pack("!i", 2**31 - 1), "08P01"),
        (b"p" + struct.pack("!i", -1), "08P01"),
        (b"p" + struct.pack("!i", 3), "08P01"),
        (message("p", b"x" * 65_536), "08P01"),
        (message("p", b"x" * 65_534 + b"\0"), "28P01"),
    ],
    ids=["Query", "Terminate", "no end", "two", "2 GB", "negative", "length 3", "64 kB + 1", "64 kB"],
)
async def test_instead_of_the_token(proxy: Proxy, data: bytes, sqlstate: str) -> None:
    """Whatever is no PasswordMessage, or a far too long one, ends the connection."""
    async with await Wire.tls(proxy.port, proxy.ca.client_context()) as wire:
        wire.send(startup(*WHO) + data)
        said = await wire.rest()
    assert [one.kind for one in said] == ["R", "E"]
    assert said[1].fields["C"] == sqlstate
