"""What other native modules may see of the policy's numbers."""

from libc.stdint cimport int32_t
from libcpp.vector cimport vector

cimport way as native


cdef class Rule:
    cdef native.Settings settings
    cdef vector[int32_t] tried
    cdef object source


cdef class Numbers:
    cdef native.Decided decided
    cdef readonly tuple models
    cdef int decide_by(self, Rule rule) except -1
    cdef object tell(self, str id, str reason)


cdef int read_scores(object scores, native.Score* out, size_t n) except -1
