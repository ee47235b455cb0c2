"""Where a connection comes from: the socket's own address, a load balancer's word for it, or a unix socket's user.

Owns what is believed about it, and by whom. It never looks at what the client itself says (see `proxy.negotiate`).
"""

import asyncio
import grp
import pwd
import socket
import struct
from collections.abc import Iterable
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv6Address

from proxy import raw
from proxy.config import ProxySettings, UnixSocket
from proxy.contract.grant import parse_address
from proxy.wire import proxy_header

HEADER_S = 5.0
"""How long a load balancer may take for its header, which it sends at once; a lost segment is sent again in 3 s."""

_CREDENTIALS = struct.Struct("3i")
"""struct ucred: pid, uid, gid (unix(7))."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """Where a connection comes from. `address` is None on a unix socket."""

    address: IPv4Address | IPv6Address | None
    plaintext_allowed: bool
    uid: int | None = None
    """On a unix socket: the user who connected, as the kernel says."""
    barred: bool = False
    """This user may not connect."""
    via: IPv4Address | IPv6Address | None = None
    """The load balancer that told the address."""
    header: bool | None = None
    """Whether a PROXY header must come first (True), may come (False), or is garbage (None)."""

    @property
    def on_unix(self) -> bool:
        """Whether it came by a unix socket."""
        return self.address is None

    def __str__(self) -> str:
        return f"unix:{self.uid}" if self.address is None else str(self.address)


class Origins:
    """Knows where connections come from, by the configuration."""

    def __init__(self, settings: ProxySettings) -> None:
        self._networks = settings.proxy_protocol.networks()
        self._header_required = settings.proxy_protocol.required
        self._loopback_in_clear = settings.plaintext == "loopback"
        self._uids = uids(settings.unix_socket.users)

    def of(self, accepted: socket.socket, address: str) -> Peer:
        """Where the accepted socket comes from, as far as the kernel knows."""
        if accepted.family == socket.AF_UNIX:
            credentials = accepted.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
            uid = _CREDENTIALS.unpack(credentials)[1]
            barred = bool(self._uids) and uid not in self._uids
            return Peer(address=None, plaintext_allowed=True, uid=uid, barred=barred)
        source = parse_address(address)
        trusted = any(source.version == one.version and source in one for one in self._networks)
        return Peer(
            address=source,
            plaintext_allowed=self._loopback_in_clear and source.is_loopback,
            header=self._header_required if trusted else None,
        )


async def read_header(sock: socket.socket, peer: Peer) -> Peer:
    """Whom the load balancer connects for: reads its header, and not one byte behind it.

    Raises ClientGone where the peer is gone or late, HeaderError where what it sent is no header.
    """
    try:
        async with asyncio.timeout(HEADER_S):
            if (
                await raw.peek(sock) != proxy_header.SIGNATURE[0]
            ):  # With which no packet of PostgreSQL's or TLS's starts.
                if peer.header:
                    raise proxy_header.HeaderError("no header of the PROXY protocol's version 2")
                return replace(peer, header=None)
            start = proxy_header.parse_start(await raw.receive(sock, proxy_header.FIRST_BYTES))
            source = proxy_header.parse_source(start, await raw.receive(sock, start.rest))
    except TimeoutError as error:
        raise proxy_header.HeaderError(f"no PROXY header within {HEADER_S:g} s") from error
    if source is None:
        return replace(peer, header=None)
    # What is loopback at the load balancer is not so here, and whom it forwards is not on this machine.
    in_clear = peer.plaintext_allowed and source.is_loopback
    return replace(peer, address=source, plaintext_allowed=in_clear, via=peer.address, header=None)


def uids(users: Iterable[str]) -> frozenset[int]:
    """The numbers of these system users. Raises LookupError naming one that there is not."""
    return frozenset(int(user) if user.isdecimal() else _uid(user) for user in users)


def _uid(user: str) -> int:
    try:
        return pwd.getpwnam(user).pw_uid
    except KeyError:
        raise LookupError(f"there is no user {user!r} on this machine") from None


def gid(settings: UnixSocket) -> int:
    """The number of the group that unix sockets get; -1 for the process's own. Raises LookupError."""
    if not settings.group:
        return -1
    if settings.group.isdecimal():
        return int(settings.group)
    try:
        return grp.getgrnam(settings.group).gr_gid
    except KeyError:
        raise LookupError(f"there is no group {settings.group!r} on this machine") from None
