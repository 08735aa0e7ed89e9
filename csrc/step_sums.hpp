// What the steps of an engine did, as the sums that a least-squares fit of their seconds needs. Knows no clock: callers
// pass the engine's own times. Counts, tokens, seconds.
//
//   seconds = a * steps + b * running + c * context + d * prefill        (one row; most rows are one step)
//
// A row is a step, or several: a step that gives no token is told without a time, and the prompt of which it read a
// part is told with its first token only. So a row ends with a step after which no prompt is half read.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>

namespace headgate {

// clang-format off: one sum a line, in the order of steps.StepSums
#define HEADGATE_SUMS(X) \
  X(rows) \
  X(cut) \
  X(steps) \
  X(running) \
  X(context) \
  X(prefill) \
  X(seconds) \
  X(steps_steps) \
  X(steps_running) \
  X(steps_context) \
  X(steps_prefill) \
  X(running_running) \
  X(running_context) \
  X(running_prefill) \
  X(context_context) \
  X(context_prefill) \
  X(prefill_prefill) \
  X(steps_seconds) \
  X(running_seconds) \
  X(context_seconds) \
  X(prefill_seconds) \
  X(seconds_seconds)
// clang-format on

#define HEADGATE_SUM(name) double name = 0;
#define HEADGATE_SUM_NAME(name) #name,

struct StepSums {
  HEADGATE_SUMS(HEADGATE_SUM)

  void add(double n, double r, double c, double p, double y) {
    rows += 1;
    steps += n, running += r, context += c, prefill += p, seconds += y;
    steps_steps += n * n, steps_running += n * r, steps_context += n * c, steps_prefill += n * p;
    running_running += r * r, running_context += r * c, running_prefill += r * p;
    context_context += c * c, context_prefill += c * p, prefill_prefill += p * p;
    steps_seconds += n * y, running_seconds += r * y, context_seconds += c * y, prefill_seconds += p * y;
    seconds_seconds += y * y;
  }
};

inline constexpr const char* kSumNames[] = {HEADGATE_SUMS(HEADGATE_SUM_NAME)};
inline constexpr size_t kSums = sizeof(kSumNames) / sizeof(kSumNames[0]);
static_assert(sizeof(StepSums) == kSums * sizeof(double));

inline double* values_of(StepSums* sums) {
  return &sums->rows;
}

inline const double* values_of(const StepSums& sums) {
  return &sums.rows;
}

// Sums grow as long as an engine lives. What they grew by since `before`: false where they did not, where these are of
// another engine, or where they are no sums.
inline bool grown(const StepSums& now, const StepSums& before, StepSums* out) {
  const double *n = values_of(now), *b = values_of(before);
  double* o = values_of(out);
  for (size_t i = 0; i < kSums; ++i) {
    o[i] = n[i] - b[i];
    if (!(o[i] >= 0) || !std::isfinite(o[i])) return false;
  }
  return out->rows >= 1 && out->steps >= out->rows && out->seconds > 0;
}

// Sums up the steps of one engine, in the engine's process.
class StepMeter {
 public:
  StepSums sums;

  // `rows` sequences got a token each at `now_s`, `fresh` of them their first; together they held `context` tokens
  // before it. `prefill` tokens of the prompts of the fresh ones were computed, from `scheduled_s` on, the earliest
  // (0: not known). Several calls with one time are one step.
  void outputs(double now_s, double rows, double fresh, double context, double prefill, double scheduled_s) {
    if (row_.end_s == 0) {
      // Sequences that ran before did so in the step before: the row starts where that one ended.
      row_.after_pause = fresh >= rows && scheduled_s > 0;
      row_.start_s = scheduled_s;
    }
    row_.end_s = now_s;
    row_.running += rows, row_.context += context, row_.prefill += prefill;
  }

  // A step has ended; `reading`: a prompt is half read.
  void stepped(bool reading) {
    row_.steps += 1;
    if (row_.end_s == 0 || (reading && row_.steps < kMostSteps)) return;
    end_row();
  }

 private:
  static constexpr double kMostSteps = 32;     // of a row: what a prompt half read shifts to the next is small then
  static constexpr double kMostSeconds = 600;  // of a row: an engine that stood still that long was not working

  struct Row {
    double steps = 0, running = 0, context = 0, prefill = 0, start_s = 0, end_s = 0;
    bool after_pause = false;
  };

  void end_row() {
    const double start_s = row_.after_pause ? std::max(last_s_, row_.start_s) : last_s_;
    const double seconds = row_.end_s - start_s;
    if (start_s > 0) {
      if (seconds > 0 && seconds <= kMostSeconds) {
        sums.add(row_.steps, row_.running, row_.context, row_.prefill, seconds);
      } else {
        sums.cut += 1;
      }
    }
    last_s_ = std::isfinite(row_.end_s) ? row_.end_s : 0;
    row_ = {};
  }

  Row row_;
  double last_s_ = 0;  // when the row before ended; 0: not known
};

}  // namespace headgate
