# As proxy/wire/tracker.pxd, for journal.py. Public where its tests make it fail on purpose.

cimport cython

cdef bytes _NEWLINE

cdef class Journal:
    cdef public object directory, torn_bytes, unfinished, acknowledged, next_entry, fault
    cdef public object _lock, _segment_bytes, _limit_bytes, _retry_s, _retry_at, _keep_bytes, _open, _number
    cdef public object _file, _checkpointed, _syncer, _retiring, _commits, _archive
    cdef public list _lines
    cdef public Py_ssize_t _waiting, _size, _room

    @cython.locals(lines=list, text=bytes, size=Py_ssize_t, written=Py_ssize_t)
    cpdef append(self, bytes line)
    cpdef append_lazily(self, bytes line)
