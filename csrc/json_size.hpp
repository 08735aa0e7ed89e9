// How much a JSON text holds: what its decoding costs beyond its bytes.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>

namespace headgate {

// Braces, brackets, colons and commas outside of texts: no fewer than the objects, lists, keys and values, less one.
// What is no JSON is counted as well, up to wherever a decoder gives it up.
inline size_t count_values(std::string_view json) {
  const char* at = json.data();
  const char* const end = at + json.size();
  size_t count = 0;
  while (at < end) {
    const char c = *at++;
    count += c == ',' || c == ':' || c == '{' || c == '[';
    if (c != '"') continue;
    for (; at < end && *at != '"'; ++at) at += *at == '\\';
    ++at;
  }
  return count;
}

}  // namespace headgate
