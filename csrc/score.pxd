# Declarations of score.hpp and what it includes.
from libc.stddef cimport size_t
from libc.stdint cimport int8_t, int32_t, uint8_t, uint16_t, uint32_t, uint64_t
from libcpp.vector cimport vector


cdef extern from "unicode_table.hpp" namespace "headgate::unicode" nogil:
    const char* kVersion


cdef extern from "tokenise.hpp" namespace "headgate" nogil:
    cdef cppclass Vocab:
        const uint64_t* slots
        uint64_t mask
        uint32_t unk
        uint32_t longest


cdef extern from "bag.hpp" namespace "headgate" nogil:
    cdef cppclass Encoder:
        Vocab vocab
        uint32_t base[4]
        uint32_t word_rows
        uint32_t char_rows
        uint32_t shape_rows
        uint32_t word_orders[8]
        uint32_t char_orders[8]
        uint32_t n_word_orders
        uint32_t n_char_orders
        double cap[4]
        uint64_t seed


cdef extern from "gather.hpp" namespace "headgate" nogil:
    ctypedef void (*AddRows)(const uint16_t*, size_t, const uint32_t*, size_t, float*)
    ctypedef void (*AddBytes)(const int8_t*, const float*, size_t, const uint32_t*, size_t, float*)
    cdef cppclass Isa:
        const char* name
        AddRows add_rows
        AddBytes add_bytes
    size_t isas(Isa* out)


cdef extern from "score.hpp" namespace "headgate" nogil:
    const size_t kMaxColumns
    cdef cppclass Text:
        const uint8_t* data
        size_t size
        float weight
    cdef cppclass Lengths:
        const float* vectors
        const float* bias
        const float* least
        const float* most
    cdef cppclass Model:
        const uint16_t* table
        const float* vectors
        const float* bias
        size_t k
        size_t models
        AddRows add_rows
        Lengths lengths
    uint64_t hide(const Encoder&, const Model&, const Text*, size_t, float*) except +
    uint64_t score(const Encoder&, const Model&, const Text*, size_t, float*) except +
    uint64_t score(const Encoder&, const Model&, const Text*, size_t, float*, float*) except +
    uint64_t featurise(const Encoder&, const Text&, vector[int32_t]*, vector[float]*, vector[uint8_t]*) except +
    void pieces_of(const Encoder&, const Text&, vector[int32_t]*) except +


cdef extern from "embed.hpp" namespace "headgate" nogil:
    const size_t kByteBlock
    cdef cppclass StaticTable:
        const int8_t* rows
        const float* scales
        const float* masses
        size_t k
        double most_mass
        size_t most_bytes
        AddBytes add_bytes
    bint embed(const Encoder&, const StaticTable&, const uint8_t*, size_t, float*) except +
