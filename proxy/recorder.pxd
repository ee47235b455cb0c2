# As proxy/wire/tracker.pxd, for recorder.py.

from proxy.contract.chain cimport Chain
from proxy.journal cimport Journal
from proxy.wire.steps cimport Step

cdef class Recorder:
    cdef Journal _journal
    cdef object _key
    cdef Chain _chain

    cpdef before(self, list records)
    cpdef after(self, list records)
    cpdef settle(self)
    cdef bytes _started(self, record)
    cdef bytes _ended(self, Step step)
