# Declarations of json_size.hpp.
from libc.stddef cimport size_t

from way cimport string_view


cdef extern from "json_size.hpp" namespace "headgate" nogil:
    size_t count_values(string_view)
