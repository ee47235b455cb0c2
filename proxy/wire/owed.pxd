# As tracker.pxd, for owed.py.

cimport cython

from proxy.wire.statements cimport Name, PreparedStatements
from proxy.wire.steps cimport Owed

cdef long EXTENDED, _MARKERS

@cython.locals(step=Owed)
cpdef Owed foremost(queue)
@cython.locals(answered=bint)
cpdef bint reach(queue, PreparedStatements names, Owed step) except -1
cdef object _drop_marker(queue, PreparedStatements names)
