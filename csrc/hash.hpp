// The one hash of the featuriser: polynomial keys of code points, finished by MurmurHash3's mixer (docs/features.md,
// Hash).
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>

namespace headgate {

inline constexpr uint64_t kPrime = 0x9E3779B97F4A7C15ull;
inline constexpr uint64_t kContinues = 0xD6E8FEB86659FD93ull;  // large, so that no short key is met
inline constexpr uint32_t kBegin = 0x110000;
inline constexpr uint32_t kEnd = 0x110001;
inline constexpr size_t kLongestWord = 100;  // in code points: a longer one has no pieces, as in BERT

inline uint64_t mix(uint64_t x) {
  x = (x ^ (x >> 33)) * 0xFF51AFD7ED558CCDull;
  x = (x ^ (x >> 33)) * 0xC4CEB9FE1A85EC53ull;
  return x ^ (x >> 33);
}

inline uint64_t push(uint64_t key, uint32_t code) {
  return key * kPrime + code + 1;
}

constexpr std::array<uint64_t, kLongestWord + 2> powers() {
  std::array<uint64_t, kLongestWord + 2> out{};
  uint64_t power = 1;
  for (uint64_t& cell : out) {
    cell = power;
    power *= kPrime;
  }
  return out;
}
inline constexpr auto kPowers = powers();

constexpr uint64_t power(size_t exponent) {
  uint64_t out = 1;
  for (uint64_t square = kPrime; exponent; exponent >>= 1, square *= square) {
    if (exponent & 1) out *= square;
  }
  return out;
}

// Key of the code points [first, last), from keys of prefixes; last - first <= kLongestWord.
inline uint64_t substring(const uint64_t* prefix, size_t first, size_t last) {
  return prefix[last] - prefix[first] * kPowers[last - first];
}

}  // namespace headgate
