"""The PROXY protocol's version 2: what counts, and what is no header that says where the client is."""

import struct
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.wire.proxy_header import FIRST_BYTES, MAX_REST_BYTES, HeaderError, parse_source, parse_start
from tests.harness.load_balancer import SIGNATURE, header

IPV4 = header("192.0.2.7")


def source(data: bytes) -> str | None:
    """The client's address in a header."""
    start = parse_start(data[:FIRST_BYTES])
    assert start.rest == len(data) - FIRST_BYTES
    found = parse_source(start, data[FIRST_BYTES:])
    return None if found is None else str(found)


@pytest.mark.parametrize("address", ["192.0.2.7", "0.0.0.0", "255.255.255.255", "2001:db8::7", "::1"])
def test_addresses(address: str) -> None:
    """IPv4 and IPv6."""
    assert source(header(address)) == address


def test_an_ipv4_address_in_ipv6_clothes() -> None:
    """Is the IPv4 address, as everywhere: a grant's networks name it so."""
    assert source(header("::ffff:192.0.2.7")) == "192.0.2.7"


def test_what_follows_the_addresses() -> None:
    """TLVs are skipped, known ones, unknown ones, and what is none."""
    for more in (b"\x01\0\3abc", b"\xee\0\0", b"\xff", bytes(500)):
        assert source(header("192.0.2.7", more=more)) == "192.0.2.7"


@pytest.mark.parametrize("family", [0x00, 0x11, 0x21, 0x31, 0xFF])
def test_a_connection_of_its_own(family: int) -> None:
    """LOCAL: whatever else the header says, no address is taken from it."""
    for rest in (b"", bytes(12), bytes(300)):
        assert source(SIGNATURE + struct.pack("!BBH", 0x20, family, len(rest)) + rest) is None


REFUSED = {
    "version 1": b"PROXY TCP4 192.0.2.7 192.0.2.1 1 2\r\n"[:FIRST_BYTES],
    "one byte of the signature": SIGNATURE[:-1] + b"x" + IPV4[12:16],
    "version 1 in binary": SIGNATURE + b"\x11\x11\0\x0c",
    "version 3": SIGNATURE + b"\x31\x11\0\x0c",
    "an unknown command": SIGNATURE + b"\x22\x11\0\x0c",
    "no family": SIGNATURE + b"\x21\x00\0\0",
    "UDP": SIGNATURE + b"\x21\x12\0\x0c",
    "a unix socket": SIGNATURE + b"\x21\x31\0\xd8",
    "an unknown family": SIGNATURE + b"\x21\x41\0\x0c",
    "no transport": SIGNATURE + b"\x21\x10\0\x0c",
    "IPv4 cut": SIGNATURE + b"\x21\x11\0\x0b",
    "IPv6 cut": SIGNATURE + b"\x21\x21\0\x23",
    "too long": SIGNATURE + struct.pack("!BBH", 0x21, 0x11, MAX_REST_BYTES + 1),
    "too long, LOCAL": SIGNATURE + b"\x20\x00\xff\xff",
}


@pytest.mark.parametrize("first", REFUSED.values(), ids=REFUSED)
def test_refused(first: bytes) -> None:
    """Before anything that it announces is waited for."""
    with pytest.raises(HeaderError):
        parse_start(first)


@given(first=st.binary(min_size=16, max_size=16) | st.binary(min_size=4, max_size=4).map(SIGNATURE.__add__))
def test_nothing_else_is_raised(first: bytes) -> None:
    """And what is accepted has room for its addresses."""
    try:
        start = parse_start(first)
    except HeaderError:
        return
    found = parse_source(start, bytes(start.rest))
    assert found is None or found in (ip_address("0.0.0.0"), ip_address("::"))
