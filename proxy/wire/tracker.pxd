# What makes tracker.py a C extension when it is built: its class's layout, and the types of what is looked at most.
# Without it, or without a compiler, the same tracker.py runs as it is. Cython, "Augmenting .pxd".

cimport cython

from proxy.wire.owed cimport foremost, reach
from proxy.wire.statements cimport Name, Portal, Prepared, PreparedStatements, Text, meaning, read_bind
from proxy.wire.statements cimport end_of_name, read_count, unknown_portal
from proxy.wire.steps cimport Owed, Step, start_of

cdef long QUERY, PARSE, BIND, EXECUTE, DESCRIBE, CLOSE
cdef long SYNC, FUNCTION, COPY_DATA, COPY_DONE, COPY_FAIL, TERMINATE
cdef long COMMAND_COMPLETE, READY, ERROR, EMPTY_QUERY, SUSPENDED, PARSE_COMPLETE, PARAMETER_DESCRIPTION
cdef long FUNCTION_RESPONSE, UNSEEN, PARAMETER_STATUS
cdef long _TAGGED, _STATEMENT, _ROUND
cdef long COPY_END

cdef class Tracker:
    cdef object _policy
    cdef PreparedStatements _prepared
    cdef object _steps, _bound
    cdef list _finished
    cdef bint _in_round, _skipping
    cdef Py_ssize_t _spare
    cdef long long _now, _position, _bytes_out, _seen
    cdef Step _latest
    cdef readonly object copies
    cdef readonly object state, fatal
    cdef readonly long long statements, transaction
    cdef readonly bint doubtful, failed, lost, terminated

    @cython.locals(kind=long, body=bytes, records=list)
    cpdef list requests(self, messages, now)
    @cython.locals(step=Step)
    cdef Step _start(self, long kind, now, Py_ssize_t size, str sql)
    @cython.locals(text=Text, step=Step)
    cdef Step _query(self, bytes body, now)
    @cython.locals(prepared=Prepared)
    cdef object _parse(self, bytes body, list records)
    @cython.locals(portal=Portal)
    cdef object _bind(self, bytes body, list records)
    cdef object _show_bound(self, list records)
    cdef object _describe_or_close(self, long kind, bytes body, list records)
    @cython.locals(portal=Portal, step=Step, name=Name, end=Py_ssize_t)
    cdef Step _execute(self, bytes body, now)
    @cython.locals(kind=long, body=bytes, records=list)
    cpdef list responses(self, messages, now, sent=*)
    @cython.locals(step=Owed)
    cdef Owed _front(self, long kinds)
    @cython.locals(step=Step)
    cdef object _command_complete(self, bytes body, list records)
    @cython.locals(name=Name)
    cdef object _complete(self, Step step)
    cdef object _finish(self, Step step)
    @cython.locals(step=Owed, one=Step)
    cdef object _ready(self, bytes body, list records)
