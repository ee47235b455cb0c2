# As proxy/wire/tracker.pxd, for leg.py. Public where its tests look inside.

cdef class Leg:
    cdef public object transport, source, closed
    cdef public bint ended, blocked
    cdef public bytearray _inbox
    cdef public bytes _chunk
    cdef object _reader, _sink, _on_end, _on_fault
    cdef Py_ssize_t _at, _wanted, _slice
    cdef long _held
    cdef bint _has_turn, _reading_paused, _eof, _lost, _parting

    cpdef data_received(self, bytes data)
    cpdef pause(self, long why=*)
    cpdef resume(self, long why=*)
    cdef _wake(self)
    cdef _hand_on(self, bytes data)
    cpdef let_others(self)
    cdef _fit_slice(self, double took_s)
    cpdef _regulate(self)
    cdef _end(self)
