"""First packets: requests for encryption, cancel requests, and what is none of them."""

import struct

from tests.harness.wire import (
    GSSENC_REQUEST,
    PROTOCOL_3_0,
    SSL_REQUEST,
    TERMINATE,
    cancel_request,
    query,
    startup,
)
from tests.oracle.case import Script, add, case
from tests.oracle.talk import Talk


def first_packet(data: bytes) -> Script:
    """Say nothing but `data`, in clear, and listen."""

    async def script(talk: Talk) -> None:
        await talk.plain()
        talk.send(data)
        await talk.rest()

    return script


add("packet-of-length-0", "no packet is that short", first_packet(struct.pack("!ii", 0, PROTOCOL_3_0)))
add("packet-of-length-7", "no packet is that short", first_packet(struct.pack("!ii", 7, PROTOCOL_3_0)))
add("packet-of-length-8", "a version, and no terminator", first_packet(struct.pack("!ii", 8, PROTOCOL_3_0)))
add("packet-of-length-10005", "one more than is read", first_packet(struct.pack("!ii", 10_005, PROTOCOL_3_0)))
add("packet-of-2-gib", "the longest that can be said", first_packet(struct.pack("!ii", 2**31 - 1, PROTOCOL_3_0)))
add("packet-of-negative-length", "no packet has that", first_packet(struct.pack("!ii", -5, PROTOCOL_3_0)))
add("http", "a browser", first_packet(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"))
add("query-at-once", "a message where a packet was due", first_packet(query("SELECT 1")))
add("terminate-at-once", "as that", first_packet(TERMINATE + bytes(3)))
add("cancel-of-nobody", "no answer, whether there is such a backend or not", first_packet(cancel_request(1, b"none")))
add("cancel-without-a-secret", "closed without a word", first_packet(cancel_request(1, b"")))
add("cancel-with-a-short-secret", "closed without a word", first_packet(cancel_request(1, b"abc")))
add("cancel-with-a-long-secret", "closed without a word", first_packet(cancel_request(1, b"x" * 257)))
add("tls-and-then-garbage", "what begins as TLS and is none", first_packet(b"\x16\x03\x01\x00\x05hello" + bytes(9)))


@case
async def gss_then_tls(talk: Talk) -> None:
    """GSSENCRequest is declined, and SSLRequest taken after it."""
    await talk.connect()
    if await talk.ask(GSSENC_REQUEST) == b"N":
        await talk.ask(SSL_REQUEST)
        await talk.secure()
        await talk.log_in()


@case
async def gss_twice(talk: Talk) -> None:
    """It may be asked for once."""
    await talk.connect()
    if await talk.ask(GSSENC_REQUEST) == b"N":
        await talk.clear()
        talk.send(GSSENC_REQUEST)
        await talk.rest()


@case
async def tls_within_tls(talk: Talk) -> None:
    """It may be asked for once."""
    await talk.encrypted()
    talk.send(SSL_REQUEST)
    await talk.rest()


@case
async def gss_within_tls(talk: Talk) -> None:
    """One kind of encryption is enough."""
    await talk.encrypted()
    talk.send(GSSENC_REQUEST)
    await talk.rest()


@case
async def direct_tls(talk: Talk) -> None:
    """TLS from the first byte, asking for ALPN."""
    await talk.connect()
    await talk.secure(context=talk.way.direct_tls)
    await talk.log_in()
    await talk.alive()


@case
async def direct_tls_without_alpn(talk: Talk) -> None:
    """TLS from the first byte, as any other protocol might begin."""
    await talk.connect()
    await talk.secure()
    talk.start()
    await talk.authenticate()


@case
async def clear_text_behind_the_request_for_tls(talk: Talk) -> None:
    """What came before the handshake is never taken for what came in it (CVE-2021-23214)."""
    await talk.connect()
    await talk.ask(SSL_REQUEST + startup(*talk.who()))
    await talk.secure()
    await talk.rest()


@case
async def everything_at_once(talk: Talk) -> None:
    """Startup, password, a query and Terminate in one segment."""
    await talk.plain()
    talk.send(startup(*talk.who()), talk.password(), query("SELECT 1"), TERMINATE)
    await talk.rest()


@case
async def byte_by_byte(talk: Talk) -> None:
    """Startup, password and a query, a byte each."""
    await talk.plain()
    await talk.drop_by_drop(startup(*talk.who()) + talk.password() + query("SELECT 1") + TERMINATE)
    await talk.rest()


@case
async def closed_at_once(talk: Talk) -> None:
    """A connection on which nothing is said, and its sending half closed."""
    await talk.plain()
    await talk.end()
    await talk.rest()


@case
async def half_a_startup(talk: Talk) -> None:
    """Closed in the midst of the packet."""
    await talk.plain()
    talk.send(startup(*talk.who())[:20])
    await talk.end()
    await talk.rest()
