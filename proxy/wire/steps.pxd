# As tracker.pxd, for steps.py.

cimport cython

cdef long long _NO_RESULT

cdef class Owed:
    cdef public long kind
    cdef public long long statement

@cython.no_gc
@cython.freelist(32)
cdef class Step(Owed):
    cdef public long long started, bytes_in, bytes_out, duration, rows, limit, copied, result
    cdef public str sql, start
    cdef public object name, portal, described, sqlstate, message, copying, ran, state
    cdef public object tags
    cdef public bint skipped, suspended, answered, joined

    cpdef settle(self)
    cpdef complete(self, str tag, long long rows)
    cpdef answer(self, bytes body)
    cpdef fail(self, dict fields)
    @cython.locals(tags=str, rows=str, size=str, rest=str, state=str, ran=str)
    cpdef str end(self)
    @cython.locals(error=str, skipped=str, suspended=str)
    cdef str _particulars(self)

cpdef str as_json(object value)
cpdef str call(long long function, list arguments)
cpdef str start_of(Step step, str kind, str what, str state, long long transaction)
