"""What has been read of one connection and not parsed yet. See unread.pyi."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE

cimport way as native

PIECE_BYTES, BODY_PIECE_BYTES = native.kPieceBytes, native.kBodyPieceBytes


cdef class Unread:
    cdef bytes _data
    cdef Py_ssize_t _at
    cdef bint _midway  # the data may begin within a blank line
    cdef readonly Py_ssize_t size

    def __init__(self):
        self.clear()

    def __len__(self):
        return self.size

    def add(self, bytes data not None, bint midway):
        if not self.size:
            self._data, self._midway = data, midway
        else:
            self._data = self._data[self._at:] + data
        self._at = 0
        self.size = PyBytes_GET_SIZE(self._data)

    def piece(self, size_t body_left):
        cdef bytes data = self._data
        cdef size_t at = self._at, size = PyBytes_GET_SIZE(data), end
        if body_left:
            end = at + min(body_left, native.kBodyPieceBytes)
        else:
            end = native.piece_end(native.string_view(PyBytes_AS_STRING(data), size), at, self._midway)
        self._midway = False
        if end < size:
            self._at, self.size = end, size - end
            return memoryview(data)[at:end]
        self.clear()
        return memoryview(data)[at:] if at else data

    cpdef clear(self):
        self._data = b""
        self._at = self.size = 0
