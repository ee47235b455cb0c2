# The framers' layout, for whoever asks in C where they stand (see `proxy._shortcut`).

from libc.stdint cimport uint8_t, uint32_t

from asyncpg.pgproto.pgproto cimport ReadBuffer


cdef class FrontendFramer:
    cdef:
        readonly object error
        readonly Py_ssize_t pending
        readonly long long copy_bytes
        uint32_t _limit
        Py_ssize_t _need        # size of the message in _held; 0 where its header is not whole
        uint32_t _copy_left     # bytes of a CopyData still to come
        bytes _header           # 1 to 4 bytes of a header, or empty
        ReadBuffer _held
        bytearray _crumbs
        long long _told         # of copy_bytes
        bytearray _piece        # contents of CopyData, not yet handed up; None where nobody wants them

    cdef bint _is_between(self) noexcept
    cdef _complete(self, bytes data)
    cdef Py_ssize_t _scan(self, bytes data, Py_ssize_t end, list messages) except -1
    cdef inline Py_ssize_t _pass_copy(self, const uint8_t *p, Py_ssize_t available) except -1
    cdef _tell_copied(self, list messages)
    cdef inline uint32_t _cap(self, uint8_t kind) noexcept
    cdef _keep(self, bytes rest)
    cdef _hold(self, bytes chunk)
    cdef _flush_crumbs(self)
    cdef _die(self, uint8_t type_byte, uint8_t kind, uint32_t length)


cdef class BackendFramer:
    cdef:
        readonly object error
        readonly long long position
        readonly long long boundary
        readonly long long copy_bytes
        uint8_t _header[5]
        Py_ssize_t _header_size
        Py_ssize_t _left        # bytes of the current body still to come
        uint8_t _type
        uint8_t _kind
        bytearray _body         # the start of a wanted body that is not yet whole
        Py_ssize_t _unseen      # messages 2 3 n T since the last one handed up
        long long _told         # as in FrontendFramer, both
        bytearray _piece

    cdef bint _is_between(self) noexcept
    cdef void _pass_round(self, Py_ssize_t size) noexcept
    cdef Py_ssize_t _scan(self, const uint8_t *p, Py_ssize_t at, Py_ssize_t size, long long base, list messages) except -1
    cdef bint _open(self, const uint8_t *header) except -1
    cdef Py_ssize_t _body_part(self, const uint8_t *p, Py_ssize_t available) except -1
    cdef _finish(self, long long end, list messages)
    cdef _tell_copied(self, long long end, list messages)
    cdef _tell_unseen(self, uint8_t type_byte, long long end, list messages)
