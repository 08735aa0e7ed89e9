"""The common request's way in native code, from the bytes of one read to a frame, and its answer. See express.pyi."""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.unicode cimport PyUnicode_AsUTF8, PyUnicode_DecodeUTF8
from cpython.set cimport PySet_Add, PySet_Discard
from libc.math cimport NAN
from libc.stdint cimport int64_t, uint8_t, uint64_t
from libc.stdio cimport snprintf
from libcpp.string cimport string
from libcpp.vector cimport vector

from msgspec.structs import astuple

from router.errors import RouterError, Unauthorized
from router.native.call cimport Call, HeadNumbers, Receiver, Receivers
from router.native.lane cimport Lane
from router.native.meters cimport Histogram, Meters
from router.native.pipe cimport Outbox, Pipe
from router.native.policy cimport Numbers, Rule
from router.native.scorer cimport Scorer
from router.native.slots cimport Slots
from router.native.steps cimport Steps
from router.native.views cimport bytes_of, view_of

from router.native cimport steps as causes

cimport score as scoring
cimport way as native
from way cimport string_view


cdef extern from *:
    """
    #include <time.h>
    #include <string>
    static inline double headgate_now(void) {
      struct timespec t;
      clock_gettime(CLOCK_MONOTONIC, &t);
      return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
    }
    """
    double now "headgate_now"() nogil


cdef int MOST_RULES = 1000  # names that carry a number are remembered up to so many
cdef size_t MOST_BODY_BYTES = 256 * 1024  # above, scoring takes milliseconds: not on the event loop


@cython.final
cdef class Passage(Call):
    """One request on the common way. Whatever ends it otherwise than well makes an ordinary request of it first."""

    cdef readonly Express express
    cdef readonly Pipe connection
    cdef readonly str key_id
    cdef readonly str session_id
    cdef readonly bytes given_id  # the client's `x-request-id`, as it is echoed; None: the id is ours
    cdef readonly bytes traceparent
    cdef readonly int member
    cdef readonly bint stream
    cdef bint ended
    cdef readonly double received_s
    cdef Receiver reply
    cdef readonly bytes answer
    cdef readonly Numbers numbers
    cdef readonly bytes asked
    cdef readonly bint finished
    cdef readonly double first_s
    cdef readonly double ended_s
    cdef readonly str finish_reason
    cdef readonly object error
    cdef native.Finish finish
    cdef bytes data
    cdef size_t body_bytes
    cdef HeadNumbers head
    cdef size_t held_bytes  # of them, in the bound on pending bytes
    cdef tuple plain  # the ordinary exchange and request, once they were needed

    @property
    def keep_alive(self):
        return True

    @property
    def body(self):
        return self.data[len(self.data) - self.body_bytes:]

    @property
    def overhead_s(self):
        return self.head.overhead_s

    @property
    def request_id(self):
        if self.given_id is not None:
            return self.given_id.decode()
        return f"{self.express.request_prefix}{self.head.request:08x}"

    @property
    def decision(self):
        return self.numbers.decision(f"{self.express.decision_prefix}-{self.head.decision:x}")

    @property
    def usage(self):
        return self.finish.prompt_tokens, self.finish.completion_tokens, self.finish.cached_tokens

    @property
    def timings(self):
        return self.finish.first_token_s, self.finish.total_s

    # The receiver of a call, and the call

    @property
    def receiver(self):
        return self

    def chunk(self, bytes data not None):
        self._chunk(view_of(data))

    def done(self, done):
        cdef native.Finish finish
        usage, timings = done.usage, done.timings
        finish.prompt_tokens, finish.completion_tokens = usage.prompt_tokens, usage.completion_tokens
        finish.cached_tokens = usage.cached_tokens
        finish.first_token_s, finish.total_s = timings.first_token_s, timings.total_s
        finish.reason = string_view()
        if self._ends_natively():
            self.finish_reason = done.finish_reason
            self._finish(&finish)
        else:
            held = self.started and self.express.holds_ends
            self.ordinary(causes.kJournal if held else causes.kAnswer).done(done)

    def fail(self, failure):
        if not (self.stream and self.started) or self.plain is not None or self.express.holds_ends:
            self.ordinary(causes.kFailed).fail(failure)
        elif not self.ended:
            self._break_off(failure.error)

    def handoff(self, handoff):
        self.ordinary(causes.kFailed).handoff(handoff)

    # The pipeline's request, and the connection's exchange

    def refuse(self, error):
        self.ordinary(causes.kRefused).refuse(error)

    def gone(self):
        if not self.ended:
            self._unfolded(causes.kClientGone)[0].gone()

    def exchange(self):
        return self._unfolded(causes.kCut)[0]

    # Within

    cdef ordinary(self, int cause):
        return self._unfolded(cause)[1]

    cdef tuple _unfolded(self, int cause):
        if self.plain is None:
            self.express.steps.left[cause + causes.kOnceBegun if self.started else cause] += 1
            self.plain = self.express.unfold(self)
        return self.plain

    cdef bint _ends_natively(self) except -1:
        return self.started and self.plain is None and not self.express.door.draining and not self.express.holds_ends

    cdef int _chunk(self, string_view data) except -1:
        if self.stream and self.started and self.plain is None and data.size():
            self.reply._chunk(data)
        elif self.started or self.plain is not None or not data.size() or self.express.door.draining:
            self.ordinary(causes.kAnswer).chunk(bytes_of(data))
        else:
            self.started = True
            self.express.steps.begun += 1
            self.first_s = now() - self.received_s
            if not self.express.keeps_bodies:
                self._let_go_of_body()
                self.data, self.body_bytes = b"", 0  # no retry will need it, and an answer may take long
            if self.stream:
                self.reply._begin(&self.head)
                self.reply._chunk(data)
            else:
                self.answer = bytes_of(data)
        return 0

    cdef int _finish(self, const native.Finish* finish) except -1:
        self.express.steps.ended += 1
        self.finish, self.finished = finish[0], True
        if finish.reason.size():
            self.finish_reason = PyUnicode_DecodeUTF8(finish.reason.data(), finish.reason.size(), b"replace")
        self.finish.reason = string_view()  # its bytes are the frame's
        self._end()
        try:
            if self.stream:
                self.reply._end_stream()
            else:
                self.reply._whole(&self.head, self.answer)
                self.answer = None
            self.connection.answered(self)
        except Exception as error:  # a bug of ours must not take the engine's connection along
            self.express.door.bug(error)
            self.connection.abort()
        return 0

    cdef _break_off(self, error):
        """A stream that has begun ends in an error: it is not tried again, so nothing more has to be known of it."""
        cdef object door = self.express.door
        self.express.steps.ended += 1
        self.error = error
        self._end()
        try:
            self.reply.fail(error)
            self.connection.answered(self)
        except Exception as bug:  # the others of a lost engine are still to be ended
            door.bug(bug)
            self.connection.abort()

    def end(self):
        if not self.ended:
            self._end()

    cdef _end(self):
        """No longer counted; in the ledger with the next tick."""
        cdef Express express = self.express
        self.ended, self.ended_s = True, now()
        PySet_Discard(express.requests, self)
        self._let_go_of_body()
        express.ended.append(self)
        if len(express.ended) == 1:
            express.wake()
        express.slots.end(self.ended_s - self.received_s)

    cdef _let_go_of_body(self):
        self.express.slots.drop_body(self.held_bytes)
        self.held_bytes = 0


cdef class Express:
    """The way through one pool. Called from the event loop's thread only."""

    cdef readonly tuple names
    cdef readonly Slots slots
    cdef readonly set requests
    cdef readonly object door
    cdef readonly object unfold
    cdef Receivers replies
    cdef readonly str decision_prefix
    cdef readonly str request_prefix
    cdef readonly Outbox outbox
    cdef public bint holds_ends
    cdef public bint keeps_bodies
    cdef public object wake
    cdef list ended  # since the last tick
    cdef bytes asked  # the `model` in `chat`
    cdef readonly bytes given_id
    cdef readonly Steps steps
    cdef readonly int left  # why `take` took nothing
    cdef list lanes
    cdef list meters
    cdef Histogram decision_seconds
    cdef Histogram overhead_seconds
    cdef object next_decision
    cdef object next_request
    cdef object find_key
    cdef Scorer scorer
    cdef object head  # the scorer, or a function that scores; None: nothing is taken
    cdef dict rules  # by model name
    cdef object settings
    cdef bytes start
    cdef native.HttpLimits limits
    cdef native.TurnShares shares
    cdef native.Chat chat
    cdef vector[native.Member] members
    cdef vector[scoring.Text] texts
    cdef vector[float] scored
    cdef vector[native.Score] scores

    def __init__(self, slots, requests, lanes, names, next_decision, decision_prefix, limits, io_uring=True):
        self.slots, self.requests, self.lanes, self.names = slots, requests, list(lanes), tuple(names)
        self.next_decision, self.decision_prefix = next_decision, decision_prefix
        self.limits.head_bytes, self.limits.headers = limits.header_bytes, limits.headers
        self.limits.body_bytes = min(limits.body_bytes, MOST_BODY_BYTES)
        self.outbox, self.ended, self.wake, self.steps = Outbox(io_uring), [], _nobody, Steps()
        for lane in self.lanes:
            lane.outbox = self.outbox
        self.members.resize(len(self.lanes))
        self.scored.resize(len(self.lanes))
        self.scores.resize(len(self.lanes))

    def decide_by(self, head, turns, rules, settings):
        scorer = head if isinstance(head, Scorer) else None
        if scorer is not None and scorer.models != len(self.lanes):
            raise ValueError(f"scorer: expected {len(self.lanes)} models, got {scorer.models}")
        self.scorer, self.head = scorer, head
        self.shares.earlier, self.shares.decay, self.shares.system = turns.earlier, turns.decay, turns.system
        self.rules = {name.encode(): Rule(rule) for name, rule in rules.items()}
        self.rules[b""] = self.rules[b"auto"]
        self.settings = settings

    def close(self):
        self.head = None

    def open(self, door, target, unfold, next_request, request_prefix, replies, find_key=None):
        self.replies = replies
        self.door, self.unfold, self.next_request = door, unfold, next_request
        self.start = f"POST {target} HTTP/1.1\r\n".encode()
        self.request_prefix = request_prefix
        self.find_key = find_key
        metrics = door.metrics
        self.meters = [Meters(metrics, target, name) for name in self.names]
        self.decision_seconds = Histogram(metrics.decision_seconds)
        self.overhead_seconds = Histogram(metrics.overhead_seconds)

    def take(self, Pipe connection not None, bytes data not None):
        cdef native.PlainRequest plain
        cdef double received_s = now()
        self.given_id = None
        self.left = causes.kSlowHead if self.head is None else native.read_plain(
            view_of(data), view_of(self.start), self.limits, &plain)
        cdef Rule rule = self._rule(plain.body) if self.left == causes.kStays else None
        if rule is None:
            return None
        if not self.slots.admits(plain.body.size()):
            return self._leave(causes.kBounds)
        key_id = "" if self.find_key is None else self._key_id(&plain)
        if key_id is None:
            return self._leave(causes.kKey)
        self._look(received_s)
        if plain.request_id.size():
            self.given_id = (<bytes>native.echoed_id(plain.request_id)) or None
        cdef double begun = now()
        cdef uint64_t tokens = self._score()
        cdef Numbers numbers = self._decide(rule, tokens)
        cdef native.Choice* choice = &numbers.decided.choice
        if choice.member < 0:
            return self._leave(causes.kNoMember)
        cdef Lane lane = <Lane>self.lanes[choice.member]
        if lane.send is None or lane.probed:
            return self._leave(causes.kUrl if not lane.framed else causes.kBreaker if lane.probed else causes.kSlowHost)
        cdef Passage passage = Passage.__new__(Passage)
        passage.express, passage.connection, passage.lane, passage.numbers = self, connection, lane, numbers
        passage.member, passage.stream = choice.member, self.chat.stream
        passage.data, passage.body_bytes, passage.received_s = data, plain.body.size(), received_s
        passage.key_id, passage.asked, passage.held_bytes = key_id, self.asked, passage.body_bytes
        passage.session_id = bytes_of(plain.session_id).decode() if plain.session_id.size() else ""
        passage.traceparent = bytes_of(plain.traceparent) if plain.traceparent.size() else b""
        passage.given_id = self.given_id
        passage.reply = self.replies._receiver(connection)
        passage.head = HeadNumbers(
            request=self.next_request() if self.given_id is None else 0, decision=self.next_decision(),
            member=choice.member, reason=<int>choice.reason, overhead_s=0, score=choice.score,
            threshold=numbers.decided.settings.threshold if choice.reason == native.kThreshold else NAN,
            given_id=string_view() if self.given_id is None else view_of(self.given_id),
        )
        cdef double decided = now()
        self._hand_over(passage, lane, plain.body)
        lane.load.load.submitted(tokens)
        self.steps.framed += 1
        self.decision_seconds.observe(decided - begun)
        cdef int64_t[::1] count = (<Meters>self.meters[choice.member]).decisions[<int>choice.reason]
        count[0] += 1
        passage.head.overhead_s = now() - received_s
        self.overhead_seconds.observe(passage.head.overhead_s)
        return passage

    cdef object _leave(self, int cause):
        self.left = cause
        return None

    def decide(self, bytes body not None):
        cdef Rule rule = None if self.head is None else self._rule(view_of(body))
        if rule is None:
            return None
        self._look(now())
        cdef Numbers numbers = self._decide(rule, self._score())
        return None if numbers.decided.choice.member < 0 else self.names[numbers.decided.choice.member]

    def take_ended(self):
        cdef list ended = self.ended
        cdef Passage passage
        self.ended = []
        for passage in ended:
            if passage.finished:
                (<Meters>self.meters[passage.member]).finished(&passage.finish, passage.ended_s - passage.received_s,
                                                               passage.first_s if passage.stream else -1)
        return ended

    cdef Rule _rule(self, string_view body):
        """Reads `body` into `chat`; how to decide for its model. None: not plain, or no such name."""
        self.left = causes.kBody
        if not native.read_chat(body, &self.chat):
            return None
        self.left = causes.kModel
        cdef bytes model = bytes_of(self.chat.model)
        self.asked = model
        rule = self.rules.get(model)
        if rule is None and model.startswith(b"router-") and len(self.rules) < MOST_RULES:
            try:
                rule = self.rules[model] = Rule(self.settings(model.decode()))
            except RouterError:
                return None
        return rule

    cdef object _key_id(self, native.PlainRequest* plain):
        """None for whoever is not let in: the full parser says why."""
        try:
            return self.find_key(bytes_of(plain.authorization), bytes_of(plain.api_key))
        except Unauthorized:
            return None

    cdef int _look(self, double now_s) except -1:
        """The members as they are now."""
        cdef Py_ssize_t i
        for i in range(len(self.lanes)):
            (<Lane>self.lanes[i]).look(now_s, &self.members[i])
        return 0

    cdef uint64_t _score(self) except? 0:
        cdef uint64_t tokens
        native.weigh(self.chat.turns, self.shares, &self.texts)
        if self.scorer is None:
            return self._ask_head()
        with nogil:
            tokens = scoring.score(self.scorer.encoder.config, self.scorer.model, self.texts.data(), self.texts.size(),
                                   self.scored.data())
        cdef size_t i
        for i in range(self.scored.size()):
            self.scores[i].quality = self.scored[i]
        return tokens

    cdef uint64_t _ask_head(self) except? 0:
        """Of a head in Python."""
        cdef size_t i
        cdef list segments = []
        for i in range(self.texts.size()):
            text = PyUnicode_DecodeUTF8(<const char*>self.texts[i].data, self.texts[i].size, NULL)
            segments.append((text, <double>self.texts[i].weight))
        quality, tokens = astuple(self.head(segments))
        for i in range(self.scores.size()):
            self.scores[i].quality = quality[i]
        return tokens

    cdef Numbers _decide(self, Rule rule, uint64_t tokens):
        cdef Numbers numbers = Numbers.__new__(Numbers)
        cdef native.Chat* chat = &self.chat
        numbers.models, numbers.decided.members, numbers.decided.scores = self.names, self.members, self.scores
        numbers.decided.question = native.chat_question(tokens, chat.choices, chat.max_tokens, chat.needs)
        numbers.decide_by(rule)
        return numbers

    cdef _hand_over(self, Passage passage, Lane lane, string_view body):
        cdef char own_id[64]
        cdef string_view request_id = passage.head.given_id
        if passage.given_id is None:
            request_id = string_view(own_id, snprintf(
                own_id, sizeof(own_id), b"%.40s%08llx", PyUnicode_AsUTF8(self.request_prefix),
                <unsigned long long>passage.head.request))
        passage.id = lane.last_id = lane.last_id + 1
        lane.send(_submit(passage.id, body, request_id, view_of(passage.traceparent)))
        lane.calls[passage.id] = passage
        PySet_Add(self.requests, passage)
        self.slots.take(passage.held_bytes)


def _nobody():
    """In the place of a ledger."""


cdef bytes _submit(uint64_t id, string_view body, string_view request_id, string_view traceparent):
    cdef bytes frame = PyBytes_FromStringAndSize(NULL, native.submit_size(id, body, request_id, traceparent))
    native.put_submit(<uint8_t*>PyBytes_AS_STRING(frame), id, body, request_id, traceparent)
    return frame
