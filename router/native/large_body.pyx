"""What of a large body takes a decoder too long, read natively and without the interpreter's lock. See large_body.pyi."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.string cimport memcpy
from libcpp.string cimport string
from libcpp.vector cimport vector

cimport body_texts
cimport id_lists
cimport whole_parts
cimport way as native
from router.native.table cimport names_of_capabilities
from router.native.views cimport text_of, view_of
from way cimport string_view

from router.types import Turn


cdef extern from "Python.h":
    str PyUnicode_New(Py_ssize_t, Py_UCS4)
    int PyUnicode_KIND(str)
    void* PyUnicode_DATA(str)


cdef bytes _copied(const string& data):
    cdef bytes out = PyBytes_FromStringAndSize(NULL, data.size())
    cdef char* to = PyBytes_AS_STRING(out)
    with nogil:
        memcpy(to, data.data(), data.size())
    return out


cdef class Shortened:
    """See large_body.pyi."""

    cdef readonly bytes json
    cdef vector[body_texts.LeftOut] left_out

    def place_before(self, size_t at):
        with nogil:
            at = body_texts.place_before(self.left_out, at)
        return at


cdef class ShortIds(Shortened):
    cdef readonly size_t most_ids


def shorten_ids(bytes json not None, bytes key not None):
    cdef id_lists.ShortIds found
    cdef string_view view = view_of(json), name = view_of(key)
    cdef bint cut
    with nogil:
        cut = id_lists.shorten_ids(view, name, &found)
    if not cut:
        return None
    cdef ShortIds out = ShortIds.__new__(ShortIds)
    out.json, out.most_ids = _copied(found.json), found.most_ids
    out.left_out.swap(found.left_out)
    return out


cdef class TakenTexts(Shortened):
    cdef readonly str mark
    cdef bytes body
    cdef body_texts.TakenTexts found

    @property
    def value_bytes(self):
        return self.found.value_bytes

    def count(self, size_t run):
        self._check(run)
        return self.found.runs[run].count

    def text(self, size_t run):
        cdef body_texts.TextSize size
        cdef str out
        cdef void* to
        cdef int width
        self._check(run)
        with nogil:
            size = body_texts.size_of(self.found, run)
        out = PyUnicode_New(size.codes, size.largest)
        if not size.codes:
            return out
        to, width = PyUnicode_DATA(out), PyUnicode_KIND(out)
        with nogil:  # no one else knows of it yet
            body_texts.write_text(self.found, run, width, to)
        return out

    cdef int _check(self, size_t run) except -1:
        if run >= self.found.runs.size():
            raise IndexError(run)
        return 0


def take_texts(bytes body not None, bytes key not None, str mark not None):
    cdef TakenTexts out = TakenTexts.__new__(TakenTexts)
    cdef bytes marked = mark.encode()
    cdef string_view view = view_of(body), name = view_of(key), put = view_of(marked)
    cdef bint taken
    out.body, out.mark = body, mark
    with nogil:
        taken = native.utf8_bytes(view) == view.size() and body_texts.take_texts(view, name, put, &out.found)
    if not taken:
        return None
    out.json = _copied(out.found.json)
    out.found.json.clear()
    out.found.json.shrink_to_fit()
    out.left_out.swap(out.found.left_out)
    return out


def with_whole_parts(bytes body not None, size_t most):
    cdef string_view view = view_of(body)
    cdef string out
    cdef whole_parts.TooMany many
    with nogil:
        many = whole_parts.write_parts(view, most, &out)
    if many == whole_parts.TooMany.kContent:
        return "content"
    return "system" if many == whole_parts.TooMany.kSystem else _copied(out)


def utf8_bytes(bytes text not None):
    cdef string_view view = view_of(text)
    cdef size_t count
    with nogil:
        count = native.utf8_bytes(view)
    return count


cdef class TextTurns:
    """See large_body.pyi."""

    def __len__(self):
        return self.chat.turns.size()

    def __getitem__(self, index):
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        cdef Py_ssize_t i = index
        if i < 0:
            i += len(self)
        if not 0 <= i < <Py_ssize_t>self.chat.turns.size():
            raise IndexError(index)
        return Turn(text_of(self.chat.turns[i].role), text_of(self.chat.turns[i].text))


def read_chat(bytes body not None):
    cdef TextTurns turns = TextTurns.__new__(TextTurns)
    cdef native.Chat* chat = &turns.chat
    cdef string_view view = view_of(body)
    cdef bint plain
    turns.body = body
    with nogil:
        plain = native.read_chat(view, chat)
    if not plain:
        return None
    needs = frozenset(names_of_capabilities(chat.needs))
    most = None if chat.max_tokens < 0 else chat.max_tokens
    return text_of(chat.model), turns, bool(chat.stream), most, chat.choices, needs
