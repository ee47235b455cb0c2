"""What a ClientHello asks for: as OpenSSL writes it, and as nobody should."""

import ssl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.wire.client_hello import ClientHello, parse_client_hello


def hello(*protocols: str, name: str | None = "db.example", version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> bytes:
    """The first record of OpenSSL's client."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.maximum_version = version
    context.check_hostname = False
    if protocols:
        context.set_alpn_protocols(list(protocols))
    outgoing = ssl.MemoryBIO()
    client = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=name)
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("protocols", [(), ("postgresql",), ("h2", "http/1.1"), ("http/1.1", "postgresql")])
def test_what_a_client_offers(protocols: tuple[str, ...], version: ssl.TLSVersion) -> None:
    """All of it, in its order; nothing where it has no such extension."""
    offered = tuple(one.encode() for one in protocols)
    expected = ClientHello(name="db.example", protocols=offered)
    assert parse_client_hello(hello(*protocols, version=version)) == expected
    assert parse_client_hello(hello(*protocols, version=version, name=None)) == ClientHello(protocols=offered)


def test_a_name_that_is_none() -> None:
    """Bytes beyond ASCII are nobody's name, and the rest counts all the same."""
    odd = parse_client_hello(hello("h2").replace(b"db.example", b"db.\xff\xe9ample"))
    assert odd == ClientHello(name="db.\ufffd\ufffdample", protocols=(b"h2",))


def test_a_cut_one_offers_nothing() -> None:
    """At every length: it is not guessed what would have followed, and nothing is raised."""
    whole = hello("h2")
    assert parse_client_hello(whole).protocols == (b"h2",)
    assert {parse_client_hello(whole[:length]) for length in range(len(whole))} == {ClientHello()}


@given(data=st.binary(max_size=600), at=st.integers(0, 599))
def test_nonsense_raises_nothing(data: bytes, at: int) -> None:
    """Behind a right beginning too, and in the middle of a right one."""
    parse_client_hello(data)
    parse_client_hello(b"\x16\x03\x01" + len(data).to_bytes(2) + b"\x01" + data)
    whole = hello("h2")
    parse_client_hello(whole[: at % len(whole)] + data)
