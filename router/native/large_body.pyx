"""What of a large body takes a decoder too long, read natively and without the interpreter's lock. See large_body.pyi."""

from typing import get_args

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE

cimport id_lists
cimport way as native
from way cimport string_view

from router.types import Capability, Turn

cdef tuple CAPABILITIES = get_args(Capability)  # in the order of their bits


cdef inline string_view _view(bytes data):
    return string_view(PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))


def shorten_ids(bytes json not None, bytes key not None):
    cdef id_lists.ShortIds found
    cdef string_view view = _view(json), name = _view(key)
    cdef bint cut
    with nogil:
        cut = id_lists.shorten_ids(view, name, &found)
    if not cut:
        return None
    left_out = [(place.at, place.bytes) for place in found.left_out]
    return PyBytes_FromStringAndSize(found.json.data(), found.json.size()), found.most_ids, left_out


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
        return Turn(_text(self.chat.turns[i].role), _text(self.chat.turns[i].text))


def read_chat(bytes body not None):
    cdef TextTurns turns = TextTurns.__new__(TextTurns)
    cdef native.Chat* chat = &turns.chat
    cdef string_view view = _view(body)
    cdef bint plain
    turns.body = body
    with nogil:
        plain = native.read_chat(view, chat)
    if not plain:
        return None
    needs = frozenset([name for i, name in enumerate(CAPABILITIES) if chat.needs >> i & 1])
    most = None if chat.max_tokens < 0 else chat.max_tokens
    return _text(chat.model), turns, bool(chat.stream), most, chat.choices, needs


cdef str _text(string_view view):
    return PyBytes_FromStringAndSize(view.data(), view.size()).decode()
