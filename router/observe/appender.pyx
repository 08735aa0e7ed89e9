"""Blocks of lines appended to a file by a native thread (csrc/appender.hpp). See appender.pyi."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport int64_t, uint64_t
from libcpp.memory cimport shared_ptr
from libcpp.vector cimport vector

cimport appender as native

cdef double MOST_S = 1e9  # a wait is in 64 bits of nanoseconds


cdef int64_t _ns(double seconds) noexcept:
    return <int64_t>(min(max(seconds, 0.0), MOST_S) * 1e9)


cdef class Appender:
    cdef shared_ptr[native.Appender] appender

    def __init__(self, uint64_t most_bytes, *, bint synced_first=False):
        self.appender.reset(new native.Appender(most_bytes, synced_first))
        if self.appender.get().event() < 0:
            raise OSError("no event descriptor could be had")
        native.Appender.start(self.appender)

    def __dealloc__(self):
        if self.appender.get() != NULL:
            self.appender.get().end()

    def fileno(self):
        return self._it().event()

    def put(self, bytes data not None, uint64_t lines, *, bint told=False):
        return self._it().put(PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data), lines, told)

    def settle(self, double most_s, double pause_s):
        cdef native.Appender* it = self._it()
        cdef int64_t most_ns = _ns(most_s), pause_ns = _ns(pause_s)
        cdef bint taken
        with nogil:
            taken = it.settle(it.last(), most_ns, pause_ns)
        return taken

    def drained(self, double most_s):
        cdef native.Appender* it = self._it()
        cdef int64_t most_ns = _ns(most_s)
        cdef bint taken
        with nogil:
            taken = it.wait_taken(it.last(), most_ns)
        return taken

    def counts(self):
        cdef native.AppenderCounts counts = self._it().counts()
        return counts.queued_bytes, counts.taken_bytes, counts.written, counts.failed

    def done(self):
        cdef vector[native.AppenderDone] done = self._it().done()
        cdef size_t i
        return [(done[i].block, <bint>done[i].written) for i in range(done.size())]

    def end(self):
        self._it().end()

    def attend(self, double most_s):
        cdef native.Appender* it = self._it()
        cdef int64_t most_ns = _ns(most_s)
        cdef native.AppenderState state
        with nogil:
            state = it.attend(most_ns)
        return state.bytes, state.taken, state.error, state.failure, <bint>state.ended

    def use(self, int file):
        cdef native.Appender* it = self._it()
        cdef int before
        with nogil:
            before = it.use(file)
        return before

    def refuse(self, int error):
        cdef native.Appender* it = self._it()
        cdef int before
        with nogil:
            before = it.refuse(error)
        return before

    def synced(self, uint64_t block, bint well):
        self._it().synced(block, well)

    cdef native.Appender* _it(self) except NULL:
        if self.appender.get() == NULL:
            raise ValueError("not initialised")
        return self.appender.get()
