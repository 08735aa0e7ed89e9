// What BERT's uncased normalisation makes of one code point. Expands unicode_table.hpp once, into a two-stage table.
#pragma once
#include <cstdint>
#include <vector>

#include "unicode_table.hpp"

namespace headgate::unicode {

enum Class : uint16_t { kWord, kDropped, kBlank, kMark, kGlyph, kHangul, kMapped };

inline constexpr uint32_t kCodes = 0x110000;

class Table {
 public:
  static const Table& get() {
    static const Table table;
    return table;
  }

  // A Class; at or above kMapped: kMapped + offset of a mapping.
  uint16_t at(uint32_t code) const { return pages_[page_of_[code >> 8] * 256u + (code & 255)]; }

  // {code point | class << 24}[count] of a mapping.
  static const uint32_t* mapping(uint16_t entry, uint32_t* count) {
    const uint32_t* at = kMaps + (entry - kMapped);
    *count = at[1];
    return at + 2;
  }

 private:
  Table() : page_of_(kCodes >> 8, 0), pages_(256, kWord) {
    for (const Range& r : kDrop) fill(r, kDropped);
    for (const Range& r : kSpace) fill(r, kBlank);
    for (const Range& r : kPunct) fill(r, kMark);
    for (const Range& r : kIdeograph) fill(r, kGlyph);
    fill({0xAC00, 0xD7A3}, kHangul);
    constexpr uint32_t size = sizeof(kMaps) / sizeof(kMaps[0]);
    static_assert(size + kMapped <= 0xFFFF);
    for (uint32_t i = 0; i < size; i += 2 + kMaps[i + 1]) *cell(kMaps[i]) = static_cast<uint16_t>(kMapped + i);
  }

  void fill(Range range, uint16_t value) {
    for (uint32_t code = range.first; code <= range.last; ++code) *cell(code) = value;
  }

  uint16_t* cell(uint32_t code) {
    uint16_t& page = page_of_[code >> 8];
    if (page == 0) {
      page = static_cast<uint16_t>(pages_.size() / 256);
      pages_.resize(pages_.size() + 256, kWord);
    }
    return &pages_[page * 256u + (code & 255)];
  }

  std::vector<uint16_t> page_of_;  // page 0: nothing but kWord
  std::vector<uint16_t> pages_;
};

}  // namespace headgate::unicode
