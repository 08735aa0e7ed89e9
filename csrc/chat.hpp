// The plain chat body: JSON of OpenAI's chat API whose every message is text. Strict; a `false` refuses nothing, it
// leaves the body to the full decoder (router/dialects/decode.py), with which every `true` must agree.
#pragma once
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "json.hpp"

namespace headgate {

struct ChatTurn {
  std::string_view role, text;
};

// Bits of what a model must be able to do, in the order of `types.Capability`.
enum Need : uint32_t { kNeedsChat = 1, kNeedsTools = 4, kNeedsStructured = 8, kNeedsLogprobs = 16 };

// Whether a model of these capabilities, in bits, takes chats at all.
inline bool chats(uint32_t capabilities) {
  return capabilities & kNeedsChat;
}

struct Chat {
  std::string_view model;  // empty: not told
  std::vector<ChatTurn> turns;
  bool stream;
  int64_t max_tokens;  // -1: not told
  int64_t choices;
  uint32_t needs;                 // of `Need`
  std::string unescaped, joined;  // what the views point to where the body has escapes, or texts in parts
};

class ChatReader : JsonReader {
 public:
  ChatReader(std::string_view body, Chat* out) : JsonReader(body, &out->unescaped), body_(body), out_(out) {}

  bool run() {
    out_->model = {};
    out_->turns.clear();
    out_->stream = false;
    out_->max_tokens = -1;
    out_->choices = 1;
    out_->needs = kNeedsChat;
    out_->joined.clear();
    if (!is_utf8(body_)) return false;
    blank();
    if (!object([this](std::string_view key) { return field(key); }) || !(seen_ & 1)) return false;
    blank();
    if (completion_ >= 0) out_->max_tokens = completion_;
    return at_ == end_;
  }

 private:
  bool field(std::string_view key) {
    constexpr std::string_view known[] = {"messages",
                                          "model",
                                          "stream",
                                          "max_tokens",
                                          "max_completion_tokens",
                                          "n",
                                          "tools",
                                          "functions",
                                          "response_format",
                                          "structured_outputs",
                                          "logprobs",
                                          "truncate_prompt_tokens"};
    for (size_t i = 0; i < std::size(known); ++i) {
      if (key != known[i]) continue;
      if (seen_ >> i & 1) return false;
      seen_ |= 1u << i;
      if (i > 0 && word("null")) return true;
      switch (i) {
        case 0: return messages();
        case 1: return text(&out_->model) && out_->model.size() <= 1024;
        case 2: return flag(&out_->stream);
        case 3: return number(&out_->max_tokens, INT32_MAX);
        case 4: return number(&completion_, INT32_MAX);
        case 5: return number(&out_->choices, 1024);
        case 6:
        case 7: return given(kNeedsTools);
        case 8: return format();
        case 9: return given(kNeedsStructured);
        case 10: return logprobs();
        default: return false;  // a prompt that may be cut: rare
      }
    }
    return skip(0);
  }

  // A value of any kind; all but an empty list or object needs `need`.
  bool given(Need need) {
    const char* const begin = at_;
    if (!skip(0)) return false;
    const std::string_view value(begin, static_cast<size_t>(at_ - begin));
    if (value != "[]" && value != "{}") out_->needs |= need;
    return true;
  }

  bool format() {
    bool typed = false;
    std::string_view type = "text";
    const bool read = object([&](std::string_view key) {
      if (key == "type") return !std::exchange(typed, true) && text(&type);
      return skip(1);
    });
    if (type != "text") out_->needs |= kNeedsStructured;
    return read;
  }

  bool logprobs() {
    bool wanted;
    if (!flag(&wanted)) return false;
    if (wanted) out_->needs |= kNeedsLogprobs;
    return true;
  }

  bool messages() {
    return list([this] {
             ChatTurn turn;
             bool role = false, content = false;
             if (!object([&](std::string_view key) {
                   if (key == "role") return !std::exchange(role, true) && text(&turn.role);
                   if (key == "content") return !std::exchange(content, true) && this->content(&turn.text);
                   return skip(1);
                 })) {
               return false;
             }
             out_->turns.push_back(turn);
             return role;
           }) &&
           !out_->turns.empty();
  }

  bool content(std::string_view* out) {
    if (word("null")) return true;
    if (at_ == end_ || *at_ != '[') return text(out);
    size_t parts = 0, start = 0;
    return list([&] {
      std::string_view said;
      if (!part(&said)) return false;
      if (++parts == 1) {
        *out = said;
        return true;
      }
      // No view moves: the joined texts are shorter than their parts.
      if (parts == 2) {
        out_->joined.reserve(body_.size());
        start = out_->joined.size();
        out_->joined.append(*out);
      }
      out_->joined.append("\n").append(said);
      *out = {out_->joined.data() + start, out_->joined.size() - start};
      return true;
    });
  }

  // `{"type": "text", "text": ...}`; what else a part may be is left to the full decoder.
  bool part(std::string_view* said) {
    bool typed = false, texted = false;
    std::string_view type = "text";
    return object([&](std::string_view key) {
             if (key == "type") return !std::exchange(typed, true) && text(&type);
             if (key == "text") return !std::exchange(texted, true) && text(said);
             return key != "content" && skip(2);
           }) &&
           texted && type == "text";
  }

  const std::string_view body_;
  Chat* const out_;
  uint32_t seen_ = 0;
  int64_t completion_ = -1;
};

inline bool read_chat(std::string_view body, Chat* out) {
  return ChatReader(body, out).run();
}

// How much each turn counts; as router/features/conversation.py.
struct TurnShares {
  double earlier, decay, system;
};

// The texts that are scored, each with its weight, into `out`: anything with `push_back({data, size, weight})`.
template <class Texts>
void weigh(const std::vector<ChatTurn>& turns, const TurnShares& shares, Texts* out) {
  const auto instructs = [](const ChatTurn& turn) { return turn.role == "system" || turn.role == "developer"; };
  const auto add = [out](std::string_view text, double weight) {
    out->push_back({reinterpret_cast<const uint8_t*>(text.data()), text.size(), static_cast<float>(weight)});
  };
  out->clear();
  if (turns.size() == 1) return add(turns[0].text, 1);
  const ChatTurn* main = nullptr;    // the last user turn, else the last that is no instruction, else the last
  const ChatTurn* spoken = nullptr;  // the last that is no instruction
  const ChatTurn* last = nullptr;
  size_t said = 0, asides = 0;
  for (const ChatTurn& turn : turns) {
    if (turn.text.empty()) continue;
    ++said;
    last = &turn;
    if (instructs(turn)) {
      ++asides;
    } else {
      spoken = &turn;
      if (turn.role == "user") main = &turn;
    }
  }
  if (said == 0) return add({}, 1);
  if (!main) main = spoken ? spoken : last;
  if (instructs(*main)) --asides;
  const size_t others = said - asides - 1;
  double sum = 0;
  for (size_t i = 0; i < others; ++i) sum += std::pow(shares.decay, static_cast<double>(i));
  size_t met = 0;
  for (const ChatTurn& turn : turns) {
    if (turn.text.empty()) continue;
    if (&turn == main) {
      add(turn.text, 1);
    } else if (instructs(turn)) {
      add(turn.text, shares.system / static_cast<double>(asides));
    } else {
      add(turn.text, shares.earlier * std::pow(shares.decay, static_cast<double>(others - ++met)) / sum);
    }
  }
}

}  // namespace headgate
