"""From the bytes of one read to a request handed over: the steps of a plain chat, natively. See intake.pyi."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.set cimport PySet_Add
from cpython.unicode cimport PyUnicode_DecodeUTF8
from libc.math cimport NAN
from libc.stdint cimport int64_t, uint8_t, uint64_t
from libcpp.vector cimport vector

from router.errors import RouterError, Unauthorized
from router.native.meters import NAMES_OF_REASONS

cimport phases
from router.native.fleet cimport Fleet
from router.native.lane cimport Lane
from router.native.meters cimport Histogram, Meters
from router.native.writer cimport SendBatch, Writer
from router.native.policy cimport Numbers, Rule, read_scores
from router.native.request cimport (
    MOST_ID_BYTES, BaseRequest, HeadNumbers, Receivers, Requests, new_of, now, write_id,
)
from router.native.scorer cimport Scorer
from router.native.slots cimport Slots
from router.native.steps cimport Steps
from router.native.views cimport bytes_of, view_of
from router.native cimport steps as causes
cimport score as scoring
cimport way as native
from way cimport string_view


cdef int MOST_RULES = 1000  # names that carry a number are remembered up to so many
cdef size_t MOST_BODY_BYTES = 256 * 1024  # above, scoring takes milliseconds: not on the event loop


def draw_of(str text not None):
    cdef bytes utf8 = text.encode("utf-8", "surrogatepass")
    return native.draw_of(view_of(utf8))


cdef class Intake:
    """See intake.pyi."""

    cdef readonly tuple names
    cdef readonly Requests requests
    cdef type request_class  # of Python, below BaseRequest
    cdef Slots slots
    cdef Steps steps
    cdef Receivers replies
    cdef readonly SendBatch batch
    cdef bytes asked  # the `model` in `chat`
    cdef readonly bytes given_id
    cdef readonly int left  # why `take` took nothing
    cdef Fleet fleet
    cdef readonly bint framed  # one of them, at least, takes frames
    cdef uint64_t edition  # of the pool
    cdef bint drawn  # for a canary
    cdef object metrics, about
    cdef str target
    cdef Histogram decision_seconds, overhead_seconds
    cdef object next_decision, next_request, find_key
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

    def __init__(self, Requests requests not None, type request_class not None, fleet, next_request,
                 next_decision, limits, io_uring=True):
        if not issubclass(request_class, BaseRequest):
            raise TypeError(f"request_class: expected a subclass of BaseRequest, got {request_class.__name__}")
        self.requests, self.request_class = requests, request_class
        self.slots, self.steps = requests.slots, requests.steps
        self.next_request, self.next_decision, self.rules = next_request, next_decision, {}
        self.limits.head_bytes, self.limits.headers = limits.header_bytes, limits.headers
        self.limits.body_bytes = min(limits.body_bytes, MOST_BODY_BYTES)
        self.batch = SendBatch(io_uring)
        self.hold(fleet)

    def hold(self, Fleet fleet not None, uint64_t edition=0):
        cdef list lanes = [lane for group in fleet.groups for lane in group]
        self.close()
        self.fleet, self.names, self.edition = fleet, fleet.models, edition
        self.framed = any([lane.framed for lane in lanes])
        self.drawn = any([lane.canary_weight > 0 for lane in lanes])
        for lane in lanes:
            lane.batch = self.batch
        self.members.resize(len(self.names))
        self.scores.resize(len(self.names))
        self._describe()

    def decide_by(self, head, turns, rules, settings):
        scorer = head if isinstance(head, Scorer) else None
        if scorer is not None and scorer.models != len(self.names):
            raise ValueError(f"scorer: expected {len(self.names)} models, got {scorer.models}")
        self.scorer, self.head = scorer, head
        self.shares.earlier, self.shares.decay, self.shares.system = turns.earlier, turns.decay, turns.system
        self.rules = {name.encode(): Rule(rule) for name, rule in rules.items()}
        self.rules[b""] = self.rules[b"auto"]
        self.settings = settings

    def decide_auto_by(self, names, settings):
        rule = Rule(settings)
        self.rules |= {name.encode(): rule for name in names}
        self.rules[b""] = rule

    def close(self):
        self.head = None

    def open(self, metrics, str target not None, Receivers replies not None, about, find_key=None):
        self.replies, self.find_key = replies, find_key
        self.start = f"POST {target} HTTP/1.1\r\n".encode()
        self.metrics, self.target, self.about = metrics, target, about
        self._describe()
        self.decision_seconds = Histogram(metrics.decision_seconds)
        self.overhead_seconds = Histogram(metrics.overhead_seconds)

    cdef int _describe(self) except -1:
        """What is counted and told of each model stands in its lanes, for as long as a request may be in one."""
        cdef Lane lane
        if self.metrics is None:
            return 0
        for lanes, name in zip(self.fleet.groups, self.names):
            meters = Meters(self.metrics, self.target, name)
            about = [self.about(name, reason).encode() for reason in NAMES_OF_REASONS]
            for lane in lanes:
                lane.meters, lane.about = meters, about
        return 0

    def take(self, Writer connection not None, bytes data not None):
        cdef native.PlainRequest plain
        cdef double received_s = now()
        self.given_id = None
        if self.head is None:
            return self._leave(causes.kSlowHead if self.framed else causes.kNoEngine)
        self.left = native.read_plain(view_of(data), view_of(self.start), self.limits, &plain)
        cdef Rule rule = self._rule(plain.body) if self.left == causes.kStays else None
        if rule is None:
            return None
        if not self.slots.admits(plain.body.size()):
            return self._leave(causes.kBounds)
        key_id = "" if self.find_key is None else self._key_id(&plain)
        if key_id is None:
            return self._leave(causes.kKey)
        if plain.request_id.size():
            self.given_id = (<bytes>native.echoed_id(plain.request_id)) or None
        cdef double begun = now()
        cdef uint64_t tokens = self._score(), decision = self.next_decision()
        cdef double draw = self._draw(plain.session_id, decision) if self.drawn else 0
        cdef Numbers numbers = self._decide(rule, tokens, draw, begun)
        cdef native.Choice* choice = &numbers.decided.choice
        if choice.member < 0 or not native.chats(self.members[choice.member].capabilities):
            return self._leave(causes.kNoMember)  # of one that was named and takes no chats, Python says what it does
        cdef Lane lane = self.fleet.lane(choice.member, numbers.decided.members[choice.member].replica)
        if lane.send is None or lane.probed:
            return self._leave(causes.kUrl if not lane.framed else causes.kBreaker if lane.probed else causes.kSlowHost)
        if not lane.load.load.open():
            return self._leave(causes.kNoRoom)
        cdef BaseRequest request = <BaseRequest>new_of(self.request_class)
        request.requests, request.lane, request.numbers, request.native = self.requests, lane, numbers, True
        request.member, request.stream, request.edition = choice.member, self.chat.stream, self.edition
        request.data, request.body_bytes, request.received_s = data, plain.body.size(), received_s
        request.key_id, request.asked, request.held_bytes = key_id, self.asked, request.body_bytes
        request.session_id = bytes_of(plain.session_id).decode() if plain.session_id.size() else ""
        request.traceparent = bytes_of(plain.traceparent) if plain.traceparent.size() else b""
        request.given_id = self.given_id
        request.receiver = self.replies._receiver(connection, request)
        request.head = HeadNumbers(
            request=self.next_request() if self.given_id is None else 0, decision=decision,
            reason=<int>choice.reason, overhead_s=0, score=choice.score,
            threshold=numbers.decided.settings.threshold if choice.reason == native.kThreshold else NAN,
            given_id=string_view() if self.given_id is None else view_of(self.given_id),
        )
        cdef double decided = now()
        self._hand_over(request, lane, plain.body)
        lane.load.load.submitted(tokens, lane.last_id, self.fleet.share(lane), native.length_of(numbers.decided))
        self.fleet.note(lane)
        self.steps.framed += 1
        self.decision_seconds.observe(decided - begun)
        cdef int64_t[::1] count = (<Meters>lane.meters).decisions[<int>choice.reason]
        count[0] += 1
        if self.fleet.steering is not None:
            self.fleet.steering.note(&numbers.decided)
        request.head.overhead_s = now() - received_s
        self.overhead_seconds.observe(request.head.overhead_s)
        return request.receiver

    cdef object _leave(self, int cause):
        self.left = cause
        return None

    def decide(self, bytes body not None):
        cdef Rule rule = None if self.head is None else self._rule(view_of(body))
        if rule is None:
            return None
        cdef Numbers numbers = self._decide(rule, self._score(), 0, now())
        return None if numbers.decided.choice.member < 0 else self.names[numbers.decided.choice.member]

    def count(self, list ended not None):
        cdef BaseRequest request
        for request in ended:
            if request.native and request.finished:
                (<Meters>request.lane.meters).finished(
                    &request.finish, request.ended_s - request.received_s,
                    request.begun_s - request.received_s if request.stream else -1)

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

    cdef uint64_t _score(self) except? 0:
        native.weigh(self.chat.turns, self.shares, &self.texts)
        return self._ask_head() if self.scorer is None else self.scorer.tell(self.texts, &self.scored, &self.scores)

    cdef uint64_t _ask_head(self) except? 0:
        """Of a head in Python."""
        cdef size_t i
        segments = [(PyUnicode_DecodeUTF8(<const char*>self.texts[i].data, self.texts[i].size, NULL),
                     <double>self.texts[i].weight) for i in range(self.texts.size())]
        scores = self.head(segments)
        read_scores(scores, self.scores.data(), self.scores.size())
        return scores.prompt_tokens

    cdef double _draw(self, string_view session_id, uint64_t decision) noexcept:
        cdef char id[MOST_ID_BYTES]
        if session_id.size():
            return native.draw_of(session_id)
        return native.draw_of(string_view(id, write_id(id, self.requests.decision_prefix, decision, 1)))

    cdef Numbers _decide(self, Rule rule, uint64_t tokens, double draw, double now_s):
        """On the members as they are now."""
        cdef Numbers numbers = Numbers.__new__(Numbers)
        cdef native.Chat* chat = &self.chat
        cdef native.Question* question = &numbers.decided.question
        question[0] = native.chat_question(tokens, chat.choices, chat.max_tokens, chat.needs)
        question.draw = draw
        self.fleet.read(chat.turns, b"")
        self.fleet.look(now_s, question, &rule.settings, self.members.data(), None, None)
        numbers.models, numbers.decided.members, numbers.decided.scores = self.names, self.members, self.scores
        numbers.decide_by(rule)
        return numbers

    cdef _hand_over(self, BaseRequest request, Lane lane, string_view body):
        """As the last act: what raises before leaves nothing behind."""
        cdef char own_id[MOST_ID_BYTES]
        cdef string_view request_id = request.head.given_id
        if request.given_id is None:
            request_id = string_view(own_id, write_id(own_id, self.requests.request_prefix, request.head.request, 8))
        request.id = lane.last_id = lane.last_id + 1
        lane.send(_submit(request.id, body, request_id, view_of(request.traceparent)))
        request._go(phases.kWaiting)
        lane.calls[request.id] = request
        PySet_Add(self.requests.open, request)
        self.slots.take(request.held_bytes)


cdef bytes _submit(uint64_t id, string_view body, string_view request_id, string_view traceparent):
    cdef bytes frame = PyBytes_FromStringAndSize(NULL, native.submit_size(id, body, request_id, traceparent))
    native.put_submit(<uint8_t*>PyBytes_AS_STRING(frame), id, body, request_id, traceparent)
    return frame
