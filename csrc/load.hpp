// How loaded a member is and how fast it works: load frames, what was submitted since the last one, and rates learnt
// from finished answers; and the step model that its step sums are learnt into (csrc/cost.hpp). Knows no clock and no
// connection. Tokens, seconds.
#pragma once
#include <algorithm>
#include <cstdint>

#include "cost.hpp"
#include "lengths.hpp"
#include "step_sums.hpp"

namespace headgate {

// Bounds on what an engine claims, as in router/pool/claims.py: out of them, or no number, is as unknown. Figures
// within them keep every sum and quotient of this file finite.
inline constexpr int64_t kMostTokens = int64_t{1} << 30;
inline constexpr double kMostSeconds = 1e7, kMostPerSecond = 1e9, kLeastPerSecond = 1e-3, kLeastSeconds = 1e-9;

inline bool plausible(int64_t tokens) {
  return tokens >= 0 && tokens <= kMostTokens;
}

inline bool plausible(double value, double least, double most) {
  return value >= least && value <= most;
}

// What a load frame tells.
struct LoadFrame {
  int64_t running = 0, waiting = 0;
  double kv_use = 0, prefix_hit = 0, prefill_tokens_per_s = 0, time_per_output_token_s = 0;
  int64_t context_tokens = 0;
  StepSums sums;
};

// What the config fixes; 0: to be learnt.
struct Rates {
  double prefill_tokens_per_s = 0, time_per_output_token_s = 0;
};

// What the step model says of a member at one moment: numbers of csrc/numbers.hpp of the same names.
struct StepPrices {
  double step_s = 0, step_running_s = 0, step_context_s = 0, step_prefill_s = 0;
  double cost_trust = 0, wait_trust = 0;
};

// What the head expects of an answer's length: the mean, and the deviation of its logarithm. 0: nothing.
struct Length {
  double tokens = 0, log_sd = 0;
};

// The time to the first token, and between two, and the length, that were expected of a request as it was submitted.
struct Expected {
  uint64_t id = 0;
  bool priced = false;  // the step model told the times
  double first_token_s = 0, output_token_s = 0, overhead_s = 0;
  double matched = -1;  // share of its prompt that the engine got before; below 0: not known
  Length length;
};

// Another number for each cache that an engine begins with, above 0 (csrc/prefixes.hpp).
inline uint32_t next_holder() {
  static uint32_t last = 0;
  return ++last ? last : ++last;
}

// What the model says of a batch, in one place for what is expected here and for the terms of a decision.
inline double batch_step_s(const StepPrices& p, double running, double context) {
  return p.step_s + running * p.step_running_s + context * p.step_context_s;
}

// Until the first token of a request that computes `prefill` tokens of its prompt, behind `queued` tokens of others and
// `steps` steps that pass before it has a slot: half of the step under way, those steps, and its own.
inline double first_token_s(const StepPrices& p, double running, double context, double prefill, double queued,
                            double steps) {
  const double step_s = batch_step_s(p, running, context);
  const double under_way_s = running > 0 ? step_s / 2 : 0;
  return under_way_s + steps * step_s + step_s + p.step_running_s + (prefill + queued) * p.step_prefill_s;
}

class Load {
 public:
  LoadFrame frame;
  Rates fixed;
  double mean_output_tokens = 0;
  int64_t in_flight = 0;
  int64_t most_running = 0;  // sequences that the engine runs at once; 0: not known
  int64_t lined = 0;         // requests that wait before it, until it has room
  uint64_t ends = 0;         // of requests, since the start
  double served_s = 0;       // the engine's seconds of those that were answered
  uint64_t changes = 0;      // grows with everything that a decision could notice
  StepCost cost;
  Errors first_token_errors, output_token_errors;
  LengthLevel lengths;
  double overhead_s = 0;  // of a first token beyond the steps that lead to it: rendering, and the way between processes
  double busy = 0;        // share of the time in which the devices' engines worked lately
  double others = 0;      // and the others of them, summed
  uint32_t holder = next_holder();

  void reported(const LoadFrame& told) {
    frame = bounded(told);
    reported_ = true;
    fresh_waiting_ = fresh_tokens_ = fresh_ends_ = 0;
    ++changes;
  }

  // The engine is gone: its queue with it. Rates stay: its successor is the same model on the same GPU.
  void forget() {
    reported({});
    reported_ = false;
    base_ = {}, based_ = false;
    holder = next_holder();
  }

  // Share of a prompt that the prefix cache is expected to have, `matched` of which the engine got before; below 0: not
  // known, and the share that it lately had of all prompts is told.
  double hit(double matched) const {
    if (matched < 0) return frame.prefix_hit;
    const double beyond = hits_ < kFewAnswers ? frame.prefix_hit : beyond_;
    return std::min(1.0, matched * kept_ + (1 - matched) * beyond);
  }

  // Seconds that the engine has worked since the last `learn`.
  double worked_s() const {
    StepSums window;
    return based_ && grown(frame.sums, base_, &window) ? window.seconds : 0;
  }

  // Learns from the steps since the last time, in which the other engines of its devices were busy for `others_now` of
  // the time and all of them together for `busy_now`. False: there was nothing to learn from.
  bool learn(double others_now, double busy_now) {
    StepSums window;
    // What was summed up before we listened is of no known time: others of the devices worked who knows how.
    const bool learnt = based_ && grown(frame.sums, base_, &window);
    if (learnt) cost.learn(window, others_now);
    base_ = frame.sums, based_ = reported_;
    others += kLately * (others_now - others);
    busy += kLately * (busy_now - busy);
    trusted();
    ++changes;
    return learnt;
  }

  // `id`: of the request in the engine, to be told again as it is answered; 0: nothing is expected of it. `matched`: as
  // of `hit`.
  void submitted(int64_t prompt_tokens, uint64_t id = 0, double matched = -1, Length length = {}) {
    const double tokens = static_cast<double>(prompt_tokens);
    if (id) {
      Expected& expected = expected_[id % kExpected] = expect(id, tokens, matched);
      expected.length = length;
    }
    ++in_flight;
    ++fresh_waiting_;
    fresh_tokens_ += prompt_tokens;
    const double mean = mean_prompt_tokens_ != 0 ? mean_prompt_tokens_ : tokens;
    mean_prompt_tokens_ = mean + kNew * (tokens - mean);
    ++changes;
  }

  // A request finished, failed or was aborted.
  void ended() {
    --in_flight;
    ++ends;
    ++fresh_ends_;
    ++changes;
  }

  // Whether a request that is handed over now starts at once, or is one of the few that wait in the engine so that no
  // step idles. What other clients of the engine have counts too. An engine whose cache is full runs no more than it
  // does.
  bool room() const {
    if (most_running <= 0 || in_flight <= 0) return true;  // one at a time, whatever the engine claims
    int64_t most = most_running, held = in_flight;
    if (reported_) {
      if (frame.waiting > 0 && frame.kv_use >= kFullCache) most = std::min(most, std::max<int64_t>(frame.running, 1));
      held = std::max(held, frame.running + frame.waiting + fresh_waiting_ - fresh_ends_);
    }
    return held < most + kSpare;
  }

  // The same, of a request that no other waits before.
  bool open() const { return lined == 0 && room(); }

  // Learn from a finished answer. Zeroes mean unknown. `cut`: it ended because it might not be longer.
  void answered(int64_t prompt, int64_t completion, int64_t cached, double first_token_s, double total_s,
                uint64_t id = 0, bool cut = false) {
    ++changes;
    if (!plausible(prompt) || !plausible(completion) || !plausible(cached)) return;
    if (!plausible(first_token_s, 0, kMostSeconds) || !plausible(total_s, 0, kMostSeconds)) return;
    served_s += total_s;
    if (completion) average(&mean_output_tokens, static_cast<double>(completion));
    if (first_token_s > kLeastPrefill) {
      average(&ttft_s_, first_token_s);
      if (prompt > cached) average(&prefill_tokens_per_s_, static_cast<double>(prompt - cached) / first_token_s);
    }
    const double decoding_s = total_s - first_token_s;
    if (completion > 1 && first_token_s > 0 && decoding_s > 0) {
      average(&time_per_output_token_s_, decoding_s / static_cast<double>(completion - 1));
    }
    Expected& expected = expected_[id % kExpected];
    if (!id || expected.id != id) return;
    lengths.learn(expected.length.tokens, expected.length.log_sd, static_cast<double>(completion), cut);
    if (expected.priced) compare(expected, completion, first_token_s, decoding_s);
    if (expected.matched >= 0 && prompt > 0) {
      cached_of(expected.matched, std::min(1.0, static_cast<double>(cached) / static_cast<double>(prompt)));
    }
    expected.id = 0;
  }

  // What a decision reads of the model; nothing where the config fixes a rate.
  StepPrices prices() const {
    const double* k = cost.coefficients;
    const double slower = 1 + k[4] * others;
    const bool fixes = fixed.prefill_tokens_per_s != 0 || fixed.time_per_output_token_s != 0;
    return {k[0] * slower, k[1] * slower,           k[2] * slower,
            k[3] * slower, fixes ? 0 : cost_trust_, fixes ? 0 : wait_trust_};
  }

  int64_t running() const { return reported_ ? frame.running : in_flight; }

  // Between two load frames a fast engine answers more than it can ever have had waiting.
  int64_t waiting() const { return reported_ ? lined + frame.waiting + std::min(fresh_waiting_, in_flight) : lined; }

  double prefill_tokens_per_s() const {
    return first_of(fixed.prefill_tokens_per_s, frame.prefill_tokens_per_s, prefill_tokens_per_s_);
  }

  double time_per_output_token_s() const {
    return first_of(fixed.time_per_output_token_s, frame.time_per_output_token_s, time_per_output_token_s_);
  }

  // Seconds until what waits ahead has been read: its prefill, and the slots that must first become free.
  double queued_s() const {
    const double rate = prefill_tokens_per_s();
    if (!reported_) {
      // No engine tells its queue: what first tokens lately took beyond their own prefill was waiting.
      const double own_s = rate != 0 ? mean_prompt_tokens_ / rate : 0;
      return std::max(0.0, ttft_s_ - own_s);
    }
    const double prefill_s = rate != 0 ? queued_tokens() / rate : 0;
    if (frame.waiting + lined == 0) return prefill_s;
    return prefill_s + queued_steps() * time_per_output_token_s();
  }

  // Prompt tokens that will be computed before those of a request that comes now.
  double queued_tokens() const {
    if (!reported_) return 0;
    const double ahead = static_cast<double>(frame.waiting + lined), fresh = static_cast<double>(fresh_waiting_);
    const double share = fresh_waiting_ ? std::min(1.0, static_cast<double>(in_flight) / fresh) : 0;
    const double tokens = ahead * mean_prompt_tokens_ + share * static_cast<double>(fresh_tokens_);
    return tokens * (1 - frame.prefix_hit);
  }

  // Steps that pass until it has a slot. A request waits in vLLM, or before it, only when slots or KV blocks are used
  // up; one frees as an answer of the batch ends.
  double queued_steps() const {
    if (!reported_ || frame.waiting + lined == 0) return 0;
    const double batch = static_cast<double>(std::max<int64_t>(frame.running, 1));
    return static_cast<double>(frame.waiting + lined) * (mean_output_tokens / batch);
  }

 private:
  static constexpr double kNew = 0.05;  // weight of the newest answer: about the last twenty count
  // A first token that came sooner says more of timer resolution and cached prompts than of prefill speed.
  static constexpr double kLeastPrefill = 1e-4;
  static constexpr double kRounding = 1e-3;  // a share may come out a little above 1
  static constexpr int64_t kSpare = 2;       // requests that wait in an engine beside those that it runs
  static constexpr double kFullCache = 0.9;  // use of the KV cache with which a request may wait for its blocks

  static constexpr double kLately = 0.2;        // weight of the newest window in `busy` and `others`
  static constexpr uint64_t kFewWindows = 10;   // before which nothing is expected of the model
  static constexpr double kEnoughWindows = 50;  // from which on it is trusted as its errors say
  static constexpr uint64_t kFewAnswers = 10;   // whose errors say nothing yet
  static constexpr int64_t kFewTokens = 8;      // of an answer whose time per token says nothing
  static constexpr size_t kExpected = 1024;     // requests of which is remembered what was expected
  // Median errors up to which a kind of prediction is trusted wholly, and from which on not at all.
  static constexpr double kFineCost = 0.15, kPoorCost = 0.6, kFineWait = 0.3, kPoorWait = 1.2;

  Expected expect(uint64_t id, double prompt_tokens, double matched) const {
    if (cost.windows < kFewWindows) return {id, false, 0, 0, 0, matched, {}};
    const StepPrices p = prices();
    const double running = static_cast<double>(frame.running), context = static_cast<double>(frame.context_tokens);
    const double prefill = prompt_tokens * (1 - hit(matched));
    const double first_s = headgate::first_token_s(p, running, context, prefill, queued_tokens(), queued_steps());
    const double token_s = batch_step_s(p, running + 1, context + prompt_tokens + mean_output_tokens / 2);
    return {id, true, first_s + overhead_s, token_s, overhead_s, matched, {}};
  }

  // Of an answered prompt: the cache had `share` of it, of which the engine got `matched` before. What it had is told
  // of the beginning first: of what it got before, so much is still kept; of the rest, so much has come otherwise.
  void cached_of(double matched, double share) {
    const double kept = std::min(share, matched), beyond = share - kept;
    const double newest = std::max(kNew, 1 / static_cast<double>(++hits_));
    if (matched > 0) kept_ += newest * matched * (kept / matched - kept_);
    if (matched < 1) beyond_ += newest * (1 - matched) * (beyond / (1 - matched) - beyond_);
  }

  void compare(const Expected& e, int64_t completion, double first_token_s, double decoding_s) {
    if (first_token_s > 0) {
      first_token_errors.add(e.first_token_s, first_token_s);
      // Of one that took far longer only so much: it says nothing of the others.
      const double beyond = std::max(0.0, first_token_s - (e.first_token_s - e.overhead_s));
      overhead_s += kNew * (std::min(beyond, 2 * e.first_token_s) - overhead_s);
    }
    if (completion >= kFewTokens && decoding_s > 0) {
      output_token_errors.add(e.output_token_s, decoding_s / static_cast<double>(completion - 1));
    }
  }

  void trusted() {
    const double known = static_cast<double>(cost.windows) / kEnoughWindows;
    const double enough = cost.windows < kFewWindows ? 0 : std::min(1.0, known);
    const double steps = enough * fine(cost.errors, 0, kFineCost, kPoorCost);
    cost_trust_ = steps * fine(output_token_errors, kFewAnswers, kFineWait, kPoorWait);
    wait_trust_ = steps * fine(first_token_errors, kFewAnswers, kFineWait, kPoorWait);
  }

  static double fine(const Errors& errors, uint64_t few, double least, double most) {
    if (errors.told() <= few) return 1;
    return std::min(1.0, std::max(0.0, (most - errors.median()) / (most - least)));
  }

  static double or_unknown(double value, double least, double most) {
    return plausible(value, least, most) ? value : 0;
  }

  static LoadFrame bounded(const LoadFrame& told) {
    LoadFrame out;
    out.running = plausible(told.running) ? told.running : 0;
    out.waiting = plausible(told.waiting) ? told.waiting : 0;
    out.kv_use = std::min(or_unknown(told.kv_use, 0, 1 + kRounding), 1.0);
    out.prefix_hit = std::min(or_unknown(told.prefix_hit, 0, 1 + kRounding), 1.0);
    out.prefill_tokens_per_s = or_unknown(told.prefill_tokens_per_s, kLeastPerSecond, kMostPerSecond);
    out.time_per_output_token_s = or_unknown(told.time_per_output_token_s, kLeastSeconds, kMostSeconds);
    out.context_tokens = plausible(told.context_tokens) ? told.context_tokens : 0;
    out.sums = told.sums;
    return out;
  }

  static double first_of(double a, double b, double c) { return a != 0 ? a : b != 0 ? b : c; }

  static void average(double* mean, double value) { *mean = *mean == 0 ? value : *mean + kNew * (value - *mean); }

  bool reported_ = false;
  int64_t fresh_waiting_ = 0, fresh_tokens_ = 0;  // submitted since the last load frame
  int64_t fresh_ends_ = 0;                        // and ended
  StepSums base_;                                 // of the frame that was learnt from last
  bool based_ = false;                            // there was one
  double cost_trust_ = 0, wait_trust_ = 0;
  double kept_ = 1, beyond_ = 0;
  uint64_t hits_ = 0;  // answers that these were learnt from
  Expected expected_[kExpected];
  double mean_prompt_tokens_ = 0, prefill_tokens_per_s_ = 0, time_per_output_token_s_ = 0, ttft_s_ = 0;
};

}  // namespace headgate
