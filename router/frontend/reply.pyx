"""The one writer of answers: heads, chunks and ends, whole or streamed. See reply.pyi."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.unicode cimport PyUnicode_AsUTF8AndSize, PyUnicode_DecodeASCII
from libc.math cimport NAN, isnan
from libc.stdio cimport snprintf
from libcpp.string cimport string

from router.errors import EngineFailed
from router.frontend import failure, wire

cimport way as native
from router.native.call cimport Call, Receiver
from router.native.writer cimport SendBatch, Writer
from router.native.request cimport MOST_ID_BYTES, BaseRequest, HeadNumbers, Receivers, Requests, new_of, write_id
from router.native.steps cimport kAnswer
from router.native.views cimport bytes_of, view_of
from way cimport string_view

cdef bytes LAST_CHUNK = wire.LAST_CHUNK
cdef Py_ssize_t MOST_GATHERED_BYTES = 32 * 1024  # of a whole answer; with its head that is less than a batch takes


cdef class Reply(Receiver):
    def __init__(self, Writer connection not None, bint stream, bint old_client, Py_ssize_t most_bytes):
        self.connection, self.stream, self.old_client, self.most_bytes = connection, stream, old_client, most_bytes

    # In Python: an answer of any kind

    def begin(self, bytes head not None):
        self.head = head

    def chunk(self, bytes data not None):
        self._chunk(view_of(data))

    def end(self, bytes last not None=b""):
        cdef bytes tail = b"" if self.head is None else self.head
        self.head = None
        if self.old_client:
            tail += last
        elif last:
            tail = _framed(tail, view_of(last)) + LAST_CHUNK
        else:
            tail += LAST_CHUNK
        if tail:
            self.connection._write(tail)

    def close(self):
        self.over = True
        self.under_way = False
        self.request = None

    def collected(self):
        body = self.body
        return b"" if body is None else body if isinstance(body, bytes) else bytes(body)

    def cut(self, error):
        self.close()
        self.fail(error)

    def fail(self, error):
        self.end(failure.events(error, "openai"))

    # Natively

    cdef bint _stays(self, BaseRequest request) except -1:
        """Whether the next step can be native."""
        if request.native and not self.heads.listener.draining:
            return True
        request._leave(kAnswer)
        return False

    cdef int _begin(self, Call call) except -1:
        cdef BaseRequest request = <BaseRequest?>call
        if not self._stays(request):
            self.start(request.decision)
        elif self.stream:
            self.head = self.heads._head(request, self.heads.stream_head, -1)
        return 0

    cdef int _chunk(self, string_view data) except -1:
        if not data.size():
            return 0
        if self.under_way:
            self._pass_chunk(b"", data)
        elif self.over:
            return 0
        elif not self.stream:
            self._collect(data)
        elif self.old_client:
            self._pass_unframed(data)
        else:
            self._pass_chunk(b"" if self.head is None else self.head, data)
            self.head = None
            self.under_way = True
        return 0

    cdef bint _gathers(self) except -1:
        cdef SendBatch batch = self.connection.batch
        return (batch is not None and batch.gathering and not self.connection.stalled and not self.heads.listener.draining
                and (self.stream or self.body is None or len(self.body) <= MOST_GATHERED_BYTES))

    cdef int _finish(self, Call call) except -1:
        cdef BaseRequest request = <BaseRequest?>call
        cdef bytes body
        try:
            if not self._stays(request):
                self.done(request.message)
                return 0
            if self.stream:
                self.end()
            else:
                body = self.collected()
                self.connection._write(
                    self.heads._head(request, self.heads.whole_head, PyBytes_GET_SIZE(body)) + body)
            self.close()
            self.connection.answered(self)
        except Exception as error:  # a bug of ours must not take the engine's connection along
            self.connection.broke(error)
        return 0

    # Within

    cdef int _pass_chunk(self, bytes head, string_view data) except -1:
        cdef string* room = self.connection._room()
        if room == NULL:
            self.connection._stream(_framed(head, data))
            return 0
        room.append(PyBytes_AS_STRING(head), PyBytes_GET_SIZE(head))
        native.add_framed(room, data)
        return 0

    cdef int _pass_unframed(self, string_view data) except -1:
        """For HTTP/1.0: the connection's end is the answer's."""
        head, self.head = self.head or b"", None
        self.connection._stream(head + bytes_of(data))
        return 0

    cdef int _collect(self, string_view data) except -1:
        """JSON comes whole, mostly; of many pieces each is copied once."""
        if not self.body:
            self.body = bytes_of(data)
        else:
            if isinstance(self.body, bytes):
                self.body = bytearray(self.body)
            self.body += bytes_of(data)
        if <Py_ssize_t>len(self.body) > self.most_bytes:
            self.cut(EngineFailed(f"the answer is larger than {self.most_bytes} bytes (`server.limits.answer_bytes`)"))
        return 0


cdef class Heads(Receivers):
    def __init__(self, listener, type reply_class not None, Requests requests not None):
        if not issubclass(reply_class, Reply):
            raise TypeError(f"reply_class: expected a subclass of Reply, got {reply_class.__name__}")
        self.listener, self.reply_class, self.most_bytes = listener, reply_class, listener.limits.answer_bytes
        self.whole_head, self.stream_head = wire.COMMON_HEADS
        self.requests = requests

    cdef Receiver _receiver(self, Writer connection, BaseRequest request):
        cdef Reply reply = <Reply>new_of(self.reply_class)
        reply.connection, reply.heads, reply.stream, reply.request = connection, self, request.stream, request
        reply.most_bytes = self.most_bytes
        return reply

    cdef bytes _head(self, BaseRequest request, bytes start, Py_ssize_t length):
        """`length` is that of the body, below 0 where it is chunked."""
        cdef const HeadNumbers* numbers = &request.head
        cdef string* out = &self.out
        cdef char line[64]
        cdef char request_id[MOST_ID_BYTES]
        cdef char decision_id[MOST_ID_BYTES]
        cdef size_t request_size = write_id(request_id, self.requests.request_prefix, numbers.request, 8)
        cdef size_t decision_size = write_id(decision_id, self.requests.decision_prefix, numbers.decision, 1)
        out.assign(PyBytes_AS_STRING(start), PyBytes_GET_SIZE(start))
        if length >= 0:
            out.append(line, snprintf(line, sizeof(line), b"content-length: %lld\r\n", <long long>length))
        _add(out, self._date())
        _add_lines(out, numbers.given_id if numbers.given_id.size() else string_view(request_id, request_size),
                   view_of(<bytes>request.lane.about[numbers.reason]), numbers.overhead_s,
                   string_view(decision_id, decision_size), numbers.score, numbers.threshold)
        out.append(b"\r\n", 2)
        return PyBytes_FromStringAndSize(out.data(), out.size())

    cdef bytes _date(self):
        date = self.listener.date
        if date is not self.date:
            self.date, self.date_line = date, date.encode()
        return self.date_line


def lines(str request_id not None, str about not None, double overhead_s, str decision_id not None, score, threshold):
    cdef string out
    _add_lines(&out, _text(request_id), _text(about), overhead_s, _text(decision_id),
               NAN if score is None else score, NAN if threshold is None else threshold)
    return PyUnicode_DecodeASCII(out.data(), out.size(), NULL)


cdef int _add_lines(string* out, string_view request_id, string_view about, double overhead_s,
                    string_view decision_id, double score, double threshold) except -1:
    """What the head of an answer says of its request and decision; `about` holds whole lines."""
    cdef char line[64]
    out.append(b"x-request-id: ", 14).append(request_id.data(), request_id.size()).append(b"\r\n", 2)
    out.append(about.data(), about.size())
    out.append(line, snprintf(line, sizeof(line), b"x-headgate-overhead-ms: %.3f\r\n", overhead_s * 1e3))
    out.append(b"x-headgate-decision-id: ", 24).append(decision_id.data(), decision_id.size()).append(b"\r\n", 2)
    if not isnan(score):
        out.append(line, snprintf(line, sizeof(line), b"x-headgate-score: %.4f\r\n", score))
    if not isnan(threshold):
        out.append(line, snprintf(line, sizeof(line), b"x-headgate-threshold: %.4f\r\n", threshold))
    return 0


cdef inline int _add(string* out, bytes piece) except -1:
    out.append(PyBytes_AS_STRING(piece), PyBytes_GET_SIZE(piece))
    return 0


cdef inline string_view _text(str text) except *:
    cdef Py_ssize_t size = 0
    cdef const char* data = PyUnicode_AsUTF8AndSize(text, &size)
    return string_view(data, size)


cdef bytes _framed(bytes head, string_view data):
    """`data` as one chunk of the chunked transfer encoding, after `head`."""
    cdef string out
    out.assign(PyBytes_AS_STRING(head), PyBytes_GET_SIZE(head))
    native.add_framed(&out, data)
    return PyBytes_FromStringAndSize(out.data(), out.size())
