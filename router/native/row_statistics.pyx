"""Statistics of rows of logits, and the watch that goes by them: native calls that release the GIL. See
row_statistics.pyi and docs/moments.md."""

from libc.stddef cimport size_t
from libc.stdint cimport int32_t, uint8_t, uint16_t

cimport watch as native

import numpy as np

ORDER_FLOATS, STATE_FLOATS = 32, 16
_KINDS = {"float32": 0, "bfloat16": 1, "float16": 2}


def isas():
    cdef native.RowIsa found[3]
    return tuple([found[i].name.decode() for i in range(native.row_isas(found))])


cdef native.RowStatisticsOf _choose(str isa) except NULL:
    cdef native.RowIsa found[3]
    cdef size_t n = native.row_isas(found)
    for i in range(n):
        if isa is None or found[i].name == isa.encode():
            return found[i].statistics
    raise ValueError(f"isa: this machine can run {', '.join(isas())}, got {isa!r}")


def row_statistics(logits, *, str kind="float32", str isa=None):
    if kind not in _KINDS:
        raise ValueError(f"kind: expected one of {', '.join(_KINDS)}, got {kind!r}")
    if logits.ndim != 2 or (logits.size and logits.shape[1] > 1 and logits.strides[1] != logits.itemsize):
        raise ValueError(f"logits: expected rows of neighbouring values, got shape {list(logits.shape)}")
    if logits.dtype != (np.float32 if kind == "float32" else np.uint16):
        raise ValueError(f"logits: expected the bits of {kind}, got {logits.dtype}")
    cdef native.RowStatisticsOf statistics = _choose(isa)
    cdef Py_ssize_t rows = logits.shape[0], n = logits.shape[1], i
    out = np.empty((rows, 5), dtype=np.float32)
    cdef float[:, ::1] view = out
    cdef native.LogitKind chosen = <native.LogitKind><int>_KINDS[kind]
    cdef native.RowStatistics found
    cdef const float[:, :] singles
    cdef const uint16_t[:, :] halves
    cdef const char* start = NULL
    cdef Py_ssize_t step = logits.strides[0]
    if not rows or not n:
        return np.full((rows, 5), np.nan, dtype=np.float32)
    if kind == "float32":
        singles = logits
        start = <const char*>&singles[0, 0]
    else:
        halves = logits
        start = <const char*>&halves[0, 0]
    with nogil:
        for i in range(rows):
            found = statistics(start + i * step, chosen, n)
            view[i, 0], view[i, 1], view[i, 2], view[i, 3] = found.logprob, found.entropy, found.margin, found.log_sum
            view[i, 4] = found.best
    return out


cdef class Watcher:
    cdef native.WatchTable table
    cdef native.RowStatisticsOf statistics
    cdef const float[:, ::1] orders
    cdef float[:, :, ::1] states
    cdef const float[:, ::1] weights
    cdef float[:, ::1] kept
    cdef const int32_t[::1] first_ids
    cdef const uint8_t[::1] places

    def __init__(self, orders, states, weights, kept, first_ids, places, *, int stop, int hidden=-1, str isa=None):
        slots, firsts, vocabulary = len(orders), len(first_ids), len(places)
        for name, array, shape in (
            ("orders", orders, (slots, ORDER_FLOATS)),
            ("states", states, (slots, 2, STATE_FLOATS)),
            ("weights", weights, (slots, firsts)),
            ("kept", kept, (slots, firsts)),
        ):
            if array.shape != shape:
                raise ValueError(f"{name}: expected shape {list(shape)}, got {list(array.shape)}")
        if not slots or not firsts or not vocabulary:
            raise ValueError(f"expected slots, first ids and tokens, got {slots}, {firsts} and {vocabulary}")
        if first_ids.min() < 0 or first_ids.max() >= vocabulary:
            raise ValueError(f"first_ids: expected tokens from 0 to {vocabulary - 1}")
        if not 0 <= stop < vocabulary or not -1 <= hidden < vocabulary:
            raise ValueError(f"stop, hidden: expected tokens from 0 to {vocabulary - 1}, got {stop} and {hidden}")
        self.orders, self.states, self.weights, self.kept = orders, states, weights, kept
        self.first_ids, self.places = first_ids, places
        self.statistics = _choose(isa)
        self.table.orders = <const native.WatchOrder*>&self.orders[0, 0]
        self.table.states = <native.WatchState*>&self.states[0, 0, 0]
        self.table.weights, self.table.kept = &self.weights[0, 0], &self.kept[0, 0]
        self.table.first_ids, self.table.places = &self.first_ids[0], &self.places[0]
        self.table.slots, self.table.firsts, self.table.vocabulary = slots, firsts, vocabulary
        self.table.stop, self.table.hidden = stop, hidden

    def watch(self, float[:, :] logits, const int32_t[::1] rows, const int32_t[::1] slots,
              const float[::1] generations, const float[::1] made):
        cdef Py_ssize_t n = rows.shape[0], i
        cdef size_t stopped
        if logits.shape[1] != <Py_ssize_t>self.table.vocabulary or logits.strides[1] != sizeof(float):
            raise ValueError(f"logits: expected rows of {self.table.vocabulary} neighbouring values, got {logits.shape[1]}")
        if logits.strides[0] % <Py_ssize_t>sizeof(float):
            raise ValueError("logits: expected rows that start at whole values")
        if slots.shape[0] != n or generations.shape[0] != n or made.shape[0] != n:
            raise ValueError(f"slots, generations, made: expected {n} of each, one a row")
        if n == 0:
            return 0
        for i in range(n):
            if not 0 <= rows[i] < logits.shape[0]:
                raise ValueError(f"rows: expected rows from 0 to {logits.shape[0] - 1}, got {rows[i]}")
        with nogil:
            stopped = native.watch_rows(
                self.table, self.statistics, &logits[0, 0], logits.strides[0] // <Py_ssize_t>sizeof(float), &rows[0],
                &slots[0], &generations[0], &made[0], n
            )
        return stopped
