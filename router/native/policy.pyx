"""The numbers of a decision, made and kept natively (csrc/policy.hpp). See policy.pyi."""

cimport cython
from libc.stdint cimport int32_t
from libc.string cimport memset
from libcpp.vector cimport vector

from router.native.meters import NAMES_OF_REASONS
from router.native.fleet cimport Picks
from router.native.made cimport fill, new_of, slot_of
from router.native.steering cimport Steering
from router.native.table cimport OTHER, Fields, fields_of
from router.types import Decision, DecisionNumbers, Term

cimport way as native


cdef Py_ssize_t MOST_KEPT = 1000  # settings that are remembered as numbers

cdef Fields MEMBER = fields_of(native.member_table())
cdef Fields SCORE = fields_of(native.score_table())
cdef Fields PROMPT = fields_of(native.prompt_table())
cdef Fields DRAW = fields_of(native.draw_table())
cdef Fields CORRELATION = fields_of(native.correlation_table())
cdef Fields BELIEF = fields_of(native.belief_table())
cdef Fields QUERY = fields_of(native.query_table())
cdef Fields SETTINGS = fields_of(native.settings_table())
cdef Fields TERM = fields_of(native.term_table())


NAMES = {
    "question": QUERY.names + PROMPT.names, "settings": SETTINGS.names,
    "members": MEMBER.names, "scores": SCORE.names, "terms": TERM.names,
}


cdef class Rule:
    """`policy.Settings` as numbers."""

    def __init__(self, settings):
        SETTINGS.read(settings, <char*>&self.settings)
        self.tried = sorted(settings.excluded)
        self.source = settings


cdef dict _rules = {}  # by the identity of settings, which a Rule keeps alive

cdef Rule _rule_of(object settings):
    rule = _rules.get(id(settings))
    if rule is None:
        rule = Rule(settings)
        if settings.excluded:  # of one request's second try
            return rule
        if len(_rules) >= MOST_KEPT:
            _rules.clear()
        _rules[id(settings)] = rule
    return <Rule>rule


@cython.final
cdef class _Pool:
    """A snapshot as numbers."""

    cdef object snapshot
    cdef tuple members
    cdef tuple models
    cdef vector[native.Member] numbers


cdef _Pool _last = None  # of the decision before: what did not change since is not read again

cdef _Pool _pool_of(object snapshot):
    global _last
    cdef _Pool last = _last
    if last is not None and last.snapshot is snapshot:
        return last
    cdef _Pool pool = _Pool.__new__(_Pool)
    cdef tuple members = tuple(snapshot.members)
    cdef Py_ssize_t i, n = len(members)
    cdef bint alike = last is not None and len(last.members) == n
    pool.snapshot, pool.members = snapshot, members
    pool.models = tuple([member.name for member in members])
    pool.numbers.resize(n)
    for i in range(n):
        if alike and members[i] is last.members[i]:
            pool.numbers[i] = last.numbers[i]
        else:
            MEMBER.read(members[i], <char*>&pool.numbers[i])
            pool.numbers[i].capabilities &= ~OTHER
    _last = pool
    return pool


@cython.final
@cython.no_gc  # names alone: no cycle goes through it
@cython.freelist(256)
cdef class Numbers:
    @property
    def member(self):
        return self.decided.choice.member

    @property
    def reason(self):
        return NAMES_OF_REASONS[<int>self.decided.choice.reason]

    @property
    def replica(self):
        cdef int member = self.decided.choice.member
        return -1 if member < 0 or not self.decided.members[member].replicas else self.decided.members[member].replica

    @property
    def pinned(self):
        return self.decided.settings.pinned if self.decided.settings.rule == native.kPinned else -1

    cdef int decide_by(self, Rule rule) except -1:
        """`models`, question, members and scores are there."""
        cdef native.Decided* decided = &self.decided
        decided.settings, decided.tried = rule.settings, rule.tried
        if rule.settings.rule == native.kPinned and not 0 <= rule.settings.pinned < len(self.models):
            raise ValueError(f"pinned: expected the index of one of {len(self.models)} members, "
                             f"got {rule.settings.pinned}")
        native.decide(decided)
        return 0

    def decision(self, str id not None, str reason=None):
        return self.tell(id, reason)

    cdef object tell(self, str id, str reason):
        cdef native.Choice* choice = &self.decided.choice
        if choice.member < 0:
            raise Refused(self)
        cdef bint by_threshold = choice.reason == native.kThreshold
        made = new_of(Decision)
        fill(made, _ID, id)
        fill(made, _MODEL, self.models[choice.member])
        fill(made, _MEMBER, choice.member)
        fill(made, _REASON, NAMES_OF_REASONS[<int>choice.reason] if reason is None else reason)
        fill(made, _RUNNER_UP, None if choice.runner_up < 0 else self.models[choice.runner_up])
        fill(made, _MARGIN, choice.margin)
        fill(made, _SCORE, choice.score)
        fill(made, _THRESHOLD, self.decided.settings.threshold if by_threshold else None)
        fill(made, _NUMBERS, self)
        return made

    def note(self, Steering steering not None):
        steering.note(&self.decided)

    def settle(self, Steering steering not None, double tokens):
        steering.settle(&self.decided, tokens)

    def terms(self):
        cdef vector[native.Term] terms
        cdef size_t i, k
        native.terms_of(self.decided, &terms)
        return tuple([
            Term(model=self.models[i],
                 **{TERM.names[k]: TERM.value(k, <const char*>&terms[i]) for k in range(TERM.size)})
            for i in range(terms.size())
        ])

    def column(self, str name not None):
        cdef vector[native.Term] terms
        cdef size_t i, k = TERM.names.index(name)
        native.terms_of(self.decided, &terms)
        return [TERM.value(k, <const char*>&terms[i]) for i in range(terms.size())]

    def record(self):
        cdef native.Decided* decided = &self.decided
        cdef vector[native.Term] terms
        cdef size_t n = decided.members.size()
        native.terms_of(decided[0], &terms)
        return DecisionNumbers(
            models=self.models,
            question=_question(decided),
            settings=SETTINGS.values(<const char*>&decided.settings),
            excluded=tuple(decided.tried),
            members=MEMBER.columns(<const char*>decided.members.data(), sizeof(native.Member), n),
            scores=SCORE.columns(<const char*>decided.scores.data(), sizeof(native.Score), n),
            terms=TERM.columns(<const char*>terms.data(), sizeof(native.Term), n),
            beliefs=BELIEF.columns(<const char*>decided.beliefs.data(), sizeof(native.Belief), decided.beliefs.size()),
        )

    def __reduce__(self):
        return numbers_of, (self.record(),)


class Refused(Exception):
    """No member can serve; `numbers` tell why."""

    def __init__(self, numbers):
        super().__init__("no member can serve")
        self.numbers = numbers


# Places of the slots of a Decision; `terms` stays empty until it is read.
cdef Py_ssize_t _ID, _MODEL, _MEMBER, _REASON, _RUNNER_UP, _MARGIN, _SCORE, _THRESHOLD, _NUMBERS
(_ID, _MODEL, _MEMBER, _REASON, _RUNNER_UP, _MARGIN, _SCORE, _THRESHOLD, _NUMBERS) = _SLOTS = [
    slot_of(Decision.__dict__[name])
    for name in ("id", "model", "member", "reason", "runner_up", "margin", "score", "threshold", "_numbers")
]
if min(_SLOTS) < 0:
    raise TypeError("types.Decision: expected a slot for each of its fields")


cdef int read_scores(object scores, native.Score* out, size_t n) except -1:
    """Columns of `scores`, in the pool's order. One that the head does not give is empty; the quality must be there."""
    cdef size_t i, k, size
    cdef tuple column
    memset(out, 0, n * sizeof(native.Score))
    for k in range(SCORE.size):
        column = tuple(getattr(scores, <str>SCORE.names[k]))
        size = len(column)
        if size != n and (k == 0 or size):
            raise ValueError(f"{SCORE.names[k]}: expected {n} values, in the pool's order, got {size}")
        for i in range(size):
            SCORE.store(k, column[i], <char*>&out[i])
    return 0


cdef dict _question(const native.Decided* decided):
    question = QUERY.values(<const char*>&decided.question) | PROMPT.values(<const char*>&decided.question)
    if not decided.beliefs.empty():
        question |= CORRELATION.values(<const char*>&decided.question)
    return question | DRAW.values(<const char*>&decided.question) if decided.question.draw else question


def decide(query, scores, pool, settings, double draw=0):
    return _decide(query, scores, pool, settings, draw)


def decision(query, scores, pool, settings, str id not None, str reason=None, double draw=0):
    return _decide(query, scores, pool, settings, draw).tell(id, reason)


cdef Numbers _decide(object query, object scores, object pool, object settings, double draw):
    cdef Numbers numbers = Numbers.__new__(Numbers)
    cdef native.Decided* decided = &numbers.decided
    cdef _Pool read
    if isinstance(pool, Picks):
        numbers.models, decided.members = (<Picks>pool).models, (<Picks>pool).members
    else:
        read = _pool_of(pool)
        numbers.models, decided.members = read.models, read.numbers
    QUERY.read(query, <char*>&decided.question)
    PROMPT.read(scores, <char*>&decided.question)
    decided.question.draw = draw
    decided.scores.resize(decided.members.size())
    read_scores(scores, decided.scores.data(), decided.scores.size())
    numbers.decide_by(_rule_of(settings))
    return numbers


def decide_again(Numbers numbers not None, settings=None):
    cdef Numbers again = Numbers.__new__(Numbers)
    cdef Rule rule
    again.models, again.decided = numbers.models, numbers.decided
    rule = Rule.__new__(Rule) if settings is None else _rule_of(settings)
    if settings is None:
        rule.settings, rule.tried = numbers.decided.settings, numbers.decided.tried
    again.decide_by(rule)
    return again


def numbers_of(record):
    cdef Numbers numbers = Numbers.__new__(Numbers)
    cdef native.Decided* decided = &numbers.decided
    cdef Rule rule = Rule.__new__(Rule)
    cdef size_t n = len(record.models)
    numbers.models = tuple(record.models)
    decided.members.resize(n)
    decided.scores.resize(n)
    QUERY.read_known(record.question, <char*>&decided.question)
    PROMPT.read_known(record.question, <char*>&decided.question)
    DRAW.read_known(record.question, <char*>&decided.question)
    if record.beliefs:
        decided.beliefs.resize(n)
        CORRELATION.read_known(record.question, <char*>&decided.question)
        BELIEF.read_columns(record.beliefs, <char*>decided.beliefs.data(), sizeof(native.Belief), n)
    MEMBER.read_columns(record.members, <char*>decided.members.data(), sizeof(native.Member), n)
    SCORE.read_columns(record.scores, <char*>decided.scores.data(), sizeof(native.Score), n)
    SETTINGS.read_known(record.settings, <char*>&rule.settings)
    rule.tried = record.excluded
    numbers.decide_by(rule)
    return numbers


def win_rate(double strong, double weak):
    return native.win_rate(strong, weak)


def best(const double[:, ::1] quality not None, const double[:, ::1] cost_usd not None, double price,
         int32_t[::1] out not None):
    cdef Py_ssize_t i, rows = quality.shape[0], models = quality.shape[1]
    if cost_usd.shape[0] != rows or cost_usd.shape[1] != models or out.shape[0] != rows or models < 1:
        raise ValueError(f"expected quality and costs [{rows}, {models}] of at least one model and out [{rows}], "
                         f"got costs [{cost_usd.shape[0]}, {cost_usd.shape[1]}] and out [{out.shape[0]}]")
    with nogil:
        for i in range(rows):
            out[i] = native.best_of(&quality[i, 0], &cost_usd[i, 0], models, price)
