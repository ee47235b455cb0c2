# As proxy/wire/tracker.pxd, for tls_transport.py.

from proxy.leg cimport Leg

cdef class TlsTransport:
    cdef Leg _leg
    cdef object _incoming, _outgoing, _tls, _socket
    cdef bint _closing, _is_established
    cdef readonly object established

    cpdef data_received(self, bytes data)
    cdef _read(self)
    cdef _hand_on(self, list parts)
    cdef _flush(self)
