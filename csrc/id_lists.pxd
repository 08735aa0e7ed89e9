# Declarations of id_lists.hpp.
from libc.stddef cimport size_t
from libcpp cimport bool
from libcpp.string cimport string
from libcpp.vector cimport vector

from body_texts cimport LeftOut
from way cimport string_view


cdef extern from "id_lists.hpp" namespace "headgate" nogil:
    cdef cppclass ShortIds:
        string json
        vector[LeftOut] left_out
        size_t most_ids
    bool shorten_ids(string_view, string_view, ShortIds*) except +
