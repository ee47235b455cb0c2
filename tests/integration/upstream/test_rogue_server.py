"""Servers that mean us harm: whatever they send, the login fails in time and in bounded memory, and learns nothing.

The honest conversation is scripted too, so that each case differs from it in one thing.
"""

import asyncio
import ssl
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy.upstream import UpstreamError
from proxy.upstream_tls import tls_context
from tests.harness.certs import Authority
from tests.harness.upstream import KEY, OK, Client, FakeUpstream, error
from tests.harness.wire import message
from tests.integration.upstream.stage import (
    HONEST_BYTES,
    NEUTRAL,
    PARAMETERS,
    PROFILE,
    READY,
    STARTUP,
    after_startup,
    connect,
    dialler_for,
    honest,
    refused_by,
    with_scram,
)
from tests.integration.upstream.targets import server_at

MIB = 1024 * 1024


@pytest.fixture
def memory() -> Iterator[None]:
    """The process grows by less than 32 MiB at its peak while the test runs."""
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    before = _peak_kib()
    yield
    assert _peak_kib() - before < 32 * 1024


def _peak_kib() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1])


# Honest servers


async def test_honest() -> None:
    """The script's honest login succeeds, and what it announced is handed on byte for byte."""
    async with FakeUpstream(honest) as rogue:
        connected = await dialler_for(rogue).connect(PROFILE, STARTUP)
        connected.leg.transport.abort()
        assert (await rogue.client()).said == HONEST_BYTES
    assert (connected.pid, connected.secret) == (4711, b"\x01\x02\x03\x04")
    assert connected.announcement == PARAMETERS
    assert "secret" not in repr(connected)


async def test_scram_with_extras() -> None:
    """Unknown attributes at a message's end are extensions, and no reason to fail; nor is another iteration count."""
    await connect(with_scram(first=lambda it: it + b",x=extension", final=lambda it: it + b",x=extension"))
    await connect(with_scram(iterations="20000"))


async def test_one_byte_at_a_time() -> None:
    """Messages may come in any pieces."""

    async def script(client: Client) -> None:
        await client.first_packet()
        for byte in message("R", OK) + PARAMETERS + message("K", KEY) + READY:
            client.say(bytes([byte]))
            await asyncio.sleep(0)

    assert (await connect(script)).announcement == PARAMETERS


async def test_what_comes_behind_readiness_stays() -> None:
    """Messages behind ReadyForQuery are the relay's, not lost and not in the announcement."""
    later = message("A", struct.pack("!i", 1) + b"channel\0payload\0")
    connected = await connect(after_startup(message("R", OK), message("K", KEY), READY + later))
    assert connected.leg.take() == later
    assert connected.announcement == b""


# TLS


async def test_honest_over_tls(ca: Authority, server_context: ssl.SSLContext) -> None:
    """The honest login over TLS, so that the next cases are known to fail for their own reasons."""

    async def script(client: Client) -> None:
        await client.starts_tls(server_context)
        await honest(client)

    await connect(script, sslmode="verify-full", ca_file=str(ca.file))


@pytest.mark.parametrize("sslmode", ["require", "verify-full"])
async def test_bytes_behind_the_answer(ca: Authority, server_context: ssl.SSLContext, sslmode: str) -> None:
    """CVE-2021-23222: what is sent in clear behind the `S` breaks the handshake, and is never taken for a message."""

    async def script(client: Client) -> None:
        await client.first_packet()
        client.say(b"S" + error("53300", "injected"))
        await client.writer.start_tls(server_context)

    text, _ = await refused_by(script, sslmode=sslmode, ca_file=str(ca.file) if sslmode == "verify-full" else None)
    assert "injected" not in text
    assert "SSL" in text


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (b"N", "does not speak TLS"),
        (b"N" + message("R", OK) + message("K", KEY) + READY, "does not speak TLS"),
        (error("53300", "\x1b[31mscarlet"), "answered with an error"),
        (b"\x16\x03\x01", "broke the protocol"),
    ],
)
async def test_no_tls(answer: bytes, why: str) -> None:
    """Anything but `S` ends it: no startup packet goes out in clear, and nothing the server said is repeated."""

    async def script(client: Client) -> None:
        await client.first_packet()
        client.say(answer)

    text, heard = await refused_by(script, sslmode="require")
    assert why in text
    assert "scarlet" not in text
    assert heard == struct.pack("!ii", 8, 80_877_103)


async def test_old_tls(ca: Authority) -> None:
    """A server that offers TLS 1.1 at most is refused."""
    context = ca.server_context()
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1

    async def script(client: Client) -> None:
        await client.starts_tls(context)
        await honest(client)

    await refused_by(script, sslmode="require")


async def test_silence_in_the_handshake() -> None:
    """A server that says `S` and nothing more costs the connect timeout."""

    async def script(client: Client) -> None:
        await client.first_packet()
        client.say(b"S")

    text, _ = await refused_by(script, sslmode="require", connect_timeout_s=0.3)
    assert "not ready within 0.3 s" in text


# Framing and amounts


@pytest.mark.parametrize("length", [-(2**31), -1, 0, 3, 65_541, 100 * MIB, 2**31 - 1])
@pytest.mark.parametrize("kind", ["R", "E", "S", "Z"])
@pytest.mark.usefixtures("memory")
async def test_lengths(kind: str, length: int) -> None:
    """A length that cannot be, or is more than a login needs, ends it at the header."""
    text, _ = await refused_by(after_startup(kind.encode() + struct.pack("!i", length) + bytes(1000)))
    assert f"of {length} bytes" in text


@pytest.mark.parametrize(
    "flood",
    [
        message("N", b"SNOTICE\0C00000\0Mx\0\0"),
        message("S", b"a\0b\0"),
        message("N", b"M" + b"x" * 60_000 + b"\0\0"),
    ],
)
@pytest.mark.usefixtures("memory")
async def test_floods(flood: bytes) -> None:
    """Message after message, without end: counted, and cut."""

    async def script(client: Client) -> None:
        await client.first_packet()
        while not client.writer.transport.is_closing():
            client.say(flood * 100)
            await client.writer.drain()

    text, _ = await refused_by(script)
    assert "more than" in text


@pytest.mark.parametrize(
    "messages",
    [
        [READY],
        [message("R", OK), READY],
        [message("K", KEY), message("R", OK), READY],
        [message("R", OK), message("R", OK)],
        [message("R", OK), message("K", KEY[:7]), READY],
        [message("R", OK), message("K", KEY + bytes(253)), READY],
        [message("R", OK), message("K", b""), READY],
        [message("R", OK), message("v", struct.pack("!ii", 0x30000, 0))],
        [message("v", struct.pack("!ii", 0x30000, 0)) * 2],
        [message("T", b"\0\0")],
        [message("R", OK), message("D", b"\0\0")],
        [message("R", OK), message("A", struct.pack("!i", 1) + b"c\0p\0")],
        [message("\0", b"")],
        [b"HTTP/1.1 400 Bad Request\r\n\r\n"],
    ],
    ids=range(14),
)
async def test_wrong_order_and_kind(messages: list[bytes]) -> None:
    """Messages that do not belong where they come."""
    await refused_by(after_startup(*messages))


@pytest.mark.parametrize("cut", range(HONEST_BYTES))
async def test_end_at_every_step(cut: int) -> None:
    """The server goes away after so many bytes, in the midst of messages and between them."""

    async def script(client: Client) -> None:
        client.allowance = cut
        await honest(client)

    text, _ = await refused_by(script)
    assert "closed the connection" in text


# What the server says in errors


@pytest.mark.parametrize("sqlstate", ["28P01", "28000", "08P01", "0A000", "XX000", "3D000", "42704"])
async def test_errors_before_the_login_are_not_the_clients(sqlstate: str) -> None:
    """Before AuthenticationOk an error may be about our credential, or a stranger's: it stays in the log."""
    text, _ = await refused_by(after_startup(error(sqlstate, "because")))
    assert sqlstate in text
    assert "because" in text


@pytest.mark.parametrize("sqlstate", ["53300", "57P03"])
async def test_errors_about_the_server(sqlstate: str) -> None:
    """Too many clients, starting up: the client may know, in a text without control characters."""
    async with FakeUpstream(after_startup(error(sqlstate, "sorry\x1b[31m\r\nno"))) as rogue:
        with pytest.raises(UpstreamError) as caught:
            await dialler_for(rogue).connect(PROFILE, STARTUP)
        await rogue.client()
    assert caught.value.sqlstate == sqlstate
    assert caught.value.public == "sorry?[31m?\nno"


@pytest.mark.parametrize(
    ("body", "sqlstate", "public"),
    [
        (b"C3D000\0Mno such database\0\0", "3D000", "no such database"),
        (b"C28000\0Mrole may not log in\0\0", "08006", NEUTRAL),
        (b"C3D\xff00\0Modd\0\0", "XX000", "odd"),
        (b"Mno code\0\0", "XX000", "no code"),
        (b"C3D000\0\0", "08006", NEUTRAL),
        (b"", "08006", NEUTRAL),
        (b"\xff" * 30, "08006", NEUTRAL),
        (b"C53300\0M" + b"x" * 5_000 + b"\0\0", "53300", "x" * 1_000),
    ],
)
async def test_errors_after_the_login(body: bytes, sqlstate: str, public: str) -> None:
    """They go to the client but for what is about our login; whatever their form, nothing breaks."""
    async with FakeUpstream(after_startup(message("R", OK), message("E", body))) as rogue:
        with pytest.raises(UpstreamError) as caught:
            await dialler_for(rogue, password=None).connect(PROFILE, STARTUP)
        await rogue.client()
    assert (caught.value.sqlstate, caught.value.public) == (sqlstate, public)


# Cancel


async def test_cancel_request_as_sent(ca: Authority, server_context: ssl.SSLContext) -> None:
    """A cancel goes inside TLS, to a server that was verified, and is nothing but the request."""

    async def script(client: Client) -> None:
        await client.starts_tls(server_context)
        client.heard = b""
        await client.first_packet()
        client.writer.close()

    async with FakeUpstream(script) as rogue:
        dialler = dialler_for(rogue, sslmode="verify-full", ca_file=str(ca.file))
        server = server_at(rogue.port, tls_context("orders", dialler._target))
        await dialler.cancel(server, 4711, b"\x01\x02\x03\x04")
        assert (await rogue.client()).heard == struct.pack("!iii", 16, 80_877_102, 4711) + b"\x01\x02\x03\x04"


async def test_cancel_that_is_never_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that keeps the cancel's socket open is left after a while; one that talks, at once."""
    monkeypatch.setattr("proxy.upstream.CANCEL_EOF_S", 0.2)

    async def deaf(client: Client) -> None:
        await client.first_packet()

    async def talks(client: Client) -> None:
        await client.first_packet()
        client.say(bytes(100))

    async with FakeUpstream(deaf) as rogue:
        with pytest.raises(UpstreamError, match="not taken in time"):
            await dialler_for(rogue).cancel(server_at(rogue.port), 1, b"1234")
        await rogue.client()
    async with FakeUpstream(talks) as rogue:
        await dialler_for(rogue).cancel(server_at(rogue.port), 1, b"1234")
        await rogue.client()
