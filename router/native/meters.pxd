from libc.stdint cimport int64_t

cimport way as native

cdef enum:
    REASONS = 5


cdef class Histogram:
    cdef int64_t[::1] counts
    cdef double[::1] total
    cdef double[::1] bounds
    cdef void observe(self, double value) noexcept


cdef class Meters:
    cdef Histogram request
    cdef Histogram first_token
    cdef Histogram output_token
    cdef int64_t[::1] tokens
    cdef list decisions  # of one count, by reason
    cdef void finished(self, const native.Finish* finish, double total_s, double first_s) noexcept
