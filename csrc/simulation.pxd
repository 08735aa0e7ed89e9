# Declarations of simulation.hpp, simulated_engine.hpp, simulated_gate.hpp and simulated_unit.hpp.
from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint8_t, uint64_t
from libcpp cimport bool
from libcpp.vector cimport vector

from way cimport Rates, Score, Settings


cdef extern from "simulated_engine.hpp" namespace "headgate::simulated" nogil:
    cdef cppclass Law:
        double step_s
        double running_s
        double context_s
        double prefill_s
        double slowdown
    cdef cppclass Bounds:
        int64_t most_running
        int64_t step_tokens
        int64_t kv_blocks
        int64_t block_tokens
    cdef cppclass Sequence:
        int64_t output
        double first_s
        double end_s
        int64_t preempted
    cdef cppclass Engine:
        int64_t steps
        int64_t preemptions
        int64_t prefill_tokens
        int64_t output_tokens
        double worked_s(double)


cdef extern from "simulated_gate.hpp" namespace "headgate::simulated" nogil:
    cdef cppclass GateLimits:
        int64_t in_flight
        int64_t places
        double queue_s


cdef extern from "simulated_unit.hpp" namespace "headgate::simulated" nogil:
    cdef cppclass Known:
        double usd_per_s
        double overhead_s
        double mean_output_tokens
        Rates fixed
        double cost_error
        double first_token_error
        double output_token_error
        bool has_model
    cdef cppclass EngineSpec:
        int64_t model
        int64_t context_tokens
        Law law
        Bounds bounds
        Known known
        vector[int64_t] beside


cdef extern from "simulation.hpp" namespace "headgate::simulated" nogil:
    cdef cppclass Asked:
        double at_s
        int64_t rule
        int64_t prompt
        int64_t cached
        int64_t estimate
        int64_t max_tokens
    cdef cppclass Result:
        uint8_t status
        int64_t engine
        double gate_s
    cdef cppclass Simulation:
        vector[Asked] asked
        vector[Sequence] sequences
        vector[Result] results
        vector[Score] scores
        vector[int64_t] outputs
        vector[Settings] rules
        int64_t decisions
        int64_t events
        double now_s
        Simulation(const vector[EngineSpec]&, size_t, const GateLimits&, double, uint64_t) except +
        size_t models()
        size_t engines()
        const Engine& engine(size_t)
        int64_t arrived()
        int64_t ended()
        void reserve(size_t) except +
        bool advance(int64_t) except +
