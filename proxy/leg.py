# cython: annotation_typing=False, binding=False
"""One socket of a session, towards the client or towards PostgreSQL: an asyncio protocol with two modes.

While a session starts, messages are read one by one with `read`; in the relay each chunk goes straight to a sink. Owns
the transport, the bytes not yet read, flow control (a leg whose peer cannot take more stops reading), and fairness:
what is more than a slice is handed on in slices, and behind a full read the others have their turn. One read brings
thousands of small messages, and a grant's end cannot wait for all of them. It knows message headers and nothing of what
messages mean.
"""

import asyncio
import socket
from collections.abc import Callable
from time import monotonic
from typing import cast

from proxy.errors import ClientGone, ProtocolViolation

HEADER_BYTES = 5
READ_AHEAD_BYTES = 65_536
LINGER_S = 2.0
SLICE_BYTES, FIRST_SLICE_BYTES, LEAST_SLICE_BYTES = 32_768, 8_192, 1_024
"""The most that is handed on at once, the first time, and the least: rows fly by, but the most may hold 2,300 small
statements, and 10 ms."""
TURN_S = 0.001
"""A leg hands on slices for so long at most, then it is the others' turn."""
READ_BYTES = 32_768
"""What is read at once. uvloop's own 250 kB, up to 32 times in a row, are more than a session's share of anything."""
FULL, CROWDED = 1, 2
"""Why nothing is handed on: the other leg cannot send, or the inbox is full; too much is open at PostgreSQL."""
BUFFER = memoryview(bytearray(READ_BYTES))
"""Where every leg's bytes arrive: they are taken out before anything else can run."""


class Leg:
    """One socket of a session: an asyncio.Protocol in all but its base, which a class in C cannot have."""

    __slots__ = (
        "_at",
        "_chunk",
        "_eof",
        "_has_turn",
        "_held",
        "_inbox",
        "_lost",
        "_on_end",
        "_on_fault",
        "_parting",
        "_reader",
        "_reading_paused",
        "_sink",
        "_slice",
        "_wanted",
        "blocked",
        "closed",
        "ended",
        "source",
        "transport",
    )

    def __init__(self, initial: bytes = b"") -> None:
        self._inbox = bytearray(initial)
        self._wanted = 0
        self._reader: asyncio.Future[None] | None = None
        self._sink: Callable[[bytes], None] | None = None
        self._on_end: Callable[[], None] | None = None
        self._on_fault: Callable[[Exception], None] = _nothing
        self._held = 0
        """Why nothing is handed on: these bits."""
        self._chunk = b""
        self._at = 0
        """How much of the chunk is handed on; from here on it waits for its turn, or for the other leg."""
        self._slice = FIRST_SLICE_BYTES
        """What is handed on at once: less where that takes long."""
        self._has_turn = False
        """`_hand_on_slices` is running, or will be."""
        self._reading_paused = False
        self._eof = self._lost = False
        self._parting = False
        """`close` was called: the end of the peer's stream is the connection's."""
        self.transport: asyncio.Transport = cast("asyncio.Transport", None)
        self.source: Leg | None = None
        """The leg that feeds this one: it is told to stop reading while this one cannot send."""
        self.blocked = False
        """What is to be sent does not go out."""
        self.ended = False
        """The peer will send nothing more (end of file, or the connection is lost)."""
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport (asyncio.Protocol)."""
        self.transport = cast("asyncio.Transport", transport)
        # As soon as the kernel takes no more, the other leg stops reading: what a session may hold is one chunk.
        self.transport.set_write_buffer_limits(high=1, low=0)

    def data_received(self, data: bytes) -> None:
        """Hand the chunk to the relay, or keep it for `read` (asyncio.Protocol)."""
        if self._sink is not None:
            if self._chunk:
                self._chunk, self._at = self._chunk[self._at :] + data, 0
            elif len(data) > self._slice:
                self._chunk, self._at = data, 0
                self._hand_on_slices()
            else:
                self._hand_on(data)
            return
        self._inbox += data
        if len(self._inbox) > self._wanted + READ_AHEAD_BYTES:
            self.pause()
        self._wake()

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 asyncio's signature
        """Where to read to (asyncio.BufferedProtocol, which uvloop takes this for)."""
        return BUFFER

    def buffer_updated(self, count: int) -> None:
        """Take what was read (asyncio.BufferedProtocol)."""
        self.data_received(bytes(BUFFER[:count]))
        if count == READ_BYTES:
            self.let_others()

    def let_others(self) -> None:
        """Where a whole buffer came there is more, which uvloop would read at once: it waits for the others' turn."""
        if not self._reading_paused and not self.transport.is_closing():
            self._reading_paused = True
            self.transport.pause_reading()
            asyncio.get_running_loop().call_soon(self._regulate)

    def eof_received(self) -> bool:
        """Note the end of the peer's stream; without TLS the other direction stays open (asyncio.Protocol)."""
        self._eof = True
        self._end()
        return not self.encrypted and not self._parting

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 asyncio's signature
        """Note that the connection is gone, whatever the cause (asyncio.Protocol)."""
        self._lost = True
        if self._held:
            self._chunk = b""  # Nobody may ever take it.
        self.resume_writing()
        self._end()

    def pause_writing(self) -> None:
        """Make the source stop reading (asyncio.Protocol)."""
        self.blocked = True
        if self.source is not None:
            self.source.pause()

    def resume_writing(self) -> None:
        """Let the source read again (asyncio.Protocol)."""
        self.blocked = False
        if self.source is not None:
            self.source.resume()

    # What a session calls.

    async def read(self, limit: int) -> tuple[int, bytes]:
        """The next message as (type, body). Raises ProtocolViolation for a bad length, ClientGone at the end."""
        await self._have(HEADER_BYTES)
        kind = self._inbox[0]
        length = int.from_bytes(self._inbox[1:5], signed=True)
        if not 4 <= length <= limit + 4:  # noqa: PLR2004 the length word counts itself
            raise ProtocolViolation(f"message {kind} of {length} bytes")
        await self._have(1 + length)
        return kind, self.take(1 + length)[HEADER_BYTES:]

    async def read_bytes(self, count: int) -> bytes:
        """The next `count` bytes. Raises ClientGone at the end of the stream."""
        await self._have(count)
        return self.take(count)

    def take(self, count: int | None = None) -> bytes:
        """Take what has arrived (up to `count` bytes) without waiting."""
        taken = bytes(self._inbox[:count])
        del self._inbox[: len(taken)]
        return taken

    def write(self, data: bytes) -> None:
        """Send, or buffer to send: `pause_writing` bounds the buffer by way of the source."""
        if not self.transport.is_closing():
            self.transport.write(data)

    def relay_to(
        self, sink: Callable[[bytes], None], on_end: Callable[[], None], on_fault: Callable[[Exception], None]
    ) -> None:
        """From here on every chunk goes to `sink`, first what has arrived; `on_end` is called once at the end.

        What `sink` raises goes to `on_fault`.
        """
        self._sink, self._on_end, self._on_fault = sink, on_end, on_fault
        self.resume()
        if self._inbox:
            self.data_received(self.take())
        if self.ended:
            self.ended = False  # It is told once more, behind what has arrived.
            self._end()

    def discard(self) -> None:
        """From here on whatever arrives is read and thrown away."""
        self._sink, self._on_end = _nothing, None
        self._inbox.clear()
        self._chunk = b""
        self.resume(FULL | CROWDED)
        self._end()

    def pause(self, why: int = FULL) -> None:
        """Hand nothing on, and stop reading from the socket."""
        self._held |= why
        self._regulate()

    def resume(self, why: int = FULL) -> None:
        """Where nothing else is in the way, hand on what is waiting, then read from the socket again."""
        self._held &= ~why
        if self._chunk and not self._held and not self._has_turn:
            self._has_turn = True
            asyncio.get_running_loop().call_soon(self._hand_on_slices)
        self._regulate()

    @property
    def connected(self) -> bool:
        """Whether it has a transport yet."""
        return cast("object", self.transport) is not None

    @property
    def encrypted(self) -> bool:
        """Whether this leg runs over TLS."""
        return self.transport.get_extra_info("ssl_object") is not None

    async def close(self, linger_s: float = LINGER_S) -> None:
        """Send what is buffered and close. What still arrives is read and thrown away for at most `linger_s`.

        Closing a socket with unread data resets the connection, and the peer then loses what it was told last
        (PROTOCOL.md rows 80 and 3.7).
        """
        self._parting = True
        self.discard()
        try:
            async with asyncio.timeout(linger_s):
                if self.transport.can_write_eof() and not self.ended and not self.transport.is_closing():
                    self.transport.write_eof()
                else:
                    self.transport.close()
                await asyncio.shield(self.closed)
        except OSError:  # TimeoutError is one; uvloop's write_eof raises where the peer has reset the connection.
            pass
        finally:
            self.transport.abort()

    # The inbox.

    async def _have(self, count: int) -> None:
        while len(self._inbox) < count:
            if self.ended:
                raise ClientGone
            self._wanted = count
            self.resume()
            self._reader = asyncio.get_running_loop().create_future()
            try:
                await self._reader
            finally:
                self._reader = None

    def _wake(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    # The relay.

    def _hand_on(self, data: bytes) -> None:
        if self._sink is None:
            return
        try:
            self._sink(data)
        except Exception as error:  # noqa: BLE001 the session's edge: a fault of ours ends this session, in words
            self._on_fault(error)

    def _hand_on_slices(self) -> None:
        """Hand on what is waiting, for one turn of the event loop."""
        self._has_turn = True
        begun = monotonic()
        until = begun + TURN_S
        while self._chunk and not self._held:
            part = self._chunk[self._at : self._at + self._slice]
            self._at += len(part)
            if self._at >= len(self._chunk):
                self._chunk = b""
            self._hand_on(part)
            now = monotonic()
            self._fit_slice(now - begun)
            begun = now
            if now > until:
                break
        self._has_turn = bool(self._chunk) and not self._held
        if self._has_turn:
            asyncio.get_running_loop().call_soon(self._hand_on_slices)
        self._regulate()
        self._end()

    def _fit_slice(self, took_s: float) -> None:
        """Make the next slice last about as long as a turn may."""
        if took_s > TURN_S / 2:
            self._slice = max(self._slice // 2, LEAST_SLICE_BYTES)
        elif took_s < TURN_S / 8:
            self._slice = min(self._slice * 2, SLICE_BYTES)

    def _regulate(self) -> None:
        """Read from the socket where there is room for what comes."""
        paused = bool(self._held or self._chunk)
        if paused == self._reading_paused or self.transport.is_closing():
            return
        self._reading_paused = paused
        if paused:
            self.transport.pause_reading()
        else:
            self.transport.resume_reading()

    def _end(self) -> None:
        """Tell of the stream's end, once what came before it is handed on."""
        if self._chunk:
            return
        if self._lost and not self.closed.done():
            self.closed.set_result(None)
        if (self._lost or self._eof) and not self.ended:
            self.ended = True
            self._wake()
            if self._on_end is not None:
                self._on_end()


async def adopt(leg: Leg, connected: socket.socket) -> None:
    """Give `leg` a transport in clear over `connected` (TLS: `proxy.tls_transport.encrypt`). Raises OSError."""
    protocol = cast("asyncio.Protocol", leg)
    await asyncio.get_running_loop().connect_accepted_socket(lambda: protocol, connected)


def _nothing(_data: object) -> None:
    """Throw it away."""
