# Declarations of step_sums.hpp and cost.hpp.
from libc.stdint cimport uint64_t
from libcpp cimport bool


cdef extern from "step_sums.hpp" namespace "headgate" nogil:
    cdef cppclass StepSums:
        double rows
        double cut
        double steps
        double running
        double context
        double prefill
        double seconds
        void add(double, double, double, double, double)
    const char** kSumNames
    const size_t kSums
    double* values_of(StepSums*)
    bool grown(const StepSums&, const StepSums&, StepSums*)
    cdef cppclass StepMeter:
        StepSums sums
        void outputs(double, double, double, double, double, double)
        void stepped(bool)


cdef extern from "cost.hpp" namespace "headgate" nogil:
    cdef cppclass Errors:
        uint64_t told()
        double median()
        void add(double, double)
        void restore(uint64_t, double)
    cdef cppclass StepCost:
        uint64_t windows
        uint64_t cut
        double* coefficients
        Errors errors
        void learn(const StepSums&, double)
        double predict(double, double, double, double, double)
        void keep(double*)
        bool restore(const double*, uint64_t, uint64_t)


cdef extern from "cost.hpp" namespace "headgate::StepCost" nogil:
    const size_t kAll
    const size_t kKept
