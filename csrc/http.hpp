// The plain request: one whole HTTP/1.1 POST in one read, in the strictest grammar and without a header that asks for
// anything. All else, malformed or merely unusual, is left to the full parser: a `false` here refuses nothing.
#pragma once
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

#include "steps.hpp"

namespace headgate {

struct HttpLimits {
  size_t head_bytes, headers, body_bytes;
};

// Views into the bytes that were read. Absent headers are empty; so is a malformed `traceparent`, which counts as none.
struct PlainRequest {
  std::string_view body, authorization, api_key, request_id, session_id, traceparent;
};

inline constexpr size_t kLongestId = 256;

namespace http {

// Token characters of RFC 9110, letters lowered; 0: not in a header's name.
inline constexpr std::array<char, 256> kNameChar = [] {
  std::array<char, 256> table{};
  for (char c : std::string_view("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz")) {
    table[static_cast<uint8_t>(c)] = c;
  }
  for (char c = 'A'; c <= 'Z'; ++c) table[static_cast<uint8_t>(c)] = static_cast<char>(c + 32);
  return table;
}();

// Headers that say how to read the request, or that the answer depends on: the full parser's business.
inline bool asks(std::string_view name) {
  for (std::string_view other :
       {"transfer-encoding", "content-encoding", "expect", "upgrade", "proxy-connection", "origin", "te", "trailer"}) {
    if (name == other) return true;
  }
  return name.starts_with("x-headgate-") || name == "endpoint-load-metrics-format";
}

// Whether printable `value` is `lowered`, which is letters, `-` and `/`, in any case.
inline bool same(std::string_view value, std::string_view lowered) {
  if (value.size() != lowered.size()) return false;
  for (size_t i = 0; i < lowered.size(); ++i) {
    if ((value[i] | 0x20) != lowered[i]) return false;
  }
  return true;
}

// The media type alone: `text/plain; x=json` is plain text.
inline bool is_json(std::string_view value) {
  return same(value.substr(0, value.find(';')), "application/json");
}

// A name or an `[address]`, and a port. What else a name may hold is left to the full parser.
inline bool is_host(std::string_view value) {
  size_t i = 0;
  const auto skip = [&](char last_letter, std::string_view others) {
    for (; i < value.size(); ++i) {
      const char c = value[i], lowered = static_cast<char>(c | 0x20);
      const bool known = (c >= '0' && c <= '9') || (lowered >= 'a' && lowered <= last_letter);
      if (!known && others.find(c) == others.npos) return;
    }
  };
  if (value.starts_with('[')) {
    ++i;
    skip('f', ":.");
    if (i < 2 || i == value.size() || value[i++] != ']') return false;
  } else {
    skip('z', ".-_");
  }
  if (i < value.size() && value[i] == ':') {
    while (++i < value.size() && value[i] >= '0' && value[i] <= '9') {
    }
  }
  return i == value.size();
}

// Digits only, at most nine.
inline bool length_of(std::string_view value, size_t* out) {
  if (value.empty() || value.size() > 9) return false;
  *out = 0;
  for (char c : value) {
    if (c < '0' || c > '9') return false;
    *out = *out * 10 + static_cast<size_t>(c - '0');
  }
  return true;
}

// Of W3C Trace Context: `00-<32 hex digits>-<16>-<2>`, and what a later version appends after one more `-`.
inline bool is_traceparent(std::string_view value) {
  constexpr std::string_view shape = "xx-xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx-xxxxxxxxxxxxxxxx-xx";
  if (value.size() < shape.size() || (value.size() > shape.size() && value[shape.size()] != '-')) return false;
  for (size_t i = 0; i < shape.size(); ++i) {
    const char c = value[i];
    const bool fits = shape[i] == '-' ? c == '-' : (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
    if (!fits) return false;
  }
  return true;
}

// Keeps the value of a header that this request's answer, or its frame, carries. False where the full parser has to see
// it: it stands twice, or is a session's id that is refused.
inline bool keep(std::string_view key, std::string_view value, PlainRequest* out) {
  std::string_view& kept = key == "x-request-id"   ? out->request_id
                           : key == "x-session-id" ? out->session_id
                           : key == "traceparent"  ? out->traceparent
                           : key == "x-api-key"    ? out->api_key
                                                   : out->authorization;
  if (kept.data() != nullptr) return false;
  kept = value;
  if (&kept == &out->session_id) return !value.empty() && value.size() <= kLongestId && value.find(' ') == value.npos;
  if (&kept == &out->traceparent && !is_traceparent(value)) kept = value.substr(0, 0);
  return !value.empty() || &kept == &out->request_id || &kept == &out->traceparent;
}

inline bool is_kept(std::string_view key) {
  return key == "authorization" || key == "x-api-key" || key == "x-request-id" || key == "traceparent" ||
         key == "x-session-id";
}

}  // namespace http

// A client's `x-request-id` as it is echoed: without spaces, and at most `kLongestId` bytes of it.
inline std::string echoed_id(std::string_view given) {
  std::string out(given);
  out.erase(std::remove(out.begin(), out.end(), ' '), out.end());
  out.resize(std::min(out.size(), kLongestId));
  return out;
}

// `kStays` where `data` is exactly one plain request, else why not; `start` is its first line,
// `POST /... HTTP/1.1\r\n`.
inline Left read_plain(std::string_view data, std::string_view start, const HttpLimits& limits, PlainRequest* out) {
  constexpr size_t kLongestName = 64;
  if (!data.starts_with(start)) return start.starts_with(data) ? kInPieces : kOtherRoute;
  char name[kLongestName];
  size_t at = start.size(), count = 0, length = 0;
  bool host = false, sized = false, typed = false;
  *out = {};
  while (true) {
    if (data.size() - at < 2) return kInPieces;
    if (data[at] == '\r') break;
    size_t n = 0;
    for (; at < data.size() && n < kLongestName; ++at, ++n) {
      const char c = http::kNameChar[static_cast<uint8_t>(data[at])];
      if (c == 0) break;
      name[n] = c;
    }
    if (at >= data.size()) return kInPieces;
    if (n == 0 || data[at] != ':' || ++count > limits.headers) return kHeader;
    size_t begin = ++at;
    while (at < data.size() && data[at] >= ' ' && data[at] < 0x7f) ++at;
    if (data.size() - at < 2) return kInPieces;
    if (data[at] != '\r' || data[at + 1] != '\n') return kHeader;
    size_t end = at;
    while (begin < end && data[begin] == ' ') ++begin;
    while (begin < end && data[end - 1] == ' ') --end;
    at += 2;
    const std::string_view key(name, n), value = data.substr(begin, end - begin);
    if (key == "content-length") {
      if (sized || !http::length_of(value, &length)) return kHeader;
      sized = true;
    } else if (key == "host") {
      if (host || !http::is_host(value)) return kHeader;
      host = true;
    } else if (key == "content-type") {
      if (typed || !http::is_json(value)) return kHeader;
      typed = true;
    } else if (http::is_kept(key)) {
      if (!http::keep(key, value, out)) return kHeader;
    } else if (key == "connection" ? !http::same(value, "keep-alive") : http::asks(key)) {
      return kHeader;
    }
  }
  if (data[at + 1] != '\n' || !host || !sized || !typed || at > limits.head_bytes) return kHeader;
  if (length > limits.body_bytes) return kLargeBody;
  out->body = data.substr(at + 2);
  return out->body.size() == length ? kStays : out->body.size() < length ? kInPieces : kPipelined;
}

inline int hex_digits(size_t value) {
  return value < 16 ? 1 : 1 + hex_digits(value >> 4);
}

// `data` as one chunk of the chunked transfer encoding, appended.
inline void add_framed(std::string* out, std::string_view data) {
  const int digits = hex_digits(data.size());
  const size_t before = out->size(), framed = static_cast<size_t>(digits) + data.size() + 4;
  out->resize(before + framed);  // once: three appends cost more than the zeros that this writes
  char* at = out->data() + before;
  for (int i = digits; i-- > 0;) *at++ = "0123456789abcdef"[data.size() >> (4 * i) & 15];
  std::memcpy(at, "\r\n", 2);
  if (!data.empty()) std::memcpy(at + 2, data.data(), data.size());
  std::memcpy(at + 2 + data.size(), "\r\n", 2);
}

}  // namespace headgate
