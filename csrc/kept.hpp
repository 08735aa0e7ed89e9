// All bytes of a stream so far, in little room: its events differ in a few characters each.
//
//     record: size * 2 + short, u32 LE | bytes       short: `pattern`'s beginning and end are left out
//
// Not safe from several threads.
#pragma once
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

namespace headgate {

class Kept {
 public:
  // Of all chunks together.
  size_t told() const { return told_; }

  // That it takes.
  size_t held() const { return records_.size() + pattern_.size(); }

  void add(std::string_view chunk) {
    told_ += chunk.size();
    if (pattern_.empty()) learn(chunk);
    const bool brief = prefix_ && chunk.size() >= prefix_ + suffix_ &&
                       !std::memcmp(chunk.data(), pattern_.data(), prefix_) &&
                       !std::memcmp(chunk.data() + chunk.size() - suffix_, pattern_.data() + prefix_, suffix_);
    if (brief) chunk = chunk.substr(prefix_, chunk.size() - prefix_ - suffix_);
    const uint32_t head = static_cast<uint32_t>(chunk.size()) * 2 + brief;
    records_.append(reinterpret_cast<const char*>(&head), sizeof head).append(chunk);
  }

  std::string all() const {
    std::string out;
    out.reserve(told_);
    for (size_t at = 0; at < records_.size();) {
      uint32_t head;
      std::memcpy(&head, records_.data() + at, sizeof head);
      if (head & 1) out.append(pattern_, 0, prefix_);
      out.append(records_, at + sizeof head, head / 2);
      if (head & 1) out.append(pattern_, prefix_);
      at += sizeof head + head / 2;
    }
    return out;
  }

 private:
  // The first event that has a text gives the pattern: all before its text, and all from its closing quote on.
  void learn(std::string_view chunk) {
    constexpr std::string_view kContent = "\"content\":\"", kText = "\"text\":\"";
    size_t from = chunk.find(kContent), name = kContent.size();
    if (from == chunk.npos) from = chunk.find(kText), name = kText.size();
    if (from == chunk.npos) return;
    from += name;
    size_t to = from;
    while (to < chunk.size() && chunk[to] != '"') to += chunk[to] == '\\' ? 2 : 1;
    if (to >= chunk.size() || to == from) return;  // no text yet: the event of the role
    prefix_ = from, suffix_ = chunk.size() - to;
    pattern_.assign(chunk.substr(0, from)).append(chunk.substr(to));
  }

  std::string records_, pattern_;
  size_t prefix_ = 0, suffix_ = 0, told_ = 0;
};

}  // namespace headgate
