"""What other native modules may see of the scorer."""

from libc.stdint cimport uint16_t, uint64_t
from libcpp.vector cimport vector

cimport score as native
cimport way


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
    cdef const float[:, ::1] length_vectors  # [K, models]
    cdef const float[::1] length_bias
    cdef const float[::1] least
    cdef const float[::1] most
    cdef const double[::1] log_sd
    cdef tuple told_log_sd
    cdef uint64_t tell(self, const vector[native.Text]& texts, vector[float]* scratch, vector[way.Score]* out) except? 0
    cdef int _expect(self, lengths) except -1
    cdef object _scores(self, const vector[native.Text]& texts)


cdef int choose_isa(str isa, native.Isa* out) except -1
cdef int borrow_text(object text, float weight, native.Text* out, list keep) except -1
