// One row of logits, read once: its largest value, log-sum-exp, entropy and the margin to the second. In three
// instruction sets chosen at run time; sums are float32 within a block and double over the blocks.
#pragma once
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>

namespace headgate {

enum class LogitKind : int { kFloat32 = 0, kBfloat16 = 1, kFloat16 = 2 };

// Natural logarithms. All are NaN where the row has a NaN, +inf, or no finite value.
struct RowStatistics {
  float logprob;  // of the likeliest token
  float entropy;
  float margin;   // to the second; at most kMostMargin
  float log_sum;  // log-sum-exp: the log-probability of token i is its logit less this
  int32_t best;   // the likeliest token, -1 where the row is invalid
};

// Below this, e^y is under the smallest normal float32: nothing in the sum, and nothing that a margin could tell.
inline constexpr float kMostMargin = 87.0f;

#define HEADGATE_INLINE static inline __attribute__((always_inline))

// Values of one register of the instruction set: wider ones would be taken apart badly by the compiler.
template <int bytes>
struct Register;
template <>
struct Register<64> {
  typedef float Floats __attribute__((vector_size(64)));
  typedef int32_t Ints __attribute__((vector_size(64)));
};
template <>
struct Register<32> {
  typedef float Floats __attribute__((vector_size(32)));
  typedef int32_t Ints __attribute__((vector_size(32)));
};
template <>
struct Register<16> {
  typedef float Floats __attribute__((vector_size(16)));
  typedef int32_t Ints __attribute__((vector_size(16)));
};
inline constexpr size_t kBlock = 2048;  // logits that stay in the first cache between the two readings of them

// e^y for y in [-87, 0], within 2 units of the last place: 2^n e^r, |r| <= log(2) / 2.
template <class Floats, class Ints>
HEADGATE_INLINE void exp_lanes(const Floats* y, Floats* out) {
  const Floats magic = Floats{} + 12582912.0f;  // 1.5 * 2^23: what is added to it is rounded to a whole number
  const Floats shifted = *y * 1.44269504f + magic;
  const Floats n = shifted - magic;
  const Floats r = (*y - n * 0.693359375f) + n * 2.12194440e-4f;
  Floats p = Floats{} + 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.0f;
  Ints bits;
  std::memcpy(&bits, &shifted, sizeof bits);
  bits = (bits - 0x4B400000 + 127) << 23;
  Floats scale;
  std::memcpy(&scale, &bits, sizeof scale);
  *out = p * scale;
}

// `count` logits from `first` on, as float32: where they are, or in `scratch`, filled up with -inf to whole lanes.
template <size_t kLanes>
HEADGATE_INLINE const float* load_block(const void* row, LogitKind kind, size_t first, size_t count, float* scratch) {
  const size_t whole = (count + kLanes - 1) / kLanes * kLanes;
  if (kind == LogitKind::kFloat32) {
    const float* from = static_cast<const float*>(row) + first;
    if (whole == count) return from;
    std::memcpy(scratch, from, count * sizeof(float));
  } else {
    const uint16_t* from = static_cast<const uint16_t*>(row) + first;
    uint32_t* bits = reinterpret_cast<uint32_t*>(scratch);
    if (kind == LogitKind::kBfloat16) {
      for (size_t i = 0; i < count; ++i) bits[i] = static_cast<uint32_t>(from[i]) << 16;
    } else {
      for (size_t i = 0; i < count; ++i) {
        const uint32_t half = from[i], sign = (half & 0x8000u) << 16;
        const uint32_t magnitude = (half & 0x7FFFu) << 13;
        float value;
        std::memcpy(&value, &magnitude, 4);
        value *= 0x1p112f;
        std::memcpy(&bits[i], &value, 4);
        bits[i] |= sign | ((half & 0x7C00u) == 0x7C00u ? 0x7F800000u : 0u);
      }
    }
  }
  for (size_t i = count; i < whole; ++i) scratch[i] = -std::numeric_limits<float>::infinity();
  return scratch;
}

template <int bytes>
HEADGATE_INLINE RowStatistics row_statistics_of(const void* row, LogitKind kind, size_t n) {
  using Floats = typename Register<bytes>::Floats;
  using Ints = typename Register<bytes>::Ints;
  constexpr size_t kLanes = bytes / sizeof(float);
  constexpr float kInf = std::numeric_limits<float>::infinity();
  const float kNan = std::numeric_limits<float>::quiet_NaN();
  alignas(64) float scratch[kBlock];
  Floats first = Floats{} - kInf, second = first;  // the two largest of each lane
  Ints broken{};
  float reference = -kInf;  // the largest so far, of which all exponents are taken
  double sum = 0, weighted = 0;
  size_t best_block = 0;
  for (size_t start = 0; start < n; start += kBlock) {
    const size_t count = n - start < kBlock ? n - start : kBlock;
    const float* block = load_block<kLanes>(row, kind, start, count, scratch);
    for (size_t i = 0; i < count; i += kLanes) {
      Floats x;
      std::memcpy(&x, block + i, sizeof x);
      broken |= (x != x);
      const Floats low = x < first ? x : first;
      second = low > second ? low : second;
      first = x > first ? x : first;
    }
    float most = -kInf;
    for (size_t lane = 0; lane < kLanes; ++lane) most = first[lane] > most ? first[lane] : most;
    if (most == -kInf) continue;  // all is masked so far
    if (most > reference) {
      if (sum > 0) {  // the sums are taken of the older, smaller reference
        const double less = static_cast<double>(reference) - most, shrink = std::exp(less);
        weighted = shrink * (weighted + less * sum);
        sum *= shrink;
      }
      reference = most;
      best_block = start;
    }
    Floats part{}, product{};
    for (size_t i = 0; i < count; i += kLanes) {
      Floats x, e;
      std::memcpy(&x, block + i, sizeof x);
      Floats y = x - reference;
      const Floats least = Floats{} - kMostMargin;
      y = y < least ? least : y;
      exp_lanes<Floats, Ints>(&y, &e);
      part += e;
      product += e * y;
    }
    float parts = 0, products = 0;
    for (size_t lane = 0; lane < kLanes; ++lane) parts += part[lane], products += product[lane];
    sum += parts;
    weighted += products;
  }
  bool invalid = !(sum > 0) || reference == kInf;
  for (size_t lane = 0; lane < kLanes; ++lane) invalid = invalid || broken[lane] != 0;
  if (invalid) return {kNan, kNan, kNan, kNan, -1};
  float top = -kInf, next = -kInf;
  for (size_t lane = 0; lane < kLanes; ++lane) {
    const float high = first[lane], low = second[lane];
    next = high > top ? (top > low ? top : low) : (high > next ? high : next);
    top = high > top ? high : top;
  }
  const size_t count = n - best_block < kBlock ? n - best_block : kBlock;
  const float* block = load_block<kLanes>(row, kind, best_block, count, scratch);
  size_t best = 0;
  while (block[best] != top) ++best;
  const float log_sum = static_cast<float>(std::log(sum));
  const float entropy = static_cast<float>(std::log(sum) - weighted / sum);
  return {-log_sum, entropy > 0 ? entropy : 0.0f, top - next < kMostMargin ? top - next : kMostMargin,
          reference + log_sum, static_cast<int32_t>(best_block + best)};
}

using RowStatisticsOf = RowStatistics (*)(const void* row, LogitKind kind, size_t n);

inline RowStatistics row_statistics_portable(const void* row, LogitKind kind, size_t n) {
  return row_statistics_of<16>(row, kind, n);
}

#if defined(__x86_64__)
__attribute__((target("avx2,fma"))) inline RowStatistics row_statistics_avx2(const void* row, LogitKind kind,
                                                                             size_t n) {
  return row_statistics_of<32>(row, kind, n);
}

__attribute__((target("avx512f,avx512dq"))) inline RowStatistics row_statistics_avx512(const void* row, LogitKind kind,
                                                                                       size_t n) {
  return row_statistics_of<64>(row, kind, n);
}
#endif

struct RowIsa {
  const char* name;
  RowStatisticsOf statistics;
};

// The paths that this machine can run, best first. Returns how many; `out` has room for three.
inline size_t row_isas(RowIsa* out) {
  size_t n = 0;
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq"))
    out[n++] = {"avx512", row_statistics_avx512};
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) out[n++] = {"avx2", row_statistics_avx2};
#endif
  out[n++] = {"portable", row_statistics_portable};
  return n;
}

}  // namespace headgate
