"""What a ClientHello offers by ALPN: as OpenSSL writes it, and as nobody should."""

import ssl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.wire.client_hello import offered_protocols


def hello(*protocols: str, version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> bytes:
    """The first record of OpenSSL's client."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.maximum_version = version
    if protocols:
        context.set_alpn_protocols(list(protocols))
    outgoing = ssl.MemoryBIO()
    client = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="db.example")
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("protocols", [(), ("postgresql",), ("h2", "http/1.1"), ("http/1.1", "postgresql")])
def test_what_a_client_offers(protocols: tuple[str, ...], version: ssl.TLSVersion) -> None:
    """All of it, in its order; nothing where it has no such extension."""
    assert offered_protocols(hello(*protocols, version=version)) == tuple(one.encode() for one in protocols)


def test_a_cut_one_offers_nothing() -> None:
    """At every length: it is not guessed what would have followed, and nothing is raised."""
    whole = hello("h2")
    assert offered_protocols(whole) == (b"h2",)
    assert {offered_protocols(whole[:length]) for length in range(len(whole))} == {()}


@given(data=st.binary(max_size=600), at=st.integers(0, 599))
def test_nonsense_raises_nothing(data: bytes, at: int) -> None:
    """Behind a right beginning too, and in the middle of a right one."""
    offered_protocols(data)
    offered_protocols(b"\x16\x03\x01" + len(data).to_bytes(2) + b"\x01" + data)
    whole = hello("h2")
    offered_protocols(whole[: at % len(whole)] + data)
