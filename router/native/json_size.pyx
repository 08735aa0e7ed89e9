"""How much a JSON text holds, counted without decoding it. See json_size.pyi."""

cimport json_size as native
from router.native.views cimport view_of
from way cimport string_view


def count_values(bytes json not None):
    cdef string_view view = view_of(json)
    cdef size_t count
    with nogil:
        count = native.count_values(view)
    return count
