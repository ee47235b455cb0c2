# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""The framers in Cython (see `proxy.wire.framing` for what they promise; `_framing_py.py` is their Python twin).

Owns the header scan of both directions. `asyncpg.pgproto`'s ReadBuffer keeps the chunks of a message that is not yet
whole and joins them once; it would trust any length word, so no header reaches it unchecked. Never raises on input,
never looks into a body.
"""

from cpython.bytearray cimport PyByteArray_AS_STRING, PyByteArray_GET_SIZE, PyByteArray_Resize
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport uint8_t, uint32_t
from libc.string cimport memcpy

from asyncpg.pgproto.pgproto cimport ReadBuffer

cdef enum:
    HEADER = 5            # the type byte and the length word, which counts itself
    SMALL_LIMIT = 10000   # PQ_SMALL_MESSAGE_LIMIT and PQ_LARGE_MESSAGE_LIMIT of PostgreSQL's libpq.h
    LARGE_LIMIT = 0x3FFFFFFF
    BACKEND_LIMIT = 0x40000010  # 1 GiB + 16: more than any server of today can build
    KEEP_LIMIT = 262144  # a ParameterDescription of 65,535 types is 2 bytes shorter
    COPY_DATA = 100       # d
    CRUMB = 4096          # chunks below this are gathered, so that one-byte segments do not cost an object each
    LOAF = 65536

KEEP = KEEP_LIMIT

cdef enum Kind:
    UNKNOWN = 0
    SMALL
    LARGE
    COPY
    WANTED
    UNSEEN

cdef uint8_t FRONTEND[256]
cdef uint8_t BACKEND[256]


cdef void classify(uint8_t *table, bytes types, Kind kind):
    cdef Py_ssize_t i
    for i in range(PyBytes_GET_SIZE(types)):
        table[<uint8_t>PyBytes_AS_STRING(types)[i]] = kind


classify(FRONTEND, b"CDEHSXcf", SMALL)
classify(FRONTEND, b"QPBF", LARGE)
classify(FRONTEND, b"d", COPY)
classify(BACKEND, b"CZEIs1GHWStKVv", WANTED)
classify(BACKEND, b"d", COPY)
classify(BACKEND, b"23nT", UNSEEN)


cdef inline uint32_t length_at(const uint8_t *at) noexcept nogil:
    return (<uint32_t>at[0] << 24) | (<uint32_t>at[1] << 16) | (<uint32_t>at[2] << 8) | at[3]


cdef inline bytes cut(const uint8_t *source, Py_ssize_t start, Py_ssize_t end):
    return PyBytes_FromStringAndSize(<const char *>source + start, end - start)


cdef inline bint gather(bytearray piece, const uint8_t *source, Py_ssize_t size) except -1:
    cdef Py_ssize_t used = PyByteArray_GET_SIZE(piece)
    PyByteArray_Resize(piece, used + size)
    memcpy(PyByteArray_AS_STRING(piece) + used, source, size)
    return True


cdef inline bytes taken_out(bytearray piece):
    cdef bytes contents = PyBytes_FromStringAndSize(PyByteArray_AS_STRING(piece), PyByteArray_GET_SIZE(piece))
    PyByteArray_Resize(piece, 0)
    return contents


cdef class FrontendFramer:
    """Client to upstream: only whole messages go on, but CopyData, which streams."""

    def __init__(self, Py_ssize_t limit, data=False):
        self.error = None
        self.pending = 0
        self.copy_bytes = self._told = 0
        self._piece = bytearray() if data else None
        self._limit = <uint32_t>max(4, min(limit, LARGE_LIMIT))
        self._need = 0
        self._copy_left = 0
        self._header = b""
        self._held = None
        self._crumbs = None

    def feed(self, bytes data not None):
        """Take the next bytes: the complete messages, and what may go upstream now."""
        cdef Py_ssize_t start, end
        cdef list messages = []
        if self.error is not None:
            return messages, b""
        if self._need:
            if self.pending + PyBytes_GET_SIZE(data) < self._need:
                self._hold(data)
                return messages, b""
            return self._complete(data)
        if self._header:
            data = self._header + data
            self._header = b""
            self.pending = 0
        start = self._pass_copy(<const uint8_t *>PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))
        end = self._scan(data, start, messages)
        if end == PyBytes_GET_SIZE(data):
            return messages, data
        if self.error is None:
            self._keep(cut(<const uint8_t *>PyBytes_AS_STRING(data), end, PyBytes_GET_SIZE(data)))
        return messages, cut(<const uint8_t *>PyBytes_AS_STRING(data), 0, end)

    @property
    def copy_left(self):
        """How many bytes of a CopyData are still to come."""
        return self._copy_left

    cdef bint _is_between(self) noexcept:
        # Whether the next byte begins a message, and all CopyData before it is told of.
        return self.error is None and self.pending == 0 and self._copy_left == 0 and self._told == self.copy_bytes

    cdef _complete(self, bytes data):
        # The held message ends in `data`: read it, and whatever whole messages follow it, in one copy.
        cdef:
            list messages = []
            list first = []
            Py_ssize_t before = self.pending
            Py_ssize_t need = self._need
            Py_ssize_t end
            bytes forward
            ReadBuffer held
        self._hold(data)
        self._flush_crumbs()
        held, self._held = self._held, None
        self.pending = self._need = 0
        if self._told != self.copy_bytes:
            self._tell_copied(first)
        end = self._scan(data, need - before, messages)
        if end != PyBytes_GET_SIZE(data) and self.error is None:
            self._keep(cut(<const uint8_t *>PyBytes_AS_STRING(data), end, PyBytes_GET_SIZE(data)))
        forward = held.read_bytes(before + end)
        held = None
        first.append((
            <uint8_t>PyBytes_AS_STRING(forward)[0],
            cut(<const uint8_t *>PyBytes_AS_STRING(forward), HEADER, need),
        ))
        return first + messages, forward

    cdef Py_ssize_t _scan(self, bytes data, Py_ssize_t end, list messages) except -1:
        # From `end`, where a header starts: where the last whole message, or the CopyData so far, ends.
        cdef:
            const uint8_t *p = <const uint8_t *>PyBytes_AS_STRING(data)
            Py_ssize_t size = PyBytes_GET_SIZE(data)
            uint32_t length
            uint8_t kind
        while size - end >= HEADER:
            length = length_at(p + end + 1)
            kind = FRONTEND[p[end]]
            if length < 4 or length > self._cap(kind):
                self._die(p[end], kind, length)
                break
            if kind == COPY:
                self._copy_left = length - 4
                end += HEADER
                end += self._pass_copy(p + end, size - end)
                continue
            if length >= size - end:
                self._need = <Py_ssize_t>length + 1
                break
            if self._told != self.copy_bytes:
                self._tell_copied(messages)
            messages.append((p[end], cut(p, end + HEADER, end + 1 + length)))
            end += 1 + <Py_ssize_t>length
        if self._piece is not None and self._told != self.copy_bytes:
            self._tell_copied(messages)
        return end

    cdef inline Py_ssize_t _pass_copy(self, const uint8_t *p, Py_ssize_t available) except -1:
        cdef Py_ssize_t taken = min(<Py_ssize_t>self._copy_left, available)
        self._copy_left -= <uint32_t>taken
        self.copy_bytes += taken
        if self._piece is not None:
            gather(self._piece, p, taken)
        return taken

    cdef _tell_copied(self, list messages):
        self._told = self.copy_bytes
        if self._piece is None:
            messages.append((COPY_DATA, int(self._told).to_bytes(8, "big")))
        else:
            messages.append((COPY_DATA, taken_out(self._piece)))

    cdef inline uint32_t _cap(self, uint8_t kind) noexcept:
        if kind == LARGE:
            return self._limit
        if kind == SMALL:
            return SMALL_LIMIT
        if kind == COPY:
            return LARGE_LIMIT
        return 0

    cdef _keep(self, bytes rest):
        # `rest` starts with a header that is not whole, or that was checked and whose message is not.
        if self._need:
            self._held = ReadBuffer()
            self._hold(rest)
        elif FRONTEND[<uint8_t>PyBytes_AS_STRING(rest)[0]] == UNKNOWN:
            self._die(<uint8_t>PyBytes_AS_STRING(rest)[0], UNKNOWN, 0)  # as PostgreSQL: it does not wait for the length
        else:
            self._header = rest
            self.pending = PyBytes_GET_SIZE(rest)

    cdef _hold(self, bytes chunk):
        self.pending += PyBytes_GET_SIZE(chunk)
        if self._crumbs is None:
            if PyBytes_GET_SIZE(chunk) >= CRUMB:
                self._held.feed_data(chunk)
                return
            self._crumbs = bytearray()
        self._crumbs += chunk
        if len(self._crumbs) >= LOAF:
            self._flush_crumbs()

    cdef _flush_crumbs(self):
        if self._crumbs is not None:
            self._held.feed_data(bytes(self._crumbs))
            self._crumbs = None

    cdef _die(self, uint8_t type_byte, uint8_t kind, uint32_t length):
        if kind == UNKNOWN:
            self.error = f"invalid frontend message type {type_byte}"
        else:
            self.error = f"invalid length {length} of frontend message {chr(type_byte)}"


cdef class BackendFramer:
    """Upstream to client: a scan of headers that hands up the messages which matter and holds nothing back."""

    def __init__(self, data=False):
        self.error = None
        self._unseen = 0
        self.position = self.boundary = self.copy_bytes = self._told = 0
        self._piece = bytearray() if data else None
        self._header_size = 0
        self._left = 0
        self._type = 0
        self._kind = UNKNOWN
        self._body = None

    def feed(self, bytes data not None):
        """Take the next bytes: the wanted messages that end in them, each with its end's absolute offset."""
        cdef:
            list messages = []
            Py_ssize_t size = PyBytes_GET_SIZE(data)
            Py_ssize_t at = 0
            const uint8_t *p = <const uint8_t *>PyBytes_AS_STRING(data)
            long long base = self.position
        self.position += size
        if self.error is not None:
            return messages
        while at < size:
            if self._left:
                at += self._body_part(p + at, size - at)
                if self._left == 0:
                    self._finish(base + at, messages)
            elif self._header_size:
                self._header[self._header_size] = p[at]
                self._header_size += 1
                at += 1
                if self._header_size == HEADER:
                    self._header_size = 0
                    if not self._open(self._header):
                        break
                    if self._left == 0:
                        self._finish(base + at, messages)
            else:
                at = self._scan(p, at, size, base, messages)
                if self.error is not None:
                    break
        if self._piece is not None and self._told != self.copy_bytes:
            self._tell_copied(self.position, messages)
        return messages

    cdef bint _is_between(self) noexcept:
        # Whether the next byte begins a message, and all CopyData before it is told of.
        return self.error is None and self.boundary == self.position and self._told == self.copy_bytes

    cdef void _pass_round(self, Py_ssize_t size) noexcept:
        # So many bytes were read by somebody else: whole messages, the last one a ReadyForQuery.
        self.position += size
        self.boundary = self.position
        self._unseen = 0

    cdef Py_ssize_t _scan(
        self, const uint8_t *p, Py_ssize_t at, Py_ssize_t size, long long base, list messages
    ) except -1:
        # Whole messages, as fast as the headers can be read; at the first that is not whole, its state is set up.
        cdef uint32_t length
        cdef uint8_t kind
        cdef Py_ssize_t body
        while size - at >= HEADER:
            length = length_at(p + at + 1)
            if length < 4 or length > BACKEND_LIMIT or length >= size - at:
                break
            kind = BACKEND[p[at]]
            if kind == WANTED:
                body = min(<Py_ssize_t>length - 4, <Py_ssize_t>KEEP_LIMIT)
                if self._told != self.copy_bytes:
                    self._tell_copied(base + at + 1 + <Py_ssize_t>length, messages)
                if self._unseen:
                    self._tell_unseen(p[at], base + at + 1 + <Py_ssize_t>length, messages)
                messages.append((
                    p[at], cut(p, at + HEADER, at + HEADER + body), base + at + 1 + <Py_ssize_t>length
                ))
            elif kind == UNSEEN:
                self._unseen += 1
            elif kind == COPY:
                self.copy_bytes += length - 4
                if self._piece is not None:
                    gather(self._piece, p + at + HEADER, <Py_ssize_t>length - 4)
            at += 1 + <Py_ssize_t>length
        self.boundary = base + at
        while at < size and self._header_size < HEADER:
            self._header[self._header_size] = p[at]
            self._header_size += 1
            at += 1
        if self._header_size == HEADER:
            self._header_size = 0
            self._open(self._header)
        return at

    cdef bint _open(self, const uint8_t *header) except -1:
        # Start the message of `header`, or die of it.
        cdef uint32_t length = length_at(header + 1)
        if length < 4 or length > BACKEND_LIMIT:
            self.error = f"invalid length {length} of backend message type {header[0]}"
            return False
        self._type = header[0]
        self._kind = BACKEND[header[0]]
        self._left = <Py_ssize_t>length - 4
        self._body = bytearray() if self._kind == WANTED else None
        return True

    cdef Py_ssize_t _body_part(self, const uint8_t *p, Py_ssize_t available) except -1:
        cdef Py_ssize_t taken = min(self._left, available)
        cdef Py_ssize_t room
        self._left -= taken
        if self._kind == COPY:
            self.copy_bytes += taken
            if self._piece is not None:
                gather(self._piece, p, taken)
        elif self._kind == WANTED:
            room = KEEP_LIMIT - len(self._body)
            if room > 0:
                self._body += cut(p, 0, min(taken, room))
        return taken

    cdef _finish(self, long long end, list messages):
        self.boundary = end
        if self._kind == WANTED:
            if self._told != self.copy_bytes:
                self._tell_copied(end, messages)
            if self._unseen:
                self._tell_unseen(self._type, end, messages)
            messages.append((self._type, bytes(self._body), end))
            self._body = None
        elif self._kind == UNSEEN:
            self._unseen += 1

    cdef _tell_copied(self, long long end, list messages):
        self._told = self.copy_bytes
        if self._piece is None:
            messages.append((COPY_DATA, int(self._told).to_bytes(8, "big"), end))
        else:
            messages.append((COPY_DATA, taken_out(self._piece), end))

    cdef _tell_unseen(self, uint8_t type_byte, long long end, list messages):
        # Before an ErrorResponse; ParameterStatus comes at any time and answers nothing.
        if type_byte == 69:  # E
            messages.append((50, int(self._unseen).to_bytes(8, "big"), end))  # 2
        if type_byte != 83:  # S
            self._unseen = 0
