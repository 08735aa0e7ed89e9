// Which of several engines of one model takes a request: the one that is predicted to finish it first, of those that
// may take it. Pure, but for the draws of candidates. Its twin in Python stands in tests/policy.
//
// finish = w + E[output tokens] * time per token in its batch
//
// where E is the engine's mean, as all of them are of one model, and w, the wait for the first token, holds what is
// queued and the prompt's tokens that its prefix cache has not.
#pragma once
#include <cstddef>
#include <cstdint>

#include "hash.hpp"
#include "policy.hpp"

namespace headgate {
namespace policy {

// Of an engine without a trusted step model: so many sequences make a step twice as long as none. Between a decode step
// that only reads weights, which takes as long whatever the batch, and one as long as the batch.
inline constexpr double kSequencesThatDouble = 32;

// Up to so many engines of a model are compared, all of them; of more a few that are drawn.
inline constexpr size_t kMostCompared = 8;

inline double finish_s(const Member& m, const Question& q, double wait_s) {
  const Work work = work_of(m, q, {});
  // Those that were sent since the engine last told are among those that wait.
  const double beside = static_cast<double>(m.running) + static_cast<double>(m.waiting);
  const double token_s = known(m.time_per_output_token_s, kTimePerOutputTokenS) * (1 + beside / kSequencesThatDouble);
  const double held = static_cast<double>(m.held_tokens) + work.prompt + work.output / 2;
  const double step_s = batch_step_s(prices_of(m), beside + q.choices, held);
  return wait_s + work.output * blend(token_s, step_s, m.cost_trust);
}

// 0: it may take the request; above, the higher the less: its wait is too long, its breaker is open, or a rule shuts it
// out, the more the earlier the rule is asked.
inline int standing(const Member& m, const Question& q, const Settings& s, double wait_s) {
  if (const Excluded rule = shut_out(m, q, s)) return kSlo + 1 - rule;
  const Excluded rule = doubted(m, q, s, wait_s);
  return rule == kBreakerOpen ? 2 : rule == kSlo ? 1 : 0;
}

// One engine as it is compared; `at`: which of the model's.
struct Candidate {
  int standing;
  double finish_s;
  int64_t beside;
  int32_t at;
};

inline Candidate candidate(const Member& m, int32_t at, const Question& q, const Settings& s) {
  const double wait_s = wait_of(m, work_of(m, q, {}));
  return {standing(m, q, s, wait_s), finish_s(m, q, wait_s), m.running + m.waiting, at};
}

// Ties go to the one with fewer sequences, then to the first.
inline bool goes_before(const Candidate& a, const Candidate& b) {
  if (a.standing != b.standing) return a.standing < b.standing;
  if (a.finish_s != b.finish_s) return a.finish_s < b.finish_s;
  return a.beside != b.beside ? a.beside < b.beside : a.at < b.at;
}

// Of `size` engines, at least one, whose numbers `rows` are: the best, which is told beside whom it was preferred to.
inline Member best_replica(const Member* rows, size_t size, const Question& q, const Settings& s) {
  size_t best = 0;
  Candidate first = candidate(rows[0], rows[0].replica, q, s), second = first;
  for (size_t i = 1; i < size; ++i) {
    const Candidate other = candidate(rows[i], rows[i].replica, q, s);
    if (goes_before(other, first)) {
      second = first, first = other, best = i;
    } else if (second.at == first.at || goes_before(other, second)) {
      second = other;
    }
  }
  Member out = rows[best];
  out.finish_s = first.finish_s, out.rival = second.at, out.rival_finish_s = second.finish_s;
  return out;
}

// Numbers that look random: splitmix64 (Steele, Lea and Flood, OOPSLA 2014), whose finish is that of the hash here.
class Draws {
 public:
  uint64_t seed = 0;

  size_t below(size_t bound) { return static_cast<size_t>(mix(seed += kPrime) % bound); }
};

}  // namespace policy
}  // namespace headgate
