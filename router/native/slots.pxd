"""Counts of requests, for other native modules."""


cdef class Slots:
    cdef readonly Py_ssize_t most
    cdef readonly long long most_bytes
    cdef readonly Py_ssize_t running
    cdef readonly Py_ssize_t waiting
    cdef public Py_ssize_t lined
    cdef readonly long long pending_bytes
    cdef readonly long long freed
    cdef readonly double busy_s
    cdef readonly bint closed
    cdef object wake
    cpdef bint admits(self, long long body_bytes) noexcept
    cpdef bint fits(self, long long body_bytes) noexcept
    cpdef int take(self, long long body_bytes) except -1
    cpdef int drop_body(self, long long body_bytes) except -1
    cpdef int end(self, double seconds) except -1
