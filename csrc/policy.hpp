// The decision over plain numbers: router/policy/decide.py, operation for operation, without its words. Pure.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

namespace headgate {

enum Rule : int32_t { kByUtility, kByThreshold, kPinned };
enum Reason : int32_t { kUtility, kThreshold, kOnlyCandidate, kPinnedReason, kReasons };
enum Excluded : int32_t { kNone, kNotReady, kCapability, kContext, kQueueFull, kBreakerOpen, kSlo };

inline constexpr double kNoSlo = std::numeric_limits<double>::infinity();

struct Settings {
  Rule rule;
  double price, threshold, slo_ttft_s;
  int32_t strong, weak, pinned;
  int64_t most_waiting;
};

// One member at the moment of a decision; as types.MemberState.
struct Member {
  bool ready, breaker_open;
  uint32_t capabilities;  // bits
  int64_t context_tokens, waiting;
  double prefix_hit, prefill_tokens_per_s, time_per_output_token_s, mean_output_tokens, queued_gpu_s, usd_per_s;
};

struct Question {
  int64_t prompt_tokens;
  double choices, most_output;  // infinite where no `max_tokens` is given
  uint32_t needs;
};

struct Choice {
  int32_t member;  // -1: none can serve, and why is for the full policy to say
  Reason reason;
  int32_t runner_up;  // -1: none
  double margin, score;
};

namespace policy {

inline constexpr double kPrefillTokensPerS = 5000, kTimePerOutputTokenS = 0.02, kOutputTokens = 200;
inline constexpr double kContextDoubt = 2;

struct Term {
  double quality, cost, utility;
  Excluded excluded;
};

inline double known(double value, double otherwise) {
  return value != 0 ? value : otherwise;
}

inline Excluded exclusion(const Member& m, const Question& q, double wait_s, const Settings& s) {
  if (!m.ready) return kNotReady;
  if (q.needs & ~m.capabilities) return kCapability;
  if (m.context_tokens &&
      static_cast<double>(q.prompt_tokens) > kContextDoubt * static_cast<double>(m.context_tokens)) {
    return kContext;
  }
  if (m.waiting >= s.most_waiting) return kQueueFull;
  if (m.breaker_open) return kBreakerOpen;
  return wait_s > s.slo_ttft_s ? kSlo : kNone;
}

inline Term term(const Member& m, double quality, const Question& q, const Settings& s) {
  const double prompt = static_cast<double>(q.prompt_tokens);
  const double prefill_s = prompt * (1 - m.prefix_hit) / known(m.prefill_tokens_per_s, kPrefillTokensPerS);
  const double output = std::min(known(m.mean_output_tokens, kOutputTokens), q.most_output);
  const double gpu_s = prefill_s + output * q.choices * known(m.time_per_output_token_s, kTimePerOutputTokenS);
  const double cost = gpu_s * m.usd_per_s;
  return {quality, cost, quality - s.price * cost, exclusion(m, q, m.queued_gpu_s + prefill_s, s)};
}

inline double logit(double quality) {
  quality = std::min(std::max(quality, 1e-6), 1 - 1e-6);
  return std::log(quality / (1 - quality));
}

inline double win_rate(double strong, double weak) {
  return 1 / (1 + std::exp(logit(weak) - logit(strong)));
}

inline bool any(const std::vector<Term>& terms, Excluded rule) {
  return std::any_of(terms.begin(), terms.end(), [rule](const Term& t) { return t.excluded == rule; });
}

// Among those that `rule` rules out, or does not; ties go to the cheaper, then to the first.
inline Choice by_utility(const std::vector<Term>& terms, Excluded rule) {
  Choice choice{-1, kOnlyCandidate, -1, 0, 0};
  double most = 0, second = -std::numeric_limits<double>::infinity();
  for (size_t i = 0; i < terms.size(); ++i) {
    const Term& t = terms[i];
    if (t.excluded != rule) continue;
    const auto at = static_cast<int32_t>(i);
    if (choice.member < 0) {
      choice.member = at;
      most = t.utility;
    } else if (t.utility > most || (t.utility == most && t.cost < terms[static_cast<size_t>(choice.member)].cost)) {
      choice.runner_up = choice.member;
      second = most;
      choice.member = at;
      most = t.utility;
    } else if (t.utility > second) {
      choice.runner_up = at;
      second = t.utility;
    }
  }
  choice.score = terms[static_cast<size_t>(choice.member)].quality;
  if (choice.runner_up >= 0) {
    choice.reason = kUtility;
    choice.margin = most - second;
  }
  return choice;
}

inline Choice by_threshold(const std::vector<Term>& terms, const Settings& s) {
  const double score =
      win_rate(terms[static_cast<size_t>(s.strong)].quality, terms[static_cast<size_t>(s.weak)].quality);
  const bool strong = score >= s.threshold;
  return {strong ? s.strong : s.weak, kThreshold, strong ? s.weak : s.strong, std::fabs(score - s.threshold), score};
}

}  // namespace policy

// `quality` is in the order of `members`, of which there is at least one. `terms` is scratch.
inline Choice decide(const Question& question, const double* quality, const std::vector<Member>& members,
                     const Settings& settings, std::vector<policy::Term>* terms) {
  terms->clear();
  for (size_t i = 0; i < members.size(); ++i) {
    terms->push_back(policy::term(members[i], quality[i], question, settings));
  }
  const Choice nobody{-1, kUtility, -1, 0, 0};
  if (settings.rule == kPinned) {
    const policy::Term& term = (*terms)[static_cast<size_t>(settings.pinned)];
    if (term.excluded == kQueueFull || term.excluded == kNotReady) return nobody;
    return {settings.pinned, kPinnedReason, -1, 0, term.quality};
  }
  // A rule that is given up when it leaves no member: better slow than refused, and an open breaker needs a probe.
  for (const Excluded rule : {kNone, kSlo, kBreakerOpen}) {
    if (!policy::any(*terms, rule)) continue;
    if (settings.rule == kByThreshold && (*terms)[static_cast<size_t>(settings.strong)].excluded == rule &&
        (*terms)[static_cast<size_t>(settings.weak)].excluded == rule) {
      return policy::by_threshold(*terms, settings);
    }
    return policy::by_utility(*terms, rule);
  }
  return nobody;
}

}  // namespace headgate
