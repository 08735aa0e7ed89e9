"""A pool member as native steps see it: how loaded it is, which calls it owes answers, where its frames go. See
lane.pyi."""

from libc.stdint cimport int64_t, uint32_t, uint64_t

cimport cost as pricing
cimport way as native
from router.native.cost cimport read_sums
from router.native.writer cimport SendBatch
from router.native.table cimport CAUSES, OTHER, capability_bits
from router.steps import StepModel


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

    @property
    def most_running(self):
        return self.load.most_running

    @most_running.setter
    def most_running(self, claimed):
        self.load.most_running = max(0, _count(claimed))

    @property
    def lined(self):
        return self.load.lined

    @lined.setter
    def lined(self, int64_t requests):
        self.load.lined = requests
        self.load.changes += 1

    @property
    def ends(self):
        return self.load.ends

    @property
    def served_s(self):
        return self.load.served_s

    @property
    def room(self):
        return self.load.room()

    @property
    def open(self):
        return self.load.open()

    def forget(self):
        self.load.forget()

    def emptied(self):
        self.load.holder = native.next_holder()

    def reported(self, told):
        cdef native.LoadFrame frame
        frame.running, frame.waiting = _count(told.running), _count(told.waiting)
        frame.kv_use, frame.prefix_hit = told.kv_use, told.prefix_hit
        frame.prefill_tokens_per_s = told.prefill_tokens_per_s
        frame.time_per_output_token_s = told.time_per_output_token_s
        frame.context_tokens = _count(told.context_tokens)
        read_sums(told.sums, &frame.sums)
        self.load.reported(frame)

    def worked_s(self):
        return self.load.worked_s()

    def learn(self, double others, double busy):
        return self.load.learn(others, busy)

    def submitted(self, int64_t prompt_tokens, uint64_t id=0, double matched=-1, double output_tokens=0,
                  double output_log_sd=0):
        cdef native.Length expected
        expected.tokens, expected.log_sd = output_tokens, output_log_sd
        self.load.submitted(prompt_tokens, id, matched, expected)

    def ended(self):
        self.load.ended()

    def answered(self, usage, timings, uint64_t id=0, bint cut=False):
        self.load.answered(_count(usage.prompt_tokens), _count(usage.completion_tokens), _count(usage.cached_tokens),
                           timings.first_token_s, timings.total_s, id, cut)

    def figures(self):
        cdef native.Load* load = &self.load
        cdef native.StepPrices prices = load.prices()
        return {
            "running": load.running(),
            "waiting": load.waiting(),
            "kv_use": load.frame.kv_use,
            "prefix_hit": load.frame.prefix_hit,
            "prefill_tokens_per_s": load.prefill_tokens_per_s(),
            "time_per_output_token_s": load.time_per_output_token_s(),
            "mean_output_tokens": load.mean_output_tokens,
            "output_surplus": load.lengths.surplus(),
            "queued_gpu_s": load.queued_s(),
            "held_tokens": load.frame.context_tokens,
            "queued_tokens": load.queued_tokens(),
            "queued_steps": load.queued_steps(),
            "busy": load.busy,
            "step_s": prices.step_s,
            "step_running_s": prices.step_running_s,
            "step_context_s": prices.step_context_s,
            "step_prefill_s": prices.step_prefill_s,
            "overhead_s": load.overhead_s,
            "cost_trust": prices.cost_trust,
            "wait_trust": prices.wait_trust,
        }

    def model(self):
        cdef native.Load* load = &self.load
        cdef native.StepPrices prices = load.prices()
        cdef double* known = load.cost.coefficients
        return StepModel(
            windows=load.cost.windows,
            cut=load.cost.cut,
            answers=load.first_token_errors.told(),
            step_s=known[0],
            running_s=known[1],
            context_s=known[2],
            prefill_s=known[3],
            slowdown=known[4],
            overhead_s=load.overhead_s,
            error_window=load.cost.errors.median(),
            error_first_token=load.first_token_errors.median(),
            error_output_token=load.output_token_errors.median(),
            cost_trust=prices.cost_trust,
            wait_trust=prices.wait_trust,
            busy=load.busy,
            others=load.others,
            lengths=load.lengths.errors.told(),
            error_length=load.lengths.errors.median(),
            output_surplus=load.lengths.surplus(),
        )

    def kept(self):
        cdef double values[pricing.kKept]
        self.load.cost.keep(values)
        return [values[i] for i in range(pricing.kKept)]

    def restore(self, list kept not None, model):
        cdef double values[pricing.kKept]
        cdef size_t i
        if <size_t>len(kept) != pricing.kKept:
            return False
        for i in range(pricing.kKept):
            values[i] = kept[i]
        if not self.load.cost.restore(values, model.windows, model.cut):
            return False
        self.load.cost.errors.restore(model.windows, model.error_window)
        self.load.first_token_errors.restore(model.answers, model.error_first_token)
        self.load.output_token_errors.restore(model.answers, model.error_output_token)
        self.load.overhead_s = model.overhead_s
        self.load.learn(0, 0)
        return True


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

    def charge(self, double surcharge, str cause not None):
        self.surcharge, self.cause = surcharge, CAUSES.index(cause)

    cdef void look(self, double now_s, double matched, native.Member* out) noexcept:
        out.ready = self.ready
        out.breaker_open = now_s < self.open_until_s
        out.capabilities = self.capabilities
        out.context_tokens = self.context_tokens
        out.usd_per_s = self.usd_per_s
        out.canary_of, out.canary_weight = self.canary_of, self.canary_weight
        out.replicas, out.replica, out.rival = self.replicas, self.replica, self.replica
        out.finish_s = out.rival_finish_s = 0
        out.surcharge, out.surcharge_of, out.favour = self.surcharge, <native.Cause>self.cause, 0
        native.look_at(self.load.load, matched, out)
