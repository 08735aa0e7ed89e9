// Lists of token ids in a JSON body, cut to their first id: half a million of them take a decoder some hundred
// milliseconds, and counting them one.
#pragma once
#include <algorithm>
#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "json_text.hpp"

namespace headgate {

struct ShortIds {
  std::string json;  // the body, each list of plain ids under the key cut to its first id, a list of such lists to one
  std::vector<LeftOut> left_out;
  size_t most_ids;  // of the longest list that was cut
};

// Reads no more of the grammar than where texts begin and end and how deep a value stands: what is no JSON stays as it
// is, for the decoder to refuse.
class IdListReader {
 public:
  IdListReader(std::string_view json, std::string_view key, ShortIds* out)
      : at_(json.data()), end_(at_ + json.size()), copied_(at_), key_(key), out_(out) {}

  // False where nothing was cut.
  bool run() {
    out_->json.clear();
    out_->left_out.clear();
    out_->most_ids = 0;
    int depth = 0;
    bool key_next = false, found = false;
    while (at_ < end_) {
      const char c = *at_++;
      if (c == '"') {
        const char* const begin = at_;
        if (!text()) break;
        if (!key_next) continue;
        const std::string_view key(begin, static_cast<size_t>(at_ - 1 - begin));
        found = is_key(key, key_);
        if (found) out_->most_ids = 0;  // of a key that stands twice the last counts
        key_next = false;
      } else if (c == '{' || c == '[') {
        ++depth;
        key_next = depth == 1 && c == '{';
        if (c == '{') found = false;  // no prompt holds an object: what follows is refused
        if (c == '[' && found && (depth == 2 || depth == 3)) cut_list();
      } else if (c == '}' || c == ']') {
        --depth;
      } else if (c == ',' && depth == 1) {
        key_next = true;
        found = false;
      }
    }
    copy(end_);
    return !out_->left_out.empty();
  }

 private:
  static constexpr int kMostDigits = 18;

  // Behind a text's closing quote; false where there is none.
  bool text() {
    for (; at_ < end_ && *at_ != '"'; ++at_) {
      if (*at_ == '\\' && ++at_ == end_) return false;
    }
    return at_ < end_ && at_++ != nullptr;
  }

  // `at_` is behind the bracket of a list: where it holds plain ids only, or lists of them, it is left at its end.
  void cut_list() {
    const char* p = behind_blanks(at_);
    if (p < end_ && *p == '[') return cut_lists(p);
    const Ids ids = plain_ids(p);
    if (ids.end) cut(ids), at_ = ids.end;
  }

  void cut_lists(const char* p) {
    Ids first{}, ids;
    size_t most = 0;
    for (;; ++p) {
      p = behind_blanks(p);
      if (p == end_ || *p != '[' || !(ids = plain_ids(behind_blanks(p + 1))).end) return;
      if (most == 0) first = ids;
      most = std::max(most, ids.count);
      p = behind_blanks(ids.end + 1);
      if (p == end_) return;
      if (*p == ']') break;
      if (*p != ',') return;
    }
    cut(first);
    leave_out(first.end + 1, p);
    out_->most_ids = std::max(out_->most_ids, most);
    at_ = p;
  }

  struct Ids {
    const char *first_end, *end;  // behind the first id; at the closing bracket, null where the list is another one
    size_t count;
  };

  // Of the list whose first item begins at `p`.
  Ids plain_ids(const char* p) const {
    Ids ids{};
    for (;; p = behind_blanks(p + 1)) {
      p += p < end_ && *p == '-';
      const char* const begin = p;
      while (p < end_ && *p >= '0' && *p <= '9') ++p;
      const auto digits = p - begin;
      if (digits == 0 || digits > kMostDigits || (*begin == '0' && (digits > 1 || begin[-1] == '-'))) return {};
      if (++ids.count == 1) ids.first_end = p;
      p = behind_blanks(p);
      if (p == end_ || (*p != ']' && *p != ',')) return {};
      if (*p == ']') break;
    }
    ids.end = p;
    return ids;
  }

  void cut(const Ids& ids) {
    leave_out(ids.first_end, ids.end);
    out_->most_ids = std::max(out_->most_ids, ids.count);
  }

  void leave_out(const char* from, const char* to) {
    if (from == to) return;
    copy(from);
    out_->left_out.push_back({out_->json.size(), to - from});
    copied_ = to;
  }

  const char* behind_blanks(const char* p) const {
    while (p < end_ && (*p == ' ' || *p == '\n' || *p == '\r' || *p == '\t')) ++p;
    return p;
  }

  void copy(const char* to) {
    out_->json.append(copied_, to);
    copied_ = to;
  }

  const char* at_;
  const char* const end_;
  const char* copied_;  // up to here the text is in `json`, or was left out
  const std::string_view key_;
  ShortIds* const out_;
};

inline bool shorten_ids(std::string_view json, std::string_view key, ShortIds* out) {
  return IdListReader(json, key, out).run();
}

}  // namespace headgate
