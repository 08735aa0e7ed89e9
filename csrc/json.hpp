// JSON's grammar, strict, read once from left to right without copying. A `false` refuses nothing: it leaves the text
// to the full decoder (router/dialects/decode.py), with which every `true` must agree.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

#include "json_text.hpp"

namespace headgate {

// Bytes before the first that is no UTF-8; the size of a text where there is none.
inline size_t utf8_bytes(std::string_view text) {
  const auto* p = reinterpret_cast<const uint8_t*>(text.data());
  const uint8_t* const end = p + text.size();
  const auto before = [&] { return text.size() - static_cast<size_t>(end - p); };
  while (p < end) {
    if (end - p >= 8) {
      uint64_t eight;
      std::memcpy(&eight, p, 8);
      if (!(eight & 0x8080808080808080ull)) {
        p += 8;
        continue;
      }
    }
    if (*p < 0x80) {
      ++p;
      continue;
    }
    const int more = *p >= 0xf0 ? 3 : *p >= 0xe0 ? 2 : 1;
    if (*p < 0xc2 || *p > 0xf4 || end - p <= more) return before();
    uint32_t code = *p & (0x3f >> more);
    for (int i = 1; i <= more; ++i) {
      if ((p[i] & 0xc0) != 0x80) return before();
      code = code << 6 | (p[i] & 0x3f);
    }
    if (more == 2 && (code < 0x800 || (code >= 0xd800 && code < 0xe000))) return before();
    if (more == 3 && (code < 0x10000 || code > 0x10ffff)) return before();
    p += 1 + more;
  }
  return before();
}

inline bool is_utf8(std::string_view text) {
  return utf8_bytes(text) == text.size();
}

class JsonReader {
 public:
  // Texts with escapes are written to `unescaped`, which has to outlive the views that are given out.
  JsonReader(std::string_view json, std::string* unescaped)
      : at_(json.data()), end_(at_ + json.size()), unescaped_(unescaped) {
    unescaped_->clear();
  }

 protected:
  static constexpr int kDeepest = 64;

  // The grammar. Each reads one value and leaves `at_` behind it.

  template <class Field>
  bool object(Field field) {
    if (!mark('{')) return false;
    blank();
    if (mark('}')) return true;
    do {
      blank();
      std::string_view key;
      if (!text(&key)) return false;
      blank();
      if (!mark(':')) return false;
      blank();
      if (!field(key)) return false;
      blank();
    } while (mark(','));
    return mark('}');
  }

  template <class Item>
  bool list(Item item) {
    if (!mark('[')) return false;
    blank();
    if (mark(']')) return true;
    do {
      blank();
      if (!item()) return false;
      blank();
    } while (mark(','));
    return mark(']');
  }

  bool text(std::string_view* out) {
    if (!mark('"')) return false;
    const char* const begin = at_;
    plain();
    if (at_ == end_) return false;
    if (*at_ == '"') {
      *out = {begin, static_cast<size_t>(at_++ - begin)};
      return true;
    }
    std::string& kept = *unescaped_;
    // Once, at the first escape, and for all that may follow: no view moves, as what is unescaped is shorter.
    if (kept.empty()) kept.reserve(static_cast<size_t>(end_ - begin));
    const size_t start = kept.size();
    kept.append(begin, at_);
    while (at_ < end_ && *at_ == '\\') {
      ++at_;
      if (!escape(&kept)) return false;
      const char* const from = at_;
      plain();
      kept.append(from, at_);
    }
    *out = {kept.data() + start, kept.size() - start};
    return mark('"');
  }

  // On to the next quote, backslash or control character.
  void plain() {
    while (end_ - at_ >= 8 && json_text::plain8(at_)) at_ += 8;
    while (at_ < end_ && *at_ != '"' && *at_ != '\\' && static_cast<uint8_t>(*at_) >= 0x20) ++at_;
  }

  bool escape(std::string* out) {
    const int32_t code = json_text::escape(&at_, end_);
    if (code < 0) return false;
    put(static_cast<uint32_t>(code), out);
    return true;
  }

  static void put(uint32_t code, std::string* out) {
    const auto add = [out](uint32_t byte) { out->push_back(static_cast<char>(byte)); };
    if (code < 0x80) return add(code);
    if (code < 0x800) {
      add(0xc0 | code >> 6);
    } else {
      if (code < 0x10000) {
        add(0xe0 | code >> 12);
      } else {
        add(0xf0 | code >> 18);
        add(0x80 | (code >> 12 & 0x3f));
      }
      add(0x80 | (code >> 6 & 0x3f));
    }
    add(0x80 | (code & 0x3f));
  }

  // An integer from 1 to `most`, written plainly.
  bool number(int64_t* out, int64_t most) {
    int64_t value = 0;
    if (at_ == end_ || *at_ == '0') return false;
    const char* const begin = at_;
    for (; at_ < end_ && *at_ >= '0' && *at_ <= '9' && at_ - begin < 11; ++at_) value = value * 10 + (*at_ - '0');
    if (at_ == begin || value > most) return false;
    if (at_ < end_ && (*at_ == '.' || *at_ == 'e' || *at_ == 'E' || (*at_ >= '0' && *at_ <= '9'))) return false;
    *out = value;
    return true;
  }

  bool flag(bool* out) {
    *out = word("true");
    return *out || word("false");
  }

  // Any value, checked and forgotten.
  bool skip(int depth) {
    if (at_ == end_ || depth > kDeepest) return false;
    std::string_view unused;
    switch (*at_) {
      case '"': return text(&unused);
      case '{': return object([this, depth](std::string_view) { return skip(depth + 1); });
      case '[': return list([this, depth] { return skip(depth + 1); });
      case 't': return word("true");
      case 'f': return word("false");
      case 'n': return word("null");
      default: return skip_number();
    }
  }

  // Of at most 18 digits on either side of the point and two in the exponent: nothing that any decoder finds too large.
  bool skip_number() {
    mark('-');
    if (!mark('0') && !digits(18)) return false;
    if (mark('.') && !digits(18)) return false;
    if (at_ < end_ && (*at_ == 'e' || *at_ == 'E')) {
      ++at_;
      if (!mark('-')) mark('+');
      if (!digits(2)) return false;
    }
    return true;
  }

  bool digits(int most) {
    const char* const begin = at_;
    while (at_ < end_ && *at_ >= '0' && *at_ <= '9') ++at_;
    return at_ > begin && at_ - begin <= most;
  }

  bool word(std::string_view expected) {
    if (!std::string_view(at_, static_cast<size_t>(end_ - at_)).starts_with(expected)) return false;
    at_ += expected.size();
    return true;
  }

  bool mark(char expected) {
    if (at_ == end_ || *at_ != expected) return false;
    ++at_;
    return true;
  }

  void blank() {
    while (at_ < end_ && (*at_ == ' ' || *at_ == '\n' || *at_ == '\r' || *at_ == '\t')) ++at_;
  }

  const char* at_;
  const char* const end_;

 private:
  std::string* const unescaped_;
};

}  // namespace headgate
