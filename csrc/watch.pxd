# Declarations of watch.hpp and row_statistics.hpp.
from libc.stddef cimport size_t
from libc.stdint cimport int32_t, uint8_t


cdef extern from "row_statistics.hpp" namespace "headgate" nogil:
    cdef enum class LogitKind(int):
        kFloat32
        kBfloat16
        kFloat16
    cdef cppclass RowStatistics:
        float logprob
        float entropy
        float margin
        float log_sum
        int32_t best
    ctypedef RowStatistics (*RowStatisticsOf)(const void*, LogitKind, size_t)
    cdef cppclass RowIsa:
        const char* name
        RowStatisticsOf statistics
    size_t row_isas(RowIsa* out)


cdef extern from "watch.hpp" namespace "headgate" nogil:
    cdef cppclass WatchOrder:
        pass
    cdef cppclass WatchState:
        pass
    cdef cppclass WatchTable:
        const WatchOrder* orders
        WatchState* states
        const float* weights
        float* kept
        const int32_t* first_ids
        const uint8_t* places
        size_t slots
        size_t firsts
        size_t vocabulary
        int32_t stop
        int32_t hidden
    size_t watch_rows(
        const WatchTable&, RowStatisticsOf, float*, size_t, const int32_t*, const int32_t*, const float*, const float*,
        size_t
    )
