// The frames of a plain request, msgpack as router/ipc/messages.py lays it out: Submit to an engine host; Chunks, Done
// and Load from it. Fields appended by a newer peer are skipped, missing ones have their defaults. What is of another
// type or form than expected is left to the full decoder.
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>
#include <vector>

#include "load.hpp"

namespace headgate {

inline uint8_t* put_big(uint8_t* out, uint64_t value, int bytes) {
  for (int i = bytes - 1; i >= 0; --i) *out++ = static_cast<uint8_t>(value >> (8 * i));
  return out;
}

inline uint8_t* put_uint(uint8_t* out, uint64_t value) {
  if (value < 0x80) return put_big(out, value, 1);
  const int log = value < 0x100 ? 0 : value < 0x10000 ? 1 : value < 0x100000000 ? 2 : 3;
  *out++ = static_cast<uint8_t>(0xcc + log);
  return put_big(out, value, 1 << log);
}

// The head of a `bin`.
inline uint8_t* put_bin(uint8_t* out, size_t size) {
  const int log = size < 0x100 ? 0 : size < 0x10000 ? 1 : 2;
  *out++ = static_cast<uint8_t>(0xc4 + log);
  return put_big(out, size, 1 << log);
}

// A `str`.
inline uint8_t* put_text(uint8_t* out, std::string_view text) {
  const size_t size = text.size();
  if (size < 0x20) {
    out = put_big(out, 0xa0 | size, 1);
  } else {
    const int log = size < 0x100 ? 0 : size < 0x10000 ? 1 : 2;
    *out++ = static_cast<uint8_t>(0xd9 + log);
    out = put_big(out, size, 1 << log);
  }
  if (size) std::memcpy(out, text.data(), size);
  return out + size;
}

inline size_t uint_size(uint64_t value) {
  return value < 0x80 ? 1 : value < 0x100 ? 2 : value < 0x10000 ? 3 : value < 0x100000000 ? 5 : 9;
}

inline size_t text_size(std::string_view text) {
  const size_t size = text.size();
  return size + (size < 0x20 ? 1 : size < 0x100 ? 2 : size < 0x10000 ? 3 : 5);
}

// Bytes that `put_submit` writes.
inline size_t submit_size(uint64_t id, std::string_view body, std::string_view request_id,
                          std::string_view traceparent = {}) {
  const size_t bin_head = body.size() < 0x100 ? 2 : body.size() < 0x10000 ? 3 : 5;
  const size_t trace = traceparent.empty() ? 0 : text_size(traceparent);
  return 4 + 2 + uint_size(id) + 5 + bin_head + body.size() + text_size(request_id) + trace;
}

// A Submit of kind `chat`, length prefix included; fields that have their defaults are left out at its end.
// `request_id` and `traceparent`: UTF-8.
inline void put_submit(uint8_t* frame, uint64_t id, std::string_view body, std::string_view request_id,
                       std::string_view traceparent = {}) {
  uint8_t* out = frame + 4;
  *out++ = traceparent.empty() ? 0x95 : 0x96;  // an array of the tag and four or five fields
  *out++ = 1;
  out = put_uint(out, id);
  out = put_text(out, "chat");
  out = put_bin(out, body.size());
  if (!body.empty()) std::memcpy(out, body.data(), body.size());
  out = put_text(out + body.size(), request_id);
  if (!traceparent.empty()) out = put_text(out, traceparent);
  const auto size = static_cast<uint64_t>(out - frame) - 4;
  for (int i = 0; i < 4; ++i) frame[i] = static_cast<uint8_t>(size >> (8 * i));
}

struct Chunk {
  uint64_t id;
  std::string_view data;
};

// What a Done tells beyond its id.
struct Finish {
  int64_t prompt_tokens = 0, completion_tokens = 0, cached_tokens = 0;
  double first_token_s = 0, total_s = 0;
  std::string_view reason = "stop";  // ASCII, in the frame's bytes
};

// Whether an answer that ended for `reason` would have been longer: as chats and messages call it.
inline bool is_cut(std::string_view reason) {
  return reason == "length" || reason == "max_tokens";
}

inline bool plausible(const Finish& finish) {
  return plausible(finish.prompt_tokens) && plausible(finish.completion_tokens) && plausible(finish.cached_tokens) &&
         plausible(finish.first_token_s, 0, kMostSeconds) && plausible(finish.total_s, 0, kMostSeconds);
}

// Reads what msgspec writes, from older and newer peers too; every `false` leaves the frame to the full decoder, which
// knows what is an error.
class FrameReader {
 public:
  explicit FrameReader(std::string_view frame)
      : at_(reinterpret_cast<const uint8_t*>(frame.data())), end_(at_ + frame.size()) {}

  static constexpr size_t kLeastItemBytes = 4;  // array, id, and the head of its bytes

  bool chunks(std::vector<Chunk>* out) {
    size_t left = 0, items = 0;
    if (!message(3, &left) || !more(&left) || !array(&items)) return false;
    out->clear();
    out->reserve(std::min(items, static_cast<size_t>(end_ - at_) / kLeastItemBytes));
    for (; items; --items) {
      Chunk chunk;
      if (!item(&chunk)) return false;
      out->push_back(chunk);
    }
    return end(left);
  }

  // Figures and logits of a watched answer are for the full decoder.
  bool done(uint64_t* id, Finish* out) {
    size_t left = 0;
    *out = {};
    if (!message(4, &left) || !more(&left) || !uint(id)) return false;
    return (!more(&left) || usage(out)) && (!more(&left) || ascii(&out->reason)) && (!more(&left) || timings(out)) &&
           (!more(&left) || byte(0xc0)) && (!more(&left) || (byte(0xc4) && byte(0))) && end(left);
  }

  bool load(LoadFrame* out) {
    size_t left = 0;
    *out = {};
    if (!message(7, &left)) return false;
    for (int64_t* count : {&out->running, &out->waiting}) {
      if (more(&left) && !tokens(count)) return false;
    }
    for (double* figure : {&out->kv_use, &out->prefix_hit, &out->prefill_tokens_per_s, &out->time_per_output_token_s}) {
      if (more(&left) && !real(figure)) return false;
    }
    return (!more(&left) || tokens(&out->context_tokens)) && (!more(&left) || sums(&out->sums)) && end(left);
  }

 private:
  // Values within values that are skipped; msgspec goes deeper, so what is nested more is left to it.
  static constexpr int kMostNested = 32;

  // The array of a message and its tag; `left`: the fields behind it.
  bool message(uint8_t tag, size_t* left) { return array(left) && more(left) && byte(tag); }

  // Whether a field of so many is `left`, counted as taken.
  static bool more(size_t* left) { return *left && (*left)--; }

  // Skips the fields that are `left`; nothing stands behind them.
  bool end(size_t left) { return skip(left, 0) && at_ == end_; }

  bool usage(Finish* out) {
    size_t left = 0;
    if (!array(&left)) return false;
    for (int64_t* count : {&out->prompt_tokens, &out->completion_tokens, &out->cached_tokens}) {
      if (more(&left) && !tokens(count)) return false;
    }
    return skip(left, 1);
  }

  bool timings(Finish* out) {
    size_t left = 0;
    if (!array(&left)) return false;
    for (double* seconds : {&out->first_token_s, &out->total_s}) {
      if (more(&left) && !real(seconds)) return false;
    }
    return skip(left, 1);
  }

  bool sums(StepSums* out) {
    size_t left = 0;
    if (!array(&left)) return false;
    for (double *sum = values_of(out), *last = sum + kSums; sum < last; ++sum) {
      if (more(&left) && !real(sum)) return false;
    }
    return skip(left, 1);
  }

  // A pair of id and bytes.
  bool item(Chunk* out) {
    size_t size = 0;
    if (!byte(0x92) || !uint(&out->id) || at_ == end_ || *at_ < 0xc4 || *at_ > 0xc6) return false;
    const int bytes = 1 << (*at_++ - 0xc4);
    return big(bytes, &size) && view(size, &out->data);
  }

  // Any `count` values, each with all that it holds.
  bool skip(uint64_t count, int nested) {
    if (nested > kMostNested) return count == 0;
    for (; count; --count) {
      uint64_t size = 0;
      if (at_ == end_) return false;
      const uint8_t first = *at_++;
      if (first < 0x80 || first >= 0xe0) continue;  // a small integer
      if (first < 0xa0) {                           // a small map or array
        if (!skip(uint64_t{first & 0x0fu} << (first < 0x90), nested + 1)) return false;
      } else if (first < 0xc0) {  // a short text
        if (!pass(first & 0x1f)) return false;
      } else if (first <= 0xc3) {  // nil, never used, false, true
        if (first == 0xc1) return false;
      } else if (first <= 0xc6) {  // bytes
        if (!big(1 << (first - 0xc4), &size) || !pass(size)) return false;
      } else if (first <= 0xc9) {  // an extension, its type and bytes
        if (!big(1 << (first - 0xc7), &size) || !pass(size + 1)) return false;
      } else if (first <= 0xcb) {  // a real number
        if (!pass(first == 0xca ? 4 : 8)) return false;
      } else if (first <= 0xd3) {  // an integer
        if (!pass(uint64_t{1} << ((first - 0xcc) & 3))) return false;
      } else if (first <= 0xd8) {  // an extension of fixed size
        if (!pass((uint64_t{1} << (first - 0xd4)) + 1)) return false;
      } else if (first <= 0xdb) {  // a text
        if (!big(1 << (first - 0xd9), &size) || !pass(size)) return false;
      } else {  // an array or a map
        if (!big(first & 1 ? 4 : 2, &size) || !skip(size << (first >= 0xde), nested + 1)) return false;
      }
    }
    return true;
  }

  bool pass(uint64_t bytes) {
    std::string_view passed;
    return view(bytes, &passed);
  }

  bool view(uint64_t size, std::string_view* out) {
    if (size > static_cast<uint64_t>(end_ - at_)) return false;
    *out = {reinterpret_cast<const char*>(at_), static_cast<size_t>(size)};
    at_ += size;
    return true;
  }

  bool byte(uint8_t expected) {
    if (at_ == end_ || *at_ != expected) return false;
    ++at_;
    return true;
  }

  bool big(int bytes, uint64_t* out) {
    if (end_ - at_ < bytes) return false;
    *out = 0;
    for (int i = 0; i < bytes; ++i) *out = *out << 8 | *at_++;
    return true;
  }

  // At most 2^63 - 1.
  bool uint(uint64_t* out) {
    if (at_ == end_) return false;
    const uint8_t first = *at_++;
    if (first < 0x80) {
      *out = first;
      return true;
    }
    return first >= 0xcc && first <= 0xcf && big(1 << (first - 0xcc), out) && !(*out >> 63);
  }

  bool tokens(int64_t* out) {
    uint64_t value = 0;
    if (!uint(&value)) return false;
    *out = static_cast<int64_t>(value);
    return true;
  }

  bool array(size_t* length) {
    if (at_ == end_) return false;
    const uint8_t first = *at_++;
    *length = first & 0x0f;
    return first >> 4 == 9 || ((first == 0xdc || first == 0xdd) && big(first == 0xdc ? 2 : 4, length));
  }

  // A text of 31 characters at most; others may be no UTF-8.
  bool ascii(std::string_view* out) {
    if (at_ == end_ || *at_ >> 5 != 5 || !view(*at_++ & 0x1f, out)) return false;
    for (const char c : *out) {
      if (static_cast<unsigned char>(c) >= 0x80) return false;
    }
    return true;
  }

  bool real(double* out) {
    uint64_t bits = 0;
    if (!byte(0xcb) || !big(8, &bits)) return false;
    std::memcpy(out, &bits, 8);
    return true;
  }

  const uint8_t* at_;
  const uint8_t* const end_;
};

// The frame, without its length, that starts at `at`; false where `data` holds no whole one.
inline bool next_frame(std::string_view data, size_t at, std::string_view* out) {
  if (data.size() - at < 4) return false;
  size_t length = 0;
  for (size_t i = 0; i < 4; ++i) length |= static_cast<size_t>(static_cast<uint8_t>(data[at + i])) << (8 * i);
  if (length > data.size() - at - 4) return false;
  *out = data.substr(at + 4, length);
  return true;
}

// The items of a Chunks frame, given without its length.
inline bool read_chunks(std::string_view frame, std::vector<Chunk>* out) {
  return FrameReader(frame).chunks(out);
}

// A Done frame, given without its length.
inline bool read_done(std::string_view frame, uint64_t* id, Finish* out) {
  return FrameReader(frame).done(id, out);
}

// A Load frame, given without its length.
inline bool read_load(std::string_view frame, LoadFrame* out) {
  return FrameReader(frame).load(out);
}

}  // namespace headgate
