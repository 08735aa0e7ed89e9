"""Native readers as functions of Python values, for tests that compare them with those in Python. See plain.pyi."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport int64_t, uint8_t, uint64_t
from libcpp.vector cimport vector

cimport score as scoring
cimport way as native
from router.native.cost cimport sums_of
from router.native.table cimport names_of_capabilities
from router.native.views cimport bytes_of, text_of, view_of
from way cimport string_view


def read_request(bytes data not None, bytes start not None, limits):
    cdef native.HttpLimits bounds
    cdef native.PlainRequest plain
    bounds.head_bytes, bounds.headers, bounds.body_bytes = limits.header_bytes, limits.headers, limits.body_bytes
    if native.read_plain(view_of(data), view_of(start), bounds, &plain):
        return None
    return (bytes_of(plain.body), bytes_of(plain.authorization), bytes_of(plain.api_key),
            <bytes>native.echoed_id(plain.request_id), bytes_of(plain.session_id), bytes_of(plain.traceparent))


def read_chat(bytes body not None, turns):
    cdef native.Chat chat
    cdef native.TurnShares shares
    cdef vector[scoring.Text] texts
    shares.earlier, shares.decay, shares.system = turns.earlier, turns.decay, turns.system
    if not native.read_chat(view_of(body), &chat):
        return None
    native.weigh(chat.turns, shares, &texts)
    segments = [(PyBytes_FromStringAndSize(<const char*>text.data, text.size).decode(), text.weight) for text in texts]
    max_tokens = None if chat.max_tokens < 0 else chat.max_tokens
    needs = frozenset(names_of_capabilities(chat.needs))
    return text_of(chat.model), segments, bool(chat.stream), max_tokens, chat.choices, needs


def submit_frame(uint64_t id, bytes body not None, bytes request_id not None, bytes traceparent not None=b""):
    cdef string_view data = view_of(body), name = view_of(request_id), trace = view_of(traceparent)
    cdef bytes frame = PyBytes_FromStringAndSize(NULL, native.submit_size(id, data, name, trace))
    native.put_submit(<uint8_t*>PyBytes_AS_STRING(frame), id, data, name, trace)
    return frame


def read_chunks(bytes frame not None):
    cdef vector[native.Chunk] chunks
    if not native.read_chunks(view_of(frame), &chunks):
        return None
    return [(chunk.id, bytes_of(chunk.data)) for chunk in chunks]


def read_done(bytes frame not None):
    cdef uint64_t id
    cdef native.Finish finish
    if not native.read_done(view_of(frame), &id, &finish):
        return None
    return (id, (finish.prompt_tokens, finish.completion_tokens, finish.cached_tokens),
            (finish.first_token_s, finish.total_s), text_of(finish.reason))


def read_load(bytes frame not None):
    cdef native.LoadFrame told
    if not native.read_load(view_of(frame), &told):
        return None
    return (told.running, told.waiting, told.kv_use, told.prefix_hit, told.prefill_tokens_per_s,
            told.time_per_output_token_s, told.context_tokens, sums_of(told.sums))
