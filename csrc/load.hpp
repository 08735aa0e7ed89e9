// How loaded a member is and how fast it works: load frames, what was submitted since the last one, and rates learnt
// from finished answers. Knows no clock and no connection. Tokens, seconds.
#pragma once
#include <algorithm>
#include <cstdint>

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
};

// What the config fixes; 0: to be learnt.
struct Rates {
  double prefill_tokens_per_s = 0, time_per_output_token_s = 0;
};

class Load {
 public:
  LoadFrame frame;
  Rates fixed;
  double mean_output_tokens = 0;
  int64_t in_flight = 0;
  uint64_t changes = 0;  // grows with everything that a decision could notice

  void reported(const LoadFrame& told) {
    frame = bounded(told);
    reported_ = true;
    fresh_waiting_ = fresh_tokens_ = 0;
    ++changes;
  }

  // The engine is gone: its queue with it. Rates stay: its successor is the same model on the same GPU.
  void forget() {
    reported({});
    reported_ = false;
  }

  void submitted(int64_t prompt_tokens) {
    ++in_flight;
    ++fresh_waiting_;
    fresh_tokens_ += prompt_tokens;
    const double tokens = static_cast<double>(prompt_tokens);
    const double mean = mean_prompt_tokens_ != 0 ? mean_prompt_tokens_ : tokens;
    mean_prompt_tokens_ = mean + kNew * (tokens - mean);
    ++changes;
  }

  // A request finished, failed or was aborted.
  void ended() {
    --in_flight;
    ++changes;
  }

  // Learn from a finished answer. Zeroes mean unknown.
  void answered(int64_t prompt, int64_t completion, int64_t cached, double first_token_s, double total_s) {
    ++changes;
    if (!plausible(prompt) || !plausible(completion) || !plausible(cached)) return;
    if (!plausible(first_token_s, 0, kMostSeconds) || !plausible(total_s, 0, kMostSeconds)) return;
    if (completion) average(&mean_output_tokens, static_cast<double>(completion));
    if (first_token_s > kLeastPrefill) {
      average(&ttft_s_, first_token_s);
      if (prompt > cached) average(&prefill_tokens_per_s_, static_cast<double>(prompt - cached) / first_token_s);
    }
    const double decoding_s = total_s - first_token_s;
    if (completion > 1 && first_token_s > 0 && decoding_s > 0) {
      average(&time_per_output_token_s_, decoding_s / static_cast<double>(completion - 1));
    }
  }

  int64_t running() const { return reported_ ? frame.running : in_flight; }

  // Between two load frames a fast engine answers more than it can ever have had waiting.
  int64_t waiting() const { return reported_ ? frame.waiting + std::min(fresh_waiting_, in_flight) : 0; }

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
    const double ahead = static_cast<double>(frame.waiting);
    double prefill_s = 0;
    if (rate != 0) {
      const double fresh = static_cast<double>(fresh_waiting_);
      const double share = fresh_waiting_ ? std::min(1.0, static_cast<double>(in_flight) / fresh) : 0;
      const double tokens = ahead * mean_prompt_tokens_ + share * static_cast<double>(fresh_tokens_);
      prefill_s = tokens * (1 - frame.prefix_hit) / rate;
    }
    if (frame.waiting == 0) return prefill_s;
    // A request waits in vLLM only when slots or KV blocks are used up; one frees as an answer of the batch ends.
    const double batch = static_cast<double>(std::max<int64_t>(frame.running, 1));
    return prefill_s + ahead * (mean_output_tokens * time_per_output_token_s() / batch);
  }

 private:
  static constexpr double kNew = 0.05;  // weight of the newest answer: about the last twenty count
  // A first token that came sooner says more of timer resolution and cached prompts than of prefill speed.
  static constexpr double kLeastPrefill = 1e-4;
  static constexpr double kRounding = 1e-3;  // a share may come out a little above 1

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
    return out;
  }

  static double first_of(double a, double b, double c) { return a != 0 ? a : b != 0 ? b : c; }

  static void average(double* mean, double value) { *mean = *mean == 0 ? value : *mean + kNew * (value - *mean); }

  bool reported_ = false;
  int64_t fresh_waiting_ = 0, fresh_tokens_ = 0;  // submitted since the last load frame
  double mean_prompt_tokens_ = 0, prefill_tokens_per_s_ = 0, time_per_output_token_s_ = 0, ttft_s_ = 0;
};

}  // namespace headgate
