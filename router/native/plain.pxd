cimport way as native


cdef class Rule:
    cdef native.Settings settings
