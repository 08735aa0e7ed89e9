"""What other native modules may see of a connection's sending half."""

from libc.stdint cimport int64_t
from libcpp.string cimport string
from libcpp.vector cimport vector

cimport way as native


cdef class SendBatch:
    cdef vector[native.Parcel] parcels
    cdef list writers  # of the parcels in use
    cdef native.Ring ring
    cdef bint gathering
    cdef public object before
    cdef int _add(self, Writer writer) except -1
    cdef int begin(self) except -1
    cdef int end(self) except -1
    cdef int flush(self) except -1


cdef class Writer:
    cdef object _transport
    cdef public bint stalled
    cdef public int64_t written
    cdef public int socket  # -1 where there is none to send to directly
    cdef public SendBatch batch
    cdef bint doubtful  # somebody had hold of the transport: it may hold bytes, or be closing
    cdef int parcel  # ours in `batch`, or -1
    cdef string* _room(self) except? NULL
    cdef bint _direct(self) except -1
    cdef _write(self, bytes data)
    cdef _stream(self, bytes data)
    cdef _hand_on(self, bytes rest)
