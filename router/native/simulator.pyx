"""A pool in simulated time (csrc/simulation.hpp). See simulator.pyi."""

from libc.stdint cimport int32_t, int64_t, uint64_t, uint8_t
from libcpp.memory cimport unique_ptr
from libcpp.vector cimport vector

cimport simulation as native
from router.native.policy cimport Rule

import numpy as np

STATUSES = ("open", "answered", "gate_full", "gate_late", "queues_full", "no_model", "too_long")


cdef native.EngineSpec _spec_of(engine) except *:
    cdef native.EngineSpec out
    out.model, out.context_tokens = engine.model, engine.context_tokens
    law, known = engine.law, engine.known
    out.law.step_s, out.law.running_s = law.step_s, law.running_s
    out.law.context_s, out.law.prefill_s, out.law.slowdown = law.context_s, law.prefill_s, law.slowdown
    out.bounds.most_running, out.bounds.step_tokens = engine.most_running, engine.step_tokens
    out.bounds.block_tokens = engine.block_tokens
    out.bounds.kv_blocks = engine.kv_tokens // engine.block_tokens
    out.known.usd_per_s, out.known.overhead_s = known.usd_per_s, known.overhead_s
    out.known.mean_output_tokens = known.mean_output_tokens
    out.known.fixed.prefill_tokens_per_s = known.prefill_tokens_per_s
    out.known.fixed.time_per_output_token_s = known.time_per_output_token_s
    out.known.cost_error, out.known.first_token_error = known.cost_error, known.first_token_error
    out.known.output_token_error, out.known.has_model = known.output_token_error, known.has_model
    out.beside = engine.beside
    return out


cdef class Simulator:
    cdef unique_ptr[native.Simulation] _made
    cdef readonly Py_ssize_t requests

    def __init__(self, engines, Py_ssize_t models, rules, *, int64_t in_flight, int64_t places, double queue_s,
                 double report_s, uint64_t seed):
        cdef vector[native.EngineSpec] specs
        cdef native.GateLimits limits
        cdef Rule rule
        for engine in engines:
            specs.push_back(_spec_of(engine))
        if specs.empty() or {spec.model for spec in engines} != set(range(models)):
            raise ValueError(f"expected engines of each of {models} models, 0 to {models - 1}")
        limits.in_flight, limits.places, limits.queue_s = in_flight, places, queue_s
        self._made.reset(new native.Simulation(specs, models, limits, report_s, seed))
        for settings in rules:
            rule = Rule(settings)
            self._made.get().rules.push_back(rule.settings)

    def load(self, const double[::1] at_s not None, const int32_t[::1] rule not None,
             const int32_t[::1] prompt not None, const int32_t[::1] estimate not None, const int32_t[::1] cached not None,
             const int32_t[::1] max_tokens not None, const int32_t[:, ::1] output not None,
             const double[:, ::1] score not None, const double[:, ::1] expected=None,
             const double[:, ::1] log_sd=None):
        cdef native.Simulation* made = self._made.get()
        cdef Py_ssize_t i, j, size = at_s.shape[0], models = made.models(), known = made.rules.size()
        shapes = [rule.shape[0], prompt.shape[0], estimate.shape[0], cached.shape[0], max_tokens.shape[0], output.shape[0], score.shape[0]]
        if set(shapes) != {size} or output.shape[1] != models or score.shape[1] != models or made.asked.size():
            raise ValueError(f"expected columns of {size} requests and {models} models, once; got {shapes}")
        made.reserve(size)
        self.requests = size
        if (expected is None) != (log_sd is None) or expected is not None and not (
                expected.shape[0] == log_sd.shape[0] == size and expected.shape[1] == log_sd.shape[1] == models):
            raise ValueError(f"expected lengths and deviations of {size} requests and {models} models, or neither")
        for i in range(size):
            if not (prompt[i] >= 1 and estimate[i] >= 0 and 0 <= cached[i] and 0 <= rule[i] < known
                    and 0 <= at_s[i] < 1e12 and (i == 0 or at_s[i] >= at_s[i - 1])):
                raise ValueError(f"request {i}: expected a time from 0 that is not before the last one's, a prompt of "
                                 f"1 token or more, and one of {known} rules; got {at_s[i]}, {prompt[i]}, {rule[i]}")
            made.asked[i].at_s, made.asked[i].rule = at_s[i], rule[i]
            made.asked[i].prompt, made.asked[i].cached = prompt[i], cached[i]
            made.asked[i].estimate = estimate[i]
            made.asked[i].max_tokens = max_tokens[i]
            for j in range(models):
                if not -1e9 < score[i, j] < 1e9 or output[i, j] < 1:
                    raise ValueError(f"request {i}: expected a score that is a number and an answer of 1 token or "
                                     f"more, got {score[i, j]}, {output[i, j]}")
                made.outputs[i * models + j] = output[i, j]
                made.scores[i * models + j].quality = score[i, j]
                if expected is not None:
                    made.scores[i * models + j].output_tokens = expected[i, j]
                    made.scores[i * models + j].output_log_sd = log_sd[i, j]

    def advance(self, int64_t arrivals):
        cdef bint more
        with nogil:
            more = self._made.get().advance(arrivals)
        return more

    def results(self):
        cdef native.Simulation* made = self._made.get()
        cdef Py_ssize_t i, size = self.requests
        columns = {
            "status": np.empty(size, np.uint8), "engine": np.empty(size, np.int32), "gate_s": np.empty(size),
            "first_s": np.empty(size), "end_s": np.empty(size), "output": np.empty(size, np.int32),
            "preempted": np.empty(size, np.int32),
        }
        cdef uint8_t[::1] status = columns["status"]
        cdef int32_t[::1] engine = columns["engine"], output = columns["output"], preempted = columns["preempted"]
        cdef double[::1] gate_s = columns["gate_s"], first_s = columns["first_s"], end_s = columns["end_s"]
        for i in range(size):
            status[i], engine[i] = made.results[i].status, made.results[i].engine
            gate_s[i], first_s[i] = made.results[i].gate_s, made.sequences[i].first_s
            end_s[i], output[i] = made.sequences[i].end_s, made.sequences[i].output
            preempted[i] = made.sequences[i].preempted
        return columns

    def engines(self):
        cdef native.Simulation* made = self._made.get()
        cdef const native.Engine* one
        found = []
        cdef size_t i
        for i in range(made.engines()):
            one = &made.engine(i)
            found.append({
                "steps": one.steps, "worked_s": one.worked_s(made.now_s), "preemptions": one.preemptions,
                "prefill_tokens": one.prefill_tokens, "output_tokens": one.output_tokens,
            })
        return found

    @property
    def ended(self):
        return self._made.get().ended()

    @property
    def decisions(self):
        return self._made.get().decisions

    @property
    def events(self):
        return self._made.get().events

    @property
    def now_s(self):
        return self._made.get().now_s
