# Declarations of plan.hpp, planned.hpp, set_value.hpp and boundary.hpp.
from libc.stdint cimport int32_t
from libcpp cimport bool
from libcpp.vector cimport vector

from way cimport Decided, Option


cdef extern from "plan.hpp" namespace "headgate" nogil:
    cdef cppclass Course:
        int32_t first
        int32_t then
        double value
        double cost_usd
    cdef cppclass Planned:
        int32_t next
        int32_t then
        int32_t answer
        int32_t runnable
        double stop
        double value
        double cost_usd
        vector[Course] courses
    void plan(const vector[Option]&, double, double, Planned*) except +


cdef extern from "planned.hpp" namespace "headgate" nogil:
    void plan_of "headgate::plan"(const Decided&, Planned*) except +


cdef extern from "set_value.hpp" namespace "headgate" nogil:
    double fixed_value(const vector[Option]&, const vector[int32_t]&, double, double) except +
    double most_value(const vector[Option]&, double, double) except +


cdef extern from "boundary.hpp" namespace "headgate" nogil:
    cdef cppclass RunningAnswer:
        vector[double] tokens
        vector[double] intercept
        vector[double] slope
        vector[double] prior_weight
        vector[double] left
        double prior
        int32_t doubtful
        double least
        double most
        double token_usd
        double price
        double spread
        double correlation
        double large_quality
        double large_spread
        vector[double] large_cost_usd
        bool after
    cdef cppclass Knot:
        double tokens
        double bound
    cdef cppclass Worth:
        double going_on
        double handing_over
    cdef cppclass Boundary:
        Boundary(const RunningAnswer&) except +
        Worth worth(double, double)
        vector[Knot] knots() except +
