// UTF-8 to BERT's basic tokens to WordPieces. Words exist only as keys of their prefixes, never as strings.
#pragma once
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "hash.hpp"
#include "unicode.hpp"

namespace headgate {

// A longer run of letters is several words, so that what a text needs in memory does not grow with it.
inline constexpr size_t kMostLetters = 1 << 14;

// A word: `prefix[0] = 0`, `prefix[1 + i]` the key of BEGIN and i code points, and room for one more behind them.
struct Word {
  uint64_t* prefix;
  size_t length;  // code points

  uint64_t key() const {
    const uint64_t scale = length <= kLongestWord ? kPowers[length] : power(length);
    return prefix[length + 1] - prefix[1] * scale;
  }
};

enum Family : uint8_t { kWords, kLongest, kCapitals, kDigits, kNewlines, kSymbols, kQuestions, kOthers, kFamilies };
inline constexpr uint8_t kNoFamily = kFamilies;

using Counts = std::array<uint64_t, kFamilies>;

struct Ascii {
  uint8_t kind;  // unicode::Class
  uint8_t lower;
  uint8_t family;
};

// Bytes above 127 are of no class here: they end a run of letters and are decoded.
constexpr std::array<Ascii, 256> ascii_table() {
  std::array<Ascii, 256> out{};
  for (Ascii& byte : out) byte = {unicode::kDropped, 0, kNoFamily};
  for (uint32_t c = 0; c < 128; ++c) {
    const bool upper = c >= 'A' && c <= 'Z', lower = c >= 'a' && c <= 'z', digit = c >= '0' && c <= '9';
    const bool blank = c == ' ' || c == '\t' || c == '\n' || c == '\r';
    uint8_t kind = unicode::kMark;
    if (upper || lower || digit) kind = unicode::kWord;
    if (blank) kind = unicode::kBlank;
    if ((c < 32 || c == 127) && !blank) kind = unicode::kDropped;
    out[c] = {kind, static_cast<uint8_t>(upper ? c + 32 : c), kNoFamily};
    if (upper) out[c].family = kCapitals;
    if (digit) out[c].family = kDigits;
  }
  for (const char* s = "{}()[]<>=;\\/_|&^$#@*+~`%"; *s; ++s) out[static_cast<uint8_t>(*s)].family = kSymbols;
  out['\n'].family = kNewlines;
  out['?'].family = kQuestions;
  return out;
}
inline constexpr auto kAscii = ascii_table();

// The lower case of an ASCII letter or digit, else 0.
constexpr std::array<uint8_t, 256> lower_table() {
  std::array<uint8_t, 256> out{};
  for (size_t c = 0; c < 128; ++c) out[c] = kAscii[c].kind == unicode::kWord ? kAscii[c].lower : 0;
  return out;
}
inline constexpr auto kLower = lower_table();

// Decodes one sequence of at least two bytes. Returns its length, or 0 where it is not UTF-8.
inline size_t decode(const uint8_t* p, const uint8_t* end, uint32_t* code) {
  const uint32_t lead = *p;
  const size_t size = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : 2;
  if (lead < 0xC2 || lead > 0xF4 || static_cast<size_t>(end - p) < size) return 0;
  uint32_t value = lead & (0x7F >> size);
  for (size_t i = 1; i < size; ++i) {
    if ((p[i] & 0xC0) != 0x80) return 0;
    value = value << 6 | (p[i] & 0x3F);
  }
  const bool overlong = (size == 3 && value < 0x800) || (size == 4 && value < 0x10000);
  if (overlong || value > 0x10FFFF || (value >= 0xD800 && value <= 0xDFFF)) return 0;
  *code = value;
  return size;
}

// Collects code points into words and hands each to `sink(const Word&)`, which returns the cell where the next word may
// start: that of this word, or behind it, or 0. `cells` is scratch and is grown as needed.
template <class Sink>
class WordMaker {
 public:
  WordMaker(std::vector<uint64_t>* cells, Sink& sink) : cells_(cells), sink_(sink) {
    if (cells_->size() < 1024) cells_->resize(1024);
    open(0);
  }

  // Takes ASCII letters and digits, as many as follow; counts capitals and digits.
  const uint8_t* letters(const uint8_t* p, const uint8_t* end, Counts* counts) {
    // Locals, so that the key stays in a register: reading back what was just stored costs more than multiplying.
    uint64_t *last = last_, key = *last;
    uint64_t* const limit = limit_;
    uint64_t capitals = 0, digits = 0;
    for (uint64_t lower; p < end && last < limit && (lower = kLower[*p]); ++p) {
      key = key * kPrime + (lower + 1);
      *++last = key;
      capitals += (lower ^ *p) >> 5;
      digits += *p <= '9';
    }
    last_ = last;
    (*counts)[kCapitals] += capitals;
    (*counts)[kDigits] += digits;
    if (last == limit) grow();
    return p;
  }

  void letter(uint32_t code) {
    const uint64_t key = push(*last_, code);
    *++last_ = key;
    if (last_ == limit_) grow();
  }

  void end() {
    const size_t length = static_cast<size_t>(last_ - first_) - 1;
    if (length == 0) return;
    open(sink_(Word{first_, length}));
  }

  void alone(uint32_t code) {
    end();
    letter(code);
    end();
  }

  void put(uint32_t code, uint32_t kind) {
    switch (kind) {
      case unicode::kWord: return letter(code);
      case unicode::kDropped: return;
      case unicode::kBlank: return end();
      case unicode::kMark:
      case unicode::kGlyph: return alone(code);
      case unicode::kHangul: return hangul(code - 0xAC00);
      default: return mapped(static_cast<uint16_t>(kind));
    }
  }

 private:
  // A new word starts at cell `at`.
  void open(size_t at) {
    if (at + 256 > cells_->size()) cells_->resize(cells_->size() * 2);
    first_ = cells_->data() + at;
    first_[0] = 0;
    first_[1] = push(0, kBegin);
    last_ = first_ + 1;
    limit();
  }

  void limit() { limit_ = std::min(cells_->data() + cells_->size() - 2, first_ + 1 + kMostLetters); }

  // At the limit: of the word, or of the memory that there is.
  void grow() {
    if (last_ - first_ > static_cast<ptrdiff_t>(kMostLetters)) return end();
    const size_t first = static_cast<size_t>(first_ - cells_->data()),
                 last = static_cast<size_t>(last_ - cells_->data());
    cells_->resize(cells_->size() * 2);
    first_ = cells_->data() + first;
    last_ = cells_->data() + last;
    limit();
  }

  void hangul(uint32_t syllable) {
    letter(0x1100 + syllable / 588);
    letter(0x1161 + syllable % 588 / 28);
    if (syllable % 28) letter(0x11A7 + syllable % 28);
  }

  void mapped(uint16_t entry) {
    uint32_t count;
    const uint32_t* out = unicode::Table::mapping(entry, &count);
    for (uint32_t i = 0; i < count; ++i) put(out[i] & 0xFFFFFF, out[i] >> 24);
  }

  std::vector<uint64_t>* cells_;
  Sink& sink_;
  uint64_t* first_;  // the word so far starts here
  uint64_t* last_;   // the key of the word so far
  uint64_t* limit_;  // last_ stays below it, with one cell to spare behind
};

// Splits a text into words and counts what the shape rows need (all but words and longest word).
template <class Sink>
void split_words(const uint8_t* text, size_t size, std::vector<uint64_t>* cells, Counts* counts, Sink&& sink) {
  const unicode::Table& table = unicode::Table::get();
  WordMaker maker(cells, sink);
  for (const uint8_t *p = text, *end = text + size; p < end;) {
    if (*p < 0x80) {
      const Ascii ascii = kAscii[*p];
      if (ascii.kind == unicode::kWord) {
        p = maker.letters(p, end, counts);
        if (p < end && *p == ' ') {
          maker.end();
          ++p;
        }
        continue;
      }
      ++p;
      if (ascii.family != kNoFamily) ++(*counts)[ascii.family];
      maker.put(ascii.lower, ascii.kind);
      continue;
    }
    uint32_t code;
    const size_t length = decode(p, end, &code);
    p += length ? length : 1;
    if (length == 0 || code == 0xFFFD) continue;
    ++(*counts)[kOthers];
    maker.put(code, table.at(code));
  }
  maker.end();
}

// The vocabulary as an open-addressing table (docs/features.md, Hash).
struct Vocab {
  static constexpr int kIdBits = 20;
  const uint64_t* slots;
  uint64_t mask;
  uint32_t unk;
  uint32_t longest;  // code points of the longest piece

  void soon(uint64_t hash) const { __builtin_prefetch(slots + (hash & mask)); }

  // The id stored under a hash, or -1.
  int32_t find(uint64_t hash) const {
    for (uint64_t slot = hash & mask;; slot = (slot + 1) & mask) {
      const uint64_t entry = slots[slot];
      if (entry == ~0ull) return -1;
      if ((entry ^ hash) >> kIdBits == 0) return static_cast<int32_t>(entry & ((1u << kIdBits) - 1));
    }
  }
};

// Greedy longest match from the left. Writes at most kLongestWord ids, returns how many.
inline size_t word_pieces(const Vocab& vocab, const Word& word, uint32_t* out) {
  size_t count = 0;
  for (size_t start = 0; start < word.length && word.length <= kLongestWord;) {
    size_t end = word.length - start > vocab.longest ? start + vocab.longest : word.length;
    int32_t id = -1;
    for (; end > start; --end) {
      const uint64_t key = substring(word.prefix, start + 1, end + 1);
      id = vocab.find(mix(start ? key ^ kContinues : key));
      if (id >= 0) break;
    }
    if (id < 0) {
      count = 0;
      break;
    }
    out[count++] = static_cast<uint32_t>(id);
    start = end;
  }
  if (count) return count;
  out[0] = vocab.unk;
  return 1;
}

}  // namespace headgate
