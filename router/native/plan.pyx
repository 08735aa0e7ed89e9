"""What to run next, or to stop, and when a running answer is handed over (csrc/plan.hpp, boundary.hpp). See plan.pyi."""

from libc.math cimport isfinite
from libc.stdint cimport int32_t, uint8_t
from libcpp cimport bool as flag
from libcpp.vector cimport vector

from router.native.policy cimport Numbers
from router.native.table cimport Fields, fields_of

cimport plan as native
cimport way


cdef Fields OPTION = fields_of(way.option_table())
cdef Fields BELIEF = fields_of(way.belief_table())

# By statistic: its doubtful side, the least and the most that it can be.
cdef dict STATISTICS = {
    "logprob": (-1, -20.0, 0.0), "margin": (-1, 0.0, 30.0), "entropy": (1, 0.0, 12.0), "tokens": (0, 0.0, 0.0),
}

NAMES = OPTION.names


cdef double _share(str name, double value) except? -1:
    if not 0 <= value <= 1:
        raise ValueError(f"{name}: expected 0 to 1, got {value}")
    return value


cdef double _amount(str name, double value) except? -1:
    if not (value >= 0 and isfinite(value)):
        raise ValueError(f"{name}: expected a number of at least 0, got {value}")
    return value


cdef int _read(object options, vector[way.Option]* out) except -1:
    cdef way.Option one
    for option in options:
        OPTION.read(option, <char*>&one)
        _amount("spread", one.spread)
        out.push_back(one)
    return 0


cdef tuple _told(const native.Planned* planned, list run):
    cdef size_t i
    courses = [
        (planned.courses[i].first, planned.courses[i].then, planned.courses[i].value)
        for i in range(planned.courses.size())
    ]
    stop = planned.stop if planned.answer >= 0 else None
    value = planned.value if planned.runnable else None
    return planned.next, planned.then, planned.answer, stop, value, planned.cost_usd, courses, run


def plan(options, double price, double correlation=0):
    cdef vector[way.Option] read
    cdef native.Planned planned
    cdef size_t i
    _share("correlation", correlation)
    _read(options, &read)
    native.plan(read, price, correlation, &planned)
    return _told(&planned, [i for i in range(read.size()) if read[i].run])


def plan_of(Numbers numbers not None):
    cdef native.Planned planned
    cdef size_t i
    native.plan_of(numbers.decided, &planned)
    return _told(&planned, [i for i in range(numbers.decided.beliefs.size()) if numbers.decided.beliefs[i].run])


def believe(Numbers numbers not None, spread, double correlation=0, seen=None, cost_usd=None):
    cdef Numbers made = Numbers.__new__(Numbers)
    cdef size_t i, n = numbers.decided.members.size()
    cdef way.Belief* belief
    spread = tuple(spread)
    if <size_t>len(spread) != n:
        raise ValueError(f"spread: expected {n} values, in the pool's order, got {len(spread)}")
    for name, told in (("seen", seen), ("cost_usd", cost_usd)):
        for at in told or ():
            if not 0 <= at < n:
                raise ValueError(f"{name}: expected indices of {n} members, got {at}")
    made.models, made.decided = numbers.models, numbers.decided
    made.decided.question.correlation = _share("correlation", correlation)
    made.decided.beliefs.clear()
    made.decided.beliefs.resize(n)
    for i in range(n):
        belief = &made.decided.beliefs[i]
        belief.spread = _amount("spread", spread[i])
        belief.run = bool(seen) and i in seen
        if belief.run:
            belief.seen.given, belief.seen.value = True, _share("seen", seen[i])
        if cost_usd and i in cost_usd:
            belief.cost_usd.given, belief.cost_usd.value = True, _amount("cost_usd", cost_usd[i])
    return made


def fixed_value(options, members, double price, double correlation=0):
    cdef vector[way.Option] read
    cdef vector[int32_t] chosen
    _share("correlation", correlation)
    _read(options, &read)
    for member in members:
        if not 0 <= member < <Py_ssize_t>read.size():
            raise ValueError(f"members: expected indices of {read.size()} options, got {member}")
        chosen.push_back(member)
    return native.fixed_value(read, chosen, price, correlation)


def most_value(options, double price, double correlation=0):
    cdef vector[way.Option] read
    _share("correlation", correlation)
    _read(options, &read)
    return native.most_value(read, price, correlation)


def plan_rows(const double[:, ::1] quality not None, const double[:, ::1] cost_usd not None,
              const double[:, ::1] spread not None, const uint8_t[:, ::1] run not None, double price,
              double correlation, int32_t[::1] out not None):
    cdef Py_ssize_t i, k, rows = quality.shape[0], models = quality.shape[1]
    cdef vector[way.Option] options
    cdef native.Planned planned
    for name, one, other in (
        ("cost_usd", cost_usd.shape[0], cost_usd.shape[1]), ("spread", spread.shape[0], spread.shape[1]),
        ("run", run.shape[0], run.shape[1]), ("out", out.shape[0], models),
    ):
        if one != rows or other != models:
            raise ValueError(f"{name}: expected {rows} rows of {models} models, got {one} of {other}")
    _share("correlation", correlation)
    options.resize(models)
    with nogil:
        for i in range(rows):
            for k in range(models):
                options[k].quality, options[k].cost_usd = quality[i, k], cost_usd[i, k]
                options[k].spread, options[k].run = spread[i, k], run[i, k] != 0
            native.plan(options, price, correlation, &planned)
            out[i] = planned.next


cdef int _columns(object running, native.RunningAnswer* out) except -1:
    cdef dict told = {name: [float(v) for v in getattr(running, name)] for name in (
        "tokens", "intercept", "slope", "prior_weight", "left",
    )}
    size = len(told["tokens"])
    for name, values in told.items():
        if len(values) != size or not all([isfinite(<double>value) for value in values]):
            raise ValueError(f"{name}: expected {size} numbers, as many as there are tokens, got {values}")
    if any([a >= b for a, b in zip([0.0] + told["tokens"], told["tokens"])]):
        raise ValueError(f"tokens: expected rising numbers above 0, got {told['tokens']}")
    out.tokens, out.intercept, out.slope = told["tokens"], told["intercept"], told["slope"]
    out.prior_weight, out.left = told["prior_weight"], told["left"]
    return 0


cdef class Handover:
    cdef native.RunningAnswer answer

    def __init__(self, running, double prior, double token_usd, double large_quality, large_cost_usd, double price,
                 double spread=0, double correlation=0, double large_spread=0, bint after=True):
        cdef native.RunningAnswer* answer = &self.answer
        if running.statistic not in STATISTICS:
            raise ValueError(f"statistic: expected one of {', '.join(STATISTICS)}, got {running.statistic!r}")
        answer.doubtful, answer.least, answer.most = STATISTICS[running.statistic]
        _columns(running, answer)
        answer.large_cost_usd = [_amount("large_cost_usd", cost) for cost in large_cost_usd]
        if answer.large_cost_usd.size() != answer.tokens.size() + 1:
            raise ValueError(f"large_cost_usd: expected {answer.tokens.size() + 1} numbers, at each knot and at the "
                             f"end, got {answer.large_cost_usd.size()}")
        answer.prior = way.log_odds(_share("prior", prior))
        answer.token_usd, answer.price = _amount("token_usd", token_usd), _amount("price", price)
        answer.spread, answer.large_spread = _amount("spread", spread), _amount("large_spread", large_spread)
        answer.correlation = _share("correlation", correlation)
        answer.large_quality, answer.after = _share("large_quality", large_quality), after

    def knots(self):
        cdef vector[native.Knot] knots
        cdef native.Boundary* boundary = new native.Boundary(self.answer)
        try:
            knots = boundary.knots()
        finally:
            del boundary
        cdef size_t i
        return tuple([(knots[i].tokens, knots[i].bound) for i in range(knots.size())])

    def worth(self, double tokens, double statistic=0):
        cdef native.Boundary* boundary = new native.Boundary(self.answer)
        cdef native.Worth found = boundary.worth(tokens, statistic)
        del boundary
        return found.going_on, found.handing_over
