// Texts as JSON writes them, between their quotes.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>

namespace headgate {

// Where bytes were left out of a JSON body: a place in what is left, and how many; below 0 where bytes were put in.
struct LeftOut {
  size_t at;
  ptrdiff_t bytes;
};

struct JsonText {
  const char* end;  // its closing quote, null where there is none
  bool valid;       // no control character, and each escape is one that UTF-8 can hold
};

namespace json_text {

inline int hex4(const char* p, const char* end) {
  int code = 0;
  if (end - p < 4) return -1;
  for (int i = 0; i < 4; ++i) {
    const char c = p[i];
    const int digit = c >= '0' && c <= '9'   ? c - '0'
                      : c >= 'a' && c <= 'f' ? c - 'a' + 10
                      : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                             : -1;
    if (digit < 0) return -1;
    code = code << 4 | digit;
  }
  return code;
}

constexpr std::string_view kNames = "\"\\/bfnrt", kValues = "\"\\/\b\f\n\r\t";

// Behind a backslash: the code point, and `*p` behind the escape; -1 for none.
inline int32_t escape(const char** p, const char* end) {
  if (*p == end) return -1;
  const char c = *(*p)++;
  if (const size_t i = kNames.find(c); i != kNames.npos) return static_cast<uint8_t>(kValues[i]);
  if (c != 'u') return -1;
  const int code = hex4(*p, end);
  if (code < 0 || (code >= 0xdc00 && code < 0xe000)) return -1;
  *p += 4;
  if (code < 0xd800 || code >= 0xe000) return code;
  if (end - *p < 6 || (*p)[0] != '\\' || (*p)[1] != 'u') return -1;
  const int low = hex4(*p + 2, end);
  if (low < 0xdc00 || low >= 0xe000) return -1;
  *p += 6;
  return 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
}

// Whether eight bytes are plain: none is a quote, a backslash or a control character.
inline bool plain8(const char* p) {
  constexpr uint64_t ones = 0x0101010101010101ull, tops = ones * 0x80;
  uint64_t w;
  std::memcpy(&w, p, 8);
  const uint64_t quote = w ^ (ones * '"'), slash = w ^ (ones * '\\');
  return !((((quote - ones) & ~quote) | ((slash - ones) & ~slash) | ((w - ones * 0x20) & ~w)) & tops);
}

}  // namespace json_text

// The text whose opening quote is before `p`.
inline JsonText text_at(const char* p, const char* end) {
  bool valid = true;
  while (p < end) {
    while (end - p >= 8 && json_text::plain8(p)) p += 8;
    if (p == end) break;
    const char c = *p++;
    if (c == '"') return {p - 1, valid};
    if (c == '\\') {
      const char* const escaped = p;
      if (json_text::escape(&p, end) < 0) valid = false, p = escaped + (escaped < end);
    } else if (static_cast<uint8_t>(c) < 0x20) {
      valid = false;
    }
  }
  return {nullptr, false};
}

// Calls `put` with each code point of a valid text of valid UTF-8.
template <class Put>
void each_code(std::string_view text, Put put) {
  const char* p = text.data();
  const char* const end = p + text.size();
  while (p < end) {
    const auto c = static_cast<uint8_t>(*p++);
    if (c == '\\') {
      put(static_cast<uint32_t>(json_text::escape(&p, end)));
    } else if (c < 0x80) {
      put(static_cast<uint32_t>(c));
    } else {
      const int more = c >= 0xf0 ? 3 : c >= 0xe0 ? 2 : 1;
      uint32_t code = c & (0x3fu >> more);
      for (int i = 0; i < more; ++i) code = code << 6 | (static_cast<uint8_t>(*p++) & 0x3fu);
      put(code);
    }
  }
}

// Whether a key of an object is `name`, however it is written. `name` is ASCII.
inline bool is_key(std::string_view key, std::string_view name) {
  if (key.find('\\') == key.npos) return key == name;
  const char* p = key.data();
  const char* const end = p + key.size();
  for (const char expected : name) {
    if (p == end) return false;
    const char c = *p++;
    if ((c == '\\' ? json_text::escape(&p, end) : c) != expected) return false;
  }
  return p == end;
}

}  // namespace headgate
