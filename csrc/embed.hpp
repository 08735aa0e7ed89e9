// A text to its static embedding: the sum of its WordPieces' rows of bytes, each times its scale, of length 1. The same
// words and pieces as the scorer's, a word met again counts once. Needs no interpreter.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>

#include "bag.hpp"
#include "gather.hpp"
#include "score.hpp"

namespace headgate {

// Borrowed; read only.
struct StaticTable {
  const int8_t* rows;   // [pieces, k]
  const float* scales;  // [pieces]
  const float* masses;  // [pieces]: the length of a row times its scale
  size_t k;
  double most_mass;   // pieces are added until their masses reach it
  size_t most_bytes;  // of a text that are read
  AddBytes add_bytes;
};

// A sink of `Bagger`.
struct MassSums {
  const StaticTable& table;
  alignas(64) float acc[kMaxColumns];
  double mass = 0;

  explicit MassSums(const StaticTable& t) : table(t) { std::fill_n(acc, t.k, 0.0f); }

  void soon(uint32_t row) {
    const int8_t* const data = table.rows + row * table.k;
    for (size_t i = 0; i < table.k; i += 64) __builtin_prefetch(data + i);
  }

  void add(Group, const uint32_t* rows, size_t n) {
    size_t used = 0;
    while (used < n && mass < table.most_mass) mass += table.masses[rows[used++]];
    table.add_bytes(table.rows, table.scales, table.k, rows, used, acc);
  }
};

// Fills out[0..k). False where the text has no piece with a mass: then all are 0.
inline bool embed(const Encoder& encoder, const StaticTable& table, const uint8_t* text, size_t size, float* out) {
  MassSums sums(table);
  Bagger(encoder, scratch_of_thread(), sums).run(text, std::min(size, table.most_bytes));
  double squares = 0;
  for (size_t j = 0; j < table.k; ++j) squares += static_cast<double>(sums.acc[j]) * sums.acc[j];
  const float scale = squares > 0 ? static_cast<float>(1 / std::sqrt(squares)) : 0.0f;
  for (size_t j = 0; j < table.k; ++j) out[j] = sums.acc[j] * scale;
  return squares > 0;
}

}  // namespace headgate
