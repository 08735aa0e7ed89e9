"""What of a large body takes a decoder too long, read natively and without the interpreter's lock. See large_body.pyi."""

from cpython.bytes cimport PyBytes_FromStringAndSize

cimport id_lists
cimport way as native
from router.native.table cimport names_of_capabilities
from router.native.views cimport text_of, view_of
from way cimport string_view

from router.types import Turn


def shorten_ids(bytes json not None, bytes key not None):
    cdef id_lists.ShortIds found
    cdef string_view view = view_of(json), name = view_of(key)
    cdef bint cut
    with nogil:
        cut = id_lists.shorten_ids(view, name, &found)
    if not cut:
        return None
    left_out = [(place.at, place.bytes) for place in found.left_out]
    return PyBytes_FromStringAndSize(found.json.data(), found.json.size()), found.most_ids, left_out


def utf8_bytes(bytes text not None):
    cdef string_view view = _view(text)
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
