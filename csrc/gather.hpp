// Sums of float16 and of int8 table rows, in three instruction sets chosen at run time. K is a multiple of 16, of int8
// rows of 64; all arithmetic is float32.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "bag.hpp"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace headgate {

// acc[0..k) += the sum of n rows of the table. Prefetches rows[n .. n + kLookahead).
using AddRows = void (*)(const uint16_t* table, size_t k, const uint32_t* rows, size_t n, float* acc);

inline void prefetch_row(const uint16_t* row, size_t k) {
  for (size_t i = 0; i < k; i += 32) __builtin_prefetch(row + i);
}

#if defined(__aarch64__)
inline float half_to_float(uint16_t half) {
  __fp16 value;
  std::memcpy(&value, &half, 2);
  return static_cast<float>(value);
}
#else
// Exact for every finite half: the exponent is moved by a multiplication, so subnormals need no branch.
inline float half_to_float(uint16_t half) {
  const uint32_t sign = static_cast<uint32_t>(half & 0x8000) << 16;
  const uint32_t magnitude = static_cast<uint32_t>(half & 0x7FFF) << 13;
  float value;
  std::memcpy(&value, &magnitude, 4);
  value *= 0x1p112f;
  uint32_t bits;
  std::memcpy(&bits, &value, 4);
  bits |= sign;
  std::memcpy(&value, &bits, 4);
  return value;
}
#endif

inline void add_rows_portable(const uint16_t* table, size_t k, const uint32_t* rows, size_t n, float* acc) {
  for (size_t block = 0; block < k; block += 16) {
    float sum[16] = {};
    for (size_t i = 0; i < n; ++i) {
      if (block == 0) prefetch_row(table + rows[i + kLookahead] * k, k);
      const uint16_t* row = table + rows[i] * k + block;
      for (size_t j = 0; j < 16; ++j) sum[j] += half_to_float(row[j]);
    }
    for (size_t j = 0; j < 16; ++j) acc[block + j] += sum[j];
  }
}

#if defined(__x86_64__)
__attribute__((target("avx2,f16c"))) inline void add_rows_avx2(const uint16_t* table, size_t k, const uint32_t* rows,
                                                               size_t n, float* acc) {
  for (size_t block = 0; block < k; block += 32) {
    const bool wide = block + 32 <= k;
    __m256 sum[4] = {_mm256_setzero_ps(), _mm256_setzero_ps(), _mm256_setzero_ps(), _mm256_setzero_ps()};
    for (size_t i = 0; i < n; ++i) {
      if (block == 0) prefetch_row(table + rows[i + kLookahead] * k, k);
      const __m128i* row = reinterpret_cast<const __m128i*>(table + rows[i] * k + block);
      sum[0] = _mm256_add_ps(sum[0], _mm256_cvtph_ps(_mm_loadu_si128(row)));
      sum[1] = _mm256_add_ps(sum[1], _mm256_cvtph_ps(_mm_loadu_si128(row + 1)));
      if (!wide) continue;
      sum[2] = _mm256_add_ps(sum[2], _mm256_cvtph_ps(_mm_loadu_si128(row + 2)));
      sum[3] = _mm256_add_ps(sum[3], _mm256_cvtph_ps(_mm_loadu_si128(row + 3)));
    }
    for (size_t j = 0; j < (wide ? 4u : 2u); ++j) {
      float* out = acc + block + 8 * j;
      _mm256_storeu_ps(out, _mm256_add_ps(sum[j], _mm256_loadu_ps(out)));
    }
  }
}

// Masked forms throughout: GCC 12 warns of the undefined source of the plain conversion.
__attribute__((target("avx512f"))) inline void add_rows_avx512(const uint16_t* table, size_t k, const uint32_t* rows,
                                                               size_t n, float* acc) {
  for (size_t block = 0; block < k; block += 32) {
    const bool wide = block + 32 <= k;
    __m512 low = _mm512_setzero_ps(), high = _mm512_setzero_ps();
    for (size_t i = 0; i < n; ++i) {
      if (block == 0) prefetch_row(table + rows[i + kLookahead] * k, k);
      const __m256i* row = reinterpret_cast<const __m256i*>(table + rows[i] * k + block);
      low = _mm512_add_ps(low, _mm512_maskz_cvtph_ps(0xFFFF, _mm256_loadu_si256(row)));
      if (wide) high = _mm512_add_ps(high, _mm512_maskz_cvtph_ps(0xFFFF, _mm256_loadu_si256(row + 1)));
    }
    float* out = acc + block;
    _mm512_storeu_ps(out, _mm512_add_ps(low, _mm512_loadu_ps(out)));
    if (wide) _mm512_storeu_ps(out + 16, _mm512_add_ps(high, _mm512_loadu_ps(out + 16)));
  }
}
#endif

// acc[0..k) += the sum of n rows of bytes, each times its scale.
using AddBytes = void (*)(const int8_t* table, const float* scales, size_t k, const uint32_t* rows, size_t n,
                          float* acc);

inline constexpr size_t kByteBlock = 64;  // columns whose sums are held in registers

inline void add_bytes_portable(const int8_t* table, const float* scales, size_t k, const uint32_t* rows, size_t n,
                               float* acc) {
  for (size_t i = 0; i < n; ++i) {
    const float scale = scales[rows[i]];
    const int8_t* row = table + rows[i] * k;
    for (size_t j = 0; j < k; ++j) acc[j] += scale * static_cast<float>(row[j]);
  }
}

#if defined(__x86_64__)
__attribute__((target("avx2"))) inline void add_bytes_avx2(const int8_t* table, const float* scales, size_t k,
                                                           const uint32_t* rows, size_t n, float* acc) {
  for (size_t block = 0; block < k; block += kByteBlock) {
    __m256 sum[8];
    for (size_t j = 0; j < 8; ++j) sum[j] = _mm256_loadu_ps(acc + block + 8 * j);
    for (size_t i = 0; i < n; ++i) {
      const __m256 scale = _mm256_set1_ps(scales[rows[i]]);
      const int8_t* row = table + rows[i] * k + block;
      for (size_t j = 0; j < 8; ++j) {
        const __m128i bytes = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(row + 8 * j));
        sum[j] = _mm256_add_ps(sum[j], _mm256_mul_ps(scale, _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(bytes))));
      }
    }
    for (size_t j = 0; j < 8; ++j) _mm256_storeu_ps(acc + block + 8 * j, sum[j]);
  }
}

__attribute__((target("avx512f"))) inline void add_bytes_avx512(const int8_t* table, const float* scales, size_t k,
                                                                const uint32_t* rows, size_t n, float* acc) {
  for (size_t block = 0; block < k; block += kByteBlock) {
    __m512 sum[4];
    for (size_t j = 0; j < 4; ++j) sum[j] = _mm512_loadu_ps(acc + block + 16 * j);
    for (size_t i = 0; i < n; ++i) {
      const __m512 scale = _mm512_set1_ps(scales[rows[i]]);
      const int8_t* row = table + rows[i] * k + block;
      for (size_t j = 0; j < 4; ++j) {
        const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(row + 16 * j));
        const __m512i wide = _mm512_maskz_cvtepi8_epi32(0xFFFF, bytes);
        sum[j] = _mm512_fmadd_ps(scale, _mm512_maskz_cvtepi32_ps(0xFFFF, wide), sum[j]);
      }
    }
    for (size_t j = 0; j < 4; ++j) _mm512_storeu_ps(acc + block + 16 * j, sum[j]);
  }
}
#endif

struct Isa {
  const char* name;
  AddRows add_rows;
  AddBytes add_bytes;
};

// The paths that this machine can run, best first. Returns how many; `out` has room for three.
inline size_t isas(Isa* out) {
  size_t n = 0;
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512f")) out[n++] = {"avx512", add_rows_avx512, add_bytes_avx512};
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("f16c");
  if (avx2) out[n++] = {"avx2", add_rows_avx2, add_bytes_avx2};
#endif
  out[n++] = {"portable", add_rows_portable, add_bytes_portable};
  return n;
}

}  // namespace headgate
