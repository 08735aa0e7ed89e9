# Declarations of steering.hpp.
from libc.stdint cimport int32_t
from libcpp cimport bool

from way cimport Decided


cdef extern from "steering.hpp" namespace "headgate" nogil:
    cdef cppclass DecisionSums:
        double decided
        double all
        double spent_usd
        double least_usd
        double best_usd
        double quality
        double least_quality
        double best_quality
        double strong_quality
        double given
        double offered
    cdef cppclass Holder "headgate::Steering":
        int32_t member
        double share
        bool by_tokens
        bool adds
        DecisionSums sums
        double favour()
        double owed()
        void note(const Decided&) except +
        void settle(const Decided&, double) except +
