# Declarations of whole_parts.hpp.
from libc.stddef cimport size_t
from libcpp.string cimport string

from way cimport string_view


cdef extern from "whole_parts.hpp" namespace "headgate" nogil:
    cdef enum class TooMany:
        kNone
        kContent
        kSystem
    TooMany write_parts(string_view, size_t, string*) except +
