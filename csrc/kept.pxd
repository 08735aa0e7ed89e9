from libc.stddef cimport size_t
from libcpp.string cimport string
from way cimport string_view


cdef extern from "kept.hpp" namespace "headgate" nogil:
    cdef cppclass Kept:
        Kept()
        size_t told()
        size_t held()
        void add(string_view)
        string all()
