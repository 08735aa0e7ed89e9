# Declarations of fair_queue.hpp.
from libc.stddef cimport size_t
from libc.stdint cimport int32_t, uint32_t, uint64_t


cdef extern from "fair_queue.hpp" namespace "headgate" nogil:
    cdef cppclass FairQueue:
        size_t size()
        uint32_t add(int32_t priority, uint64_t key, double deadline_s, double since_s) except +
        uint32_t next() except +
        uint32_t last()
        void remove(uint32_t place) except +
        size_t ahead(int32_t priority)
