"""What other native modules may see of a call."""

from libc.stdint cimport uint64_t

cimport way as native
from router.native.lane cimport Lane
from way cimport string_view


cdef class Call:
    cdef readonly Lane lane
    cdef readonly uint64_t id
    cdef public bint started
    cdef int _chunk(self, string_view data) except -1
    cdef bint _ends_natively(self) except -1
    cdef int _finish(self, const native.Finish* finish) except -1
