// JSON written at the end of a buffer: texts, numbers, and structs of numbers by the tables of numbers.hpp.
#pragma once
#include <array>
#include <bit>
#include <charconv>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "json_text.hpp"
#include "numbers.hpp"

namespace headgate {

// Bytes that grow at their end.
class Written {
 public:
  const char* data() const { return bytes_.get(); }
  size_t size() const { return size_; }
  void resize(size_t size) { size_ = size; }  // to fewer bytes

  void put(char byte) { *room(1) = byte, ++size_; }

  void put(std::string_view text) {
    std::memcpy(room(text.size()), text.data(), text.size());
    size_ += text.size();
  }

  // The first `size` bytes of N: of a known number, which is quicker.
  template <size_t N>
  void put_of(const char (&text)[N], size_t size) {
    std::memcpy(room(N), text, N);
    size_ += size;
  }

  void put_integer(int64_t value) {
    char* at = room(24);
    size_ += static_cast<size_t>(std::to_chars(at, at + 24, value).ptr - at);
  }

  void put_text(std::string_view text) {
    const char *at = text.data(), *end = at + text.size();
    put('"');
    while (end - at >= 8 && json_text::plain8(at)) {
      std::memcpy(room(8), at, 8);
      size_ += 8;
      at += 8;
    }
    for (; at < end; ++at) put_character(*at);
    put('"');
  }

 private:
  void put_character(char character) {
    static constexpr char kHex[] = "0123456789abcdef";
    const auto code = static_cast<uint8_t>(character);
    if (code < 0x20) {
      const char escape[] = {'\\', 'u', '0', '0', kHex[code >> 4], kHex[code & 15]};
      put_of(escape, sizeof(escape));
      return;
    }
    if (character == '"' || character == '\\') put('\\');
    put(character);
  }

  // Where the next `size` bytes go.
  char* room(size_t size) {
    if (most_ - size_ < size) grow(size);
    return bytes_.get() + size_;
  }

  void grow(size_t size) {
    const size_t most = 2 * (most_ + size) + 4096;
    std::unique_ptr<char[]> bytes(new char[most]);
    if (size_) std::memcpy(bytes.get(), bytes_.get(), size_);
    bytes_ = std::move(bytes);
    most_ = most;
  }

  std::unique_ptr<char[]> bytes_;
  size_t size_ = 0, most_ = 0;
};

// Writes structs of numbers. What is as it was the time before is copied: most columns of one decision are those of the
// decision before, and finding the shortest form of a number takes some 60 ns.
class TableWriter {
 public:
  std::vector<std::string> capabilities;  // by their bit
  std::vector<std::string> rules;         // in the order of `Rule`

  void number(Written* out, double value) {
    const auto bits = std::bit_cast<uint64_t>(value);
    Kept& kept = kept_[(bits * 0x9e3779b97f4a7c15ull) >> (64 - kKeptBits)];
    if (kept.size == 0 || kept.bits != bits) spell(value, bits, &kept);
    out->put_of(kept.text, kept.size);
  }

  // `"a":1,"b":null`, behind a comma unless `first`.
  void values(Written* out, const Table& table, const void* row, bool first) {
    for (size_t k = 0; k < table.size; ++k) {
      if (!first || k) out->put(',');
      name(out, table.fields[k].name);
      value(out, table.fields[k], static_cast<const char*>(row));
    }
  }

  // Columns of one kind of struct, as they were last written.
  class Columns {
   public:
    explicit Columns(const Table& table) : table_(table), columns_(table.size) {}

   private:
    friend class TableWriter;
    struct Column {
      std::vector<uint64_t> values;  // two words each
      std::string written;
    };
    Table table_;
    std::vector<Column> columns_;
  };

  // `{"a":[1,2]}`, without columns whose values are all 0 or absent.
  template <class T>
  void columns(Written* out, Columns* kept, const std::vector<T>& rows) {
    bool first = true;
    out->put('{');
    for (size_t k = 0; k < kept->table_.size; ++k) {
      const Field& field = kept->table_.fields[k];
      Columns::Column& column = kept->columns_[k];
      if (note(field, rows, &column.values)) render(field, rows, &column.written);
      if (column.written.empty()) continue;
      if (!first) out->put(',');
      first = false;
      out->put(column.written);
    }
    out->put('}');
  }

 private:
  static constexpr int kKeptBits = 7;
  struct Kept {
    uint64_t bits;
    uint8_t size;  // 0: nothing is kept here
    char text[31];
  };

  static void spell(double value, uint64_t bits, Kept* out) {
    out->bits = bits;
    if (!std::isfinite(value)) {  // JSON has none of these: as types.DecisionNumbers has them
      const std::string_view name = std::isnan(value) ? "\"nan\"" : value > 0 ? "\"inf\"" : "\"-inf\"";
      out->size = static_cast<uint8_t>(name.copy(out->text, sizeof(out->text)));
      return;
    }
    char *at = out->text, *const end = out->text + sizeof(out->text);
    if (value == std::trunc(value) && std::fabs(value) < 1e15) {
      if (std::signbit(value)) *at++ = '-';
      at = std::to_chars(at, end, static_cast<int64_t>(std::fabs(value))).ptr;
      *at++ = '.';
      *at++ = '0';
    } else {
      at = std::to_chars(at, end, value).ptr;
    }
    out->size = static_cast<uint8_t>(at - out->text);
  }

  // Keeps the values of one column in `kept`; whether they are others than before.
  template <class T>
  static bool note(const Field& field, const std::vector<T>& rows, std::vector<uint64_t>* kept) {
    bool changed = kept->size() != 2 * rows.size();
    if (changed) kept->assign(2 * rows.size(), 0);
    uint64_t* at = kept->data();
    for (const T& row : rows) {
      const Words words = words_of(field, reinterpret_cast<const char*>(&row));
      changed = changed || at[0] != words.first || at[1] != words.second;
      *at++ = words.first;
      *at++ = words.second;
    }
    return changed;
  }

  template <class T>
  void render(const Field& field, const std::vector<T>& rows, std::string* written) {
    bool any = false;
    column_.resize(0);
    name(&column_, field.name);
    for (size_t i = 0; i < rows.size(); ++i) {
      const char* row = reinterpret_cast<const char*>(&rows[i]);
      const Words words = words_of(field, row);
      any = any || words.first != 0;
      column_.put(i ? ',' : '[');
      value(&column_, field, row);
    }
    column_.put(']');
    written->assign(any ? std::string_view(column_.data(), column_.size()) : std::string_view());
  }

  // A value's bits; the first word is 0 where it is 0 or absent, and of -0 it is not.
  struct Words {
    uint64_t first, second;
  };
  static Words words_of(const Field& field, const char* row) {
    switch (field.kind) {
      case kFlag: return {as<bool>(field, row), 0};
      case kCount: return {static_cast<uint64_t>(as<int64_t>(field, row)), 0};
      case kNumber: return {std::bit_cast<uint64_t>(as<double>(field, row)), 0};
      case kMaybe: {
        const auto& maybe = as<Maybe>(field, row);
        return {maybe.given ? std::bit_cast<uint64_t>(maybe.value) : 0, maybe.given};
      }
      default:  // kIndex, kBits, kRule, kExcluded, kCause
        return {as<uint32_t>(field, row), 0};
    }
  }

  template <class T>
  static T as(const Field& field, const char* row) {
    T value;
    std::memcpy(&value, row + field.offset, sizeof(T));
    return value;
  }

  static void name(Written* out, const char* name) {
    out->put('"');
    out->put(std::string_view(name));
    out->put(std::string_view("\":"));
  }

  void value(Written* out, const Field& field, const char* row) {
    switch (field.kind) {
      case kFlag: return out->put(std::string_view(as<bool>(field, row) ? "true" : "false"));
      case kCount: return out->put_integer(as<int64_t>(field, row));
      case kIndex: return out->put_integer(as<int32_t>(field, row));
      case kNumber: return number(out, as<double>(field, row));
      case kMaybe: return as<Maybe>(field, row).given ? number(out, as<Maybe>(field, row).value) : out->put(kNull);
      case kBits: return words(out, as<Bits>(field, row));
      case kRule: return out->put_text(rules[static_cast<size_t>(as<int32_t>(field, row))]);
      case kCause: return out->put_text(kCauseWords[static_cast<size_t>(as<int32_t>(field, row))]);
      case kExcluded:
        const auto rule = static_cast<size_t>(as<int32_t>(field, row));
        return rule ? out->put_text(kExcludedWords[rule]) : out->put(kNull);
    }
  }

  // Bits without a name are one `?` at the end.
  void words(Written* out, Bits bits) {
    bool first = true;
    out->put('"');
    for (size_t i = 0; i <= capabilities.size(); ++i) {
      const bool last = i == capabilities.size();
      if (last ? !(bits >> i) : !(bits >> i & 1)) continue;
      if (!first) out->put(' ');
      first = false;
      out->put(last ? std::string_view("?") : std::string_view(capabilities[i]));
    }
    out->put('"');
  }

  static constexpr std::string_view kNull = "null";
  Written column_;  // the one being written
  std::array<Kept, size_t{1} << kKeptBits> kept_{};
};

}  // namespace headgate
