"""Text in, static embedding out: one native call that releases the GIL. See embedder.pyi, docs/features.md for the maths."""

from libcpp.vector cimport vector

cimport score as native
from router.native.scorer cimport Encoder, borrow_text, choose_isa

import numpy as np


cdef class Embedder:
    def __init__(self, Encoder encoder not None, rows, scales, *, double most_mass, size_t most_bytes, isa=None):
        pieces, columns = encoder.spec.pieces, rows.shape[1] if rows.ndim == 2 else 0
        if encoder.spec.rows != pieces:
            raise ValueError(f"encoder: expected WordPieces only, got {encoder.spec.rows - pieces} rows of other groups")
        if rows.dtype != np.int8 or rows.shape != (pieces, columns):
            raise ValueError(f"rows: expected int8 [{pieces}, columns], got {rows.dtype} {list(rows.shape)}")
        if columns == 0 or columns % native.kByteBlock or columns > native.kMaxColumns:
            raise ValueError(
                f"rows: expected a multiple of {native.kByteBlock} columns, at most {native.kMaxColumns}, got {columns}"
            )
        if scales.dtype != np.float32 or scales.shape != (pieces,):
            raise ValueError(f"scales: expected float32 [{pieces}], got {scales.dtype} {list(scales.shape)}")
        if not 0 < most_mass < float("inf"):
            raise ValueError(f"most_mass: expected a finite number above 0, got {most_mass}")
        cdef native.Isa chosen
        choose_isa(isa, &chosen)
        self.encoder, self.columns, self.isa = encoder, columns, chosen.name.decode()
        self.rows = np.ascontiguousarray(rows)
        self.scales = np.ascontiguousarray(scales)
        self.masses = _masses(rows, scales)
        self.table.rows, self.table.scales, self.table.masses = &self.rows[0, 0], &self.scales[0], &self.masses[0]
        self.table.k, self.table.most_mass, self.table.most_bytes = columns, most_mass, most_bytes
        self.table.add_bytes = chosen.add_bytes

    def embed(self, text):
        out = np.empty(self.columns, dtype=np.float32)
        cdef float[::1] view = out
        cdef native.Text one
        cdef list keep = []
        borrow_text(text, 1, &one, keep)
        with nogil:
            native.embed(self.encoder.config, self.table, one.data, one.size, &view[0])
        return out

    def embed_batch(self, texts):
        cdef tuple held = tuple(texts)
        cdef list keep = []
        cdef Py_ssize_t n = len(held), i
        cdef vector[native.Text] all_texts
        out = np.empty((n, self.columns), dtype=np.float32)
        cdef float[:, ::1] view = out
        all_texts.resize(n)
        for i in range(n):
            borrow_text(held[i], 1, &all_texts[i], keep)
        with nogil:
            for i in range(n):
                native.embed(self.encoder.config, self.table, all_texts[i].data, all_texts[i].size, &view[i, 0])
        return out


def _masses(rows, scales):
    """[pieces]: a row's length, its scale counted. In blocks, so that no large copy is made."""
    out = np.empty(len(rows), dtype=np.float32)
    for first in range(0, len(rows), 1024):
        block = rows[first : first + 1024].astype(np.float32)
        out[first : first + 1024] = np.sqrt((block * block).sum(axis=1))
    return np.abs(scales) * out
