"""What other native modules may see of a lane."""

from libc.stdint cimport uint32_t, uint64_t

cimport way as native
from router.native.writer cimport SendBatch


cdef class LaneLoad:
    cdef native.Load load


cdef class Lane:
    cdef readonly LaneLoad load
    cdef readonly dict calls
    cdef public uint64_t last_id
    cdef public object send
    cdef public SendBatch batch
    cdef public bint ready
    cdef public bint framed
    cdef public bint trusted
    cdef public bint continues  # its host takes `Submit.continue_text`
    cdef public bint probed
    cdef public double open_until_s
    cdef readonly uint32_t capabilities  # bits, in the order of `types.Capability`
    cdef readonly long long context_tokens
    cdef public double usd_per_s
    cdef readonly double surcharge
    cdef int cause  # of the surcharge
    cdef public int canary_of
    cdef public double canary_weight
    cdef int model  # index in the pool
    cdef readonly int replica  # which of that model's engines
    cdef int replicas  # how many it has, where it has several
    cdef public object owner  # the member
    cdef public object meters  # of `router.native.meters`, once a port is open
    cdef public list about  # lines of the head of an answer, by reason
    cdef void look(self, double now_s, double matched, native.Member* out) noexcept
