// Which engine has read the beginning of a prompt before, and so holds its keys and values: hashes of the blocks of
// prompts' texts, each with the engines that were sent it last. Bounded; keeps no text. Knows no tokens: an engine's
// own blocks are of tokens, and what its cache has dropped since is learnt from what it says of its answers
// (csrc/load.hpp).
//
//   text of a prompt  | block 0 | block 1 | ...      key of block k = hash(key of block k - 1, its bytes)
//   table             key -> the engines that got it, the latest first
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "hash.hpp"

namespace headgate {

// The key of a block, and where the block ends in the prompt's text.
struct Block {
  uint64_t key;
  uint32_t end;
};

// The text of one prompt, in whole blocks. A block is 64 bytes, about the 16 tokens of vLLM's, and a sixteenth to a
// thirty-second of what stands before it in long texts: 256 KiB are some 140 blocks.
class PromptBlocks {
 public:
  std::vector<Block> blocks;
  size_t bytes = 0;  // of the whole text

  // `adapter`: engines keep what a LoRA adapter read apart.
  void begin(std::string_view adapter = {}) {
    text_.clear();
    blocks.clear();
    bytes = 0;
    first_ = kBegin;
    for (const char c : adapter) first_ = push(first_, static_cast<uint8_t>(c));
  }

  void add(std::string_view role, std::string_view said) {
    append(role);
    append("\n");
    append(said);
    append(std::string_view("", 1));
  }

  void end() {
    uint64_t key = mix(first_);
    for (size_t at = 0, size; at + (size = block_bytes(at)) <= text_.size(); at += size) {
      key = hash(key, text_.data() + at, size);
      blocks.push_back({key, static_cast<uint32_t>(at + size)});
    }
  }

 private:
  static constexpr size_t kLeast = 64, kMostBytes = 256 * 1024;

  // Of the block that begins at `at`, whatever follows: a longer text begins with the blocks of a shorter one.
  static size_t block_bytes(size_t at) {
    size_t size = kLeast;
    while (at >= 32 * size) size *= 2;
    return size;
  }

  void append(std::string_view part) {
    bytes += part.size();
    if (text_.size() < kMostBytes) text_.append(part.substr(0, kMostBytes - text_.size()));
  }

  __extension__ typedef unsigned __int128 Wide;

  static uint64_t fold(uint64_t a, uint64_t b) {
    const Wide product = static_cast<Wide>(a) * b;
    return static_cast<uint64_t>(product) ^ static_cast<uint64_t>(product >> 64);
  }

  static uint64_t word(const char* at) {
    uint64_t out;
    std::memcpy(&out, at, sizeof(out));
    return out;
  }

  // `size` is a multiple of 64. The four products of 64 bytes do not wait for one another.
  static uint64_t hash(uint64_t key, const char* data, size_t size) {
    for (size_t i = 0; i < size; i += kLeast) {
      uint64_t parts = 0;
      for (size_t k = 0; k < 4; ++k) {
        const char* const at = data + i + 16 * k;
        parts ^= fold(word(at) ^ kPowers[2 * k + 1], word(at + 8) ^ kPowers[2 * k + 2]);
      }
      key = mix(push(key ^ parts, 0));
    }
    return key;
  }

  std::string text_;
  uint64_t first_ = kBegin;
};

class Prefixes {
 public:
  static constexpr size_t kEntries = size_t{1} << 16;  // 64 bytes each
  static constexpr size_t kHolders = 13;               // engines remembered of a block

  // Finds who got how much of the beginning of a prompt.
  void look(const PromptBlocks& prompt) {
    ++looks_;
    found_.clear();
    if (table_.empty()) return;
    for (const Block& block : prompt.blocks) __builtin_prefetch(&table_[set_of(block.key)]);
    for (const Block& block : prompt.blocks) {
      const Entry* const entry = find(block.key);
      if (!entry) return;
      for (const uint32_t holder : entry->holders) {
        if (!holder) break;
        mark(holder, block.end);
      }
    }
  }

  // Bytes of the prompt of the last `look` that `holder` got before.
  uint32_t matched(uint32_t holder) const {
    return holder < marks_.size() && marks_[holder].look == looks_ ? marks_[holder].end : 0;
  }

  // All of which that is more than none.
  const std::vector<uint32_t>& found() const { return found_; }

  // `holder`, above 0, is sent the prompt.
  void note(const PromptBlocks& prompt, uint32_t holder) {
    if (table_.empty()) table_.resize(kEntries);
    ++noted_;
    for (const Block& block : prompt.blocks) {
      Entry* entry = find(block.key);
      if (!entry) {
        entry = &table_[set_of(block.key)];
        if (older(entry[1].used, entry[0].used)) ++entry;
        *entry = {};
        entry->key = block.key;
      }
      entry->used = noted_;
      to_front(entry->holders, holder);
    }
  }

 private:
  struct alignas(64) Entry {
    uint64_t key;
    uint32_t used;               // by which note; 0: never
    uint32_t holders[kHolders];  // the latest first; 0: no more
  };

  struct Mark {
    uint64_t look;
    uint32_t end;
  };

  // The first of the two entries in which a key may stand.
  static size_t set_of(uint64_t key) { return key & (kEntries - 2); }

  Entry* find(uint64_t key) {
    Entry* const set = &table_[set_of(key)];
    for (Entry* entry = set; entry < set + 2; ++entry) {
      if (entry->key == key && entry->used) return entry;
    }
    return nullptr;
  }

  // The count of notes may begin anew.
  bool older(uint32_t one, uint32_t other) const { return !one || (other && noted_ - one > noted_ - other); }

  static void to_front(uint32_t* holders, uint32_t holder) {
    size_t at = 0;
    while (at + 1 < kHolders && holders[at] && holders[at] != holder) ++at;
    std::copy_backward(holders, holders + at, holders + at + 1);
    holders[0] = holder;
  }

  void mark(uint32_t holder, uint32_t end) {
    if (holder >= marks_.size()) marks_.resize(holder + 1);
    Mark& mark = marks_[holder];
    if (mark.look != looks_) found_.push_back(holder);
    mark = {looks_, end};
  }

  std::vector<Entry> table_;  // made with the first note
  std::vector<Mark> marks_;   // by holder
  std::vector<uint32_t> found_;
  uint64_t looks_ = 0;
  uint32_t noted_ = 0;
};

}  // namespace headgate
