"""What a load balancer writes in front of a client's bytes (PROXY protocol). Shares no code with the proxy's reader."""

import struct
from ipaddress import ip_address

SIGNATURE = b"\x0d\x0a\x0d\x0a\x00\x0d\x0a\x51\x55\x49\x54\x0a"
LOCAL = SIGNATURE + struct.pack("!BBH", 0x20, 0, 0)
"""A connection of the load balancer's own."""


def header(source: str, *, more: bytes = b"") -> bytes:
    """A header of version 2 for a client at `source`, with `more` behind the addresses."""
    address = ip_address(source)
    family, destination = (0x11, bytes([192, 0, 2, 1])) if address.version == 4 else (0x21, bytes(16))
    rest = address.packed + destination + struct.pack("!HH", 40_000, 6432) + more
    return SIGNATURE + struct.pack("!BBH", 0x21, family, len(rest)) + rest
