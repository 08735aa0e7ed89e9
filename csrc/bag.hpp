// A text to its bag of table rows. A word met again only raises a count, so a long text costs about its distinct words.
#pragma once
#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "hash.hpp"
#include "tokenise.hpp"

namespace headgate {

enum Group : uint8_t { kPieceGroup, kWordGroup, kCharGroup, kShapeGroup, kGroups };

inline constexpr size_t kMaxOrder = 8;
inline constexpr size_t kLookahead = 12;   // rows past the end of a run that a sink may read (to prefetch); always valid
inline constexpr size_t kArena = 1 << 15;  // rows held before they are drained

// What defines a featuriser; filled by the caller, never changed after. See router/native/spec.py.
struct Encoder {
  Vocab vocab;
  uint32_t base[kGroups];
  uint32_t word_rows, char_rows, shape_rows;
  uint32_t word_orders[kMaxOrder], char_orders[kMaxOrder];
  uint32_t n_word_orders, n_char_orders;
  double cap[kGroups];
  uint64_t seed;

  uint64_t salt(Group group, uint32_t order) const { return mix(seed + 256ull * group + order); }
};

// Entries per group of one text, and its shape counts.
struct Tally {
  std::array<uint64_t, kGroups> entries{};
  Counts counts{};

  double scale(const Encoder& encoder, Group group) const {
    if (group == kShapeGroup || entries[group] == 0) return 1;
    const double n = static_cast<double>(entries[group]);
    return std::sqrt(std::min(n, encoder.cap[group])) / n;
  }
};

// Scratch of one thread: kept between calls, cut back when one text made it large.
struct Scratch {
  struct Entry {
    uint64_t key;
    size_t length;
    uint32_t count, first, n_pieces, n_words, n_chars;
  };
  std::vector<uint64_t> prefix;
  std::vector<uint32_t> slots;  // index into entries + 1
  std::vector<Entry> entries;
  std::vector<uint32_t> rows;   // of the entries, one after the other
  std::vector<uint32_t> grams;  // rows of word n-grams, n > 1

  void trim() {
    if (prefix.size() > 1 << 14) prefix = {};
    if (rows.capacity() > 4 * kArena) rows = {};
  }
};

// `Sink` has `add(Group, const uint32_t* rows, size_t n, uint32_t count)`: `count` times each of `n` rows.
template <class Sink>
class Bagger {
 public:
  Bagger(const Encoder& encoder, Scratch& scratch, Sink& sink) : encoder_(encoder), scratch_(scratch), sink_(sink) {
    for (uint32_t i = 0; i < encoder.n_word_orders; ++i) {
      const uint32_t order = encoder.word_orders[i];
      unigrams_ |= order == 1;
      longest_order_ = std::max(longest_order_, order);
      word_salts_[i] = encoder.salt(kWordGroup, order);
    }
    for (uint32_t i = 0; i < encoder.n_char_orders; ++i) {
      char_salts_[i] = encoder.salt(kCharGroup, encoder.char_orders[i]);
    }
  }

  Tally run(const uint8_t* text, size_t size) {
    open(size);
    split_words(text, size, &scratch_.prefix, &tally_.counts, [this](const Word& word) { take(word); });
    drain();
    if (encoder_.shape_rows) shape();
    scratch_.trim();
    return tally_;
  }

 private:
  void open(size_t size) {
    const size_t slots = std::bit_ceil(std::clamp<size_t>(size / 3, 64, 8192));
    scratch_.slots.assign(slots, 0);
    scratch_.entries.clear();
    scratch_.rows.clear();
    scratch_.grams.clear();
  }

  void take(const Word& word) {
    ++tally_.counts[kWords];
    tally_.counts[kLongest] = std::max<uint64_t>(tally_.counts[kLongest], word.length);
    const uint64_t mixed = mix(word.key);
    Scratch::Entry& entry = find(word, mixed);
    ++entry.count;
    tally_.entries[kPieceGroup] += entry.n_pieces;
    tally_.entries[kWordGroup] += entry.n_words;
    tally_.entries[kCharGroup] += entry.n_chars;
    if (encoder_.word_rows && longest_order_ > 1) word_grams(word.key);
    if (scratch_.rows.size() > kArena || scratch_.grams.size() > kArena / 8) drain();
  }

  Scratch::Entry& find(const Word& word, uint64_t mixed) {
    const size_t mask = scratch_.slots.size() - 1;
    size_t slot = mixed & mask;
    for (; scratch_.slots[slot]; slot = (slot + 1) & mask) {
      Scratch::Entry& entry = scratch_.entries[scratch_.slots[slot] - 1];
      if (entry.key == word.key && entry.length == word.length) return entry;
    }
    if (scratch_.entries.size() >= scratch_.slots.size() / 2) {
      drain();
      slot = mixed & mask;
    }
    scratch_.slots[slot] = static_cast<uint32_t>(scratch_.entries.size() + 1);
    return insert(word);
  }

  Scratch::Entry& insert(const Word& word) {
    std::vector<uint32_t>& rows = scratch_.rows;
    const size_t first = rows.size();
    rows.resize(first + kLongestWord + 1 + encoder_.n_char_orders * (word.length + 2));
    uint32_t* out = rows.data() + first;
    Scratch::Entry entry{word.key, word.length, 0, static_cast<uint32_t>(first), 0, 0, 0};
    entry.n_pieces = static_cast<uint32_t>(word_pieces(encoder_.vocab, word, out));
    out += entry.n_pieces;
    if (encoder_.word_rows && unigrams_) {
      for (uint32_t i = 0; i < encoder_.n_word_orders; ++i) {
        if (encoder_.word_orders[i] != 1) continue;
        *out++ = row(kWordGroup, encoder_.word_rows, word.key ^ word_salts_[i]);
        ++entry.n_words;
      }
    }
    if (encoder_.char_rows) out += entry.n_chars = char_grams(word, out);
    rows.resize(static_cast<size_t>(out - rows.data()));
    scratch_.entries.push_back(entry);
    return scratch_.entries.back();
  }

  uint32_t char_grams(const Word& word, uint32_t* out) const {
    const size_t size = word.length + 2;
    word.prefix[size] = push(word.prefix[size - 1], kEnd);
    uint32_t* const begin = out;
    for (uint32_t i = 0; i < encoder_.n_char_orders; ++i) {
      const size_t order = encoder_.char_orders[i];
      for (size_t last = order; last <= size; ++last) {
        const uint64_t key = substring(word.prefix, last - order, last);
        *out++ = row(kCharGroup, encoder_.char_rows, key ^ char_salts_[i]);
      }
    }
    return static_cast<uint32_t>(out - begin);
  }

  void word_grams(uint64_t key) {
    ++seen_;
    // chain_[n] is the key of the n words that end here.
    for (size_t n = std::min<uint64_t>(longest_order_, seen_); n > 1; --n) {
      chain_[n] = mix(chain_[n - 1]) * kPrime + key;
    }
    chain_[1] = key;
    for (uint32_t i = 0; i < encoder_.n_word_orders; ++i) {
      const uint32_t order = encoder_.word_orders[i];
      if (order == 1 || order > seen_) continue;
      scratch_.grams.push_back(row(kWordGroup, encoder_.word_rows, chain_[order] ^ word_salts_[i]));
      ++tally_.entries[kWordGroup];
    }
  }

  uint32_t row(Group group, uint32_t size, uint64_t key) const {
    return encoder_.base[group] + (static_cast<uint32_t>(mix(key)) & (size - 1));
  }

  void drain() {
    pad(scratch_.rows);
    for (const Scratch::Entry& entry : scratch_.entries) {
      const uint32_t* rows = scratch_.rows.data() + entry.first;
      sink_.add(kPieceGroup, rows, entry.n_pieces, entry.count);
      rows += entry.n_pieces;
      sink_.add(kWordGroup, rows, entry.n_words, entry.count);
      rows += entry.n_words;
      sink_.add(kCharGroup, rows, entry.n_chars, entry.count);
    }
    const size_t grams = scratch_.grams.size();
    pad(scratch_.grams);
    sink_.add(kWordGroup, scratch_.grams.data(), grams, 1);
    scratch_.rows.clear();
    scratch_.grams.clear();
    scratch_.entries.clear();
    std::fill(scratch_.slots.begin(), scratch_.slots.end(), 0);
  }

  static void pad(std::vector<uint32_t>& rows) { rows.resize(rows.size() + kLookahead, 0); }

  void shape() {
    uint32_t rows[kFamilies + kLookahead] = {};
    for (uint32_t i = 0; i < kFamilies; ++i) {
      const uint32_t bucket = std::min<uint32_t>(15, static_cast<uint32_t>(std::bit_width(tally_.counts[i])));
      rows[i] = encoder_.base[kShapeGroup] + 16 * i + bucket;
    }
    tally_.entries[kShapeGroup] = kFamilies;
    sink_.add(kShapeGroup, rows, kFamilies, 1);
  }

  const Encoder& encoder_;
  Scratch& scratch_;
  Sink& sink_;
  Tally tally_;
  bool unigrams_ = false;
  uint32_t longest_order_ = 0;
  uint64_t seen_ = 0;
  uint64_t word_salts_[kMaxOrder], char_salts_[kMaxOrder];
  uint64_t chain_[kMaxOrder + 1] = {};
};

// Rows and weights of one text, appended: a line of a CSR matrix.
struct Line {
  std::vector<int32_t>* rows;
  std::vector<float>* weights;
  std::vector<uint8_t>* groups;

  void add(Group group, const uint32_t* from, size_t n, uint32_t count) {
    rows->insert(rows->end(), from, from + n);
    weights->insert(weights->end(), n, static_cast<float>(count));
    groups->insert(groups->end(), n, group);
  }
};

}  // namespace headgate
