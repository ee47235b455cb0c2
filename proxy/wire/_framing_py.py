"""The framers in plain Python: the twin of `_framing.pyx`, for where no C compiler was at hand (see `framing`).

Owns the same header scan with the same answers, byte for byte; tests run both side by side. Never raises on input,
never looks into a body.
"""

import struct

_header_at = struct.Struct("!BI").unpack_from
_HEADER = 5
"""The type byte and the length word, which counts itself."""
_SMALL_LIMIT = 10_000
_LARGE_LIMIT = 0x3FFF_FFFF
"""PQ_SMALL_MESSAGE_LIMIT and PQ_LARGE_MESSAGE_LIMIT of PostgreSQL's libpq.h."""
_BACKEND_LIMIT = 0x4000_0010
"""1 GiB + 16: more than any server of today can build."""
_LEAST = 4
_COPY_DATA = ord("d")
_WANTED = frozenset(b"CZEIs1GHWStKVv")
_UNSEEN = frozenset(b"23nT")
_BIND_COMPLETE, _ERROR, _PARAMETER_STATUS = b"2ES"

KEEP = 262_144
"""The most of a backend message's body that is handed up: a ParameterDescription of 65,535 types is 2 bytes shorter."""


class FrontendFramer:
    """Client to upstream: only whole messages go on, but CopyData, which streams."""

    __slots__ = ("_caps", "_copy_left", "_held", "_need", "_piece", "_told", "copy_bytes", "error")

    def __init__(self, limit: int, data: bool = False) -> None:  # noqa: FBT001, FBT002 the twin in C has it so
        self.error: str | None = None
        self.copy_bytes = 0
        self._told = 0  # of copy_bytes
        self._piece = bytearray() if data else None  # contents of CopyData, not yet handed up
        self._caps = dict.fromkeys(b"CDEHSXcf", _SMALL_LIMIT)
        self._caps |= dict.fromkeys(b"QPBF", max(_LEAST, min(limit, _LARGE_LIMIT)))
        self._caps[_COPY_DATA] = _LARGE_LIMIT  # it streams, so PostgreSQL's own limit costs no memory
        self._held = bytearray()
        self._need = 0  # size of the message in _held; 0 where its header is not whole
        self._copy_left = 0

    @property
    def pending(self) -> int:
        """How many bytes are held back."""
        return len(self._held)

    @property
    def copy_left(self) -> int:
        """How many bytes of a CopyData are still to come."""
        return self._copy_left

    def feed(self, data: bytes) -> tuple[list[tuple[int, bytes]], bytes]:
        """Take the next bytes: the complete messages, and what may go upstream now."""
        messages: list[tuple[int, bytes]] = []
        if self.error is not None:
            return messages, b""
        if self._held:
            self._held += data
            if len(self._held) < (self._need or _HEADER):
                return messages, b""
            data, self._held, self._need = bytes(self._held), bytearray(), 0
        end = self._scan(data, self._pass_copy(data, 0), messages)
        if end == len(data):
            return messages, data
        if self.error is None:
            self._keep(data, end)
        return messages, data[:end]

    def _scan(self, data: bytes, end: int, messages: list[tuple[int, bytes]]) -> int:
        # From `end`, where a header starts: where the last whole message, or the CopyData so far, ends.
        size = len(data)
        while size - end >= _HEADER:
            kind, length = _header_at(data, end)
            if not _LEAST <= length <= self._caps.get(kind, 0):
                self._die(kind, length)
                break
            if kind == _COPY_DATA:
                self._copy_left = length - 4
                end += _HEADER
                end += self._pass_copy(data, end)
                continue
            if length >= size - end:
                self._need = length + 1
                break
            self._tell_copied(messages)
            messages.append((kind, data[end + _HEADER : end + 1 + length]))
            end += 1 + length
        if self._piece is not None:
            self._tell_copied(messages)
        return end

    def _pass_copy(self, data: bytes, at: int) -> int:
        taken = min(self._copy_left, len(data) - at)
        self._copy_left -= taken
        self.copy_bytes += taken
        if self._piece is not None:
            self._piece += data[at : at + taken]
        return taken

    def _tell_copied(self, messages: list[tuple[int, bytes]]) -> None:
        if self._told != self.copy_bytes:
            self._told = self.copy_bytes
            messages.append((_COPY_DATA, _copied(self._told, self._piece)))

    def _keep(self, data: bytes, start: int) -> None:
        # From `start`: a header that is not whole, or one that was checked and whose message is not.
        if not self._need and data[start] not in self._caps:
            self._die(data[start], 0)  # as PostgreSQL: it does not wait for the length
        else:
            self._held += memoryview(data)[start:]

    def _die(self, kind: int, length: int) -> None:
        if kind in self._caps:
            self.error = f"invalid length {length} of frontend message {chr(kind)}"
        else:
            self.error = f"invalid frontend message type {kind}"


class BackendFramer:
    """Upstream to client: a scan of headers that hands up the messages which matter and holds nothing back."""

    __slots__ = (
        "_body",
        "_header",
        "_kind",
        "_left",
        "_piece",
        "_told",
        "_unseen",
        "boundary",
        "copy_bytes",
        "error",
        "position",
    )

    def __init__(self, data: bool = False) -> None:  # noqa: FBT001, FBT002 the twin in C has it so
        self.error: str | None = None
        self.position = 0
        self.boundary = 0
        self.copy_bytes = 0
        self._header = bytearray()
        self._left = 0  # bytes of the current body still to come
        self._kind = 0
        self._body = bytearray()  # the start of a wanted body that is not yet whole
        self._unseen = 0  # messages 2 3 n T since the last one handed up
        self._told = 0  # as in FrontendFramer, both
        self._piece = bytearray() if data else None

    def feed(self, data: bytes) -> list[tuple[int, bytes, int]]:
        """Take the next bytes: the wanted messages that end in them, each with its end's absolute offset."""
        messages: list[tuple[int, bytes, int]] = []
        base, at = self.position, 0
        self.position += len(data)
        while at < len(data) and self.error is None:
            if self._left:
                at = self._body_part(data, at)
            elif self._header:
                missing = _HEADER - len(self._header)
                self._header += data[at : at + missing]
                at = min(at + missing, len(data))
                if len(self._header) < _HEADER:
                    break
                self._open()
            else:
                at = self._scan(data, at, base, messages)
                continue
            if self._left == 0 and self.error is None:
                self._finish(base + at, messages)
        if self._piece is not None:
            self._tell_copied(self.position, messages)
        return messages

    def _scan(self, data: bytes, at: int, base: int, messages: list[tuple[int, bytes, int]]) -> int:
        # Whole messages; at the first that is not whole, its state is set up.
        size = len(data)
        while size - at >= _HEADER:
            kind, length = _header_at(data, at)
            if not _LEAST <= length <= _BACKEND_LIMIT or length >= size - at:
                break
            if kind in _WANTED:
                body = data[at + _HEADER : at + min(length + 1, _HEADER + KEEP)]
                self._hand_up(kind, body, base + at + 1 + length, messages)
            elif kind in _UNSEEN:
                self._unseen += 1
            elif kind == _COPY_DATA:
                self._pass_copy(data[at + _HEADER : at + 1 + length])
            at += 1 + length
        self.boundary = base + at
        self._header += data[at : at + _HEADER]
        if len(self._header) == _HEADER:
            self._open()
        return min(at + _HEADER, size)

    def _open(self) -> None:
        # Start the message of the header, or die of it.
        self._kind, length = _header_at(self._header)
        self._header.clear()
        if not _LEAST <= length <= _BACKEND_LIMIT:
            self.error = f"invalid length {length} of backend message type {self._kind}"
            return
        self._left = length - 4
        self._body.clear()

    def _body_part(self, data: bytes, at: int) -> int:
        taken = min(self._left, len(data) - at)
        self._left -= taken
        if self._kind == _COPY_DATA:
            self._pass_copy(data[at : at + taken])
        elif self._kind in _WANTED:
            self._body += data[at : at + min(taken, KEEP - len(self._body))]
        return at + taken

    def _finish(self, end: int, messages: list[tuple[int, bytes, int]]) -> None:
        self.boundary = end
        if self._kind in _WANTED:
            self._hand_up(self._kind, bytes(self._body), end, messages)
        elif self._kind in _UNSEEN:
            self._unseen += 1

    def _pass_copy(self, contents: bytes) -> None:
        self.copy_bytes += len(contents)
        if self._piece is not None:
            self._piece += contents

    def _tell_copied(self, end: int, messages: list[tuple[int, bytes, int]]) -> None:
        if self._told != self.copy_bytes:
            self._told = self.copy_bytes
            messages.append((_COPY_DATA, _copied(self._told, self._piece), end))

    def _hand_up(self, kind: int, body: bytes, end: int, messages: list[tuple[int, bytes, int]]) -> None:
        self._tell_copied(end, messages)
        if kind == _ERROR and self._unseen:
            messages.append((_BIND_COMPLETE, self._unseen.to_bytes(8), end))
        if kind != _PARAMETER_STATUS:  # It comes at any time, and answers nothing.
            self._unseen = 0
        messages.append((kind, body, end))


def _copied(count: int, piece: bytearray | None) -> bytes:
    """The body of a `d`: how much there was, or what."""
    if piece is None:
        return count.to_bytes(8)
    contents = bytes(piece)
    piece.clear()
    return contents
