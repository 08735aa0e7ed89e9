"""What other native modules may see of structs as tables."""

from libc.stddef cimport size_t

cimport way as native

cdef enum:
    OTHER = 1 << 30  # among capabilities: one that we do not know

cdef tuple CAPABILITIES  # by their bit
cdef tuple RULES  # in the order of `Rule`
cdef tuple CAUSES  # in the order of `Cause`; the first is empty


cdef class Fields:
    """Names and places of the numbers of one C++ struct; `out` and `source` are such structs, `rows` many in a row."""

    cdef const native.Field* fields
    cdef size_t size
    cdef readonly tuple names
    cdef int read(self, object source, char* out) except -1
    cdef int read_known(self, dict source, char* out) except -1
    cdef int store(self, size_t i, object value, char* out) except -1
    cdef object value(self, size_t i, const char* source)
    cdef dict values(self, const char* source)
    cdef dict columns(self, const char* rows, size_t bytes, size_t n)
    cdef int read_columns(self, dict columns, char* rows, size_t bytes, size_t n) except -1


cdef Fields fields_of(native.Table table)
cdef native.Bits capability_bits(object names) except? 0
cdef list names_of_capabilities(native.Bits bits)
