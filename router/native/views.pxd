"""Bytes of Python as C++ sees them, and back. A view is good for as long as its bytes are held."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.unicode cimport PyUnicode_DecodeUTF8

from way cimport string_view


cdef inline string_view view_of(bytes data):
    return string_view(PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))


cdef inline bytes bytes_of(string_view view):
    return PyBytes_FromStringAndSize(view.data(), view.size())


cdef inline str text_of(string_view view):
    """Raises `UnicodeDecodeError`."""
    return PyUnicode_DecodeUTF8(view.data(), view.size(), NULL)
