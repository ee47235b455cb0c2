# As proxy/wire/tracker.pxd, for relay.py.

from proxy.recorder cimport Recorder
from proxy.wire.tracker cimport Tracker

cdef class Relay:
    cdef object _client, _upstream, _to_client, _to_upstream, _frontend, _backend, _shortcut, _gate
    cdef Recorder _recorder
    cdef list _injected, _held
    cdef readonly list withdrawn
    cdef long long _gone_on
    cdef object _on_disk
    cdef bint _closing, _settled, _shows_out
    cdef object _withheld
    cdef Tracker _tracker
    cdef readonly long long bytes_in
    cdef readonly object ended, upstream_ended

    cpdef _from_client(self, bytes data)
    cpdef _from_upstream(self, bytes data)
    cdef bint _asks_plainly(self, bytes data, shortcut) except -1
    cdef _relay_answers(self, bytes data)
    cdef bint _answers_plainly(self, bytes data, shortcut) except -1
    cdef bint _note_first(self, list messages, between) except -1
    cdef _note_responses(self, list messages)
    cdef _relieve(self)
    cdef _record_before(self, list records)
