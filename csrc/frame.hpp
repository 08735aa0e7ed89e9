// The frames of the common request's way, msgpack as router/ipc/messages.py lays it out: Submit to an engine host;
// Chunks, Done and Load from it. What is not exactly so is left to the full decoder.
#pragma once
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

// Head of a `str` (31 bytes at most) or `bin`.
inline uint8_t* put_head(uint8_t* out, bool bin, size_t size) {
  if (!bin) return put_big(out, 0xa0 | size, 1);
  const int log = size < 0x100 ? 0 : size < 0x10000 ? 1 : 2;
  *out++ = static_cast<uint8_t>(0xc4 + log);
  return put_big(out, size, 1 << log);
}

inline uint8_t* put_bytes(uint8_t* out, std::string_view bytes) {
  if (!bytes.empty()) std::memcpy(out, bytes.data(), bytes.size());
  return out + bytes.size();
}

inline size_t uint_size(uint64_t value) {
  return value < 0x80 ? 1 : value < 0x100 ? 2 : value < 0x10000 ? 3 : value < 0x100000000 ? 5 : 9;
}

// Bytes that `put_submit` writes.
inline size_t submit_size(uint64_t id, std::string_view body, std::string_view request_id) {
  const size_t bin_head = body.size() < 0x100 ? 2 : body.size() < 0x10000 ? 3 : 5;
  return 28 + uint_size(id) + bin_head + body.size() + request_id.size();
}

// A Submit of kind `chat` with default options, length prefix included. `request_id`: 31 bytes at most.
inline void put_submit(uint8_t* frame, uint64_t id, std::string_view body, std::string_view request_id) {
  uint8_t* out = frame + 4;
  *out++ = 0x9b;  // an array of the tag and ten fields
  *out++ = 1;
  out = put_uint(out, id);
  out = put_head(out, false, 4);
  out = put_bytes(out, "chat");
  out = put_head(out, true, body.size());
  out = put_bytes(out, body);
  out = put_head(out, false, request_id.size());
  out = put_bytes(out, request_id);
  out = put_head(out, true, 0);   // overrides
  out = put_head(out, false, 0);  // continue_text
  out = put_head(out, true, 0);   // watch
  out = put_uint(out, 0);         // priority
  *out++ = 0xcb;                  // deadline_s
  out = put_big(out, 0, 8);
  out = put_head(out, false, 0);  // traceparent
  const auto size = static_cast<uint64_t>(out - frame) - 4;
  for (int i = 0; i < 4; ++i) frame[i] = static_cast<uint8_t>(size >> (8 * i));
}

struct Chunk {
  uint64_t id;
  std::string_view data;
};

// What a Done tells beyond its id.
struct Finish {
  int64_t prompt_tokens, completion_tokens, cached_tokens;
  double first_token_s, total_s;
  std::string_view reason;  // in the frame's bytes
};

inline bool plausible(const Finish& finish) {
  return plausible(finish.prompt_tokens) && plausible(finish.completion_tokens) && plausible(finish.cached_tokens) &&
         plausible(finish.first_token_s, 0, kMostSeconds) && plausible(finish.total_s, 0, kMostSeconds);
}

// Reads what msgspec writes; every `false` leaves the frame to the full decoder.
class FrameReader {
 public:
  explicit FrameReader(std::string_view frame)
      : at_(reinterpret_cast<const uint8_t*>(frame.data())), end_(at_ + frame.size()) {}

  // Chunks: then `items()` pairs follow, each read by `item`.
  bool chunks(size_t* items) { return byte(0x92) && byte(3) && head(0x90, 0x0f, 0xdc, items); }

  bool item(uint64_t* id, std::string_view* data) {
    size_t size = 0;
    if (!byte(0x92) || !uint(id) || at_ == end_ || *at_ < 0xc4 || *at_ > 0xc6) return false;
    const int bytes = 1 << (*at_++ - 0xc4);
    if (!big(bytes, &size) || size > static_cast<size_t>(end_ - at_)) return false;
    *data = {reinterpret_cast<const char*>(at_), size};
    at_ += size;
    return true;
  }

  bool done(uint64_t* id, Finish* out) {
    uint64_t prompt = 0, completion = 0, cached = 0;
    size_t reason = 0;
    if (!byte(0x95) || !byte(4) || !uint(id) || !byte(0x93) || !uint(&prompt) || !uint(&completion) || !uint(&cached) ||
        !head(0xa0, 0x1f, 0, &reason) || reason > static_cast<size_t>(end_ - at_)) {
      return false;
    }
    *out = {static_cast<int64_t>(prompt),
            static_cast<int64_t>(completion),
            static_cast<int64_t>(cached),
            0,
            0,
            {reinterpret_cast<const char*>(at_), reason}};
    at_ += reason;
    return byte(0x92) && real(&out->first_token_s) && real(&out->total_s) && over();
  }

  bool load(LoadFrame* out) {
    uint64_t running = 0, waiting = 0, preemptions = 0;
    double decode_tokens_per_s = 0;
    if (!byte(0x9a) || !byte(7) || !uint(&running) || !uint(&waiting)) return false;
    out->running = static_cast<int64_t>(running);
    out->waiting = static_cast<int64_t>(waiting);
    return real(&out->kv_use) && real(&out->prefix_hit) && real(&out->prefill_tokens_per_s) &&
           real(&decode_tokens_per_s) && real(&out->time_per_output_token_s) && (byte(0xc2) || byte(0xc3)) &&
           uint(&preemptions) && over();
  }

  bool over() const { return at_ == end_; }

 private:
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

  // A length in the low bits of the first byte, or, where `wide` is given, in two bytes after `wide` or four after the
  // next.
  bool head(uint8_t high, uint8_t low, uint8_t wide, size_t* out) {
    if (at_ == end_) return false;
    const uint8_t first = *at_++;
    if ((first & static_cast<uint8_t>(~low)) == high) {
      *out = first & low;
      return true;
    }
    return wide && (first == wide || first == wide + 1) && big(first == wide ? 2 : 4, out);
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
  FrameReader reader(frame);
  size_t items = 0;
  if (!reader.chunks(&items)) return false;
  out->clear();
  for (size_t i = 0; i < items; ++i) {
    Chunk chunk;
    if (!reader.item(&chunk.id, &chunk.data)) return false;
    out->push_back(chunk);
  }
  return reader.over();
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
