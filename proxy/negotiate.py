"""From an accepted socket to a startup packet: TLS, the other requests that may precede it, and cancel requests.

The raw socket is read byte-exactly and handed to the TLS engine with nothing of ours in between, so that whatever a
peer sent behind its SSLRequest is either a ClientHello or fails the handshake (CVE-2021-23214; PROTOCOL.md 3.1).
"""

import asyncio
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass

from proxy import raw
from proxy.errors import (
    ClientGone,
    InvalidReplication,
    InvalidStartup,
    ProtocolViolation,
    SessionError,
    TlsRequired,
    UnsupportedProtocol,
)
from proxy.leg import Leg, adopt
from proxy.tls_transport import encrypt
from proxy.wire import startup
from proxy.wire.client_hello import parse_client_hello

ALPN = "postgresql"
"""The IANA's name for this protocol; direct TLS must ask for it (PostgreSQL 17, ProcessSSLStartup)."""
NO_APPLICATION_PROTOCOL = b"\x15\x03\x03\0\2\2\x78"
"""The fatal alert for a client that wants another protocol than ours (RFC 7301, 3.2), as PostgreSQL 17 sends it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """A client that wants a session."""

    leg: Leg
    startup: startup.StartupMessage


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelAsked:
    """A client that wants a running statement cancelled. It gets no answer but a closed socket.

    That tells it that a next statement will not be hit, so it stays open until PostgreSQL has closed its own.
    """

    pid: int
    secret: bytes
    leg: Leg | None
    """Where it came in TLS."""


class Refused(Exception):  # noqa: N818 says what happened
    """The peer is told `error`, on `leg`, and closed."""

    def __init__(self, leg: Leg, error: SessionError) -> None:
        super().__init__(str(error))
        self.leg = leg
        self.error = error


class Negotiation:
    """One socket's way to its startup packet."""

    def __init__(
        self,
        sock: socket.socket,
        context_for: Callable[[str], ssl.SSLContext],
        *,
        plaintext_allowed: bool,
        on_unix: bool,
    ) -> None:
        """`context_for`: the TLS to speak, by the name that the client asks for."""
        self._sock = sock
        self._context_for = context_for
        self._plaintext_allowed = plaintext_allowed or on_unix
        self._on_unix = on_unix
        self._asked: set[type[startup.FirstPacket]] = set()
        """The requests for encryption that were answered: each may come once."""
        self._made: Leg | None = None

    async def run(self) -> Started | CancelAsked:
        """Negotiate. Raises ClientGone (close silently), Refused (say why) or OSError."""
        try:
            return await self._run()
        except Refused:
            raise
        except BaseException:  # A timeout too: nobody else knows of the leg yet.
            if self._made is not None:
                self._made.transport.abort()
            raise

    async def _run(self) -> Started | CancelAsked:
        if await raw.peek(self._sock) == startup.TLS_FIRST_BYTE and not self._on_unix:
            return await self._within_tls(await self._start_tls(direct=True))
        while True:
            first = await self._classify(await raw.receive(self._sock, startup.FIRST_BYTES))
            if isinstance(first, startup.SslRequest) and not self._on_unix:
                await self._send(b"S")
                return await self._within_tls(await self._start_tls(direct=False))
            if isinstance(first, startup.SslRequest | startup.GssRequest) and type(first) not in self._asked:
                self._asked.add(type(first))
                await self._send(b"N")
            elif isinstance(first, startup.CancelRequest):
                return _cancel(await raw.receive(self._sock, first.length - startup.FIRST_BYTES), None)
            elif isinstance(first, startup.Startup):
                return await self._in_clear(first)
            else:
                raise ClientGone

    async def _classify(self, header: bytes) -> startup.FirstPacket:
        try:
            return startup.classify(header)
        except startup.StartupError as error:
            if error.silent:
                raise ClientGone from error
            raise Refused(await self._leg(), _startup_error(error)) from error

    async def _in_clear(self, first: startup.Startup) -> Started:
        leg = await self._leg()
        if not self._plaintext_allowed:
            raise Refused(leg, TlsRequired())
        return await _started(leg, first)

    async def _within_tls(self, leg: Leg) -> Started | CancelAsked:
        try:
            first = startup.classify(await leg.read_bytes(startup.FIRST_BYTES))
        except startup.StartupError as error:
            if error.silent:
                raise ClientGone from error
            raise Refused(leg, _startup_error(error)) from error
        if isinstance(first, startup.CancelRequest):
            return _cancel(await leg.read_bytes(first.length - startup.FIRST_BYTES), leg)
        if not isinstance(first, startup.Startup):
            raise Refused(leg, UnsupportedProtocol("a request for encryption inside TLS"))
        return await _started(leg, first)

    async def _start_tls(self, *, direct: bool) -> Leg:
        hello = parse_client_hello(await raw.peek_record(self._sock))
        if hello.protocols and ALPN.encode() not in hello.protocols:
            await self._send(NO_APPLICATION_PROTOCOL)
            raise ClientGone
        leg = Leg()
        await encrypt(leg, self._sock, self._context_for(hello.name))
        self._made = leg
        if direct and leg.transport.get_extra_info("ssl_object").selected_alpn_protocol() != ALPN:
            raise ClientGone
        return leg

    async def _leg(self) -> Leg:
        leg = Leg()
        await adopt(leg, self._sock)
        self._made = leg
        return leg

    async def _send(self, data: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(self._sock, data)


async def _started(leg: Leg, first: startup.Startup) -> Started:
    body = await leg.read_bytes(first.length - startup.FIRST_BYTES)
    try:
        return Started(leg=leg, startup=startup.parse_startup(body, first.version))
    except startup.StartupError as error:
        raise Refused(leg, _startup_error(error)) from error


def _startup_error(error: startup.StartupError) -> SessionError:
    if error.sqlstate == InvalidReplication.sqlstate:
        return InvalidReplication(str(error))
    kinds: dict[str, type[SessionError]] = {"08P01": ProtocolViolation, "0A000": UnsupportedProtocol}
    return kinds.get(error.sqlstate, InvalidStartup)(str(error), detail=str(error))


def _cancel(body: bytes, leg: Leg | None) -> CancelAsked:
    try:
        pid, secret = startup.parse_cancel(body)
    except startup.StartupError as error:
        raise ClientGone from error
    return CancelAsked(pid=pid, secret=secret, leg=leg)
