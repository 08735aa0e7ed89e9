"""A pool member as native steps see it: how loaded it is, which calls it owes answers, where its frames go. See
lane.pyi."""

from libc.stdint cimport int64_t, uint32_t, uint64_t

cimport way as native
from router.native.writer cimport SendBatch
from router.native.table cimport OTHER, capability_bits


cdef int64_t _count(claimed) except? -1:
    """Of tokens or requests; -1, which is out of bounds, where it is larger than any count."""
    try:
        return claimed
    except OverflowError:
        return -1


cdef class LaneLoad:
    def __init__(self, double mean_output_tokens=0, double prefill_tokens_per_s=0, double time_per_output_token_s=0):
        self.load.mean_output_tokens = mean_output_tokens
        self.load.fixed.prefill_tokens_per_s = prefill_tokens_per_s
        self.load.fixed.time_per_output_token_s = time_per_output_token_s

    @property
    def in_flight(self):
        return self.load.in_flight

    @property
    def changes(self):
        return self.load.changes

    def forget(self):
        self.load.forget()

    def reported(self, told):
        cdef native.LoadFrame frame
        frame.running, frame.waiting = _count(told.running), _count(told.waiting)
        frame.kv_use, frame.prefix_hit = told.kv_use, told.prefix_hit
        frame.prefill_tokens_per_s = told.prefill_tokens_per_s
        frame.time_per_output_token_s = told.time_per_output_token_s
        self.load.reported(frame)

    def submitted(self, int64_t prompt_tokens):
        self.load.submitted(prompt_tokens)

    def ended(self):
        self.load.ended()

    def answered(self, usage, timings):
        self.load.answered(_count(usage.prompt_tokens), _count(usage.completion_tokens), _count(usage.cached_tokens),
                           timings.first_token_s, timings.total_s)

    def figures(self):
        cdef native.Load* load = &self.load
        return {
            "running": load.running(),
            "waiting": load.waiting(),
            "kv_use": load.frame.kv_use,
            "prefix_hit": load.frame.prefix_hit,
            "prefill_tokens_per_s": load.prefill_tokens_per_s(),
            "time_per_output_token_s": load.time_per_output_token_s(),
            "mean_output_tokens": load.mean_output_tokens,
            "queued_gpu_s": load.queued_s(),
        }


cdef class Lane:
    def __init__(self, LaneLoad load not None, double usd_per_s):
        self.load = load
        self.usd_per_s = usd_per_s
        self.calls = {}
        self.batch = SendBatch(False)
        self.trusted = self.framed = True

    def described(self, capabilities, long long context_tokens):
        self.capabilities = capability_bits(frozenset(capabilities)) & ~<uint32_t>OTHER
        self.context_tokens = context_tokens

    cdef void look(self, double now_s, native.Member* out) noexcept:
        cdef native.Load* load = &self.load.load
        out.ready = self.ready
        out.breaker_open = now_s < self.open_until_s
        out.capabilities = self.capabilities
        out.context_tokens = self.context_tokens
        out.waiting = load.waiting()
        out.prefix_hit = load.frame.prefix_hit
        out.prefill_tokens_per_s = load.prefill_tokens_per_s()
        out.time_per_output_token_s = load.time_per_output_token_s()
        out.mean_output_tokens = load.mean_output_tokens
        out.queued_gpu_s = load.queued_s()
        out.usd_per_s = self.usd_per_s
        out.canary_of, out.canary_weight = self.canary_of, self.canary_weight
