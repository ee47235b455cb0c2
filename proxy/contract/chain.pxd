# As proxy/wire/tracker.pxd, for chain.py.

cimport cython

cdef class Chain:
    cdef readonly str session
    cdef public long long next_seq
    cdef str _head, _versioned
    cdef bytes _unhashed

    cpdef settle(self)
    cpdef follow(self, long long seq, bytes line)
    cpdef bytes seal(self, object record, object at=*)
    @cython.locals(at=cython.longlong, text=str)
    cpdef bytes seal_fields(self, str kind, str fields)
