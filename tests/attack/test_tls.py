"""TLS as an attacker would have it: stripped, downgraded, renegotiated, or for another protocol (T3, T24; ALPACA)."""

import asyncio
from collections.abc import Sequence

import pytest

from tests.harness.binaries import postgresql_bin
from tests.harness.processes import run
from tests.harness.proxy import Proxy
from tests.harness.relay import Flow, Relay, Send, strip_tls


@pytest.mark.parametrize(
    ("sslmode", "says"),
    [
        ("prefer", "connections to this proxy must use TLS"),
        ("allow", "connections to this proxy must use TLS"),
        ("require", "server does not support SSL, but SSL was required"),
        ("verify-full", "server does not support SSL, but SSL was required"),
    ],
)
async def test_stripped(proxy: Proxy, sslmode: str, says: str) -> None:
    """Whatever the client's sslmode: it fails, and the token is never sent in clear, for it is never asked for."""
    token, heard = proxy.token(), bytearray()

    async def listen(_: Flow, send: Send, data: bytes) -> None:
        heard.extend(data)
        await send(data)

    async with Relay(proxy.port, client=[listen], opening=strip_tls) as between:
        environment = proxy.psql_env(token, PGPORT=str(between.port), PGSSLMODE=sslmode)
        done = await asyncio.to_thread(
            run, [postgresql_bin() / "psql", "-X", "-c", "SELECT 1"], environment=environment, check=False
        )
    assert done.returncode == 2
    assert says in done.stderr
    assert token.encode() not in heard
    assert (b"dba1" in heard) == (sslmode in ("prefer", "allow"))


def s_client(proxy: Proxy, *options: str, direct: bool = False, text: str = "") -> str:
    """What openssl says of its handshake with the proxy."""
    how: Sequence[str] = () if direct else ("-starttls", "postgres")
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{proxy.port}", *how, "-CAfile", str(proxy.ca.file)]
    done = run([*command, *options], text=text, check=False)
    return done.stdout + done.stderr


@pytest.mark.parametrize("version", ["-tls1", "-tls1_1"])
def test_old_versions(proxy: Proxy, version: str) -> None:
    """TLS 1.0 and 1.1 (RFC 8996) are not spoken, whatever the client would put up with."""
    said = s_client(proxy, version, "-cipher", "ALL:@SECLEVEL=0")
    assert "Cipher is (NONE)" in said
    assert "alert protocol version" in said


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_versions(proxy: Proxy, version: str) -> None:
    """TLS 1.2 and 1.3 are, with forward secrecy, and without compression."""
    said = s_client(proxy, version)
    assert "Verify return code: 0 (ok)" in said
    assert "Compression: NONE" in said
    assert "Server Temp Key: " in said


@pytest.mark.parametrize(
    "ciphers", ["aNULL", "eNULL", "RC4", "3DES", "EXPORT", "MD5", "PSK", "SRP", "kRSA", "kDH"], ids=str
)
def test_weak_ciphers(proxy: Proxy, ciphers: str) -> None:
    """None of these, in TLS 1.2, where the client chooses what to offer."""
    said = s_client(proxy, "-tls1_2", "-cipher", f"{ciphers}:@SECLEVEL=0")
    assert "Verify return code: 0" not in said or "Cipher is (NONE)" in said


def test_no_renegotiation(proxy: Proxy) -> None:
    """A client cannot have the handshake done again and again (CVE-2011-1473)."""
    said = s_client(proxy, "-tls1_2", text="R\n")
    assert "RENEGOTIATING" in said
    assert "no renegotiation" in said


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_no_tickets(proxy: Proxy, version: str) -> None:
    """No session can be resumed by one, so there is no ticket key to be stolen."""
    said = s_client(proxy, version)
    assert "TLS session ticket" not in said
    assert "Post-Handshake New Session Ticket" not in said


@pytest.mark.parametrize("direct", [False, True], ids=["behind SSLRequest", "direct"])
@pytest.mark.parametrize(("alpn", "served"), [("postgresql", True), ("http/1.1", False), ("h2,postgresql", True)])
def test_alpn(proxy: Proxy, alpn: str, served: bool, direct: bool) -> None:  # noqa: FBT001 a table's column
    """Another protocol's client hears no_application_protocol from TLS itself."""
    said = s_client(proxy, "-alpn", alpn, direct=direct)
    assert ("ALPN protocol: postgresql" in said) == served
    assert ("no application protocol" in said) != served
