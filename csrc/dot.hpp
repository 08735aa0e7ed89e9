// logit_m = b_m + v_m . h, and its sigmoid.
#pragma once
#include <cmath>
#include <cstddef>

namespace headgate {

// out[m] = bias[m] + v_m . hidden. `vectors` is [k, models]: neighbouring models go through one register, so the
// compiler vectorises without reordering any sum. `out` overlaps nothing.
inline void products(const float* __restrict hidden, const float* __restrict vectors, const float* __restrict bias,
                     size_t models, size_t k, float* __restrict out) {
  for (size_t m = 0; m < models; ++m) out[m] = bias[m];
  for (size_t i = 0; i < k; ++i) {
    const float h = hidden[i];
    const float* const row = vectors + i * models;
    for (size_t m = 0; m < models; ++m) out[m] += h * row[m];
  }
}

// out[m] = sigmoid(bias[m] + v_m . hidden).
inline void qualities(const float* __restrict hidden, const float* __restrict vectors, const float* __restrict bias,
                      size_t models, size_t k, float* __restrict out) {
  products(hidden, vectors, bias, models, k, out);
  for (size_t m = 0; m < models; ++m) out[m] = 1.0f / (1.0f + std::exp(-out[m]));
}

}  // namespace headgate
