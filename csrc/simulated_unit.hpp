// One engine of a simulated pool as the frontend sees it: what it tells of its load, how late, and what is known of its
// steps. Knows no other engine and no policy. Seconds, tokens, USD; callers pass the time.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "look.hpp"
#include "simulated_engine.hpp"

namespace headgate {
namespace simulated {

// What decisions know of an engine, beside its load.
struct Known {
  double usd_per_s = 0;
  double overhead_s = 0;
  double mean_output_tokens = 200;
  Rates fixed;
  double cost_error = 0, first_token_error = 0, output_token_error = 0;  // of the step model's predictions
  bool has_model = true;                                                 // else it is decided by simple rates
};

struct EngineSpec {
  int64_t model = 0;
  int64_t context_tokens = 0;  // 0: as many as its KV cache holds
  Law law;
  Bounds bounds;
  Known known;
  std::vector<int64_t> beside;  // engines of the same devices
};

struct Unit {
  EngineSpec spec;
  Engine engine;
  Load load;
  bool calm = true;         // its last load frame told of no work
  double share = 0;         // of the last window in which it worked
  int64_t busy_beside = 0;  // engines of its devices that work
  bool busy = false;

  Unit(const EngineSpec& its, std::vector<Sequence>* all) : spec(its), engine(its.law, its.bounds, all) {
    load.fixed = its.known.fixed;
    load.mean_output_tokens = its.known.mean_output_tokens;
    load.overhead_s = its.known.overhead_s;
    if (its.known.has_model) believe();
    load.reported({});
  }

  int64_t context() const {
    const int64_t kv = spec.bounds.kv_blocks * spec.bounds.block_tokens;
    return spec.context_tokens ? std::min(spec.context_tokens, kv) : kv;
  }

  // By how much its next steps are slowed.
  double slower() const { return 1 + spec.law.slowdown * static_cast<double>(busy_beside); }

  // As a decision sees it now.
  Member member(double now_s, double report_s) {
    tell(now_s, report_s, false);
    Member out{};
    out.ready = true;
    out.capabilities = ~Bits{0};
    out.context_tokens = spec.context_tokens;
    out.usd_per_s = spec.known.usd_per_s;
    look(load, -1, &out);  // the cache is a share of each prompt: nobody has more of one
    return out;
  }

  // A window of `seconds` is over.
  void window(double now_s, double seconds) {
    const double worked = engine.worked_s(now_s);
    share = std::min(1.0, (worked - window_s_) / seconds);
    window_s_ = worked;
  }

  // Learns of the answer to a request that was submitted at `submitted_s`.
  void answered(const Sequence& it, double submitted_s) {
    const double first_s = it.first_s - submitted_s + spec.known.overhead_s;
    load.answered(it.prompt, it.output, it.cached, first_s, it.end_s - submitted_s + spec.known.overhead_s);
    load.ended();
    hits_.add(static_cast<double>(it.cached), static_cast<double>(it.prompt));
    reads_.add(static_cast<double>(it.prompt - it.cached), it.first_s - it.begun_s);
  }

  // A load frame, where one was due by `now_s`: the last one. After a calm the first step that ends is told at once,
  // and further ones at most every `report_s` (host/server.py).
  void tell(double now_s, double report_s, bool stepped) {
    const double passed_s = now_s - told_s_;
    if (calm && !stepped) return;
    if (passed_s < report_s) {
      calm = calm && !stepped;  // told when it is due
      return;
    }
    const double at_s = calm ? now_s : told_s_ + std::floor(passed_s / report_s) * report_s;
    LoadFrame frame;
    frame.running = std::min(engine.running(), engine.unfinished());
    frame.waiting = engine.unfinished() - frame.running;
    frame.context_tokens = engine.unfinished() ? engine.held(at_s) : 0;
    frame.prefix_hit = std::min(1.0, hits_.value());
    frame.prefill_tokens_per_s = reads_.value();
    frame.time_per_output_token_s = spec.law.step_s + static_cast<double>(frame.running) * spec.law.running_s +
                                    static_cast<double>(frame.context_tokens) * spec.law.context_s;
    load.reported(frame);
    told_s_ = at_s;
    calm = engine.unfinished() == 0;
  }

 private:
  static constexpr double kKeep = 0.98;           // of the past, by a new sample: host/load.py
  static constexpr uint64_t kKnownWindows = 1e6;  // its step model is as sure as it can be, but for its errors

  struct Ratio {
    double amount = 0, per = 0;

    void add(double more, double more_per) {
      if (!(more_per > 0)) return;
      amount = amount * kKeep + more;
      per = per * kKeep + more_per;
    }

    double value() const { return per > 0 ? amount / per : 0; }
  };

  void believe() {
    const Law& law = spec.law;
    const double known[] = {law.step_s, law.running_s, law.context_s, law.prefill_s, law.slowdown};
    std::copy(known, known + 5, load.cost.coefficients);
    load.cost.windows = kKnownWindows;
    load.cost.errors.restore(kKnownWindows, spec.known.cost_error);
    load.first_token_errors.restore(kKnownWindows, spec.known.first_token_error);
    load.output_token_errors.restore(kKnownWindows, spec.known.output_token_error);
    load.learn(0, 0);
  }

  double told_s_ = 0;    // of the last load frame
  double window_s_ = 0;  // worked up to the last window
  Ratio hits_, reads_;   // of prefix caches; prompt tokens a second
};

}  // namespace simulated
}  // namespace headgate
