"""What other native modules may see of a call."""

from libc.stdint cimport uint64_t

cimport way as native
from router.native.lane cimport Lane
from router.native.pipe cimport Pipe
from way cimport string_view


cdef struct HeadNumbers:
    uint64_t request  # of the process's requests
    string_view given_id  # the client's id of the request, in its place; empty: none
    uint64_t decision
    int member
    int reason
    double overhead_s
    double score
    double threshold  # NaN: none


cdef class Receiver:
    cdef int _begin(self, const HeadNumbers* numbers) except -1
    cdef int _chunk(self, string_view data) except -1
    cdef int _end_stream(self) except -1
    cdef int _whole(self, const HeadNumbers* numbers, bytes body) except -1


cdef class Receivers:
    cdef Receiver _receiver(self, Pipe connection)


cdef class Call:
    cdef readonly Lane lane
    cdef readonly uint64_t id
    cdef public bint started
    cdef public Receiver straight
    cdef int _chunk(self, string_view data) except -1
    cdef bint _ends_natively(self) except -1
    cdef int _finish(self, const native.Finish* finish) except -1
