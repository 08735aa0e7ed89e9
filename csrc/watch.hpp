// The watch on running answers: figures of each row's distribution, and whether its answer is to stop here.
//
// The arrays are shared by the engine host, which writes `WatchOrder`, and the engine's worker, which writes the
// states; kernels/triton/watch.py does the same as this file on a GPU. All numbers are float32 for its sake.
//
// State of an answer after n tokens: version n mod 2. So a step that is done anew (vLLM's first runner asks also for
// rows of an unfinished prompt; a preempted answer's last step may be lost) starts from what it started from before,
// and a row computed after the answer's end does not touch what the end had.
#pragma once
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>

#include "row_statistics.hpp"

namespace headgate {

inline constexpr size_t kKnots = 8;
inline constexpr float kRecent = 1.0f / 16.0f;  // weight of the latest token in the moving means

enum class Watched : int { kLogprob = 0, kEntropy = 1, kMargin = 2, kTokens = 3 };

struct WatchOrder {
  float generation;  // whose the slot is; 0: nobody's
  float statistic;   // a `Watched`
  float knots;       // how many
  float min_tokens;  // before so many tokens it is not stopped
  float first_bound;
  float first_bias;
  float first_weights;  // how many: all, or 0: no estimate is made
  float keep_first;
  float knot[2 * kKnots];  // tokens, bound
  float spare[8];
};
static_assert(sizeof(WatchOrder) == 32 * sizeof(float));

enum class Fired : int { kNo = 0, kBoundary = 1, kFirst = 2 };

struct WatchState {
  float tokens;
  float mean_logprob, least_logprob, recent_logprob;
  float mean_entropy, recent_entropy;
  float mean_margin, least_margin, recent_margin;
  float first_logprob, first_entropy;
  float fired;       // a `Fired`
  float likeliest;   // token of the last distribution
  float estimate;    // log odds by the first token's logits, NaN without weights
  float generation;  // whose the state is
  float broken;      // 1: a distribution was no distribution; nothing is known of this answer any more
};
static_assert(sizeof(WatchState) == 16 * sizeof(float));

// Of `WatchTable.places`, by token.
inline constexpr uint8_t kBeginsWord = 1;  // an answer may end before it
inline constexpr uint8_t kBlank = 2;       // and before this one, behind what does not end in white space
inline constexpr uint8_t kEndsInSpace = 4;

// Borrowed.
struct WatchTable {
  const WatchOrder* orders;  // [slots]
  WatchState* states;        // [slots, 2]
  const float* weights;      // [slots, firsts]
  float* kept;               // [slots, firsts] normalised logits at the first token
  const int32_t* first_ids;  // [firsts]
  const uint8_t* places;     // [vocabulary]
  size_t slots, firsts, vocabulary;
  int32_t stop;    // the token that ends a row
  int32_t hidden;  // never to be sampled by a watched row, -1 for none
};

// The bound at `tokens`; NaN before the first knot.
inline float bound_at(const WatchOrder& order, float tokens) {
  const size_t n = static_cast<size_t>(order.knots);
  const float* knot = order.knot;
  if (n == 0 || n > kKnots || !(tokens >= knot[0])) return std::numeric_limits<float>::quiet_NaN();
  for (size_t k = 1; k < n; ++k) {
    if (tokens < knot[2 * k]) {
      const float from = knot[2 * k - 2], share = (tokens - from) / (knot[2 * k] - from);
      return knot[2 * k - 1] + share * (knot[2 * k + 1] - knot[2 * k - 1]);
    }
  }
  return knot[2 * n - 1];
}

// Whether the state is on the doubtful side of the boundary. Of `kTokens` the answer's own tokens count, all others go
// by the distributions seen, of which there is one more.
inline bool doubtful(const WatchOrder& order, const WatchState& at) {
  switch (static_cast<Watched>(static_cast<int>(order.statistic))) {
    case Watched::kLogprob: return at.recent_logprob < bound_at(order, at.tokens);
    case Watched::kMargin: return at.recent_margin < bound_at(order, at.tokens);
    case Watched::kEntropy: return at.recent_entropy > bound_at(order, at.tokens);
    case Watched::kTokens: return order.knots > 0 && at.tokens - 1 >= order.knot[0];
  }
  return false;
}

// `at` and one more distribution. The moving means are means until they have 16.
inline WatchState seen(const WatchState& at, const RowStatistics& row, float generation) {
  WatchState next = at;
  const float n = next.tokens = at.tokens + 1, one = 1 / n, recent = one > kRecent ? one : kRecent;
  if (n == 1) {
    next = WatchState{};
    next.tokens = 1;
    next.least_logprob = next.first_logprob = row.logprob;
    next.least_margin = row.margin;
    next.first_entropy = row.entropy;
    next.estimate = std::numeric_limits<float>::quiet_NaN();
  }
  next.generation = generation;
  next.mean_logprob += one * (row.logprob - next.mean_logprob);
  next.recent_logprob += recent * (row.logprob - next.recent_logprob);
  next.least_logprob = row.logprob < next.least_logprob ? row.logprob : next.least_logprob;
  next.mean_entropy += one * (row.entropy - next.mean_entropy);
  next.recent_entropy += recent * (row.entropy - next.recent_entropy);
  next.mean_margin += one * (row.margin - next.mean_margin);
  next.recent_margin += recent * (row.margin - next.recent_margin);
  next.least_margin = row.margin < next.least_margin ? row.margin : next.least_margin;
  next.likeliest = static_cast<float>(row.best);
  return next;
}

// The first token's chosen logits: kept, and weighed. Returns the estimate, NaN without weights.
inline float look_at_first(const WatchTable& table, size_t slot, const float* logits, float log_sum) {
  const WatchOrder& order = table.orders[slot];
  const bool weighs = static_cast<size_t>(order.first_weights) == table.firsts && table.firsts > 0;
  if (!weighs && order.keep_first == 0) return std::numeric_limits<float>::quiet_NaN();
  const float* weight = table.weights + slot * table.firsts;
  float* kept = table.kept + slot * table.firsts;
  double odds = order.first_bias;
  for (size_t i = 0; i < table.firsts; ++i) {
    kept[i] = logits[table.first_ids[i]] - log_sum;
    if (weighs) odds += static_cast<double>(weight[i]) * kept[i];
  }
  return weighs ? static_cast<float>(odds) : std::numeric_limits<float>::quiet_NaN();
}

// Whether an answer may end before `next`, the likeliest token. `last`: the likeliest one at the step before, in the
// place of the one that was sampled, which not every runner tells.
inline bool is_safe(const WatchTable& table, int32_t last, int32_t next) {
  const uint8_t place = table.places[next];
  return (place & kBeginsWord) != 0 || ((place & kBlank) != 0 && (table.places[last] & kEndsInSpace) == 0);
}

// One row: `made` tokens of the answer are there. Returns whether it is to stop: then only `stop` can be sampled.
inline bool watch_row(const WatchTable& table, RowStatisticsOf statistics, float* logits, size_t slot, float generation,
                      float made) {
  const WatchOrder& order = table.orders[slot];
  if (order.generation != generation || made < 0) return false;  // another's by now, or no row of an answer
  WatchState* states = table.states + 2 * slot;
  const WatchState none{};
  const size_t parity = static_cast<size_t>(made) & 1;
  const WatchState& before = made == 0 ? none : states[parity];
  if (made > 0 && (before.generation != generation || before.tokens != made || before.broken != 0)) return false;
  if (before.fired != 0) return false;  // a row after the end
  const RowStatistics row = statistics(logits, LogitKind::kFloat32, table.vocabulary);
  WatchState next = seen(before, row, generation);
  bool fires = false;
  if (row.best < 0) {
    next.broken = 1;
  } else {
    if (made == 0) {
      next.estimate = look_at_first(table, slot, logits, row.log_sum);
      if (order.min_tokens <= 0 && next.estimate < order.first_bound) next.fired = static_cast<float>(Fired::kFirst);
    }
    const bool safe = made == 0 || is_safe(table, static_cast<int32_t>(before.likeliest), row.best);
    if (next.fired == 0 && safe && made >= order.min_tokens && doubtful(order, next))
      next.fired = static_cast<float>(Fired::kBoundary);
    fires = next.fired != 0;
  }
  states[parity ^ 1] = next;
  return fires;
}

// All watched rows of one step, `logits` [., vocabulary] with `stride` values from row to row. Returns how many stop.
inline size_t watch_rows(const WatchTable& table, RowStatisticsOf statistics, float* logits, size_t stride,
                         const int32_t* rows, const int32_t* slots, const float* generations, const float* made,
                         size_t n) {
  size_t stopped = 0;
  for (size_t i = 0; i < n; ++i) {
    const size_t slot = static_cast<size_t>(slots[i]);
    if (slot >= table.slots) continue;
    float* const row = logits + static_cast<size_t>(rows[i]) * stride;
    if (watch_row(table, statistics, row, slot, generations[i], made[i])) {
      for (size_t t = 0; t < table.vocabulary; ++t) row[t] = -std::numeric_limits<float>::infinity();
      row[table.stop] = 0;
      ++stopped;
    } else if (table.hidden >= 0 && made[i] >= 0 && table.orders[slot].generation == generations[i]) {
      row[table.hidden] = -std::numeric_limits<float>::infinity();
    }
  }
  return stopped;
}

}  // namespace headgate
