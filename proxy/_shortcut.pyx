# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""The shortcut: a plain statement, asked for in one chunk and answered in one, recorded without an object for each part.

Nearly all statements of a busy session are plain: a Query, or Bind, Describe, Execute and Sync of a named statement,
while nothing else is open; and the answer is rows, one CommandComplete and ReadyForQuery. Framers, tracker and recorder
make some eighty objects for one. This writes the same two lines and moves the same state straight from the bytes.

It decides nothing and knows nothing that they do not: whatever is not plain it declines before it has changed anything,
and what it has begun it hands to the tracker (`leave`) as soon as the answer is not plain, or anybody looks. So it can
be left out anywhere, and is where there is no compiler. Tests hold every line of it to theirs.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport uint8_t, uint32_t
from libc.string cimport memchr

from proxy._line cimport ROOM, Line, classify, is_plain, put, put_number, put_plain, put_text, written
from proxy.contract.chain cimport Chain
from proxy.journal cimport Journal
from proxy.recorder cimport Recorder
from proxy.wire._framing cimport BackendFramer, FrontendFramer
from proxy.wire.statements cimport Name, Prepared, PreparedStatements, Text, read_bind
from proxy.wire.tracker cimport Tracker

from time import monotonic_ns, time_ns

from proxy.contract.settings import Parameters

cdef enum:
    HEADER = 5
    MOST_BYTES = 8192     # of a chunk: beyond it nobody would notice the difference
    NAME_BYTES = 63       # PostgreSQL's NAMEDATALEN, see `proxy.wire.statements`
    COUNT_DIGITS = 18     # that fit 64 bits, as in `proxy.wire.messages`
    TAG_BYTES = 64        # COMPLETION_TAG_BUFSIZE
    TEXT = 0              # format codes
    BINARY = 1

cdef Line LINE
"""The line that is being written. Nothing else runs until it is whole."""
classify(&LINE)


cdef inline uint32_t uint32_at(const uint8_t *at) noexcept:
    return (<uint32_t>at[0] << 24) | (<uint32_t>at[1] << 16) | (<uint32_t>at[2] << 8) | at[3]


cdef inline uint32_t uint16_at(const uint8_t *at) noexcept:
    return (<uint32_t>at[0] << 8) | at[1]


cdef class Shortcut:
    """One session's."""

    cdef:
        Tracker _tracker
        Chain _chain
        Journal _journal
        FrontendFramer _frontend
        BackendFramer _backend
        bint _shows_values
        bytes _asked            # the plain statement that is not answered yet, as it came
        bytes _portal           # one that was, and whose portal is open while its transaction is
        long long _started
        Py_ssize_t _asked_bytes  # of what makes the statement
        Py_ssize_t _tag, _tag_end
        uint8_t _state

    def __init__(
        self,
        Tracker tracker not None,
        Recorder recorder not None,
        FrontendFramer frontend not None,
        BackendFramer backend not None,
    ):
        self._tracker = tracker
        self._chain = recorder._chain
        self._journal = recorder._journal
        self._frontend = frontend
        self._backend = backend
        self._shows_values = tracker._policy is Parameters.FULL

    cpdef bint asks(self, bytes data) except -1:
        """Whether `data` from the client is a plain statement: its start is written then. Raises JournalError."""
        cdef const uint8_t *p = <const uint8_t *>PyBytes_AS_STRING(data)
        cdef Py_ssize_t size = PyBytes_GET_SIZE(data)
        cdef bint plain = False
        cdef bytes line
        if self._asked is None and HEADER < size <= MOST_BYTES and self._nothing_is_open():
            self._begin(b"start")
            if p[0] == c"Q":
                plain = self._query(p, size)
            elif p[0] == c"B":
                plain = self._execute(p, size)
        if not plain:
            self.leave()
            return False
        line = self._seal()
        self._asked = data
        self._started = monotonic_ns()
        self._journal.append(line)
        return True

    cpdef bint answers(self, bytes data) except -1:
        """Whether `data` from PostgreSQL is the plain answer to a plain statement: then `end` must follow."""
        if self._asked is not None:
            if self._backend._is_between() and self._is_plain_answer(data):
                return True
        self.leave()
        return False

    cpdef end(self, bytes data):
        """Take the answer, `data`: its end is recorded. Raises JournalError."""
        cdef Tracker tracker = self._tracker
        cdef PreparedStatements prepared = tracker._prepared
        cdef bytes asked = self._asked
        cdef Py_ssize_t answer = PyBytes_GET_SIZE(data)
        cdef bint is_query = PyBytes_AS_STRING(asked)[0] == c"Q"
        cdef long long size = self._backend.position - tracker._bytes_out
        size += answer if is_query else self._tag_end
        self._backend._pass_round(answer)
        self._asked = None
        tracker.statements += 1
        tracker.transaction += is_idle(tracker.state)
        tracker._position = tracker._bytes_out = self._backend.position
        tracker.failed = False
        tracker.state = chr(self._state)
        if self._state == c"I":
            self._portal = None
            if prepared._portals or prepared._unnamed.meaning is not None:
                prepared.idle()
        elif not is_query:
            self._portal = asked
        self._put_end(<const uint8_t *>PyBytes_AS_STRING(data), size)
        self._journal.append_lazily(self._seal())
        self._chain.settle()

    cpdef leave(self):
        """Let the tracker know all that it has not seen."""
        cdef Tracker tracker = self._tracker
        cdef bytes asked = self._asked
        if self._portal is not None:
            bound = self._portal
            self._portal = None
            bind = messages_of(bound)[0][1]
            portal = read_bind(bind, tracker._prepared, tracker._policy)
            portal.begun = True
            tracker._prepared.settle(tracker._prepared.bind(portal))
        if asked is not None:
            self._asked = None
            tracker.requests(messages_of(asked), self._started)  # Their records are written.

    cdef bint _nothing_is_open(self):
        cdef Tracker tracker = self._tracker
        return (
            not tracker._steps
            and not tracker._finished
            and tracker._spare == 0
            and not tracker._skipping
            and not tracker._in_round
            and not tracker.lost
            and not tracker.terminated
            and self._frontend._is_between()
            and self._backend._is_between()
        )

    # The two lines.

    cdef _begin(self, bytes which):
        # What stands in front of a record's own fields, as `Chain.seal_fields` has it.
        cdef Chain chain = self._chain
        chain.settle()
        LINE.used = 0
        put(&LINE, b'{"type":"statement.')
        put(&LINE, which)
        put_text(&LINE, chain._versioned)
        put_number(&LINE, chain.next_seq)
        put(&LINE, b',"at":')
        put_number(&LINE, time_ns())
        put(&LINE, b',"prev":"')
        put_text(&LINE, chain._head)
        put(&LINE, b'"')

    cdef bytes _seal(self):
        cdef bytes line = written(&LINE)
        self._chain.follow(self._chain.next_seq, line)
        return line

    cdef bint _query(self, const uint8_t *p, Py_ssize_t size) except -1:
        cdef uint32_t length = uint32_at(p + 1)
        if length + 1 != size or length < 5 or length > self._frontend._limit or p[size - 1] != 0:
            return False
        self._asked_bytes = size
        self._put_statement()
        put(&LINE, b',"kind":"query","sql":"')
        if not put_plain(&LINE, p + HEADER, size - HEADER - 1, True):
            return False
        put(&LINE, b'"')
        return self._put_transaction()

    cdef bint _execute(self, const uint8_t *p, Py_ssize_t size) except -1:
        # Bind to the unnamed portal, Describe of it or not, Execute, Sync; nothing else.
        cdef uint32_t length = uint32_at(p + 1)
        cdef Py_ssize_t end, at, values
        cdef Prepared prepared
        if length < 4 or length >= size or length > self._frontend._limit:
            return False
        end = at = 1 + <Py_ssize_t>length
        if is_message(p, at, size, c"D", 6) and p[at + 5] == c"P" and p[at + 6] == 0:
            at += 7
        if not is_message(p, at, size, c"E", 9) or p[at + 5] != 0:
            return False
        at += 10
        if not is_message(p, at, size, c"S", 4) or at + 5 != size:
            return False
        prepared = self._prepared(p, end, &values)
        if prepared is None or prepared.text.bound:
            return False
        self._asked_bytes = end + 10
        self._put_statement()
        put(&LINE, b',"kind":"execute"')
        put_text(&LINE, prepared.text.fields)
        if not self._put_values(p, values, end, prepared.types):
            return False
        put_text(&LINE, prepared.named)
        if not self._put_transaction():
            return False
        prepared.text.recorded = True
        return True

    cdef Prepared _prepared(self, const uint8_t *p, Py_ssize_t end, Py_ssize_t *values):
        # What the Bind at `p` binds to the unnamed portal, where that is known; its `values` are behind the two names.
        cdef const uint8_t *name = p + HEADER + 1
        cdef const uint8_t *stop
        cdef Name known
        if end <= HEADER + 2 or p[HEADER] != 0:
            return None
        stop = <const uint8_t *>memchr(name, 0, min(end - HEADER - 1, NAME_BYTES + 1))
        if stop is NULL:
            return None
        values[0] = stop - p + 1
        known = self._tracker._prepared._statements.get(PyBytes_FromStringAndSize(<const char *>name, stop - name))
        if known is None or known.asked or type(known.meaning) is not Prepared:
            return None
        return known.meaning

    cdef bint _put_statement(self) except -1:
        put(&LINE, b',"statement":')
        put_number(&LINE, self._tracker.statements + 1)
        return True

    cdef bint _put_transaction(self) except -1:
        # What ends a start; whether the whole line had room.
        cdef Tracker tracker = self._tracker
        put(&LINE, b',"state":"')
        put_text(&LINE, tracker.state)
        put(&LINE, b'","transaction":')
        put_number(&LINE, tracker.transaction + is_idle(tracker.state))
        put(&LINE, b'}')
        return LINE.used <= ROOM

    cdef bint _put_values(self, const uint8_t *p, Py_ssize_t at, Py_ssize_t end, tuple types) except -1:
        # The values of the Bind that ends at `end`, from the count of their formats on.
        cdef Py_ssize_t index, formats_at, format_count, count
        cdef uint32_t size, oid
        cdef int form
        if end - at < 2:
            return False
        format_count = uint16_at(p + at)
        formats_at = at + 2
        at = formats_at + 2 * format_count
        if end - at < 2:
            return False
        count = uint16_at(p + at)
        at += 2
        if count == 0:
            return True
        if not self._shows_values or (format_count > 1 and format_count != count):
            return False
        put(&LINE, b',"parameters":[')
        for index in range(count):
            if end - at < 4:
                return False
            size = uint32_at(p + at)
            at += 4
            form = TEXT if format_count == 0 else uint16_at(p + formats_at + (2 * index if format_count > 1 else 0))
            oid = types[index] if index < len(types) else 0
            put(&LINE, b'{"type":' if index == 0 else b',{"type":')
            put_number(&LINE, oid)
            if size == 0xFFFFFFFF:  # NULL
                put(&LINE, b'}')
                continue
            if size > <uint32_t>(end - at):
                return False
            if not self._put_value(p + at, size, form, oid):
                return False
            at += size
        put(&LINE, b']')
        return True

    cdef bint _put_value(self, const uint8_t *p, uint32_t size, int form, uint32_t oid) except -1:
        # As `proxy.wire.values.decode`, of the types that are mostly bound.
        if form == TEXT or form == BINARY and oid in (25, 1042, 1043):
            put(&LINE, b',"value":"')
            if not put_plain(&LINE, p, size, False):
                return False
            put(&LINE, b'"}')
            return True
        if form != BINARY:
            return False
        put(&LINE, b',"value":')
        if oid == 23 and size == 4:
            put_number(&LINE, <int>uint32_at(p))
        elif oid == 20 and size == 8:
            put_number(&LINE, <long long>((<unsigned long long>uint32_at(p) << 32) | uint32_at(p + 4)))
        elif oid == 21 and size == 2:
            put_number(&LINE, <short>uint16_at(p))
        else:
            return False
        put(&LINE, b'}')
        return True

    cdef bint _is_plain_answer(self, bytes data) except -1:
        # Rows, one CommandComplete, ReadyForQuery; all of it, and nothing else.
        cdef const uint8_t *p = <const uint8_t *>PyBytes_AS_STRING(data)
        cdef Py_ssize_t size = PyBytes_GET_SIZE(data)
        cdef Py_ssize_t at = 0
        cdef uint32_t length
        self._tag_end = 0
        while size - at >= HEADER:
            length = uint32_at(p + at + 1)
            if length < 4 or length >= size - at:
                return False
            if p[at] == c"Z":
                self._state = p[at + HEADER]
                return self._tag_end != 0 and length == 5 and at + 6 == size and self._state in b"ITE"
            if self._tag_end:
                return False
            if p[at] == c"C":
                self._tag, self._tag_end = at + HEADER, at + 1 + <Py_ssize_t>length
                if not 5 < length <= TAG_BYTES or not is_plain(&LINE, p + self._tag, length - 5):
                    return False
            elif p[at] not in b"DT2n":
                return False
            at += 1 + <Py_ssize_t>length
        return False

    cdef bint _put_end(self, const uint8_t *p, long long bytes_out) except -1:
        # The end of the statement that the answer at `p` is of; it always has room.
        cdef long long rows = self._rows(p)
        self._begin(b"end")
        put(&LINE, b',"statement":')
        put_number(&LINE, self._tracker.statements)
        put(&LINE, b',"tags":["')
        put_plain(&LINE, p + self._tag, self._tag_end - 1 - self._tag, False)
        put(&LINE, b'"]')
        if rows:
            put(&LINE, b',"rows":')
            put_number(&LINE, rows)
        put(&LINE, b',"duration":')
        put_number(&LINE, monotonic_ns() - self._started)
        put(&LINE, b',"bytes_in":')
        put_number(&LINE, self._asked_bytes)
        put(&LINE, b',"bytes_out":')
        put_number(&LINE, bytes_out)
        put(&LINE, b',"state":"')
        put_text(&LINE, self._tracker.state)
        put(&LINE, b'"}')
        return True

    cdef long long _rows(self, const uint8_t *p) noexcept:
        # As `proxy.wire.messages.parse_tag`: the last word, where it is a number.
        cdef Py_ssize_t at = self._tag_end - 2
        cdef long long rows = 0, unit = 1
        while at >= self._tag and p[at] != c" ":
            if not c"0" <= p[at] <= c"9" or self._tag_end - 1 - at > COUNT_DIGITS:
                return 0
            rows += unit * (p[at] - c"0")
            unit *= 10
            at -= 1
        return rows


cdef inline bint is_message(const uint8_t *p, Py_ssize_t at, Py_ssize_t size, uint8_t kind, uint32_t length) noexcept:
    return size - at > <Py_ssize_t>length and p[at] == kind and uint32_at(p + at + 1) == length


cdef inline bint is_idle(str state) noexcept:
    return state == "I"


cdef list messages_of(bytes chunk):
    # As FrontendFramer.feed gives them.
    cdef const uint8_t *p = <const uint8_t *>PyBytes_AS_STRING(chunk)
    cdef Py_ssize_t at = 0, length
    cdef list messages = []
    while at < PyBytes_GET_SIZE(chunk):
        length = uint32_at(p + at + 1)
        messages.append((p[at], chunk[at + HEADER : at + 1 + length]))
        at += 1 + length
    return messages
