"""Opening a socket to PostgreSQL: names, addresses, SSLRequest, TLS with libpq's meanings of `sslmode`.

Owns the way from a target's settings to a connected leg on which nothing has been said yet. Never falls back from TLS
to clear text, and never looks at what comes after the handshake (see `proxy.upstream`).
"""

import asyncio
import socket
import ssl
from collections.abc import Sequence
from typing import Any, TypeAlias

from proxy.contract.settings import SettingsError, Target
from proxy.leg import Leg, adopt
from proxy.tls_transport import encrypt
from proxy.wire import messages

PUBLIC_TEXT = "the database cannot be reached through this proxy"
_ALPN = "postgresql"
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


def tls_context(name: str, target: Target) -> ssl.SSLContext | None:
    """The TLS context for `target`, None where TLS is not used. Raises SettingsError.

    As in libpq: a unix socket has no TLS whatever `sslmode` says, and `require` checks the authority if one is given.
    https://www.postgresql.org/docs/current/libpq-ssl.html#LIBPQ-SSL-PROTECTION
    """
    if target.sslmode == "disable" or target.host.startswith("/"):
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols([_ALPN])
    context.check_hostname = target.sslmode == "verify-full"
    if target.ca_file is not None:
        try:
            context.load_verify_locations(cafile=target.ca_file)
        except (OSError, ValueError) as error:
            raise SettingsError(
                f"targets.{name}.ca_file: {target.ca_file}: {error}; name a PEM file with the authority's certificate"
            ) from error
    elif target.sslmode == "require":
        context.verify_mode = ssl.CERT_NONE
    else:
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    return context


async def dial(target: Target, tls: ssl.SSLContext | None, deadline: asyncio.Timeout) -> Leg:
    """A connected leg, encrypted if `tls` is given. Raises UpstreamError. `deadline`: the caller's timeout."""
    try:
        connected = await _connect(await _addresses(target.host, target.port), deadline)
        try:
            if tls is not None:
                await _request_tls(connected)
            return await _adopt(connected, target.host, tls)
        except BaseException:
            connected.close()
            raise
    except (OSError, UnicodeError) as error:  # UnicodeError: a host that IDNA cannot spell
        raise UpstreamError(f"{target.host}:{target.port}: {error}") from error


async def _addresses(host: str, port: int) -> list[Address]:
    """Every address of `host`, in the resolver's order. getaddrinfo blocks, so it runs in a thread."""
    if host.startswith("/"):
        return [(socket.AF_UNIX, f"{host}/.s.PGSQL.{port}")]
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [(family, address) for family, _, _, _, address in found]


async def _connect(addresses: Sequence[Address], deadline: asyncio.Timeout) -> socket.socket:
    """A socket connected to the first address that answers; each gets its share of the time that is left."""
    failures = []
    for tried, (family, address) in enumerate(addresses):
        left = (deadline.when() or 0.0) - asyncio.get_running_loop().time()
        try:
            return await _connect_to(family, address, left / (len(addresses) - tried))
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


async def _request_tls(connected: socket.socket) -> None:
    """Ask for TLS, and read exactly the one byte of the answer.

    Whatever else was sent in clear stays in the kernel's buffer and goes to the TLS engine, which refuses it: bytes
    that somebody put behind the `S` are never taken for the server's (CVE-2021-23222).
    """
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(connected, messages.SSL_REQUEST)
    answer = await loop.sock_recv(connected, 1)
    if answer == b"S":
        return
    # The text of an ErrorResponse at this point is nobody's word: not even logged (CVE-2024-10977).
    causes = {b"": "closed the connection", b"N": "does not speak TLS", b"E": "answered with an error"}
    raise UpstreamError(f"the server {causes.get(answer, 'broke the protocol')} when asked for TLS")


async def _adopt(connected: socket.socket, host: str, tls: ssl.SSLContext | None) -> Leg:
    """Make the socket a leg, after the TLS handshake if there is one."""
    leg = Leg()
    if tls is None:
        await adopt(leg, connected)
    else:
        await encrypt(leg, connected, tls, server_hostname=host)
    return leg
