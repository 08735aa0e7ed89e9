// Every number of a decision, listed once. Structs, and the tables by which native/policy.pyx reads, records and
// returns them, are made of these lists; a name is that of the attribute of the Python struct that the list names.
#pragma once
#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <vector>

namespace headgate {

enum Rule : int32_t { kByUtility, kByThreshold, kPinned };
enum Reason : int32_t { kUtility, kThreshold, kOnlyCandidate, kPinnedReason, kCanaryReason, kReasons };

// A number that may be absent.
struct Maybe {
  bool given;
  double value;
};

using Bits = uint32_t;  // of capabilities, in the order of types.Capability

// clang-format off: one number a line
// The hard rules, in the order in which they are asked. The words are stable: they reach headers.
#define HEADGATE_EXCLUDED(X) \
  X(kNone, "") \
  X(kTried, "tried") \
  X(kNotReady, "not_ready") \
  X(kCapability, "capability") \
  X(kContext, "context") \
  X(kQueueFull, "queue_full") \
  X(kShed, "shed") \
  X(kBreakerOpen, "breaker_open") \
  X(kSlo, "slo") \
  X(kCanary, "canary")

// types.Cause: what a price follows beside what was paid or configured. The words reach headers, too.
#define HEADGATE_CAUSE(X) \
  X(kAsBought, "") \
  X(kQueue, "queue") \
  X(kSloTtft, "slo_ttft") \
  X(kSloTpot, "slo_tpot") \
  X(kSloMissed, "slo_missed") \
  X(kBudget, "budget") \
  X(kLeastQuality, "quality")

// types.MemberState: one member at the moment of a decision.
#define HEADGATE_MEMBER(X) \
  X(bool, ready) \
  X(bool, breaker_open) \
  X(Bits, capabilities) \
  X(int64_t, context_tokens) \
  X(int64_t, waiting) \
  X(double, prefix_hit) \
  X(double, prefill_tokens_per_s) \
  X(double, time_per_output_token_s) \
  X(double, mean_output_tokens) \
  X(double, queued_gpu_s) \
  X(double, usd_per_s) \
  X(int32_t, canary_of) \
  X(double, canary_weight) \
  X(int64_t, running) \
  X(int64_t, held_tokens) \
  X(double, queued_tokens) \
  X(double, queued_steps) \
  X(double, busy) \
  X(double, step_s) \
  X(double, step_running_s) \
  X(double, step_context_s) \
  X(double, step_prefill_s) \
  X(double, overhead_s) \
  X(double, cost_trust) \
  X(double, wait_trust) \
  X(int64_t, replicas) \
  X(int32_t, replica) \
  X(int32_t, rival) \
  X(double, finish_s) \
  X(double, rival_finish_s) \
  X(double, surcharge) \
  X(Cause, surcharge_of) \
  X(double, favour) \
  X(double, output_surplus)

// types.Scores: what the head says of each member, and of the whole conversation.
#define HEADGATE_SCORE(X) \
  X(double, quality) \
  X(double, output_tokens) \
  X(double, output_log_sd)
#define HEADGATE_PROMPT(X) \
  X(int64_t, prompt_tokens)

// Above 0, at most 1: a canary whose weight reaches it takes the request. 0: not drawn, as the pool has no canary.
#define HEADGATE_DRAW(X) \
  X(double, draw)

// How far the evidence of answers moves what is thought of others; told with beliefs (csrc/plan.hpp).
#define HEADGATE_CORRELATION(X) \
  X(double, correlation)

// Of one member, for a plan: the spread of what will be thought of its answer, whether it has answered, its quality by
// what was seen so far, and what it costs from here on, where that is not the term's.
#define HEADGATE_BELIEF(X) \
  X(double, spread) \
  X(bool, run) \
  X(Maybe, seen) \
  X(Maybe, cost_usd)

// policy.plan.Option.
#define HEADGATE_OPTION(X) \
  X(double, quality) \
  X(double, cost_usd) \
  X(double, spread) \
  X(bool, run) \
  X(bool, excluded) \
  X(double, favour) \
  X(Maybe, prior)

// types.Query.
#define HEADGATE_QUERY(X) \
  X(double, choices) \
  X(Maybe, max_tokens) \
  X(Bits, needs) \
  X(Maybe, slo_ttft_s)

// policy.Settings, less `excluded`: Decided::tried.
#define HEADGATE_SETTINGS(X) \
  X(Rule, rule) \
  X(double, price) \
  X(double, threshold) \
  X(int32_t, strong) \
  X(int32_t, weak) \
  X(int32_t, pinned) \
  X(Maybe, slo_ttft_s) \
  X(int64_t, most_waiting) \
  X(Cause, price_of) \
  X(Maybe, shed_ttft_s)

// types.Term: what follows for one member.
#define HEADGATE_TERM(X) \
  X(double, quality) \
  X(double, gpu_s) \
  X(double, cost_usd) \
  X(double, wait_s) \
  X(double, utility) \
  X(Excluded, excluded) \
  X(double, surcharge) \
  X(Cause, surcharge_of) \
  X(double, favour)
// clang-format on

#define HEADGATE_NAME(name, word) name,
#define HEADGATE_WORD(name, word) word,
#define HEADGATE_FIELD(type, name) type name;

enum Excluded : int32_t { HEADGATE_EXCLUDED(HEADGATE_NAME) };
inline constexpr const char* kExcludedWords[] = {HEADGATE_EXCLUDED(HEADGATE_WORD)};
inline constexpr size_t kExcludedRules = sizeof(kExcludedWords) / sizeof(kExcludedWords[0]);

enum Cause : int32_t { HEADGATE_CAUSE(HEADGATE_NAME) };
inline constexpr const char* kCauseWords[] = {HEADGATE_CAUSE(HEADGATE_WORD)};
inline constexpr size_t kPriceCauses = sizeof(kCauseWords) / sizeof(kCauseWords[0]);

struct Member {
  HEADGATE_MEMBER(HEADGATE_FIELD)
};
struct Score {
  HEADGATE_SCORE(HEADGATE_FIELD)
};
struct Question {
  HEADGATE_QUERY(HEADGATE_FIELD)
  HEADGATE_PROMPT(HEADGATE_FIELD)
  HEADGATE_DRAW(HEADGATE_FIELD)
  HEADGATE_CORRELATION(HEADGATE_FIELD)
};
struct Belief {
  HEADGATE_BELIEF(HEADGATE_FIELD)
};
struct Option {
  HEADGATE_OPTION(HEADGATE_FIELD)
};
struct Settings {
  HEADGATE_SETTINGS(HEADGATE_FIELD)
};
struct Term {
  HEADGATE_TERM(HEADGATE_FIELD)
};

struct Choice {
  int32_t member;  // -1: none can serve, and the terms say why
  Reason reason;
  int32_t runner_up;  // -1: none
  double margin, score;
};

// All that one decision read, and what came of it: enough to decide again. `members` and `scores` are of one length, as
// are `beliefs`, where there are any.
struct Decided {
  Question question{};
  Settings settings{};
  std::vector<int32_t> tried;  // members that this request may not go to again
  std::vector<Member> members;
  std::vector<Score> scores;
  std::vector<Belief> beliefs;
  Choice choice{-1, kUtility, -1, 0, 0};
};

// A struct as a table, for readers that go by names.

enum Kind : int32_t { kFlag, kCount, kIndex, kNumber, kMaybe, kBits, kRule, kExcluded, kCause };

struct Field {
  const char* name;
  Kind kind;
  size_t offset;
};

struct Table {
  const Field* fields;
  size_t size;  // of fields
};

template <class T>
inline constexpr Kind kKindOf = std::is_same_v<T, bool>      ? kFlag
                                : std::is_same_v<T, int64_t> ? kCount
                                : std::is_same_v<T, int32_t> ? kIndex
                                : std::is_same_v<T, double>  ? kNumber
                                : std::is_same_v<T, Maybe>   ? kMaybe
                                : std::is_same_v<T, Bits>    ? kBits
                                : std::is_same_v<T, Rule>    ? kRule
                                : std::is_same_v<T, Cause>   ? kCause
                                                             : kExcluded;

#define HEADGATE_TABLE(table, Struct, LIST)                 \
  inline Table table() {                                    \
    using S = Struct;                                       \
    static constexpr Field fields[] = {LIST(HEADGATE_ROW)}; \
    return {fields, sizeof(fields) / sizeof(Field)};        \
  }
#define HEADGATE_ROW(type, name) Field{#name, kKindOf<type>, offsetof(S, name)},

HEADGATE_TABLE(member_table, Member, HEADGATE_MEMBER)
HEADGATE_TABLE(score_table, Score, HEADGATE_SCORE)
HEADGATE_TABLE(prompt_table, Question, HEADGATE_PROMPT)
HEADGATE_TABLE(draw_table, Question, HEADGATE_DRAW)
HEADGATE_TABLE(correlation_table, Question, HEADGATE_CORRELATION)
HEADGATE_TABLE(belief_table, Belief, HEADGATE_BELIEF)
HEADGATE_TABLE(option_table, Option, HEADGATE_OPTION)
HEADGATE_TABLE(query_table, Question, HEADGATE_QUERY)
HEADGATE_TABLE(settings_table, Settings, HEADGATE_SETTINGS)
HEADGATE_TABLE(term_table, Term, HEADGATE_TERM)

}  // namespace headgate
