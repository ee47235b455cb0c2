"""The header with which a load balancer says whom it connects for: PROXY protocol, version 2.

Owns its form (https://www.haproxy.org/download/2.9/doc/proxy-protocol.txt, section 2.2) and which kinds of it count.
Pure: never reads a socket, and never judges whether whoever sent it is to be believed (see `proxy.peer`). Version 1 is
text of no fixed length, and is not taken.
"""

import struct
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
FIRST_BYTES = 16
"""What every header starts with: signature, version and command, family and transport, the length of the rest."""
MAX_REST_BYTES = 4_096
"""The addresses and whatever the load balancer adds (TLVs). The protocol's own limit is 65,535."""

_VERSION = 2
_LOCAL, _PROXY = 0, 1
_TCP_OVER_IPV4, _TCP_OVER_IPV6 = 0x11, 0x21
_SOURCE_BYTES = {_TCP_OVER_IPV4: 4, _TCP_OVER_IPV6: 16}
_ADDRESSES_BYTES = {_TCP_OVER_IPV4: 12, _TCP_OVER_IPV6: 36}


class HeaderError(Exception):
    """What came is no header, or none that says where the client is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """The first bytes of a header: how long its rest is, and what that will hold."""

    rest: int
    family: int | None
    """None for a connection of the load balancer's own (LOCAL), as for its health checks: the rest means nothing."""


def parse_start(first: bytes) -> Start:
    """What the header is that starts with these FIRST_BYTES. Raises HeaderError."""
    if first[:12] != SIGNATURE:
        raise HeaderError("no header of the PROXY protocol's version 2")
    kind, family, rest = struct.unpack_from("!BBH", first, 12)
    version, command = kind >> 4, kind & 0xF
    if version != _VERSION or command not in (_LOCAL, _PROXY):
        raise HeaderError(f"a PROXY header of version {version} with command {command}")
    if rest > MAX_REST_BYTES:
        raise HeaderError(f"a PROXY header of {rest} bytes more, where {MAX_REST_BYTES} are allowed")
    if command == _LOCAL:
        return Start(rest=rest, family=None)
    # "Unspecified" too: it would leave the load balancer's own address, which a grant may well allow.
    if family not in _ADDRESSES_BYTES:
        raise HeaderError(f"a PROXY header of family and transport {family:#04x}: only TCP over IPv4 or IPv6 is taken")
    if rest < _ADDRESSES_BYTES[family]:
        raise HeaderError(f"a PROXY header whose addresses have {rest} bytes")
    return Start(rest=rest, family=family)


def parse_source(start: Start, rest: bytes) -> IPv4Address | IPv6Address | None:
    """The client's address, from what follows the FIRST_BYTES; None where the connection is the load balancer's own."""
    if start.family is None:
        return None
    address = ip_address(rest[: _SOURCE_BYTES[start.family]])
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address
