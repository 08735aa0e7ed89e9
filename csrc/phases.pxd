from libc.stdint cimport int32_t
from libcpp cimport bool


cdef extern from "phases.hpp" namespace "headgate::phases" nogil:
    cdef enum Phase:
        kNew
        kQueued
        kScoring
        kWaiting
        kAnswering
        kFinished
        kFailed
        kCancelled
    bool is_end(int32_t)
    bool may_follow(int32_t, int32_t)
