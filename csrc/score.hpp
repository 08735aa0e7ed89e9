// The whole call: texts with weights -> hidden vector -> quality of each model, and output tokens. Needs no
// interpreter.
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "bag.hpp"
#include "dot.hpp"
#include "gather.hpp"

namespace headgate {

struct Text {
  const uint8_t* data;
  size_t size;
  float weight;
};

// What tells the models' expected output tokens: logarithms of means, from `least` to `most`, which are -infinity of a
// model of which nothing is known. Borrowed; `vectors` null: there are none.
struct Lengths {
  const float* vectors;  // [k, models]
  const float* bias;     // [models]
  const float* least;    // [models]
  const float* most;     // [models]
};

// The folded table and the models' vectors. Borrowed; read only.
struct Model {
  const uint16_t* table;  // float16 [rows, k]
  const float* vectors;   // [k, models]
  const float* bias;      // [models]
  size_t k, models;
  AddRows add_rows;
  Lengths lengths{};
};

inline Scratch& scratch_of_thread() {
  thread_local Scratch scratch;
  return scratch;
}

inline constexpr size_t kMaxColumns = 256;

// Group sums of one text.
struct Sums {
  const Model& model;
  alignas(64) float acc[kGroups * kMaxColumns];  // [kGroups, k]; zeroed by the caller

  explicit Sums(const Model& m) : model(m) {}

  // A row's memory is asked for when its number is known, long before it is summed.
  void soon(uint32_t row) { __builtin_prefetch(model.table + row * model.k); }

  void add(Group group, const uint32_t* rows, size_t n) {
    model.add_rows(model.table, model.k, rows, n, &acc[group * model.k]);
  }
};

// hidden[0..k) = the weighted mean of the texts' pooled rows. Returns the WordPieces of all texts.
inline uint64_t hide(const Encoder& encoder, const Model& model, const Text* texts, size_t n, float* hidden) {
  std::fill(hidden, hidden + model.k, 0.0f);
  Sums sums(model);
  uint64_t pieces = 0;
  double total = 0;
  for (size_t i = 0; i < n; ++i) {
    std::fill_n(sums.acc, kGroups * model.k, 0.0f);
    const Tally tally = Bagger(encoder, scratch_of_thread(), sums).run(texts[i].data, texts[i].size);
    pieces += tally.pieces;
    total += texts[i].weight;
    for (size_t g = 0; g < kGroups; ++g) {
      const float scale = texts[i].weight * static_cast<float>(tally.scale(encoder, static_cast<Group>(g)));
      for (size_t j = 0; j < model.k; ++j) hidden[j] += scale * sums.acc[g * model.k + j];
    }
  }
  if (total > 0) {
    const float share = static_cast<float>(1 / total);
    for (size_t j = 0; j < model.k; ++j) hidden[j] *= share;
  }
  return pieces;
}

// No vocabulary in use has a longer token. WordPieces alone would take a word of megabytes for one token.
inline constexpr uint64_t kLongestToken = 128;  // bytes

// tokens[0..models) that answers are expected to have; 0 where nothing is known.
inline void lengths_of(const float* hidden, const Model& model, float* tokens) {
  const Lengths& lengths = model.lengths;
  products(hidden, lengths.vectors, lengths.bias, model.models, model.k, tokens);
  for (size_t m = 0; m < model.models; ++m) {
    tokens[m] = std::exp(std::min(std::max(tokens[m], lengths.least[m]), lengths.most[m]));
  }
}

// quality[0..models) of a conversation, and `tokens` too where the model has lengths. Returns its size in tokens:
// WordPieces, and no fewer than its bytes allow.
inline uint64_t score(const Encoder& encoder, const Model& model, const Text* texts, size_t n, float* quality,
                      float* tokens = nullptr) {
  float hidden[kMaxColumns];
  const uint64_t pieces = hide(encoder, model, texts, n, hidden);
  qualities(hidden, model.vectors, model.bias, model.models, model.k, quality);
  if (tokens && model.lengths.vectors) lengths_of(hidden, model, tokens);
  uint64_t bytes = 0;
  for (size_t i = 0; i < n; ++i) bytes += texts[i].size;
  return std::max(pieces, bytes / kLongestToken);
}

// One CSR line: rows and pooled weights of one text, appended; `groups` is scratch. Returns its WordPieces.
inline uint64_t featurise(const Encoder& encoder, const Text& text, std::vector<int32_t>* rows,
                          std::vector<float>* weights, std::vector<uint8_t>* groups) {
  groups->clear();
  Line line{rows, groups};
  const Tally tally = Bagger(encoder, scratch_of_thread(), line).run(text.data, text.size);
  float scale[kGroups];
  for (size_t g = 0; g < kGroups; ++g) scale[g] = static_cast<float>(tally.scale(encoder, static_cast<Group>(g)));
  for (const uint8_t group : *groups) weights->push_back(scale[group]);
  return tally.pieces;
}

// WordPiece ids of a text, appended.
inline void pieces_of(const Encoder& encoder, const Text& text, std::vector<int32_t>* out) {
  Counts counts{};
  uint32_t ids[kLongestWord];
  std::vector<uint64_t>& cells = scratch_of_thread().cells;
  split_words(text.data, text.size, &cells, &counts, [&](const Word& word) {
    out->insert(out->end(), ids, ids + word_pieces(encoder.vocab, word, ids));
    return size_t{0};
  });
  cut_back(&cells, kKeptCells);
}

}  // namespace headgate
