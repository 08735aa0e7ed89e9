"""What other native modules may see of the steering."""

from libc.stddef cimport size_t

cimport steering as native
cimport way


cdef class Steering:
    cdef native.Holder holder
    cdef int favour_in(self, way.Member* members, size_t size) except -1
    cdef int note(self, const way.Decided* decided) except -1
    cdef int settle(self, const way.Decided* decided, double tokens) except -1
