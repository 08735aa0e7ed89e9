"""Metrics that are counted natively, in the buffers of `observe.metrics`. For native modules only."""

cimport way as native

#: In the order of `Reason` in csrc/policy.hpp.
NAMES_OF_REASONS = ("utility", "threshold", "only_candidate", "pinned", "canary")


cdef class Histogram:
    """The buffers of a histogram of `observe.metrics`: what is counted here is counted there."""

    def __init__(self, histogram):
        self.counts, self.total, self.bounds = histogram.counts, histogram.total, histogram.bounds

    cdef void observe(self, double value) noexcept:
        cdef Py_ssize_t i = 0
        while i < self.bounds.shape[0] and self.bounds[i] < value:
            i += 1
        self.counts[i] += 1
        self.total[0] += value


cdef class Meters:
    """The metrics of one member."""

    def __init__(self, metrics, route, model):
        self.request = Histogram(metrics.requests_of(route, model, 200))
        self.first_token = Histogram(metrics.first_token_of(model))
        self.output_token = Histogram(metrics.output_token_of(model))
        self.tokens = metrics.tokens_of(model)
        self.decisions = [metrics.decisions_of(model, reason) for reason in NAMES_OF_REASONS]

    cdef void finished(self, const native.Finish* finish, double total_s, double first_s) noexcept:
        """An answer of status 200. `first_s`: until the first bytes of a stream; below 0 for a whole answer."""
        self.request.observe(total_s)
        if first_s >= 0:
            self.first_token.observe(first_s)
        self.tokens[0] += finish.prompt_tokens
        self.tokens[1] += finish.completion_tokens
        self.tokens[2] += finish.cached_tokens
        # The two are bounded each by itself: a claim that the first token came after the last one says nothing.
        if finish.completion_tokens > 1 and finish.total_s > 0 and finish.total_s >= finish.first_token_s:
            self.output_token.observe((finish.total_s - finish.first_token_s) / (finish.completion_tokens - 1))
