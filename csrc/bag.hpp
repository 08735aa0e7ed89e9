// A text to its bag of table rows. A word met again adds nothing, so a long text costs about its distinct words.
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
inline constexpr size_t kLookahead = 16;       // rows behind the last that a sink may read (to prefetch); always valid
inline constexpr size_t kArena = 1 << 12;      // rows of one group that are held before they are handed over
inline constexpr size_t kPending = 32;         // words whose rows are found together; at most half the slots
inline constexpr size_t kMemory = 1 << 16;     // distinct words that are remembered; then all are forgotten
inline constexpr size_t kKeptCells = 1 << 14;  // scratch beyond this is given back after the call

// Gives back the memory of a vector that holds more than `most`; `values = {}` would keep it.
template <class T>
void cut_back(std::vector<T>* values, size_t most) {
  if (values->capacity() > most) std::vector<T>().swap(*values);
}

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

// Of one text: entries per group, WordPieces with repeats, and the counts of the shape rows.
struct Tally {
  std::array<uint64_t, kGroups> entries{};
  uint64_t pieces = 0;
  Counts counts{};

  double scale(const Encoder& encoder, Group group) const {
    if (group == kShapeGroup || entries[group] == 0) return 1;
    const double n = static_cast<double>(entries[group]);
    return std::sqrt(std::min(n, encoder.cap[group])) / n;
  }
};

// Rows of one group, filled through a pointer; there is always room for kLookahead more.
struct Rows {
  std::vector<uint32_t> rows;
  size_t used = 0;

  uint32_t* reserve(size_t n) {
    if (used + n + kLookahead > rows.size()) rows.resize(2 * (used + n + kLookahead));
    return rows.data() + used;
  }
};

// Scratch of one thread: kept between calls, cut back when one text made it large.
struct Scratch {
  struct Entry {
    uint64_t hash;
    uint32_t count, pieces;
  };
  struct Pending {
    size_t cell, length, entry;
  };
  std::vector<uint64_t> cells;
  std::vector<uint32_t> slots;   // index into entries + 1
  std::vector<Entry> entries;    // the distinct words
  std::vector<Pending> pending;  // entries without their rows yet
  std::vector<uint64_t> met;     // a bit for each row of word n-grams, n > 1; all 0 between calls
  bool unclean = false;          // a call ended by an exception
  std::array<Rows, kGroups> groups;
};

// `Sink` has `add(Group, const uint32_t* rows, size_t n)`, and `soon(row)` for a row that will be added.
template <class Sink>
class Bagger {
 public:
  Bagger(const Encoder& encoder, Scratch& scratch, Sink& sink) : encoder_(encoder), scratch_(scratch), sink_(sink) {
    for (uint32_t i = 0; i < encoder.n_word_orders && encoder.word_rows; ++i) {
      const uint32_t order = encoder.word_orders[i];
      Order* const list = order == 1 ? unigrams_ + n_unigrams_++ : longer_ + n_longer_++;
      *list = {order, encoder.salt(kWordGroup, order)};
      longest_order_ = std::max(longest_order_, order);
    }
    for (uint32_t i = 0; i < encoder.n_char_orders; ++i) {
      char_salts_[i] = encoder.salt(kCharGroup, encoder.char_orders[i]);
    }
  }

  Tally run(const uint8_t* text, size_t size) {
    open(size);
    split_words(text, size, &scratch_.cells, &tally_.counts, [this](const Word& word) { return take(word); });
    fill();
    forget();
    if (encoder_.shape_rows) shape();
    unmeet();
    for (size_t g = 0; g < kGroups; ++g) hand_over(static_cast<Group>(g));
    close();
    return tally_;
  }

 private:
  void open(size_t size) {
    scratch_.slots.assign(std::bit_ceil(std::clamp<size_t>(size / 4, 2 * kPending, 1 << 14)), 0);
    scratch_.entries.clear();
    scratch_.pending.clear();
    for (Rows& group : scratch_.groups) group.used = 0;
    const size_t bits = encoder_.word_rows / 64 + 1;
    if (scratch_.unclean || scratch_.met.size() < bits) scratch_.met.assign(bits, 0);
    scratch_.unclean = true;
  }

  // Clears the bits of this text: one by one where its rows are all at hand.
  void unmeet() {
    scratch_.unclean = false;
    if (tally_.entries[kWordGroup]) {
      std::fill(scratch_.met.begin(), scratch_.met.end(), 0);
    } else {
      const Rows& words = scratch_.groups[kWordGroup];
      for (size_t i = 0; i < words.used; ++i) scratch_.met[(words.rows[i] - encoder_.base[kWordGroup]) / 64] = 0;
    }
  }

  void close() {
    cut_back(&scratch_.cells, kKeptCells);
    cut_back(&scratch_.slots, kKeptCells);
    cut_back(&scratch_.entries, kKeptCells / 2);  // at most half the slots are filled
    for (Rows& group : scratch_.groups) cut_back(&group.rows, 4 * kArena);
  }

  // Returns the cell where the next word may start.
  size_t take(const Word& word) {
    ++tally_.counts[kWords];
    tally_.counts[kLongest] = std::max<uint64_t>(tally_.counts[kLongest], word.length);
    const uint64_t key = word.key(), hash = mix(key);
    if (n_longer_) word_grams(key, hash);
    const size_t cell = static_cast<size_t>(word.prefix - scratch_.cells.data());
    const size_t mask = scratch_.slots.size() - 1;
    size_t slot = hash & mask;
    for (; scratch_.slots[slot]; slot = (slot + 1) & mask) {
      Scratch::Entry& entry = scratch_.entries[scratch_.slots[slot] - 1];
      if (entry.hash != hash) continue;
      ++entry.count;
      return cell;
    }
    encoder_.vocab.soon(hash);
    scratch_.pending.push_back({cell, word.length, scratch_.entries.size()});
    scratch_.entries.push_back({hash, 1, 0});
    scratch_.slots[slot] = static_cast<uint32_t>(scratch_.entries.size());
    if (n_unigrams_) unigrams(key);
    const bool full = scratch_.entries.size() == kMemory || word.length > kLongestWord;
    if (scratch_.pending.size() < kPending && !full) return cell + word.length + 3;
    fill();
    if (scratch_.entries.size() == kMemory) forget();
    if (scratch_.entries.size() >= scratch_.slots.size() / 2) widen();
    return 0;
  }

  // Finds the rows of the pending words, whose part of the vocabulary has come near meanwhile.
  void fill() {
    for (const Scratch::Pending& pending : scratch_.pending) {
      const Word word{scratch_.cells.data() + pending.cell, pending.length};
      scratch_.entries[pending.entry].pieces = pieces(word);
      if (encoder_.char_rows) char_grams(word);
    }
    scratch_.pending.clear();
  }

  void forget() {
    for (const Scratch::Entry& entry : scratch_.entries) tally_.pieces += uint64_t{entry.count} * entry.pieces;
    scratch_.entries.clear();
    std::fill(scratch_.slots.begin(), scratch_.slots.end(), 0);
  }

  void widen() {
    const size_t mask = 2 * scratch_.slots.size() - 1;
    scratch_.slots.assign(mask + 1, 0);
    for (size_t i = 0; i < scratch_.entries.size(); ++i) {
      size_t slot = scratch_.entries[i].hash & mask;
      while (scratch_.slots[slot]) slot = (slot + 1) & mask;
      scratch_.slots[slot] = static_cast<uint32_t>(i + 1);
    }
  }

  uint32_t pieces(const Word& word) {
    uint32_t* const out = room(kPieceGroup, kLongestWord);
    const size_t n = word_pieces(encoder_.vocab, word, out);
    for (size_t i = 0; i < n; ++i) sink_.soon(out[i]);
    scratch_.groups[kPieceGroup].used += n;
    return static_cast<uint32_t>(n);
  }

  void unigrams(uint64_t key) {
    uint32_t* const out = room(kWordGroup, n_unigrams_);
    for (uint32_t i = 0; i < n_unigrams_; ++i) out[i] = row(kWordGroup, encoder_.word_rows, key ^ unigrams_[i].salt);
    scratch_.groups[kWordGroup].used += n_unigrams_;
  }

  // N-grams, n > 1, that end here: each row once a text.
  void word_grams(uint64_t key, uint64_t hash) {
    uint32_t* const begin = room(kWordGroup, n_longer_);
    uint32_t* out = begin;
    for (uint32_t i = 0; i < n_longer_ && seen_ > 0; ++i) {
      const Order order = longer_[i];
      if (order.n > seen_ + 1) continue;
      const uint64_t gram = mixed_[order.n - 1] * kPrime + key;
      *out = row(kWordGroup, encoder_.word_rows, gram ^ order.salt);
      out += meet(*out - encoder_.base[kWordGroup]);
    }
    scratch_.groups[kWordGroup].used += static_cast<size_t>(out - begin);
    for (size_t n = longest_order_ - 1; n > 1; --n) mixed_[n] = mix(mixed_[n - 1] * kPrime + key);
    mixed_[1] = hash;
    ++seen_;
  }

  // 1 where the row of word n-grams is new to this text, else 0.
  uint64_t meet(uint32_t bit) {
    uint64_t& bits = scratch_.met[bit / 64];
    const uint64_t fresh = ~(bits >> (bit % 64)) & 1;
    bits |= 1ull << (bit % 64);
    return fresh;
  }

  void char_grams(const Word& word) {
    const size_t size = word.length + 2;
    word.prefix[size] = push(word.prefix[size - 1], kEnd);
    uint32_t* const begin = room(kCharGroup, encoder_.n_char_orders * size);
    uint32_t* out = begin;
    for (uint32_t i = 0; i < encoder_.n_char_orders; ++i) {
      const size_t order = encoder_.char_orders[i];
      for (size_t last = order; last <= size; ++last) {
        const uint64_t key = substring(word.prefix, last - order, last);
        *out++ = row(kCharGroup, encoder_.char_rows, key ^ char_salts_[i]);
      }
    }
    scratch_.groups[kCharGroup].used += static_cast<size_t>(out - begin);
  }

  void shape() {
    uint32_t* const out = room(kShapeGroup, kFamilies);
    for (uint32_t i = 0; i < kFamilies; ++i) {
      const uint32_t bucket = std::min<uint32_t>(15, static_cast<uint32_t>(std::bit_width(tally_.counts[i])));
      out[i] = encoder_.base[kShapeGroup] + 16 * i + bucket;
    }
    scratch_.groups[kShapeGroup].used += kFamilies;
  }

  uint32_t row(Group group, uint32_t size, uint64_t key) const {
    const uint32_t found = encoder_.base[group] + (static_cast<uint32_t>(mix(key)) & (size - 1));
    sink_.soon(found);
    return found;
  }

  uint32_t* room(Group group, size_t n) {
    if (scratch_.groups[group].used > kArena) hand_over(group);
    return scratch_.groups[group].reserve(n);
  }

  void hand_over(Group group) {
    Rows& rows = scratch_.groups[group];
    if (rows.used == 0) return;
    std::fill_n(rows.reserve(0), kLookahead, 0);
    sink_.add(group, rows.rows.data(), rows.used);
    tally_.entries[group] += rows.used;
    rows.used = 0;
  }

  struct Order {
    uint32_t n;
    uint64_t salt;
  };

  const Encoder& encoder_;
  Scratch& scratch_;
  Sink& sink_;
  Tally tally_;
  Order unigrams_[kMaxOrder], longer_[kMaxOrder];
  uint32_t n_unigrams_ = 0, n_longer_ = 0, longest_order_ = 0;
  uint64_t seen_ = 0;                   // words
  uint64_t mixed_[kMaxOrder + 1] = {};  // [n]: the mixed key of the n words before this one
  uint64_t char_salts_[kMaxOrder];
};

// Rows of one text, appended: a line of a CSR matrix, its weights still to come.
struct Line {
  std::vector<int32_t>* rows;
  std::vector<uint8_t>* groups;

  void soon(uint32_t) {}

  void add(Group group, const uint32_t* from, size_t n) {
    rows->insert(rows->end(), from, from + n);
    groups->insert(groups->end(), n, group);
  }
};

}  // namespace headgate
