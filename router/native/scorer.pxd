"""What other native modules may see of the scorer."""

from libc.stdint cimport uint16_t, uint64_t

cimport score as native


cdef class Encoder:
    cdef native.Encoder config
    cdef const uint64_t[::1] slots
    cdef readonly object spec


cdef class Scorer:
    cdef readonly Encoder encoder
    cdef readonly str isa
    cdef native.Model model
    cdef const uint16_t[:, ::1] table
    cdef const float[:, ::1] vectors  # [K, models]
    cdef const float[::1] bias


cdef int choose_isa(str isa, native.Isa* out) except -1
cdef int borrow_text(object text, float weight, native.Text* out, list keep) except -1
