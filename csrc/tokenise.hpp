// UTF-8 to BERT's basic tokens to WordPieces. Words exist only as keys of their prefixes, never as strings.
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "hash.hpp"
#include "unicode.hpp"

namespace headgate {

// A word, `prefix[0] = 0, prefix[1] = BEGIN, prefix[1 + i]` the key of BEGIN and i code points; room for END behind them.
struct Word {
  uint64_t* prefix;
  size_t length;  // code points
  uint64_t key;   // without BEGIN
};

enum Family : uint8_t { kWords, kLongest, kCapitals, kDigits, kNewlines, kSymbols, kQuestions, kOthers, kFamilies };
inline constexpr uint8_t kNoFamily = kFamilies;

using Counts = std::array<uint64_t, kFamilies + 1>;

struct Ascii {
  uint8_t kind;  // unicode::Class
  uint8_t lower;
  uint8_t family;
};

constexpr std::array<Ascii, 128> ascii_table() {
  std::array<Ascii, 128> out{};
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

// Collects code points into words and hands each to `sink(const Word&)`. `prefix` is scratch and is grown as needed.
template <class Sink>
class WordMaker {
 public:
  WordMaker(std::vector<uint64_t>* prefix, Sink& sink) : prefix_(prefix), sink_(sink) {
    if (prefix_->size() < 256) prefix_->resize(256);
    (*prefix_)[0] = 0;
    (*prefix_)[1] = push(0, kBegin);
    data_ = prefix_->data();
    room_ = prefix_->size() - 3;
  }

  void letter(uint32_t code) {
    if (length_ == room_) grow();
    data_[length_ + 2] = push(data_[length_ + 1], code);
    key_ = push(key_, code);
    ++length_;
  }

  void end() {
    if (length_ == 0) return;
    sink_(Word{data_, length_, key_});
    length_ = 0;
    key_ = 0;
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
  void grow() {
    prefix_->resize(prefix_->size() * 2);
    data_ = prefix_->data();
    room_ = prefix_->size() - 3;
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

  std::vector<uint64_t>* prefix_;
  Sink& sink_;
  uint64_t* data_;
  size_t room_;
  size_t length_ = 0;
  uint64_t key_ = 0;
};

// Splits a text into words and counts what the shape rows need (all but words and longest word).
template <class Sink>
void split_words(const uint8_t* text, size_t size, std::vector<uint64_t>* prefix, Counts* counts, Sink&& sink) {
  const unicode::Table& table = unicode::Table::get();
  WordMaker maker(prefix, sink);
  for (const uint8_t *p = text, *end = text + size; p < end;) {
    if (*p < 0x80) {
      const Ascii ascii = kAscii[*p++];
      ++(*counts)[ascii.family];
      if (ascii.kind == unicode::kWord) {
        maker.letter(ascii.lower);
      } else {
        maker.put(ascii.lower, ascii.kind);
      }
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
