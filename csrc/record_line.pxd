# Declarations of json_write.hpp and record_line.hpp.
from libc.stddef cimport size_t
from libcpp cimport bool
from libcpp.string cimport string
from libcpp.vector cimport vector

from way cimport Decided, Finish, string_view


cdef extern from "json_write.hpp" namespace "headgate" nogil:
    cdef cppclass TableWriter:
        vector[string] capabilities
        vector[string] rules
    cdef cppclass Written:
        const char* data()
        size_t size()
        void resize(size_t)


cdef extern from "record_line.hpp" namespace "headgate" nogil:
    cdef cppclass FinishedRequest:
        string_view id
        string_view request_id
        string_view asked
        string_view key_id
        string_view session_id
        string_view finish_reason
        string_view reason
        bool stream
        double time_s
        double overhead_s
        double first_s
        double total_s
        Finish finish
    cdef cppclass RecordLines:
        TableWriter tables
        string version
        Written lines
        void name_models(const vector[string_view]&) except +
        void put(const FinishedRequest&, const Decided&) except +
