"""The writer of answers, for its own module."""

from libcpp.string cimport string

from router.native.call cimport Receiver
from router.native.writer cimport Writer
from router.native.request cimport BaseRequest, Receivers, Requests
from way cimport string_view


cdef class Reply(Receiver):
    cdef readonly Writer connection
    cdef Heads heads  # None: its request was begun in Python
    cdef public object request  # whose answer it is; None after its end
    cdef readonly bint stream
    cdef readonly bint old_client
    cdef readonly bint over
    cdef bint under_way  # chunks go out framed, and nothing else is to do
    cdef Py_ssize_t most_bytes
    cdef bytes head  # of a stream: due with the first chunk
    cdef object body  # bytes, or a bytearray
    cdef bint _stays(self, BaseRequest request) except -1
    cdef int _pass_chunk(self, bytes head, string_view data) except -1
    cdef int _pass_unframed(self, string_view data) except -1
    cdef int _collect(self, string_view data) except -1


cdef class Heads(Receivers):
    cdef object listener
    cdef type reply_class  # of Python, below Reply
    cdef Py_ssize_t most_bytes
    cdef bytes whole_head
    cdef bytes stream_head
    cdef Requests requests
    cdef str date
    cdef bytes date_line
    cdef string out
    cdef bytes _head(self, BaseRequest request, bytes start, Py_ssize_t length)
    cdef bytes _date(self)
