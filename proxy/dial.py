"""Opening a socket to PostgreSQL: names, addresses, SSLRequest or direct TLS.

Owns the way from a host to a connected leg on which nothing has been said yet. Never falls back from TLS to clear text,
and never looks at what comes after the handshake (see `proxy.login`).
"""

import asyncio
import socket
import ssl
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from proxy.contract.settings import Host
from proxy.leg import Leg, adopt
from proxy.tls_transport import encrypt
from proxy.upstream_tls import TlsError, check_alpn
from proxy.wire import messages

PUBLIC_TEXT = "the database cannot be reached through this proxy"
_KEEPALIVE_S, _KEEPALIVE_EVERY_S, _KEEPALIVE_COUNT = 60, 10, 3

Address: TypeAlias = tuple[socket.AddressFamily, Any]
"""A family and an address in that family's own form."""


class UpstreamError(Exception):
    """PostgreSQL cannot be used. `str(error)` is for the log; `sqlstate` and `public` are for the client.

    `answer` is the body of PostgreSQL's own ErrorResponse, where it is about what the client asked for at its start.
    """

    def __init__(
        self, log_text: str, *, sqlstate: str = "08006", public: str = PUBLIC_TEXT, answer: bytes | None = None
    ) -> None:
        super().__init__(log_text)
        self.sqlstate = sqlstate
        self.public = public
        self.answer = answer


class Unreachable(UpstreamError):  # noqa: N818 says what the host is
    """Nobody answered, or went away without a word: the next host may be better."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """The very server that a leg leads to: a cancel request must go to the same one, in the same way."""

    host: Host
    address: Address
    tls: ssl.SSLContext | None = field(repr=False)
    """None for clear text, and on a unix socket whatever `sslmode` says, as in libpq."""
    direct: bool
    """TLS begins at once, without SSLRequest."""


async def dial(host: Host, tls: ssl.SSLContext | None, *, direct: bool, until: float) -> tuple[Leg, Server]:
    """A connected leg, encrypted if `tls` is given, and where it leads. `until`: the caller's deadline, loop time.

    Raises UpstreamError, Unreachable where nobody is there.
    """
    try:
        connected, address = await _connect(await _addresses(host), until)
    except (OSError, UnicodeError) as error:  # UnicodeError: a host that IDNA cannot spell
        raise Unreachable(f"{host}: {error}") from error
    server = Server(host=host, address=address, tls=None if host.is_socket else tls, direct=direct)
    return await _adopt(connected, server), server


async def redial(server: Server, *, until: float) -> Leg:
    """Another leg to the same address, encrypted as the first one. Raises UpstreamError."""
    try:
        connected, _ = await _connect([server.address], until)
    except OSError as error:
        raise Unreachable(f"{server.host}: {error}") from error
    return await _adopt(connected, server)


async def _addresses(host: Host) -> list[Address]:
    """Every address of `host`, in the resolver's order. getaddrinfo blocks, so it runs in a thread."""
    if host.is_socket:
        return [(socket.AF_UNIX, f"{host.name}/.s.PGSQL.{host.port}")]
    found = await asyncio.get_running_loop().getaddrinfo(host.name, host.port, type=socket.SOCK_STREAM)
    return [(family, address) for family, _, _, _, address in found]


async def _connect(addresses: Sequence[Address], until: float) -> tuple[socket.socket, Address]:
    """A socket connected to the first address that answers; each gets its share of the time that is left."""
    failures = []
    for tried, (family, address) in enumerate(addresses):
        left = until - asyncio.get_running_loop().time()
        try:
            return await _connect_to(family, address, left / (len(addresses) - tried)), (family, address)
        except OSError as error:  # TimeoutError is one, without a text
            failures.append(f"{address}: {str(error) or 'no answer'}")
    raise OSError("; ".join(failures))


async def _connect_to(family: socket.AddressFamily, address: Any, within_s: float) -> socket.socket:  # noqa: ANN401 see Address
    connected = socket.socket(family, socket.SOCK_STREAM)
    try:
        connected.setblocking(False)  # noqa: FBT003 the standard library's signature
        async with asyncio.timeout(within_s):
            await asyncio.get_running_loop().sock_connect(connected, address)
        if family != socket.AF_UNIX:
            _tune(connected)
    except BaseException:
        connected.close()
        raise
    return connected


def _tune(connected: socket.socket) -> None:
    """Send at once, and notice within 90 s that an idle peer is dead.

    TCP_USER_TIMEOUT is left alone: Linux also applies it while a living peer's window is closed, so it would end the
    session of a client that pipelines to a backend which waits for a lock.
    """
    connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _KEEPALIVE_S)
    connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, _KEEPALIVE_EVERY_S)
    connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, _KEEPALIVE_COUNT)


async def _request_tls(connected: socket.socket, host: Host) -> None:
    """Ask for TLS, and read exactly the one byte of the answer.

    Whatever else was sent in clear stays in the kernel's buffer and goes to the TLS engine, which refuses it: bytes
    that somebody put behind the `S` are never taken for the server's (CVE-2021-23222).
    """
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(connected, messages.SSL_REQUEST)
    answer = await loop.sock_recv(connected, 1)
    if answer == b"S":
        return
    if not answer:
        raise Unreachable(f"{host}: the server closed the connection when asked for TLS")
    # The text of an ErrorResponse at this point is nobody's word: not even logged (CVE-2024-10977).
    causes = {b"N": "does not speak TLS", b"E": "answered with an error"}
    raise UpstreamError(f"{host}: the server {causes.get(answer, 'broke the protocol')} when asked for TLS")


async def _adopt(connected: socket.socket, server: Server) -> Leg:
    """Make the socket a leg, after TLS if there is to be any. Raises UpstreamError; the socket is closed then."""
    leg = Leg()
    try:
        if server.tls is None:
            await adopt(leg, connected)
        else:
            if not server.direct:
                await _request_tls(connected, server.host)
            await encrypt(leg, connected, server.tls, server_hostname=server.host.name)
            check_alpn(leg.transport.get_extra_info("ssl_object"), direct=server.direct)
    except BaseException as error:
        if leg.connected:
            leg.transport.abort()
        connected.close()
        if isinstance(error, ssl.SSLError | TlsError):  # as in libpq, no other host is tried: it may be an impostor
            raise UpstreamError(f"{server.host}: {error}") from error
        if isinstance(error, OSError):
            raise Unreachable(f"{server.host}: {error}") from error
        raise
    return leg
