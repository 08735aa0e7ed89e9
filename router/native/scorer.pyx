"""Text in, quality per model out: one native call that releases the GIL. See scorer.pyi for the words, docs/features.md for the maths."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.float cimport PyFloat_FromDouble
from cpython.ref cimport Py_INCREF
from cpython.tuple cimport PyTuple_New, PyTuple_SET_ITEM
from cpython.unicode cimport PyUnicode_AsUTF8AndSize
from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint64_t
from libcpp.vector cimport vector

cimport score as native
cimport way
from router.native.large_body cimport TextTurns
from router.types import Scores

import numpy as np

UNICODE_VERSION = native.kVersion.decode()


def isas():
    cdef native.Isa found[3]
    return tuple([found[i].name.decode() for i in range(native.isas(found))])


cdef int choose_isa(str isa, native.Isa* out) except -1:
    cdef native.Isa found[3]
    cdef size_t n = native.isas(found)
    for i in range(n):
        if isa is None or found[i].name == isa.encode():
            out[0] = found[i]
            return 0
    raise ValueError(f"isa: this machine can run {', '.join(isas())}, got {isa!r}")


cdef int borrow_text(object text, float weight, native.Text* out, list keep) except -1:
    """Borrows the UTF-8 of `text`; a copy that had to be made is put into `keep`."""
    cdef Py_ssize_t size
    if isinstance(text, str):
        try:
            out.data = <const uint8_t*>PyUnicode_AsUTF8AndSize(text, &size)
            out.size = <size_t>size
            out.weight = weight
            return 0
        except UnicodeEncodeError:  # lone surrogates
            text = text.encode("utf-8", "surrogatepass")
            keep.append(text)
    elif not isinstance(text, bytes):
        raise TypeError(f"text: expected `str` or `bytes`, got `{type(text).__name__}`")
    out.data = <const uint8_t*>PyBytes_AS_STRING(text)
    out.size = <size_t>PyBytes_GET_SIZE(text)
    out.weight = weight
    return 0


cdef class Encoder:
    """Holds a spec and a vocabulary table, both never changed after: safe from many threads."""

    def __init__(self, spec, const uint64_t[::1] vocab not None):
        spec.check()
        size = vocab.shape[0]
        if size < 2 or size & (size - 1):
            raise ValueError(f"vocab: expected a power of two of slots, got {size}")
        entries = np.asarray(vocab)
        ids = entries[entries != np.uint64(0xFFFFFFFFFFFFFFFF)] & np.uint64(0xFFFFF)
        if len(ids) == size:  # a search ends at an empty slot
            raise ValueError("vocab: expected at least one empty slot, got none")
        if len(ids) and int(ids.max()) >= spec.pieces:
            raise ValueError(f"vocab: expected ids below {spec.pieces}, got {ids.max()}")
        self.spec = spec
        self.slots = vocab
        cdef native.Encoder* c = &self.config
        c.vocab.slots = &vocab[0]
        c.vocab.mask = size - 1
        c.vocab.unk = spec.unk
        c.vocab.longest = spec.max_piece
        for i, base in enumerate(spec.bases):
            c.base[i] = base
        c.word_rows, c.char_rows, c.shape_rows = spec.word_rows, spec.char_rows, spec.shape_rows
        c.n_word_orders = _orders(spec.word_orders, c.word_orders)
        c.n_char_orders = _orders(spec.char_orders, c.char_orders)
        c.cap[0], c.cap[1], c.cap[2], c.cap[3] = spec.piece_cap, spec.word_cap, spec.char_cap, 1
        c.seed = spec.seed

    def pieces(self, text):
        cdef native.Text one
        cdef vector[int32_t] ids
        keep = []
        borrow_text(text, 1, &one, keep)
        with nogil:
            native.pieces_of(self.config, one, &ids)
        return ids

    def featurise(self, texts):
        keep = [tuple(texts)]
        cdef Py_ssize_t n = len(keep[0]), i
        cdef vector[native.Text] all_texts
        cdef vector[int32_t] rows
        cdef vector[float] weights
        cdef vector[uint8_t] groups
        all_texts.resize(n)
        for i in range(n):
            borrow_text(keep[0][i], 1, &all_texts[i], keep)
        indptr = np.zeros(n + 1, dtype=np.int64)
        pieces = np.zeros(n, dtype=np.int64)
        cdef int64_t[::1] ends = indptr
        cdef int64_t[::1] counts = pieces
        with nogil:
            for i in range(n):
                counts[i] = native.featurise(self.config, all_texts[i], &rows, &weights, &groups)
                ends[i + 1] = rows.size()
        if rows.size() == 0:
            return indptr, np.empty(0, dtype=np.int32), np.empty(0, dtype=np.float32), pieces
        return (
            indptr,
            np.array(<int32_t[:rows.size()]>rows.data()),
            np.array(<float[:weights.size()]>weights.data()),
            pieces,
        )


cdef size_t _orders(tuple orders, native.uint32_t* out) except? 99:
    if len(orders) > 8:
        raise ValueError(f"orders: expected at most 8, got {len(orders)}")
    for i, order in enumerate(orders):
        out[i] = order
    return len(orders)


cdef class Scorer:
    """Borrows its arrays and never writes to them: one scorer serves any number of threads.

    Scratch is per thread and grows to the largest text seen, then is cut back.
    """

    def __init__(self, Encoder encoder not None, table, const float[:, ::1] vectors not None,
                 const float[::1] bias not None, isa=None, lengths=None):
        rows, k = encoder.spec.rows, vectors.shape[1]
        if table.dtype != np.float16 or table.shape != (rows, k):
            raise ValueError(f"table: expected float16 [{rows}, {k}], got {table.dtype} {list(table.shape)}")
        if k == 0 or k % 16 or k > native.kMaxColumns:
            raise ValueError(f"vectors: expected a multiple of 16 columns, at most {native.kMaxColumns}, got {k}")
        if bias.shape[0] != vectors.shape[0] or bias.shape[0] == 0:
            raise ValueError(f"bias: expected [{vectors.shape[0]}] of at least 1, got [{bias.shape[0]}]")
        cdef native.Isa chosen
        choose_isa(isa, &chosen)
        self.encoder = encoder
        self.table = table.view(np.uint16)
        self.vectors = np.ascontiguousarray(np.asarray(vectors).T)
        self.bias = bias
        self.model.add_rows = chosen.add_rows
        self.isa = chosen.name.decode()
        self.model.table = &self.table[0, 0]
        self.model.vectors = &self.vectors[0, 0]
        self.model.bias = &self.bias[0]
        self.model.k = k
        self.model.models = bias.shape[0]
        if lengths is not None:
            self._expect(lengths)

    cdef int _expect(self, lengths) except -1:
        cdef const float[:, ::1] vectors = lengths.vectors
        cdef const float[::1] bias = lengths.bias, least = lengths.least, most = lengths.most
        cdef const double[::1] log_sd = lengths.log_sd
        cdef Py_ssize_t models = self.model.models, k = self.model.k
        if vectors.shape[0] != models or vectors.shape[1] != k:
            raise ValueError(f"lengths: expected vectors [{models}, {k}], got [{vectors.shape[0]}, {vectors.shape[1]}]")
        sizes = (bias.shape[0], least.shape[0], most.shape[0], log_sd.shape[0])
        if set(sizes) != {models}:
            raise ValueError(f"lengths: expected {models} numbers of each kind, got {sizes}")
        self.length_vectors, self.length_bias = np.ascontiguousarray(np.asarray(vectors).T), bias
        self.least, self.most, self.log_sd, self.told_log_sd = least, most, log_sd, tuple(lengths.log_sd.tolist())
        self.model.lengths.vectors, self.model.lengths.bias = &self.length_vectors[0, 0], &bias[0]
        self.model.lengths.least, self.model.lengths.most = &least[0], &most[0]
        return 0

    cdef uint64_t tell(self, const vector[native.Text]& texts, vector[float]* scratch, vector[way.Score]* out) except? 0:
        cdef size_t i, n = self.model.models
        cdef bint lengths = self.model.lengths.vectors != NULL
        cdef uint64_t pieces
        scratch.resize(2 * n if lengths else n)
        out.resize(n)
        with nogil:
            pieces = native.score(self.encoder.config, self.model, texts.data(), texts.size(), scratch.data(),
                                  scratch.data() + n)
        for i in range(n):
            out[0][i].quality = scratch[0][i]
            out[0][i].output_tokens = scratch[0][n + i] if lengths else 0
            out[0][i].output_log_sd = self.log_sd[i] if lengths else 0
        return pieces

    @property
    def models(self):
        return self.model.models

    def score(self, segments):
        # The tuple holds its segments, and they their text, while the GIL is released.
        cdef tuple held = tuple(segments)
        cdef list keep = []
        cdef vector[native.Text] texts
        cdef vector[float] quality
        cdef uint64_t pieces
        _segments(held, &texts, keep)
        quality.resize(self.model.models)
        with nogil:
            pieces = native.score(self.encoder.config, self.model, texts.data(), texts.size(), quality.data())
        return _floats(quality.data(), quality.size()), pieces

    def scores(self, segments):
        cdef tuple held = tuple(segments)
        cdef list keep = []
        cdef vector[native.Text] texts
        _segments(held, &texts, keep)
        return self._scores(texts)

    def scores_turns(self, TextTurns turns not None, weights):
        cdef way.TurnShares shares
        cdef vector[native.Text] texts
        shares.earlier, shares.decay, shares.system = weights.earlier, weights.decay, weights.system
        with nogil:
            way.weigh(turns.chat.turns, shares, &texts)
        return self._scores(texts)

    cdef object _scores(self, const vector[native.Text]& texts):
        cdef vector[float] told
        cdef vector[way.Score] out
        cdef uint64_t pieces = self.tell(texts, &told, &out)
        cdef size_t i, n = self.model.models
        quality = _floats(told.data(), n)
        if self.model.lengths.vectors == NULL:
            return Scores(quality, pieces)
        return Scores(quality, pieces, _floats(told.data() + n, n), self.told_log_sd)

    def hidden(self, segments):
        cdef tuple held = tuple(segments)
        cdef list keep = []
        cdef vector[native.Text] texts
        out = np.empty(self.model.k, dtype=np.float32)
        cdef float[::1] view = out
        _segments(held, &texts, keep)
        with nogil:
            native.hide(self.encoder.config, self.model, texts.data(), texts.size(), &view[0])
        return out

    def score_batch(self, texts):
        cdef tuple held = tuple(texts)
        cdef list keep = []
        cdef Py_ssize_t n = len(held), i
        cdef vector[native.Text] all_texts
        out = np.empty((n, self.model.models), dtype=np.float32)
        cdef float[:, ::1] quality = out
        all_texts.resize(n)
        for i in range(n):
            borrow_text(held[i], 1, &all_texts[i], keep)
        with nogil:
            for i in range(n):
                native.score(self.encoder.config, self.model, &all_texts[i], 1, &quality[i, 0])
        return out


cdef tuple _floats(const float* values, Py_ssize_t n):
    cdef Py_ssize_t i
    cdef tuple out = PyTuple_New(n)
    for i in range(n):
        value = PyFloat_FromDouble(values[i])
        Py_INCREF(value)
        PyTuple_SET_ITEM(out, i, value)
    return out


cdef int _segments(tuple held, vector[native.Text]* out, list keep) except -1:
    cdef Py_ssize_t n = len(held), i
    cdef double weight
    out.resize(n)
    for i in range(n):
        segment = held[i]
        if not isinstance(segment, tuple) or len(<tuple>segment) != 2:
            raise TypeError(f"segments: expected tuples of text and weight, got `{type(segment).__name__}`")
        weight = (<tuple>segment)[1]
        if not 0 <= weight < 1e9:
            raise ValueError(f"segments: expected weights from 0 to 1e9, got {weight}")
        borrow_text((<tuple>segment)[0], weight, &out[0][i], keep)
    return 0
