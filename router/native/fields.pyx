"""The header fields of one request, as a parser finds them line by line. See fields.pyi."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE


cdef inline bint _blank(char c):
    return c == b' ' or c == b'\t'


cdef bytes _stripped(bytes value):
    """Without the white space around it, which is no part of a field's value (RFC 9110, 5.5)."""
    cdef const char* start = PyBytes_AS_STRING(value)
    cdef Py_ssize_t begin = 0, end = PyBytes_GET_SIZE(value)
    while begin < end and _blank(start[begin]):
        begin += 1
    while end > begin and _blank(start[end - 1]):
        end -= 1
    if end - begin == PyBytes_GET_SIZE(value):
        return value
    return PyBytes_FromStringAndSize(start + begin, end - begin)


cdef class Fields:
    cdef readonly dict values
    cdef readonly set repeated
    cdef readonly Py_ssize_t lines
    cdef readonly Py_ssize_t size

    def __init__(self):
        self.clear()

    def add(self, bytes name not None, bytes value not None):
        self.lines += 1
        self.size += PyBytes_GET_SIZE(name) + PyBytes_GET_SIZE(value) + 4
        name = name.lower()
        if name not in self.values:
            self.values[name] = _stripped(value)
        elif self.repeated is None:
            self.repeated = {name}
        else:
            self.repeated.add(name)

    def clear(self):
        self.values, self.repeated = {}, None
        self.lines = self.size = 0
