// Parts of a chat body's messages that are bare texts, written as parts. The body is one that the decoder took: its
// grammar is not checked again, only the ends of the text kept.
#pragma once
#include <cstddef>
#include <string>
#include <string_view>

#include "json_text.hpp"

namespace headgate {

enum class TooMany { kNone, kContent, kSystem };

class PartWriter {
 public:
  PartWriter(std::string_view json, size_t most, std::string* out)
      : at_(json.data()), end_(at_ + json.size()), copied_(at_), most_(most), out_(out) {}

  // Which lists have, those of the messages and then that of the system text, more parts than are rewritten.
  TooMany run() {
    size_t messages = 0, system = 0;
    object([&](std::string_view key) {
      if (is_key(key, "messages")) {
        messages = 0;
        list([&] { messages += message(); });
      } else if (is_key(key, "system")) {
        system = parts();
      } else {
        skip();
      }
    });
    if (messages > most_) return TooMany::kContent;
    if (messages + system > most_) return TooMany::kSystem;
    copy(end_);
    return TooMany::kNone;
  }

 private:
  // How many parts it has.
  size_t message() {
    size_t count = 0;
    object([&](std::string_view key) {
      if (is_key(key, "content")) {
        count = parts();
      } else {
        skip();
      }
    });
    return count;
  }

  size_t parts() {
    size_t count = 0;
    list([&] {
      ++count;
      if (*at_ != '"') return skip();
      copy(at_);
      out_->append("{\"type\":\"text\",\"text\":");
      skip();
      copy(at_);
      out_->push_back('}');
    });
    return count;
  }

  // Each reads one value and leaves `at_` behind it; another value is passed over.

  template <class Field>
  void object(Field field) {
    if (!begins('{')) return skip();
    for (++at_; next() && *at_ == '"'; next() && *at_ == ',' && ++at_) {
      const char* const begin = ++at_;
      text();
      const std::string_view key(begin, static_cast<size_t>(at_ - 1 - begin));
      if (next()) ++at_;  // the colon
      if (next()) field(key);
    }
    if (at_ < end_) ++at_;
  }

  template <class Item>
  void list(Item item) {
    if (!begins('[')) return skip();
    ++at_;
    while (next() && *at_ != ']') {
      const char* const begin = at_;
      item();
      if (next() && *at_ == ',') ++at_;
      if (at_ == begin) return;  // no JSON
    }
    if (at_ < end_) ++at_;
  }

  void skip() {
    size_t depth = 0;
    while (at_ < end_) {
      const char c = *at_;
      if (c == '"') {
        ++at_;
        text();
        if (depth == 0) return;
        continue;
      }
      const bool closes = c == '}' || c == ']';
      if (depth == 0 && (closes || c == ',')) return;  // behind a number or word
      ++at_;
      if (c == '{' || c == '[') ++depth;
      if (closes && --depth == 0) return;
    }
  }

  // `at_` is behind a text's opening quote: on to behind its closing one.
  void text() {
    const JsonText found = text_at(at_, end_);
    at_ = found.end == nullptr ? end_ : found.end + 1;
  }

  bool begins(char with) { return next() && *at_ == with; }

  // Over blanks; false at the end.
  bool next() {
    while (at_ < end_ && (*at_ == ' ' || *at_ == '\n' || *at_ == '\r' || *at_ == '\t')) ++at_;
    return at_ < end_;
  }

  void copy(const char* to) {
    out_->append(copied_, to);
    copied_ = to;
  }

  const char* at_;
  const char* const end_;
  const char* copied_;
  const size_t most_;
  std::string* const out_;
};

inline TooMany write_parts(std::string_view json, size_t most, std::string* out) {
  return PartWriter(json, most, out).run();
}

}  // namespace headgate
