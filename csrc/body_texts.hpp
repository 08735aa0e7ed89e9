// Texts taken out of a JSON body before it is decoded: a decoder makes a string of each and holds the interpreter's
// lock meanwhile, 60 ms for one text of 31 MB, 150 for a million of 30 bytes in one list.
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "json_text.hpp"

namespace headgate {

// Texts of one list without an object between them; or one long text.
struct TextRun {
  size_t first, count;
};

struct TakenTexts {
  // The body. In the place of a run's first text stands `<MARK:RUN>`, in that of its others an empty one: whatever is
  // said of the body by its types and places is said of this one too.
  std::string json;
  std::vector<LeftOut> left_out;
  std::vector<std::string_view> raw;  // as they were written, between their quotes
  std::vector<TextRun> runs;
  size_t value_bytes;  // of the last value of the key that was asked for
};

// Reads no more of the grammar than where texts begin and end and what they stand in: what is no JSON stays as it is,
// for the decoder to refuse.
class TextTaker {
 public:
  TextTaker(std::string_view json, std::string_view key, std::string_view mark, TakenTexts* out)
      : at_(json.data()), end_(at_ + json.size()), copied_(at_), key_(key), mark_(mark), out_(out) {}

  // False where nothing was taken.
  bool run() {
    out_->value_bytes = 0;
    while (at_ < end_) {
      const char c = *at_++;
      if (c == '"') {
        if (!text()) break;
      } else if (c == '{' || c == '[') {
        if (c == '{' && !open_.empty()) open_.back().run = kNone;
        open_.push_back({c == '[', 0, kNone});
        key_next_ = open_.size() == 1 && c == '{';
      } else if (c == '}' || c == ']') {
        if (open_.size() == 1) value_ended();
        if (open_.empty()) break;
        open_.pop_back();
      } else if (open_.size() == 1 && c == ',') {
        value_ended();
        key_next_ = true;
      }
    }
    if (out_->runs.empty()) return false;
    copy(end_);
    return true;
  }

 private:
  static constexpr size_t kNone = SIZE_MAX;
  static constexpr size_t kLong = 16 * 1024;  // bytes of a text that is taken wherever it stands
  static constexpr size_t kFew = 16;          // texts of a list that are left

  struct Open {
    bool list;
    size_t texts, run;
  };

  // `at_` is behind a quote; false where the text has no end.
  bool text() {
    const char* const begin = at_;
    const JsonText found = text_at(at_, end_);
    if (found.end == nullptr) return false;
    at_ = found.end + 1;
    const std::string_view raw(begin, static_cast<size_t>(found.end - begin));
    Open* const list = !open_.empty() && open_.back().list ? &open_.back() : nullptr;
    if (key_next_) {
      key_next_ = false;
      value_ = is_key(raw, key_) ? at_ : nullptr;
    }
    const bool many = list != nullptr && ++list->texts > kFew;
    if (found.valid && (many || raw.size() > kLong)) take(raw, list);
    return true;
  }

  void take(std::string_view raw, Open* list) {
    copy(raw.data());
    const size_t before = out_->json.size();
    if (list == nullptr || list->run == kNone) {
      if (list != nullptr) list->run = out_->runs.size();
      out_->json.append("<").append(mark_).append(":").append(std::to_string(out_->runs.size())).append(">");
      out_->runs.push_back({out_->raw.size(), 0});
    }
    ++out_->runs.back().count;
    out_->raw.push_back(raw);
    copied_ = raw.data() + raw.size();
    const size_t put = out_->json.size() - before;
    if (put != raw.size()) {
      out_->left_out.push_back(
          {out_->json.size() + 1, static_cast<ptrdiff_t>(raw.size()) - static_cast<ptrdiff_t>(put)});
    }
  }

  // `at_` is behind the comma or bracket that ends a value of the body.
  void value_ended() {
    if (value_ == nullptr) return;
    const auto blank = [](char c) { return c == ' ' || c == '\n' || c == '\r' || c == '\t' || c == ':'; };
    const char* begin = value_;
    const char* end = at_ - 1;
    while (begin < end && blank(*begin)) ++begin;
    while (begin < end && blank(end[-1])) --end;
    out_->value_bytes = static_cast<size_t>(end - begin);
    value_ = nullptr;
  }

  void copy(const char* to) {
    out_->json.append(copied_, to);
    copied_ = to;
  }

  const char* at_;
  const char* const end_;
  const char* copied_;  // up to here the text is in `json`, or was taken
  const std::string_view key_, mark_;
  TakenTexts* const out_;
  std::vector<Open> open_;
  bool key_next_ = false;
  const char* value_ = nullptr;  // of the key that was asked for: behind the key
};

inline bool take_texts(std::string_view json, std::string_view key, std::string_view mark, TakenTexts* out) {
  return TextTaker(json, key, mark, out).run();
}

// Where byte `at` of what is left was in the whole.
inline size_t place_before(const std::vector<LeftOut>& left_out, size_t at) {
  ptrdiff_t more = 0;
  for (const LeftOut& part : left_out) {
    if (part.at > at) break;
    more += part.bytes;
  }
  return at + static_cast<size_t>(more);
}

template <class Put>
void each_code_of(const TakenTexts& texts, size_t run, Put put) {
  const auto [first, count] = texts.runs[run];
  for (size_t i = first; i < first + count; ++i) {
    if (i > first) put(static_cast<uint32_t>('\n'));
    each_code(texts.raw[i], put);
  }
}

struct TextSize {
  size_t codes;
  uint32_t largest;  // code point
};

// Of a run's texts, joined by line ends.
inline TextSize size_of(const TakenTexts& texts, size_t run) {
  TextSize size{};
  each_code_of(texts, run, [&size](uint32_t code) { ++size.codes, size.largest = std::max(size.largest, code); });
  return size;
}

// The same texts as code points of `width` bytes each.
inline void write_text(const TakenTexts& texts, size_t run, int width, void* out) {
  const auto write = [&texts, run](auto* to) {
    each_code_of(texts, run,
                 [&to](uint32_t code) { *to++ = static_cast<std::remove_reference_t<decltype(*to)>>(code); });
  };
  if (width == 1) return write(static_cast<uint8_t*>(out));
  if (width == 2) return write(static_cast<uint16_t*>(out));
  write(static_cast<uint32_t*>(out));
}

}  // namespace headgate
