"""What other native modules may see of a call."""

from libc.stdint cimport uint64_t

cimport way as native
from router.native.lane cimport Lane
from way cimport string_view


cdef class Call


cdef class Receiver:
    cdef int _begin(self, Call call) except -1
    cdef int _chunk(self, string_view data) except -1
    cdef bint _gathers(self) except -1
    cdef int _finish(self, Call call) except -1


cdef class Call:
    cdef public Lane lane
    cdef public uint64_t id
    cdef public bint atypical
    cdef int at  # a `Phase`
    cdef int _go(self, int phase) except -1
    cdef int _chunk(self, string_view data) except -1
    cdef bint _ends_natively(self) except -1
    cdef int _finish(self, const native.Finish* finish) except -1
