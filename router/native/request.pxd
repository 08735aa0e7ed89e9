"""What other native modules may see of a request and of all requests."""

from libc.stdint cimport uint64_t

cimport way
from kept cimport Kept
from router.native.call cimport Call, Receiver
from router.native.writer cimport Writer
from router.native.policy cimport Numbers
from router.native.slots cimport Slots
from router.native.steps cimport Steps
from way cimport string_view


cdef extern from *:
    """
    #include <time.h>
    static inline double headgate_now(void) {
      struct timespec t;
      clock_gettime(CLOCK_MONOTONIC, &t);
      return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
    }
    """
    double now "headgate_now"() nogil


cdef extern from *:
    """
    static inline PyObject* headgate_new(PyObject* type, PyObject* nothing) {
      return ((PyTypeObject*)type)->tp_new((PyTypeObject*)type, nothing, NULL);
    }
    """
    object headgate_new(object, tuple)


cdef inline object new_of(object made):
    """Without `__init__`: all is set by who calls."""
    return headgate_new(made, ())


cdef struct HeadNumbers:
    uint64_t request  # of the process's requests
    string_view given_id  # the client's id of the request, in its place; empty: none
    uint64_t decision
    int reason
    double overhead_s
    double score
    double threshold  # NaN: none


cdef enum:
    MOST_ID_BYTES = 64


cdef class Requests:
    cdef readonly Slots slots
    cdef readonly object desk
    cdef readonly Steps steps
    cdef readonly bytes request_prefix
    cdef readonly bytes decision_prefix
    cdef public bint holds_ends
    cdef public bint keeps_pace
    cdef public bint keeps_bodies
    cdef public bint keeps_answers
    cdef readonly size_t kept_bytes  # of answers under way and their bodies
    cdef public object wake
    cdef set open
    cdef list ended  # since the last tick


cdef class BaseRequest(Call):
    cdef readonly Requests requests
    cdef Receiver receiver
    cdef readonly bint native  # every step so far
    cdef readonly bint stream
    cdef readonly int member
    cdef public uint64_t edition  # of the pool whose member that is
    cdef bytes data
    cdef size_t body_bytes
    cdef size_t held_bytes  # of them, in the bound on pending bytes; without a permit
    cdef readonly double received_s
    cdef double begun_s  # its answer; 0 before
    cdef readonly double ended_s
    cdef HeadNumbers head  # of a request that native code began, as is what follows
    cdef readonly Numbers numbers
    cdef readonly bytes asked
    cdef readonly bytes given_id
    cdef readonly str key_id
    cdef readonly str session_id
    cdef public bytes traceparent
    cdef way.Finish finish
    cdef readonly bint finished
    cdef readonly str finish_reason
    # Of `pipeline.request`: None until it has them.
    cdef public object permit
    cdef public object error
    cdef public object known_query
    cdef public object known_settings
    cdef public object known_scores
    cdef public object known_decision
    cdef public object known_legs
    cdef public object timer
    cdef public object lost
    cdef public object holder
    cdef public object course
    cdef bint keeps  # what is told, in `told`, and the body
    cdef Kept told
    cdef size_t kept_bytes  # of both
    cdef int _keep_from_now(self) except -1
    cdef int _keep(self, string_view data) except -1
    cdef int _drop_kept(self) except -1
    cdef int _answering(self) except -1
    cdef Receiver _end(self, int phase)
    cdef int _leave(self, int cause) except -1
    cdef int _drop_body(self) except -1


cdef size_t write_id(char* out, bytes prefix, uint64_t number, int digits) noexcept


cdef class Receivers:
    cdef Receiver _receiver(self, Writer connection, BaseRequest request)
