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
inline constexpr size_t kLookahead = 16;  // rows past the end of a run that a sink may read (to prefetch); always valid
inline constexpr size_t kPending = 32;    // words whose rows are found together; well under half the slots
inline constexpr size_t kArena = 1 << 14;  // rows of one group that are held before they are drained

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

// Rows of one group and how often each is met. Both are written past `used` and grown before they are full.
struct Rows {
  std::vector<uint32_t> rows;
  std::vector<float> times;
  size_t used = 0;     // rows that are filled
  size_t counted = 0;  // of those, how many have their `times`

  uint32_t* reserve(size_t n) {
    if (used + n + kLookahead > rows.size()) {
      rows.resize(2 * (used + n + kLookahead));
      times.resize(rows.size());
    }
    return rows.data() + used;
  }

  // The next `n` rows are met `count` times. Writes in whole steps of eight: no branch for the usual few.
  void repeat(size_t n, float count) {
    float* out = times.data() + counted;
    for (size_t i = 0; i < n; i += 8) std::fill_n(out + i, 8, count);
    counted += n;
  }

  void clear() {
    used = counted = 0;
    if (rows.size() > 16 * kArena) rows = {}, times = {};
  }
};

// Scratch of one thread: kept between calls, cut back when one text made it large.
struct Scratch {
  struct Entry {
    uint64_t key;
    size_t length;
    uint32_t count, pieces, chars;
  };
  struct Pending {
    size_t cell, entry;
  };
  std::vector<uint64_t> cells;
  std::vector<uint32_t> slots;  // index into entries + 1
  std::vector<Entry> entries;
  std::vector<Pending> pending;  // entries without their rows yet
  std::array<Rows, kGroups> groups;
  Rows grams;  // word n-grams, n > 1
};

// `Sink` has `add(Group, const uint32_t* rows, const float* times, size_t n)`, and `soon(row)` for a row that will be
// added.
template <class Sink>
class Bagger {
 public:
  Bagger(const Encoder& encoder, Scratch& scratch, Sink& sink) : encoder_(encoder), scratch_(scratch), sink_(sink) {
    for (uint32_t i = 0; i < encoder.n_word_orders && encoder.word_rows; ++i) {
      const uint32_t order = encoder.word_orders[i];
      unigrams_ += order == 1;
      longest_order_ = std::max(longest_order_, order);
      word_salts_[i] = encoder.salt(kWordGroup, order);
    }
    for (uint32_t i = 0; i < encoder.n_char_orders; ++i) {
      char_salts_[i] = encoder.salt(kCharGroup, encoder.char_orders[i]);
    }
  }

  Tally run(const uint8_t* text, size_t size) {
    scratch_.slots.assign(std::bit_ceil(std::clamp<size_t>(size / 4, 64, 8192)), 0);
    split_words(text, size, &scratch_.cells, &tally_.counts, [this](const Word& word) { return take(word); });
    drain();
    if (encoder_.shape_rows) shape();
    if (scratch_.cells.size() > 1 << 14) scratch_.cells = {};
    return tally_;
  }

 private:
  // Returns the cell where the next word may start.
  size_t take(const Word& word) {
    ++tally_.counts[kWords];
    tally_.counts[kLongest] = std::max<uint64_t>(tally_.counts[kLongest], word.length);
    const uint64_t key = word.key(), mixed = mix(key);
    if (longest_order_ > 1) word_grams(key);
    const size_t cell = static_cast<size_t>(word.prefix - scratch_.cells.data());
    const size_t mask = scratch_.slots.size() - 1;
    size_t slot = mixed & mask;
    for (; scratch_.slots[slot]; slot = (slot + 1) & mask) {
      Scratch::Entry& entry = scratch_.entries[scratch_.slots[slot] - 1];
      if (entry.key != key || entry.length != word.length) continue;
      ++entry.count;
      return cell;
    }
    encoder_.vocab.soon(mixed);
    scratch_.pending.push_back({cell, scratch_.entries.size()});
    scratch_.entries.push_back({key, word.length, 1, 0, 0});
    scratch_.slots[slot] = static_cast<uint32_t>(scratch_.entries.size());
    if (scratch_.pending.size() < kPending && word.length <= kLongestWord) return cell + word.length + 3;
    fill();
    const bool full = scratch_.entries.size() >= scratch_.slots.size() / 2;
    if (full || scratch_.groups[kCharGroup].used > kArena) drain();
    return 0;
  }

  // Finds the rows of the pending words, whose part of the vocabulary has come near meanwhile.
  void fill() {
    for (const Scratch::Pending& pending : scratch_.pending) {
      Scratch::Entry& entry = scratch_.entries[pending.entry];
      const Word word{scratch_.cells.data() + pending.cell, entry.length};
      entry.pieces = pieces(word);
      if (unigrams_) unigrams(entry.key);
      if (encoder_.char_rows) entry.chars = char_grams(word);
    }
    scratch_.pending.clear();
  }

  uint32_t pieces(const Word& word) {
    Rows& group = scratch_.groups[kPieceGroup];
    uint32_t* const out = group.reserve(kLongestWord);
    const size_t n = word_pieces(encoder_.vocab, word, out);
    for (size_t i = 0; i < n; ++i) sink_.soon(out[i]);
    group.used += n;
    return static_cast<uint32_t>(n);
  }

  void unigrams(uint64_t key) {
    Rows& group = scratch_.groups[kWordGroup];
    uint32_t* out = group.reserve(unigrams_);
    for (uint32_t i = 0; i < encoder_.n_word_orders; ++i) {
      if (encoder_.word_orders[i] == 1) *out++ = row(kWordGroup, encoder_.word_rows, key ^ word_salts_[i]);
    }
    group.used += unigrams_;
  }

  uint32_t char_grams(const Word& word) {
    Rows& chars = scratch_.groups[kCharGroup];
    const size_t size = word.length + 2;
    word.prefix[size] = push(word.prefix[size - 1], kEnd);
    uint32_t* const begin = chars.reserve(encoder_.n_char_orders * size);
    uint32_t* out = begin;
    for (uint32_t i = 0; i < encoder_.n_char_orders; ++i) {
      const size_t order = encoder_.char_orders[i];
      for (size_t last = order; last <= size; ++last) {
        const uint64_t key = substring(word.prefix, last - order, last);
        *out++ = row(kCharGroup, encoder_.char_rows, key ^ char_salts_[i]);
      }
    }
    chars.used += static_cast<size_t>(out - begin);
    return static_cast<uint32_t>(out - begin);
  }

  void word_grams(uint64_t key) {
    if (scratch_.grams.used > kArena) drain();
    ++seen_;
    // chain_[n] is the key of the n words that end here.
    for (size_t n = std::min<uint64_t>(longest_order_, seen_); n > 1; --n) {
      chain_[n] = mix(chain_[n - 1]) * kPrime + key;
    }
    chain_[1] = key;
    uint32_t* out = scratch_.grams.reserve(encoder_.n_word_orders);
    for (uint32_t i = 0; i < encoder_.n_word_orders; ++i) {
      const uint32_t order = encoder_.word_orders[i];
      if (order == 1 || order > seen_) continue;
      *out++ = row(kWordGroup, encoder_.word_rows, chain_[order] ^ word_salts_[i]);
      ++scratch_.grams.used;
    }
  }

  uint32_t row(Group group, uint32_t size, uint64_t key) const {
    const uint32_t found = encoder_.base[group] + (static_cast<uint32_t>(mix(key)) & (size - 1));
    sink_.soon(found);
    return found;
  }

  // Hands all rows over and forgets the words.
  void drain() {
    fill();
    auto& groups = scratch_.groups;
    for (const Scratch::Entry& entry : scratch_.entries) {
      const float count = static_cast<float>(entry.count);
      groups[kPieceGroup].repeat(entry.pieces, count);
      groups[kWordGroup].repeat(unigrams_, count);
      groups[kCharGroup].repeat(entry.chars, count);
      tally_.entries[kPieceGroup] += 1ull * entry.count * entry.pieces;
      tally_.entries[kWordGroup] += 1ull * entry.count * unigrams_;
      tally_.entries[kCharGroup] += 1ull * entry.count * entry.chars;
    }
    scratch_.grams.repeat(scratch_.grams.used, 1);
    tally_.entries[kWordGroup] += scratch_.grams.used;
    for (size_t g = 0; g < kShapeGroup; ++g) hand_over(static_cast<Group>(g), groups[g]);
    hand_over(kWordGroup, scratch_.grams);
    scratch_.entries.clear();
    std::fill(scratch_.slots.begin(), scratch_.slots.end(), 0);
  }

  void hand_over(Group group, Rows& rows) {
    if (rows.used) {
      std::fill_n(rows.reserve(0), kLookahead, 0);
      sink_.add(group, rows.rows.data(), rows.times.data(), rows.used);
    }
    rows.clear();
  }

  void shape() {
    uint32_t rows[kFamilies + kLookahead] = {};
    float times[kFamilies];
    for (uint32_t i = 0; i < kFamilies; ++i) {
      const uint32_t bucket = std::min<uint32_t>(15, static_cast<uint32_t>(std::bit_width(tally_.counts[i])));
      rows[i] = encoder_.base[kShapeGroup] + 16 * i + bucket;
      times[i] = 1;
    }
    tally_.entries[kShapeGroup] = kFamilies;
    sink_.add(kShapeGroup, rows, times, kFamilies);
  }

  const Encoder& encoder_;
  Scratch& scratch_;
  Sink& sink_;
  Tally tally_;
  uint32_t unigrams_ = 0;
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

  void soon(uint32_t) {}

  void add(Group group, const uint32_t* from, const float* times, size_t n) {
    rows->insert(rows->end(), from, from + n);
    weights->insert(weights->end(), times, times + n);
    groups->insert(groups->end(), n, group);
  }
};

}  // namespace headgate
