# cython: annotation_typing=False, binding=False
"""TLS between a socket and a leg: a protocol to the socket's transport, a transport to the leg.

Why not the event loop's own: it asks OpenSSL for more until that raises "want read", and sends at the end of its round.
One exception for each message costs more than all the cryptography. This asks only where something can be left, and
sends at once. All of TLS itself is the standard library's (`ssl.MemoryBIO`, `ssl.SSLObject`); what is bounded for a
plain socket is bounded here by the same transport: nothing waits in this object but a record that is not yet whole.

It never looks at what it carries, and never sends or accepts a byte in clear.
"""

import asyncio
import contextlib
import socket
import ssl
from typing import Any, cast

from proxy.leg import BUFFER, READ_BYTES, Leg

RECORD_BYTES = 16_384
"""The most that one record carries (RFC 8446, 5.1)."""


class TlsTransport:
    """One connection's TLS. `established` is done when the handshake is; its leg has its transport from then on.

    An asyncio.Protocol and an asyncio.Transport in all but their bases, which a class in C cannot have.
    """

    __slots__ = ("_closing", "_incoming", "_is_established", "_leg", "_outgoing", "_socket", "_tls", "established")

    def __init__(self, leg: Leg, context: ssl.SSLContext, *, server_hostname: str | None = None) -> None:
        """A client of `server_hostname`; without it, a server."""
        self._leg = leg
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(
            self._incoming, self._outgoing, server_side=server_hostname is None, server_hostname=server_hostname
        )
        self._socket: asyncio.Transport = cast("asyncio.Transport", None)
        self._closing = False
        """Nothing more is sent; what arrives is thrown away."""
        self._is_established = False
        self.established: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Raises OSError (ssl.SSLError is one) where there was no handshake."""

    # What the socket's transport calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin the handshake (asyncio.Protocol)."""
        self._socket = cast("asyncio.Transport", transport)
        self._shake_hands()

    def data_received(self, data: bytes) -> None:
        """Decrypt, and hand on all that is whole (asyncio.Protocol)."""
        if self._closing:
            return
        self._incoming.write(data)
        if self._is_established or self._shake_hands():
            self._read()

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 asyncio's signature
        """Where to read to (asyncio.BufferedProtocol, which uvloop takes this for)."""
        return BUFFER

    def buffer_updated(self, count: int) -> None:
        """Decrypt what was read (asyncio.BufferedProtocol)."""
        if self._closing:
            return
        self._incoming.write(BUFFER[:count])
        if self._is_established or self._shake_hands():
            self._read()
            if count == READ_BYTES:
                self._leg.let_others()

    def eof_received(self) -> bool:
        """Note the end of the stream. Without a close_notify too: PostgreSQL and libpq often send none."""
        self._fail(ConnectionAbortedError("the connection was closed during the TLS handshake"))
        if self._is_established:
            self._leg.eof_received()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell whoever waits (asyncio.Protocol)."""
        self._closing = True
        self._fail(exc if isinstance(exc, OSError) else ConnectionResetError("the connection was lost"))
        if self._is_established:
            self._leg.connection_lost(exc)

    def pause_writing(self) -> None:
        """Pass it on (asyncio.Protocol)."""
        if self._is_established:
            self._leg.pause_writing()

    def resume_writing(self) -> None:
        """Pass it on (asyncio.Protocol)."""
        if self._is_established:
            self._leg.resume_writing()

    # What the leg calls.

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Encrypt and send (asyncio.Transport)."""
        if self._closing or not data:
            return
        try:
            sent = self._tls.write(data)
            while sent < len(data):
                sent += self._tls.write(memoryview(data)[sent:])
        except ssl.SSLError:
            self.abort()
            return
        self._socket.write(self._outgoing.read())

    def can_write_eof(self) -> bool:
        """A close_notify ends this direction alone (RFC 8446, 6.1)."""
        return True

    def write_eof(self) -> None:
        """Say that nothing more comes: close_notify, then the socket's own end of stream."""
        if not self._closing:
            self._say_goodbye()
            if self._socket.can_write_eof() and not self._socket.is_closing():
                self._socket.write_eof()

    def close(self) -> None:
        """Send what is buffered, say goodbye and close. Never waits for the peer's goodbye."""
        if not self._closing:
            self._say_goodbye()
        self._socket.close()

    def abort(self) -> None:
        """Close at once."""
        self._closing = True
        self._socket.abort()

    def is_closing(self) -> bool:
        """Whether what is written now would be thrown away (asyncio.Transport)."""
        return self._closing or self._socket.is_closing()

    def pause_reading(self) -> None:
        """Pass it on (asyncio.Transport)."""
        self._socket.pause_reading()

    def resume_reading(self) -> None:
        """Pass it on (asyncio.Transport)."""
        self._socket.resume_reading()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Pass it on (asyncio.Transport)."""
        self._socket.set_write_buffer_limits(high=high, low=low)

    def get_write_buffer_size(self) -> int:
        """Pass it on (asyncio.Transport)."""
        return self._socket.get_write_buffer_size()

    def get_extra_info(self, name: str, default: Any = None) -> Any:  # noqa: ANN401 asyncio's signature
        """As asyncio's own: the SSLObject as `ssl_object`, everything else is the socket's."""
        return self._tls if name == "ssl_object" else self._socket.get_extra_info(name, default)

    # TLS.

    def _shake_hands(self) -> bool:
        """Go on with the handshake; whether it is done."""
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            self._flush()
            return False
        except ssl.SSLError as error:
            self._flush()  # The alert, which says why.
            self._fail(error)
            self._closing = True
            self._socket.close()
            return False
        self._flush()
        self._is_established = True
        self._leg.connection_made(cast("asyncio.Transport", self))
        if not self.established.done():
            self.established.set_result(None)
        return True

    def _read(self) -> None:
        """Hand on what has arrived. An SSLObject is asked again only while something is left to be decrypted."""
        parts: list[bytes] = []
        ended = False
        try:
            while True:
                part = self._tls.read(RECORD_BYTES)
                if not part:
                    ended = True
                    break
                parts.append(part)
                if not self._incoming.pending and not self._tls.pending():
                    break
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            ended = True
        except ssl.SSLError:
            self._hand_on(parts)
            self._flush()
            self.abort()
            return
        if self._outgoing.pending:
            self._flush()  # The answer to a key update.
        self._hand_on(parts)
        if ended and not self._closing:
            self._leg.eof_received()
            self.close()

    def _hand_on(self, parts: list[bytes]) -> None:
        if parts:
            self._leg.data_received(parts[0] if len(parts) == 1 else b"".join(parts))

    def _flush(self) -> None:
        if self._outgoing.pending and not self._socket.is_closing():
            self._socket.write(self._outgoing.read())

    def _say_goodbye(self) -> None:
        self._closing = True
        if self._is_established:
            with contextlib.suppress(ssl.SSLError):  # It wants the peer's own goodbye, for which nobody waits.
                self._tls.unwrap()
            self._flush()

    def _fail(self, error: OSError) -> None:
        if not self.established.done():
            self.established.set_exception(error)


async def encrypt(
    leg: Leg, connected: socket.socket, context: ssl.SSLContext, *, server_hostname: str | None = None
) -> None:
    """Give `leg` a TLS transport over `connected`: as a client of `server_hostname`, without it as the server.

    Raises OSError where the handshake fails. The socket is closed then, and when this is cancelled.
    """
    made = TlsTransport(leg, context, server_hostname=server_hostname)
    protocol = cast("asyncio.Protocol", made)
    await asyncio.get_running_loop().connect_accepted_socket(lambda: protocol, connected)
    try:
        await made.established
    except BaseException:
        made.abort()
        raise
