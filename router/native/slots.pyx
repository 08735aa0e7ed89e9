"""Counts of the requests that were let in or wait, and of their body bytes. See slots.pyi."""

cimport cython


@cython.final
cdef class Slots:
    def __init__(self, most, most_bytes, wake):
        self.most, self.most_bytes, self.wake = most, most_bytes, wake

    cpdef bint admits(self, long long body_bytes) noexcept:
        return self.running < self.most and not self.waiting and not self.closed and self.fits(body_bytes)

    cpdef bint fits(self, long long body_bytes) noexcept:
        return self.pending_bytes + body_bytes <= self.most_bytes

    cpdef int take(self, long long body_bytes) except -1:
        self.running += 1
        self.pending_bytes += body_bytes
        return 0

    def wait(self, long long body_bytes):
        self.waiting += 1
        self.pending_bytes += body_bytes

    def start(self):
        self.waiting -= 1
        self.running += 1

    def leave(self):
        self.waiting -= 1

    cpdef int drop_body(self, long long body_bytes) except -1:
        self.pending_bytes -= body_bytes
        return 0

    cpdef int end(self, double seconds) except -1:
        self.running -= 1
        self.freed += 1
        self.busy_s += seconds
        if self.waiting or self.lined:
            self.wake()
        return 0

    def close(self):
        self.closed = True
