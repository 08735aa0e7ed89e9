"""The native steps of one request from its hand-over to its end. See request.pyi."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.set cimport PySet_Add, PySet_Discard
from cpython.unicode cimport PyUnicode_DecodeUTF8
from libc.stdint cimport uint64_t
from libc.string cimport memcpy
from libcpp.string cimport string

cimport phases
cimport way
from router.native.call cimport Call, Receiver
from router.native.writer cimport Writer
from router.native.steps cimport Steps
from router.native.views cimport view_of
from way cimport string_view

from router.native cimport steps as causes


cdef const char* HEX = b"0123456789abcdef"
MOST_KEPT_BODY_BYTES = 256 * 1024
cdef size_t MOST_KEPT = MOST_KEPT_BODY_BYTES
MOST_KEPT_ANSWER_BYTES = 1 << 20
cdef size_t MOST_KEPT_ANSWER = MOST_KEPT_ANSWER_BYTES
cdef size_t MOST_KEPT_IN_ALL = 64 << 20


cdef class Requests:
    def __init__(self, slots, desk, str request_prefix not None, str decision_prefix not None):
        self.slots, self.desk, self.steps = slots, desk, Steps()
        self.request_prefix, self.decision_prefix = request_prefix.encode(), f"{decision_prefix}-".encode()
        self.open, self.ended, self.wake = set(), [], _nobody

    def __len__(self):
        return len(self.open)

    def __iter__(self):
        return iter(tuple(self.open))

    def add(self, BaseRequest request not None):
        PySet_Add(self.open, request)

    def take_ended(self):
        cdef list ended = self.ended
        self.ended = []
        return ended


def _nobody():
    """In the place of a ledger."""


cdef class BaseRequest(Call):
    def __init__(self, Requests requests not None, Receiver receiver not None, bytes body not None, bint stream,
                 double received_s):
        self.requests, self.receiver = requests, receiver
        self.data, self.body_bytes, self.stream, self.received_s = body, PyBytes_GET_SIZE(body), stream, received_s
        self.member = -1

    @property
    def body(self):
        return self.data[len(self.data) - self.body_bytes:]

    # Made when first read, in Python: here, as a property of Python costs three times as much.

    @property
    def desk(self):
        return self.requests.desk

    @property
    def query(self):
        if self.known_query is None:
            self.known_query = self.read_query()
        return self.known_query

    @property
    def settings(self):
        if self.known_settings is None:
            self.known_settings = self.find_settings()
        return self.known_settings

    @property
    def decision(self):
        if self.known_decision is None and self.numbers is not None:
            self.known_decision = self.numbers.decision(self.decision_id)
        return self.known_decision

    @property
    def legs(self):
        if self.known_legs is None:
            self.known_legs = self.first_leg()
        return self.known_legs

    @property
    def first_s(self):
        return self.begun_s - self.received_s if self.begun_s > 0 else None

    @property
    def overhead_s(self):
        return self.head.overhead_s

    @property
    def told_id(self):
        if self.given_id is not None:
            return self.given_id.decode()
        cdef char id[MOST_ID_BYTES]
        return id[:write_id(id, self.requests.request_prefix, self.head.request, 8)].decode()

    @property
    def decision_id(self):
        cdef char id[MOST_ID_BYTES]
        return id[:write_id(id, self.requests.decision_prefix, self.head.decision, 1)].decode()

    @property
    def usage(self):
        return self.finish.prompt_tokens, self.finish.completion_tokens, self.finish.cached_tokens

    @property
    def timings(self):
        return self.finish.first_token_s, self.finish.total_s

    @property
    def kept(self):
        """A copy: of up to `MOST_KEPT_ANSWER_BYTES`."""
        cdef string all
        if not self.keeps:
            return None
        all = self.told.all()
        return PyBytes_FromStringAndSize(all.data(), all.size())

    def handed_over(self, int member):
        self._go(phases.kWaiting)
        self.member = member

    def leave(self, int cause):
        self._leave(cause)

    def end(self, str phase not None):
        return self._end(phases.kFailed if phase == "failed" else phases.kCancelled)

    # The call

    def chunk(self, bytes data not None):
        self._chunk(view_of(data))

    def done(self, done):
        cdef way.Finish finish
        usage, timings = done.usage, done.timings
        finish.prompt_tokens, finish.completion_tokens = usage.prompt_tokens, usage.completion_tokens
        finish.cached_tokens = usage.cached_tokens
        finish.first_token_s, finish.total_s = timings.first_token_s, timings.total_s
        reason = done.finish_reason.encode()
        finish.reason = view_of(reason)
        self._finish(&finish)

    cdef int _chunk(self, string_view data) except -1:
        cdef Receiver receiver
        if self.at == <int>phases.kAnswering or (self.at == <int>phases.kWaiting and self._answering()):
            if self.keeps:
                self._keep(data)
            receiver = self.receiver  # held: it may end the request, which then lets go of it
            receiver._chunk(data)
        return 0

    cdef bint _ends_natively(self) except -1:
        return True

    cdef int _finish(self, const way.Finish* finish) except -1:
        cdef Requests requests = self.requests
        cdef Receiver receiver
        cdef bint held
        if self.at == <int>phases.kWaiting:
            self._leave(causes.kAnswer)
            self._answering()
        if self.at != <int>phases.kAnswering:
            return 0
        self.finish, self.finished = finish[0], True
        self.finish_reason = PyUnicode_DecodeUTF8(finish.reason.data(), finish.reason.size(), b"replace")
        self.finish.reason = string_view()  # its bytes are the frame's
        held = requests.holds_ends and not (self.native and requests.keeps_pace and self.receiver._gathers())
        if held:
            self._leave(causes.kJournal)
        receiver = self._end(phases.kFinished)
        if held:
            self.tell_later(receiver)
        else:
            try:
                receiver._finish(self)
            except Exception:  # a bug of ours must not take the engine's connection along
                self.receiver_broke()
        if self.native:
            self.requests.steps.ended += 1
        return 0

    # Within

    cdef int _answering(self) except -1:
        """The first bytes are due; whether they are still wanted."""
        cdef Receiver receiver = self.receiver  # held, as in `_chunk`
        self._go(phases.kAnswering)
        self.begun_s = now()
        if self.stream and (self.course is not None or
                            self.requests.keeps_answers and self.lane is not None and self.lane.continues):
            self._keep_from_now()
        if not self.requests.keeps_bodies or self.body_bytes > MOST_KEPT:
            self._drop_body()
            if not self.keeps:
                self.data, self.body_bytes = b"", 0  # no retry will need it, and an answer may take long
        if self.known_query is not None and not self.keeps:
            self.forget_turns()
        receiver._begin(self)
        if self.native:
            self.requests.steps.begun += 1
        return self.at == <int>phases.kAnswering

    cdef Receiver _end(self, int phase):
        """The one end: no longer counted, in the ledger with the next tick. The receiver, to be told: it and the
        request hold one another, and part here, not in the cycle collector."""
        cdef Requests requests = self.requests
        cdef Receiver receiver = self.receiver
        self._go(phase)
        self.receiver = None
        self.ended_s = now()
        PySet_Discard(requests.open, self)
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
        if self.keeps:
            self._drop_kept()
        if self.course is not None:
            self.course.close()
        if self.permit is not None:
            self.permit.settle()
        else:
            self._drop_body()
            requests.slots.end(self.ended_s - self.received_s)
        requests.ended.append(self)
        if len(requests.ended) == 1:
            requests.wake()
        return receiver

    cdef int _keep_from_now(self) except -1:
        """What is told, and the body, until the end, as far as the bounds allow: another engine may have to go on."""
        if self.body_bytes + self.requests.kept_bytes <= MOST_KEPT_IN_ALL and self.body_bytes <= MOST_KEPT:
            self.keeps, self.kept_bytes = True, self.body_bytes
            self.requests.kept_bytes += self.body_bytes
        return 0

    cdef int _keep(self, string_view data) except -1:
        cdef size_t before = self.told.held()
        if self.told.told() + data.size() > MOST_KEPT_ANSWER or self.requests.kept_bytes > MOST_KEPT_IN_ALL:
            return self._drop_kept()
        self.told.add(data)
        self.kept_bytes += self.told.held() - before
        self.requests.kept_bytes += self.told.held() - before
        return 0

    cdef int _drop_kept(self) except -1:
        self.requests.kept_bytes -= self.kept_bytes
        self.keeps, self.kept_bytes = False, 0
        self.told = Kept()  # its room is given back
        if not self.requests.keeps_bodies or self.body_bytes > MOST_KEPT:
            self.data, self.body_bytes = b"", 0
        if self.known_query is not None and self.at == <int>phases.kAnswering:
            self.forget_turns()
        return 0

    cdef int _drop_body(self) except -1:
        """Its bytes are no longer counted."""
        if self.permit is not None:
            self.permit.drop_body()
        elif self.held_bytes:
            self.requests.slots.drop_body(self.held_bytes)
            self.held_bytes = 0
        return 0

    cdef int _leave(self, int cause) except -1:
        """From now on its steps are those in Python; `cause`: of router.native.steps."""
        if self.native:
            self.native = False
            self.requests.steps.left[cause + causes.kOnceBegun if self.begun_s > 0 else cause] += 1
        return 0


cdef size_t write_id(char* out, bytes prefix, uint64_t number, int digits) noexcept:
    """`prefix`, 40 bytes at most, and `number` in at least so many hexadecimal digits; how many bytes they take."""
    cdef int i
    cdef size_t size = min(PyBytes_GET_SIZE(prefix), 40)
    memcpy(out, PyBytes_AS_STRING(prefix), size)
    while digits < 16 and number >> (4 * digits):
        digits += 1
    for i in range(digits):
        out[size + i] = HEX[number >> (4 * (digits - 1 - i)) & 15]
    return size + digits


cdef class Receivers:
    cdef Receiver _receiver(self, Writer connection, BaseRequest request):
        raise NotImplementedError("no receivers are made here")
