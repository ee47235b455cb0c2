# As tracker.pxd, for statements.py.

cimport cython

from proxy.wire.steps cimport Owed, Step, as_json, start_of

cdef Py_ssize_t _NAME_BYTES

cdef class Text:
    cdef readonly str sql, fields
    cdef readonly object sql_base64
    cdef readonly tuple secrets, bound
    cdef readonly bint masked
    cdef public bint recorded

cdef class Prepared:
    cdef readonly bytes name
    cdef readonly Text text
    cdef readonly tuple types
    cdef readonly object shown
    cdef readonly str named

@cython.freelist(32)
cdef class Portal:
    cdef readonly bytes name
    cdef readonly Prepared statement
    cdef readonly list parameters
    cdef readonly Py_ssize_t size
    cdef readonly Name source
    cdef public bint begun

    @cython.locals(text=str, named=str, values=str, continued=str)
    cpdef str start(self, Step step, str state, long long transaction)

cdef class Name(Owed):
    cdef readonly bytes key
    cdef readonly object asked
    cdef public object meaning

cdef class PreparedStatements:
    cdef dict _statements, _portals
    cdef Name _unnamed
    cdef object _secrets

    cpdef Text read_query(self, bytes sql)
    cpdef list read_call(self, bytes body, policy)
    cpdef keep(self, tuple secrets)
    @cython.locals(prepared=Prepared)
    cpdef Prepared read_parse(self, bytes body)
    cpdef Prepared get(self, bytes name)
    cpdef Name bind(self, Portal portal)
    cpdef Name portal(self, bytes name)
    cpdef Name name(self, bytes name)
    cpdef list replaced(self, bytes kind, bytes name)
    cpdef settle(self, Name name)
    @cython.locals(name=Name)
    cpdef idle(self)

cdef Name _ask(dict names, bytes text, meaning)
cpdef object meaning(Name name)
cdef Prepared _by_sql(bytes name)
cdef Portal _as_it_is(Portal portal)
cpdef Portal unknown_portal(bytes body)
cpdef Text read_text(bytes raw)

@cython.locals(portal_end=Py_ssize_t, name_end=Py_ssize_t, name=bytes)
cpdef Portal read_bind(bytes body, PreparedStatements prepared, policy)

@cython.locals(count=Py_ssize_t, format_count=Py_ssize_t, index=Py_ssize_t, size=Py_ssize_t, formats=list, values=list)
cdef list _parameters(bytes body, Py_ssize_t at, tuple types, bint typed_only)

cdef Py_ssize_t _uint16(bytes body, Py_ssize_t at) except? -2

@cython.locals(high=Py_ssize_t)
cdef Py_ssize_t _int32(bytes body, Py_ssize_t at) except? -2

@cython.locals(index=Py_ssize_t)
cpdef Py_ssize_t end_of_name(bytes body, Py_ssize_t at) except -2
cpdef Py_ssize_t read_count(bytes body, Py_ssize_t at) except? -2
