# Declarations of body_texts.hpp and json_text.hpp.
from libc.stddef cimport size_t
from libc.stdint cimport uint32_t
from libcpp cimport bool
from libcpp.string cimport string
from libcpp.vector cimport vector

from way cimport string_view


cdef extern from "json_text.hpp" namespace "headgate" nogil:
    cdef cppclass LeftOut:
        size_t at
        ssize_t bytes


cdef extern from "body_texts.hpp" namespace "headgate" nogil:
    cdef cppclass TextRun:
        size_t first
        size_t count
    cdef cppclass TakenTexts:
        string json
        vector[LeftOut] left_out
        vector[string_view] raw
        vector[TextRun] runs
        size_t value_bytes
    cdef cppclass TextSize:
        size_t codes
        uint32_t largest
    bool take_texts(string_view, string_view, string_view, TakenTexts*) except +
    size_t place_before(const vector[LeftOut]&, size_t)
    TextSize size_of(const TakenTexts&, size_t)
    void write_text(const TakenTexts&, size_t, int, void*)
