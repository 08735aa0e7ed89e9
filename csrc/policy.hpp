// The decision over plain numbers: argmax of quality - price * cost + favour over the members that pass every hard
// rule, or RouteLLM's threshold on the win rate, or one pinned member. Pure. The only place of this arithmetic; its
// twin in Python stands in tests/policy.
//
// g = uncached prompt tokens / prefill rate + E[output tokens] * time per output token
// c = g * USD per second of the GPU share * (1 + surcharge)
// w = g of what is queued + own prefill
//
// E[output tokens] is the head's word for the query, where it has one, else the member's mean (lengths.hpp).
//
// Where step models are trusted, g and w are the models', by as much as they are: w by its own member's, g by the least
// of all that are compared (docs/price.md):
//
// g = uncached * d + output * (b + (prompt + output / 2) * c) + busy * output * a / (running + 1)
// w = half a step + the steps until there is a slot + its own step, with all prompts that are read before it
#pragma once
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string_view>
#include <vector>

#include "hash.hpp"
#include "load.hpp"
#include "numbers.hpp"

namespace headgate {
namespace policy {

// Used until a member's own rates are known: a mid-size model on one GPU.
inline constexpr double kPrefillTokensPerS = 5000, kTimePerOutputTokenS = 0.02, kOutputTokens = 200;
// The prompt's size is an estimate in another tokenizer's tokens, so a member is only ruled out when the estimate is
// beyond doubt; what slips through is refused by the engine and tried on a larger context.
inline constexpr double kContextDoubt = 2;

inline double known(double value, double otherwise) {
  return value != 0 ? value : otherwise;
}

// The rules that shut a member out whatever else there is.
inline Excluded shut_out(const Member& m, const Question& q, const Settings& s) {
  if (!m.ready) return kNotReady;
  if (q.needs & ~m.capabilities) return kCapability;
  if (m.context_tokens &&
      static_cast<double>(q.prompt_tokens) > kContextDoubt * static_cast<double>(m.context_tokens)) {
    return kContext;
  }
  return m.waiting >= s.most_waiting ? kQueueFull : kNone;
}

// Those that are given up where they leave no member.
inline Excluded doubted(const Member& m, const Question& q, const Settings& s, double wait_s) {
  if (m.breaker_open) return kBreakerOpen;
  const Maybe& slo = q.slo_ttft_s.given ? q.slo_ttft_s : s.slo_ttft_s;
  return slo.given && wait_s > slo.value ? kSlo : kNone;
}

// The first hard rule that a member breaks.
inline Excluded exclusion(const Decided& d, size_t at, double wait_s) {
  const Member& m = d.members[at];
  const auto index = static_cast<int32_t>(at);
  if (!d.tried.empty() && std::find(d.tried.begin(), d.tried.end(), index) != d.tried.end()) return kTried;
  if (const Excluded rule = shut_out(m, d.question, d.settings)) return rule;
  if (d.settings.shed_ttft_s.given && wait_s > d.settings.shed_ttft_s.value) return kShed;
  // Before the rules that are given up where they leave no member: a canary is never a candidate of its own.
  if (m.canary_weight > 0) return kCanary;
  return doubted(m, d.question, d.settings, wait_s);
}

// Engine seconds of one more request by the step model: what its own rows and tokens add to the steps, and, as far as
// the devices are busy, its share of what a step takes whoever is in it.
inline double model_cost_s(const Member& m, double prompt, double uncached, double output, double choices) {
  const double rows = output * choices;
  const double own_s =
      uncached * m.step_prefill_s + rows * (m.step_running_s + (prompt + output / 2) * m.step_context_s);
  const double shared_s = rows * m.step_s / (static_cast<double>(m.running) + choices);
  return own_s + m.busy * shared_s;
}

inline StepPrices prices_of(const Member& m) {
  return {m.step_s, m.step_running_s, m.step_context_s, m.step_prefill_s, 0, 0};
}

inline double model_wait_s(const Member& m, double uncached) {
  const double running = static_cast<double>(m.running), held = static_cast<double>(m.held_tokens);
  return m.overhead_s + first_token_s(prices_of(m), running, held, uncached, m.queued_tokens, m.queued_steps);
}

// `simple` where the model is not trusted, and the model where it is wholly.
inline double blend(double simple, double model, double trust) {
  return trust > 0 ? simple + trust * (model - simple) : simple;
}

// What a request asks of a member: tokens, and seconds by the simple rates.
struct Work {
  double prompt, uncached, output, prefill_s;
};

// Tokens of an answer: what the head expects of it, at the member's level, else as many as the member's have had.
inline double output_of(const Member& m, const Question& q, const Score& s) {
  const double told = s.output_tokens * (1 + m.output_surplus);
  if (expects(told))
    return q.max_tokens.given ? capped_mean(told, bounded_log_sd(s.output_log_sd), q.max_tokens.value) : told;
  const double output = known(m.mean_output_tokens, kOutputTokens);
  return q.max_tokens.given && output > q.max_tokens.value ? q.max_tokens.value : output;
}

inline Work work_of(const Member& m, const Question& q, const Score& s) {
  const double prompt = static_cast<double>(q.prompt_tokens);
  const double uncached = prompt * (1 - m.prefix_hit);
  return {prompt, uncached, output_of(m, q, s), uncached / known(m.prefill_tokens_per_s, kPrefillTokensPerS)};
}

inline double wait_of(const Member& m, const Work& work) {
  return blend(m.queued_gpu_s + work.prefill_s, model_wait_s(m, work.uncached), m.wait_trust);
}

// How far the step models are trusted in a comparison: as far as that of the member that is trusted least. By their
// rates all tokens of a request are paid, by their models on an idle device only what it adds: one member by its rates
// beside others by their models would look dear, get no requests, and so never earn trust. Members that cost nothing,
// cannot be chosen now or are canaries count for nothing.
inline double common_trust(const Decided& d) {
  double trust = 1;
  for (const Member& m : d.members) {
    if (m.ready && m.usd_per_s > 0 && !(m.canary_weight > 0)) trust = std::min(trust, m.cost_trust);
  }
  return trust;
}

inline double utility(double quality, double price, double cost_usd, double favour) {
  return quality - price * cost_usd + favour;
}

// `trust`: the pool's.
inline Term term(const Decided& d, size_t at, double trust) {
  const Member& m = d.members[at];
  const double quality = d.scores[at].quality, choices = d.question.choices;
  const Work work = work_of(m, d.question, d.scores[at]);
  const double token_s = known(m.time_per_output_token_s, kTimePerOutputTokenS);
  const double rates_s = work.prefill_s + work.output * choices * token_s;
  const double model_s = model_cost_s(m, work.prompt, work.uncached, work.output, choices);
  const double gpu_s = blend(rates_s, model_s, std::min(trust, m.cost_trust));
  const double wait_s = wait_of(m, work);
  const double cost_usd = gpu_s * m.usd_per_s * (1 + m.surcharge);
  const double worth = utility(quality, d.settings.price, cost_usd, m.favour);
  const Excluded excluded = exclusion(d, at, wait_s);
  return {quality, gpu_s, cost_usd, wait_s, worth, excluded, m.surcharge, m.surcharge_of, m.favour};
}

inline double logit(double quality) {
  quality = std::min(std::max(quality, 1e-6), 1 - 1e-6);
  return std::log(quality / (1 - quality));
}

// P(the strong model is the better answer): sigmoid of the logits' difference (RouteLLM, eq. 2; Bradley-Terry).
inline double win_rate(double strong, double weak) {
  return 1 / (1 + std::exp(logit(weak) - logit(strong)));
}

inline bool any(const std::vector<Term>& terms, Excluded rule) {
  return std::any_of(terms.begin(), terms.end(), [rule](const Term& t) { return t.excluded == rule; });
}

inline bool has(const std::vector<Term>& terms, int32_t member, Excluded rule) {
  return member >= 0 && static_cast<size_t>(member) < terms.size() &&
         terms[static_cast<size_t>(member)].excluded == rule;
}

// Among those that `rule` rules out, or does not; at least one. Ties go to the cheaper, then to the first.
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
    } else if (t.utility > most ||
               (t.utility == most && t.cost_usd < terms[static_cast<size_t>(choice.member)].cost_usd)) {
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

// `settings.pinned` is one of the members. The engine itself says what it cannot do or read.
inline Choice pinned(const std::vector<Term>& terms, const Settings& s) {
  const Term& term = terms[static_cast<size_t>(s.pinned)];
  const bool closed = term.excluded == kQueueFull || term.excluded == kNotReady || term.excluded == kTried;
  return {closed ? -1 : s.pinned, kPinnedReason, -1, 0, term.quality};
}

inline Choice choose(const std::vector<Term>& terms, const Settings& settings) {
  if (settings.rule == kPinned) return pinned(terms, settings);
  // A rule that is given up when it leaves no member: better slow than refused, and a breaker that is open everywhere
  // must let one request through to learn whether it can close.
  for (const Excluded rule : {kNone, kSlo, kBreakerOpen}) {
    if (!any(terms, rule)) continue;
    const bool both = has(terms, settings.strong, rule) && has(terms, settings.weak, rule);
    return settings.rule == kByThreshold && both ? by_threshold(terms, settings) : by_utility(terms, rule);
  }
  return {-1, kUtility, -1, 0, 0};
}

// A canary takes its share of what goes to the member that it stands for, as long as it could take the request.
inline void divert(const Decided& d, const std::vector<Term>& terms, Choice* choice) {
  const double draw = d.question.draw;
  if (draw <= 0 || choice->member < 0) return;
  for (size_t i = 0; i < terms.size(); ++i) {
    const Member& m = d.members[i];
    if (terms[i].excluded != kCanary || m.canary_of != choice->member || m.breaker_open || draw > m.canary_weight)
      continue;
    choice->member = static_cast<int32_t>(i);
    choice->reason = kCanaryReason;
    return;
  }
}

inline void terms_of(const Decided& decided, std::vector<Term>* out) {
  out->clear();
  const double trust = common_trust(decided);
  for (size_t i = 0; i < decided.members.size(); ++i) out->push_back(term(decided, i, trust));
}

// argmax of quality - price * cost over one row, by the rule of `choose`.
inline int32_t best_of(const double* quality, const double* cost_usd, size_t size, double price) {
  thread_local std::vector<Term> terms;
  terms.clear();
  for (size_t i = 0; i < size; ++i) {
    const double worth = utility(quality[i], price, cost_usd[i], 0);
    terms.push_back({quality[i], 0, cost_usd[i], 0, worth, kNone, 0, kAsBought, 0});
  }
  return size ? by_utility(terms, kNone).member : -1;
}

}  // namespace policy

// Fills `choice`.
inline void decide(Decided* decided) {
  thread_local std::vector<Term> terms;  // kept between calls: room, no state
  policy::terms_of(*decided, &terms);
  decided->choice = policy::choose(terms, decided->settings);
  policy::divert(*decided, terms, &decided->choice);
}

// What the head expects of the answer of the member that was chosen; nothing of several choices, which are counted as
// one.
inline Length length_of(const Decided& decided) {
  if (decided.choice.member < 0 || decided.question.choices != 1) return {};
  const Score& score = decided.scores[static_cast<size_t>(decided.choice.member)];
  return {score.output_tokens, score.output_log_sd};
}

// The draw of a session, or of a decision that belongs to none: the same text always draws the same.
inline double draw_of(std::string_view text) {
  uint64_t key = kBegin;
  for (const char c : text) key = push(key, static_cast<uint8_t>(c));
  return static_cast<double>((mix(key) >> 11) + 1) * 0x1p-53;
}

// What a chat asks whose body was read natively; `max_tokens` below 0 where it gives none.
inline Question chat_question(int64_t prompt_tokens, int64_t choices, int64_t max_tokens, Bits needs) {
  Question question{};
  question.prompt_tokens = prompt_tokens;
  question.choices = static_cast<double>(choices);
  question.max_tokens = {max_tokens >= 0, static_cast<double>(max_tokens)};
  question.needs = needs;
  return question;
}

}  // namespace headgate
