"""How much a JSON text holds, counted without decoding it. See json_size.pyi."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE

cimport json_size as native
from way cimport string_view


def count_values(bytes json not None):
    cdef string_view view = string_view(PyBytes_AS_STRING(json), PyBytes_GET_SIZE(json))
    cdef size_t count
    with nogil:
        count = native.count_values(view)
    return count
