"""Servers that ask for what they should not have: the login fails, and they learn neither the password nor a hash."""

import ssl
import struct
from collections.abc import Callable

import pytest

from tests.harness.certs import Authority
from tests.harness.upstream import KEY, OK, SASL, Client
from tests.harness.wire import message
from tests.integration.upstream.stage import (
    READY,
    after_startup,
    refused_by,
    with_scram,
)

# SCRAM


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"signature": lambda _: bytes(32)}, "signature is wrong"),
        ({"signature": lambda it: it[:-1]}, "malformed last"),
        ({"final": lambda _: b"e=other-error"}, "malformed last"),
        ({"final": lambda _: b""}, "malformed last"),
        ({"iterations": "2147483647", "signature": lambda it: it}, "2147483647 iterations"),
        ({"iterations": "1000001"}, "1000001 iterations"),
        ({"iterations": "4095"}, "4095 iterations"),
        ({"iterations": "1"}, "1 iterations"),
        ({"iterations": "0"}, "malformed first"),
        ({"first": lambda it: it.replace(b"i=4096", b"i=-1")}, "malformed first"),
        ({"first": lambda it: it + b"9" * 50_000}, "malformed first"),
        ({"first": lambda it: it.partition(b",i=")[0]}, "malformed first"),
        ({"first": lambda it: it.partition(b",s=")[0] + b",i=4096"}, "malformed first"),
        ({"first": lambda it: b"m=x," + it}, "malformed first"),
        ({"first": lambda it: it.replace(b"s=", b"s=!")}, "malformed first"),
        ({"first": lambda it: it.replace(b"s=", b"s=A")}, "not base64"),
        ({"first": lambda _: b""}, "malformed first"),
        ({"nonce": lambda _: b"another"}, "does not continue ours"),
        ({"nonce": lambda mine: mine}, "does not continue ours"),
        ({"nonce": lambda mine: mine[:-1]}, "does not continue ours"),
        ({"nonce": lambda mine: b"x" + mine}, "does not continue ours"),
        ({"nonce": lambda mine: mine + b"n" * 60_000}, "malformed first"),
        ({"nonce": lambda mine: mine + b"\0"}, "malformed first"),
    ],
)
async def test_rotten_scram(changed: dict[str, Callable[[bytes], bytes] | str], why: str) -> None:
    """One part of the exchange is wrong: the login ends there, before any key is derived where that would be costly."""
    text, _ = await refused_by(with_scram(**changed))
    assert why in text


async def test_let_in_without_the_servers_proof() -> None:
    """AuthenticationOk without a verified SASLFinal: the server may not know the password at all."""

    async def skips_final(client: Client) -> None:
        await client.first_packet()
        client.say(message("R", SASL))
        await client.answer()
        client.say(message("R", OK), message("K", KEY), READY)

    text, _ = await refused_by(skips_final)
    assert "without proving" in text


async def test_second_exchange_after_a_verified_one() -> None:
    """A server that asks again after SCRAM succeeded, in clear say, gets nothing."""

    async def script(client: Client) -> None:
        await client.first_packet()
        await client.scram()
        client.say(message("R", struct.pack("!i", 3)))

    text, _ = await refused_by(script)
    assert "twice" in text


# Methods


@pytest.mark.parametrize(
    ("request_", "why"),
    [
        (struct.pack("!i", 2), "Kerberos"),
        (struct.pack("!i", 3), "in clear"),
        (struct.pack("!i", 5) + b"salt", "md5"),
        (struct.pack("!i", 6) + b"sa", "SCM"),
        (struct.pack("!i", 7), "GSSAPI"),
        (struct.pack("!i", 8) + b"data", "GSSAPI"),
        (struct.pack("!i", 9), "SSPI"),
        (struct.pack("!i", 10) + b"SCRAM-SHA-256-PLUS\0\0", "SCRAM-SHA-256-PLUS"),
        (struct.pack("!i", 10) + b"OAUTHBEARER\0\0", "OAUTHBEARER"),
        (struct.pack("!i", 10) + b"\x1b[31m\0\0", "not SCRAM-SHA-256"),
        (struct.pack("!i", 10), "not SCRAM-SHA-256"),
        (struct.pack("!i", 11) + b"r=x,s=x,i=1", "method 11"),
        (struct.pack("!i", 12) + b"v=x", "method 12"),
        (struct.pack("!i", 99), "method 99"),
        (b"\0\0\0", "malformed"),
    ],
)
async def test_methods_that_are_not_answered(request_: bytes, why: str) -> None:
    """Only the startup packet was said when it ends: no hash, no password, no SASL message."""
    text, heard = await refused_by(after_startup(message("R", request_)))
    assert why in text
    assert "\x1b" not in text
    assert heard.endswith(b"database\0db\0\0")


async def test_cleartext_over_tls_to_an_unverified_server(server_context: ssl.SSLContext) -> None:
    """TLS alone says nothing about who is at the other end."""

    async def script(client: Client) -> None:
        await client.starts_tls(server_context)
        await client.first_packet()
        client.say(message("R", struct.pack("!i", 3)))

    text, _ = await refused_by(script, sslmode="require")
    assert "in clear" in text


@pytest.mark.parametrize("request_", [struct.pack("!i", 3), struct.pack("!i", 5) + b"salt"])
async def test_nothing_is_said_where_binding_is_required(
    ca: Authority, server_context: ssl.SSLContext, request_: bytes
) -> None:
    """Not even to a verified server that may ask for it: it would be too late to find out afterwards."""

    async def script(client: Client) -> None:
        await client.starts_tls(server_context)
        await client.first_packet()
        client.say(message("R", request_))

    methods = ["scram-sha-256", "password", "md5"]
    text, heard = await refused_by(
        script, sslmode="verify-full", ca_file=str(ca.file), channel_binding="require", require_auth=methods
    )
    assert "requires SCRAM-SHA-256-PLUS" in text
    assert heard.endswith(b"database\0db\0\0")


@pytest.mark.parametrize("salt", [b"", b"sal", b"salts", b"s" * 60_000])
async def test_md5_salts_that_cannot_be(salt: bytes) -> None:
    """Four bytes are a salt; anything else gets no answer."""
    script = after_startup(message("R", struct.pack("!i", 5) + salt))
    text, heard = await refused_by(script, require_auth=["md5"])
    assert f"a salt of {len(salt)} bytes" in text
    assert heard.endswith(b"database\0db\0\0")


async def test_md5_is_answered_once() -> None:
    """A server that asks again, with a salt of its liking, gets no second answer to compare with the first."""

    async def script(client: Client) -> None:
        await client.first_packet()
        for salt in (b"one.", b"two."):
            client.say(message("R", struct.pack("!i", 5) + salt))
        answer = await client.answer()
        assert answer.startswith(b"md5")

    text, _ = await refused_by(script, require_auth=["md5"])
    assert "twice" in text
