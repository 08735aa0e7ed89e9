# Declarations of appender.hpp.
from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint64_t
from libcpp cimport bool
from libcpp.memory cimport shared_ptr
from libcpp.vector cimport vector


cdef extern from "appender.hpp" namespace "headgate" nogil:
    cdef struct AppenderCounts:
        uint64_t queued_bytes
        uint64_t taken_bytes
        uint64_t written
        uint64_t failed
    cdef struct AppenderState:
        uint64_t bytes
        uint64_t taken
        int error
        int failure
        bool ended
    cdef struct AppenderDone:
        uint64_t block
        bool written
    cdef cppclass Appender:
        Appender(uint64_t, bool) except +
        @staticmethod
        void start(const shared_ptr[Appender]&) except +
        int event()
        uint64_t put(const char*, size_t, uint64_t, bool) except +
        bool settle(uint64_t, int64_t, int64_t)
        bool wait_taken(uint64_t, int64_t)
        uint64_t last()
        AppenderCounts counts()
        vector[AppenderDone] done() except +
        void end()
        AppenderState attend(int64_t)
        int use(int)
        int refuse(int)
        void synced(uint64_t, bool)
