# As proxy/wire/tracker.pxd, for chain.py.

cdef class Chain:
    cdef readonly str session
    cdef public long long next_seq
    cdef str _head
    cdef bytes _unhashed

    cpdef settle(self)
    cpdef bytes seal(self, object record, object at=*)
