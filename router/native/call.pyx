"""One request as its engine's connection sees it, and how the frames of one read reach their calls. See call.pyi."""

from libc.stdint cimport uint64_t
from libcpp.vector cimport vector

cimport phases
cimport way as native
from router.native.lane cimport Lane
from router.native.writer cimport SendBatch
from router.native.views cimport bytes_of, view_of
from way cimport string_view

PHASES = ("new", "queued", "scoring", "waiting", "answering", "finished", "failed", "cancelled")


cdef class Receiver:
    def start(self, decision):
        raise NotImplementedError("a receiver without a beginning")

    def chunk(self, bytes data not None):
        raise NotImplementedError("a receiver without a place for chunks")

    def done(self, done):
        raise NotImplementedError("a receiver without an end")

    def fail(self, error):
        raise NotImplementedError("a receiver without a way to tell errors")

    cdef int _begin(self, Call call) except -1:
        """The first chunk is due."""
        self.start(call.decision)
        return 0

    cdef int _chunk(self, string_view data) except -1:
        self.chunk(bytes_of(data))
        return 0

    cdef bint _gathers(self) except -1:
        """Whether its last bytes will go to the batch, and nowhere else."""
        return False

    cdef int _finish(self, Call call) except -1:
        """All chunks have come."""
        self.done(call.message)
        return 0


cdef class Call:
    @property
    def phase(self):
        return PHASES[self.at]

    @property
    def started(self):
        return self.at == <int>phases.kAnswering

    @property
    def ended(self):
        return phases.is_end(self.at)

    def go(self, str phase not None):
        self._go(PHASES.index(phase))

    cdef int _go(self, int phase) except -1:
        if not phases.may_follow(self.at, phase):
            raise RuntimeError(f"a request that is {PHASES[self.at]!r} cannot become {PHASES[phase]!r}")
        self.at = phase
        return 0

    def chunk(self, bytes data not None):
        raise NotImplementedError("a call without a place for chunks")

    def done(self, done):
        raise NotImplementedError("a call without an end")

    def handoff(self, handoff):
        raise NotImplementedError("a call that nothing continues")

    def fail(self, failure):
        raise NotImplementedError("a call without a way to tell failures")

    cdef int _chunk(self, string_view data) except -1:
        """The next bytes of the answer."""
        self.chunk(bytes_of(data))
        return 0

    cdef bint _ends_natively(self) except -1:
        """Whether `_finish` is enough of an end; else the whole message is wanted."""
        return False

    cdef int _finish(self, const native.Finish* finish) except -1:
        """It ended well, and is no longer in `lane.calls`."""
        raise NotImplementedError("a call without a native end")


def pass_on(Lane lane not None, bytes data not None, broke):
    """See call.pyi."""
    cdef SendBatch batch = lane.batch
    batch.begin()
    try:
        return _pass_frames(lane, view_of(data), broke)
    finally:
        batch.end()


cdef Py_ssize_t _pass_frames(Lane lane, string_view data, broke) except -1:
    cdef string_view frame
    cdef size_t at = 0
    while native.next_frame(data, at, &frame):
        if not (_pass_chunks(lane, frame, broke) or _pass_done(lane, frame, broke) or _pass_load(lane, frame)):
            break
        at += 4 + frame.size()
    return at


cdef bint _pass_chunks(Lane lane, string_view frame, broke) except -1:
    cdef vector[native.Chunk] chunks
    cdef size_t i
    if not native.read_chunks(frame, &chunks):
        return False
    for i in range(chunks.size()):
        call = lane.calls.get(chunks[i].id)
        if call is None:  # aborted, and the host has not heard of it yet
            continue
        try:
            (<Call?>call)._chunk(chunks[i].data)
        except Exception:
            broke(call)
    return True


cdef bint _pass_done(Lane lane, string_view frame, broke) except -1:
    cdef uint64_t id
    cdef native.Finish finish
    if not lane.trusted or not native.read_done(frame, &id, &finish) or not native.plausible(finish):
        return False
    call = lane.calls.get(id)
    if call is None or not (<Call?>call)._ends_natively():
        return False
    del lane.calls[id]
    lane.load.load.answered(finish.prompt_tokens, finish.completion_tokens, finish.cached_tokens, finish.first_token_s,
                            finish.total_s, id, native.is_cut(finish.reason))
    lane.load.load.ended()
    try:
        (<Call>call)._finish(&finish)
    except Exception:
        broke(call)
    return True


cdef bint _pass_load(Lane lane, string_view frame) except -1:
    cdef native.LoadFrame told
    if not native.read_load(frame, &told):
        return False
    lane.load.load.reported(told)
    return True
