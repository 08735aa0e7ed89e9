"""Lines of the journal, written natively. See record_line.pyi."""

from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.unicode cimport PyUnicode_AsUTF8AndSize
from libc.stddef cimport size_t
from libcpp.vector cimport vector

from router.native.meters import NAMES_OF_REASONS

cimport record_line as native
from router.native.policy cimport Numbers
from router.native.request cimport MOST_ID_BYTES, BaseRequest, write_id
from router.native.table cimport CAPABILITIES, RULES
from router.native.views cimport view_of
from way cimport string_view


cdef class RecordLines:
    cdef native.RecordLines writer
    cdef tuple models  # whose names the writer has

    def __init__(self, int version):
        self.writer.version = str(version).encode()
        self.writer.tables.capabilities = [name.encode() for name in CAPABILITIES]
        self.writer.tables.rules = [name.encode() for name in RULES]

    def put(self, ended, double epoch_s):
        cdef native.FinishedRequest out
        cdef char id[MOST_ID_BYTES]
        cdef char own_id[MOST_ID_BYTES]
        cdef Numbers numbers = ended.numbers
        cdef BaseRequest request
        cdef tuple texts = None
        if numbers is None or numbers.decided.choice.member < 0 or not ended.finished:
            raise ValueError("expected an answer that is complete, of a request that native code began")
        if isinstance(ended, BaseRequest):
            request = <BaseRequest>ended
            if not request.native:
                raise ValueError("expected a request all of whose steps were native")
            _read(request, &out)
            out.id = string_view(id, write_id(id, request.requests.decision_prefix, request.head.decision, 1))
            if request.given_id is None:
                out.request_id = string_view(
                    own_id, write_id(own_id, request.requests.request_prefix, request.head.request, 8))
        else:
            texts = _read_attributes(ended, &out)
        out.time_s += epoch_s
        self._write(&out, numbers)

    def take(self):
        cdef bytes lines = PyBytes_FromStringAndSize(self.writer.lines.data(), self.writer.lines.size())
        self.writer.lines.resize(0)
        return lines

    cdef int _write(self, native.FinishedRequest* request, Numbers numbers) except -1:
        cdef size_t before = self.writer.lines.size()
        if numbers.models is not self.models:
            self._name_models(numbers.models)
        request.reason = _text(<str>(<tuple>NAMES_OF_REASONS)[<int>numbers.decided.choice.reason])
        try:
            self.writer.put(request[0], numbers.decided)
        except BaseException:
            self.writer.lines.resize(before)
            raise
        return 0

    cdef _name_models(self, tuple models):
        cdef vector[string_view] names
        self.models = None
        for model in models:
            names.push_back(_text(model))
        self.writer.name_models(names)
        self.models = models


cdef int _read(BaseRequest request, native.FinishedRequest* out) except -1:
    """All but the ids that are written anew."""
    if request.given_id is not None:
        out.request_id = view_of(request.given_id)
    out.asked = view_of(request.asked) if request.asked else string_view(b"auto", 4)
    out.key_id, out.session_id = _text(request.key_id), _text(request.session_id)
    if request.finish_reason is not None:
        out.finish_reason = _text(request.finish_reason)
    out.stream, out.time_s, out.overhead_s = request.stream, request.received_s, request.head.overhead_s
    out.first_s, out.total_s = request.begun_s - request.received_s, request.ended_s - request.received_s
    out.finish = request.finish
    return 0


cdef tuple _read_attributes(object ended, native.FinishedRequest* out):
    """The same of any object; what has to be held as long as `out` is used."""
    cdef str id = ended.decision_id, request_id = ended.told_id, finish_reason = ended.finish_reason or ""
    cdef str key_id = ended.key_id, session_id = ended.session_id
    cdef bytes asked = ended.asked or b"auto"
    cdef double received_s = ended.received_s, ended_s = ended.ended_s
    out.id, out.request_id, out.asked = _text(id), _text(request_id), view_of(asked)
    out.key_id, out.session_id, out.finish_reason = _text(key_id), _text(session_id), _text(finish_reason)
    out.stream, out.time_s, out.overhead_s = ended.stream, received_s, ended.overhead_s
    out.first_s, out.total_s = ended.first_s, ended_s - received_s
    out.finish.prompt_tokens, out.finish.completion_tokens, out.finish.cached_tokens = ended.usage
    out.finish.first_token_s, out.finish.total_s = ended.timings
    return id, request_id, finish_reason, key_id, session_id, asked


cdef inline string_view _text(str text) except *:
    """Good for as long as `text` is."""
    cdef Py_ssize_t size
    cdef const char* data = PyUnicode_AsUTF8AndSize(text, &size)
    return string_view(data, size)
