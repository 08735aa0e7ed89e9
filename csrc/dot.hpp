// logit_m = b_m + v_m . h, and its sigmoid.
#pragma once
#include <cmath>
#include <cstddef>

namespace headgate {

// Eight running sums, so that the compiler may vectorise without reordering what we wrote. k is a multiple of 8.
inline float dot(const float* a, const float* b, size_t k) {
  float sum[8] = {};
  for (size_t i = 0; i < k; i += 8) {
    for (size_t j = 0; j < 8; ++j) sum[j] += a[i + j] * b[i + j];
  }
  return ((sum[0] + sum[4]) + (sum[1] + sum[5])) + ((sum[2] + sum[6]) + (sum[3] + sum[7]));
}

// out[m] = sigmoid(bias[m] + vectors[m] . hidden), for `models` vectors of k numbers.
inline void qualities(const float* hidden, const float* vectors, const float* bias, size_t models, size_t k,
                      float* out) {
  for (size_t m = 0; m < models; ++m) {
    const float logit = bias[m] + dot(hidden, vectors + m * k, k);
    out[m] = 1.0f / (1.0f + std::exp(-logit));
  }
}

}  // namespace headgate
