"""What other native modules may see of the embedder."""

from libc.stdint cimport int8_t

cimport score as native
from router.native.scorer cimport Encoder


cdef class Embedder:
    cdef readonly Encoder encoder
    cdef readonly Py_ssize_t columns
    cdef readonly str isa
    cdef native.StaticTable table
    cdef const int8_t[:, ::1] rows
    cdef const float[::1] scales
    cdef const float[::1] masses
