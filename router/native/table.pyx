"""C++ structs of numbers as tables of names (csrc/numbers.hpp): read from Python objects, told by name. For native modules."""

from cpython.float cimport PyFloat_AsDouble
from libc.math cimport isfinite, signbit
from libc.stdint cimport int32_t, int64_t
from libcpp cimport bool as flag

import sys
from typing import get_args

from router.types import Capability

cimport way as native


cdef tuple CAPABILITIES = get_args(Capability)
cdef tuple RULES = ("utility", "threshold", "pinned")  # in the order of `Rule`
cdef tuple CAUSES = tuple([native.kCauseWords[i].decode() for i in range(native.kPriceCauses)])
cdef tuple EXCLUDED = tuple([native.kExcludedWords[i].decode() or None for i in range(native.kExcludedRules)])
cdef Py_ssize_t MOST_KEPT = 1000  # sets of capabilities that are remembered as bits


cdef class Fields:
    cdef int read(self, object source, char* out) except -1:
        cdef size_t i
        for i in range(self.size):
            self.store(i, getattr(source, <str>self.names[i]), out)
        return 0

    cdef int read_known(self, dict source, char* out) except -1:
        """What `source` does not hold stays 0: a number that was added later."""
        cdef size_t i
        for i in range(self.size):
            value = source.get(self.names[i])
            if value is not None:
                self.store(i, value, out)
        return 0

    cdef int store(self, size_t i, object value, char* out) except -1:
        cdef const native.Field* field = &self.fields[i]
        cdef char* at = out + field.offset
        try:
            _store(field.kind, value, at)
        except (TypeError, ValueError, OverflowError, KeyError) as error:
            raise ValueError(f"{self.names[i]}: expected {_EXPECTED[<int>field.kind]}, got {value!r}") from error
        return 0

    cdef object value(self, size_t i, const char* source):
        return _value(self.fields[i].kind, source + self.fields[i].offset)

    cdef dict values(self, const char* source):
        """As `read_known` reads them."""
        cdef size_t i
        return {self.names[i]: _plain(self.value(i, source)) for i in range(self.size)}

    # Of many structs, `bytes` apart, by column

    cdef dict columns(self, const char* rows, size_t bytes, size_t n):
        """Without columns whose values are all 0 or absent."""
        cdef size_t i, k
        found = {}
        for k in range(self.size):
            column = tuple([_plain(self.value(k, rows + bytes * i)) for i in range(n)])
            if any([value or _is_minus_zero(value) for value in column]):
                found[self.names[k]] = column
        return found

    cdef int read_columns(self, dict columns, char* rows, size_t bytes, size_t n) except -1:
        cdef size_t i, k
        for k in range(self.size):
            column = columns.get(self.names[k])
            if column is None:
                continue
            if <size_t>len(column) != n:
                raise ValueError(f"{self.names[k]}: expected {n} values, got {len(column)}")
            for i in range(n):
                self.store(k, column[i], rows + bytes * i)
        return 0


cdef Fields fields_of(native.Table table):
    cdef Fields made = Fields.__new__(Fields)
    cdef size_t i
    made.fields, made.size = table.fields, table.size
    made.names = tuple([sys.intern(table.fields[i].name.decode()) for i in range(table.size)])
    return made


cdef tuple _EXPECTED = (  # in the order of `Kind`
    "true or false", "a whole number", "an index", "a number", "a number or None", "a set of capabilities",
    f"one of {', '.join(RULES)}", "a hard rule", f"one of {', '.join(CAUSES[1:])} or nothing",
)


cdef int _store(native.Kind kind, object value, char* at) except -1:
    if kind == native.kNumber:
        (<double*>at)[0] = _number(value)
    elif kind == native.kFlag:
        (<flag*>at)[0] = value
    elif kind == native.kCount:
        (<int64_t*>at)[0] = value
    elif kind == native.kIndex:
        (<int32_t*>at)[0] = value
    elif kind == native.kMaybe:
        (<native.Maybe*>at).given = value is not None
        (<native.Maybe*>at).value = 0 if value is None else _number(value)
    elif kind == native.kBits:
        (<native.Bits*>at)[0] = capability_bits(value)
    elif kind == native.kCause:
        (<int32_t*>at)[0] = CAUSES.index(value)
    else:
        (<int32_t*>at)[0] = RULES.index(value)
    return 0


cdef object _value(native.Kind kind, const char* at):
    if kind == native.kNumber:
        return (<const double*>at)[0]
    if kind == native.kFlag:
        return bool((<const flag*>at)[0])
    if kind == native.kCount:
        return (<const int64_t*>at)[0]
    if kind == native.kMaybe:
        return (<const native.Maybe*>at).value if (<const native.Maybe*>at).given else None
    if kind == native.kBits:
        return _words_of_bits((<const native.Bits*>at)[0])
    cdef int32_t number = (<const int32_t*>at)[0]
    if kind == native.kCause:
        return CAUSES[number]
    return number if kind == native.kIndex else RULES[number] if kind == native.kRule else EXCLUDED[number]


cdef inline double _number(object value) except? -1:
    if type(value) is str and value in _NO_JSON:
        return float(value)
    return PyFloat_AsDouble(value)


cdef tuple _NO_JSON = ("inf", "-inf", "nan")

cdef object _plain(object value):
    return str(value) if type(value) is float and not isfinite(value) else value


cdef dict _BITS = {}

cdef native.Bits capability_bits(object names) except? 0:
    found = _BITS.get(names)
    if found is None:
        found = 0
        for name in names.split() if type(names) is str else names:
            found |= 1 << CAPABILITIES.index(name) if name in CAPABILITIES else OTHER
        if len(_BITS) < MOST_KEPT:
            _BITS[names] = found
    return found


cdef list names_of_capabilities(native.Bits bits):
    return [name for i, name in enumerate(CAPABILITIES) if bits >> i & 1]


cdef str _words_of_bits(native.Bits bits):
    names = names_of_capabilities(bits)
    return " ".join(names + ["?"] if bits & OTHER else names)


cdef bint _is_minus_zero(object value) except -1:
    return type(value) is float and signbit(value) != 0
