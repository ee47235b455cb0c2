# As tracker.pxd, for statements.py.

cimport cython

cdef class PreparedStatements:
    cdef dict _statements, _portals
    cdef object _unnamed

    cpdef object get(self, bytes name)
    cpdef object bind(self, portal)
    cpdef object portal(self, bytes name)
    cpdef object name(self, bytes name)
    cpdef object settle(self, name)

cdef object _ask(dict names, bytes text, meaning)
cpdef object meaning(name)
cdef object _by_sql(bytes name)
cdef object _as_it_is(portal)

@cython.locals(portal_end=Py_ssize_t, name_end=Py_ssize_t)
cpdef object read_bind(bytes body, PreparedStatements prepared, policy)

@cython.locals(count=Py_ssize_t, format_count=Py_ssize_t, index=Py_ssize_t, size=Py_ssize_t, formats=list, values=list)
cdef list _parameters(bytes body, Py_ssize_t at, tuple types, bint typed_only)

cdef Py_ssize_t _uint16(bytes body, Py_ssize_t at) except? -2

@cython.locals(high=Py_ssize_t)
cdef Py_ssize_t _int32(bytes body, Py_ssize_t at) except? -2
