"""A request as an engine's connection sees it, and how the frames of one read reach their calls. See call.pyi."""

from libc.stdint cimport uint64_t
from libcpp.vector cimport vector

cimport way as native
from router.native.lane cimport Lane
from router.native.pipe cimport Outbox, Pipe
from router.native.views cimport bytes_of, view_of
from way cimport string_view


cdef class Receiver:
    def chunk(self, bytes data not None):
        raise NotImplementedError("a receiver without a place for chunks")

    def fail(self, error):
        raise NotImplementedError("a receiver without a way to tell errors")

    cdef int _begin(self, const HeadNumbers* numbers) except -1:
        """The stream's head is due with its first chunk."""
        raise NotImplementedError("a receiver without a native beginning")

    cdef int _chunk(self, string_view data) except -1:
        self.chunk(bytes_of(data))
        return 0

    cdef int _end_stream(self) except -1:
        raise NotImplementedError("a receiver without a native end")

    cdef int _whole(self, const HeadNumbers* numbers, bytes body) except -1:
        """The whole of an answer that is not streamed."""
        raise NotImplementedError("a receiver without a native end")


cdef class Receivers:
    cdef Receiver _receiver(self, Pipe connection):
        raise NotImplementedError("no receivers are made here")


cdef class Call:
    def __init__(self, Lane lane=None, uint64_t id=0):
        self.lane, self.id = lane, id

    def chunk(self, bytes data not None):
        raise NotImplementedError("a call without a receiver of its chunks")

    cdef int _chunk(self, string_view data) except -1:
        """The next bytes of the answer."""
        if self.straight is not None:
            return self.straight._chunk(data)
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
    cdef Outbox outbox = lane.outbox
    outbox.begin()
    try:
        return _pass_frames(lane, view_of(data), broke)
    finally:
        outbox.end()


cdef Py_ssize_t _pass_frames(Lane lane, string_view data, broke) except -1:
    cdef string_view frame
    cdef size_t at = 0
    while native.next_frame(data, at, &frame):
        if not (_pass_chunks(lane, frame, broke) or _pass_done(lane, frame) or _pass_load(lane, frame)):
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


cdef bint _pass_done(Lane lane, string_view frame) except -1:
    cdef uint64_t id
    cdef native.Finish finish
    if not lane.trusted or not native.read_done(frame, &id, &finish) or not native.plausible(finish):
        return False
    call = lane.calls.get(id)
    if not isinstance(call, Call) or not (<Call>call)._ends_natively():
        return False
    del lane.calls[id]
    lane.load.load.answered(finish.prompt_tokens, finish.completion_tokens, finish.cached_tokens, finish.first_token_s,
                            finish.total_s)
    lane.load.load.ended()
    (<Call>call)._finish(&finish)
    return True


cdef bint _pass_load(Lane lane, string_view frame) except -1:
    cdef native.LoadFrame told
    if not native.read_load(frame, &told):
        return False
    lane.load.load.reported(told)
    return True
