# What makes tracker.py a C extension when it is built: its class's layout, and the types of what is looked at most.
# Without it, or without a compiler, the same tracker.py runs as it is. Cython, "Augmenting .pxd".

cimport cython

from proxy.wire.statements cimport PreparedStatements

cdef long QUERY, PARSE, BIND, EXECUTE, DESCRIBE, CLOSE
cdef long SYNC, FUNCTION, COPY_DONE, COPY_FAIL, TERMINATE
cdef long COMMAND_COMPLETE, READY, ERROR, EMPTY_QUERY, SUSPENDED, PARSE_COMPLETE, PARAMETER_DESCRIPTION
cdef long FUNCTION_RESPONSE, UNSEEN
cdef long _TAGGED, _STATEMENT, _ROUND
cdef long EXTENDED, COPY_END

cdef class Tracker:
    cdef object _policy
    cdef PreparedStatements _prepared
    cdef object _steps, _bound
    cdef list _finished
    cdef bint _in_round, _skipping
    cdef Py_ssize_t _spare
    cdef long long _now, _position, _bytes_out, _copy_seen, _copy_counted
    cdef readonly object state, fatal
    cdef readonly long long statements, transaction
    cdef readonly bint failed, lost, terminated

    @cython.locals(kind=long, body=bytes, records=list)
    cpdef list requests(self, messages, now)
    cdef object _start(self, object kind, now, Py_ssize_t size, sql)
    cdef object _query(self, bytes body, now)
    cdef object _parse(self, bytes body, list records)
    cdef object _bind(self, bytes body, list records)
    cdef object _show_bound(self, list records)
    cdef object _drop_marker(self)
    cdef object _describe_or_close(self, long kind, bytes body)
    cdef object _execute(self, bytes body, now)
    cdef object _front(self, long kinds)
    cdef object _command_complete(self, bytes body, list records)
    cdef object _complete(self, step)
    cdef object _finish(self, step)
    cdef object _ready(self, bytes body, list records)
