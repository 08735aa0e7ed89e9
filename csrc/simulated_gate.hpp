// The gate of a simulation: so many requests in flight, the others wait in a bounded queue, oldest first, or are
// refused, by the rules of router/gate (`gate`, `rate`, `promises`) for requests that never come back. Its test holds
// it to that room's code. Seconds; callers pass the time.
#pragma once
#include <algorithm>
#include <cstdint>
#include <deque>

namespace headgate {
namespace simulated {

struct GateLimits {
  int64_t in_flight = 2048, places = 512;
  double queue_s = 10;
};

// router/gate/rate.py.
class FreedRate {
 public:
  void seen(double now_s, int64_t freed, double busy_s) {
    const Sample last = samples_.empty() ? Sample{now_s, 0, 0} : samples_.back();
    if (freed > last.freed) changed_s_ = now_s;
    if (now_s - last.at_s > kGapS) {
      learn(last, freed, busy_s);
      samples_.clear();
    }
    if (samples_.empty()) {
      learn(last, freed, busy_s);
      changed_s_ = now_s;
    }
    if (samples_.empty() || now_s - last.at_s >= kStepS) samples_.push_back({now_s, freed, busy_s});
    while (samples_.size() > 1 && samples_[1].at_s <= now_s - kWindowS) samples_.pop_front();
  }

  // `seen` was called.
  double per_second(double now_s, int64_t freed, double busy_s, int64_t most) {
    const Sample& since = samples_.front();
    learn(since, freed, busy_s);
    const double mean_s = std::max(mean_s_ != 0 ? mean_s_ : kAssumedS, now_s - changed_s_);
    return static_cast<double>(freed - since.freed + most) / (now_s - since.at_s + mean_s);
  }

 private:
  static constexpr double kWindowS = 10, kGapS = 2, kStepS = 0.1, kAssumedS = 1;

  struct Sample {
    double at_s;
    int64_t freed;
    double busy_s;
  };

  void learn(const Sample& from, int64_t freed, double busy_s) {
    const int64_t count = freed - from.freed;
    if (count) mean_s_ = (busy_s - from.busy_s) / static_cast<double>(count);
  }

  std::deque<Sample> samples_;
  double mean_s_ = 0, changed_s_ = 0;
};

class Gate {
 public:
  enum Answer { kBegins, kWaits, kRefused };

  GateLimits limits;
  int64_t running = 0;

  explicit Gate(const GateLimits& kept) : limits(kept) {}

  Answer take(int64_t id, double now_s) {
    if (running < limits.in_flight && queue_.empty()) {
      ++running;
      return kBegins;
    }
    rate_.seen(now_s, freed_, busy_s_);
    while (!promises_.empty() && promises_.front().until_s < now_s) forget();
    const double rate = rate_.per_second(now_s, freed_, busy_s_, limits.in_flight);
    int64_t places = std::min(limits.places, std::max(kLeastPlaces, static_cast<int64_t>(rate * limits.queue_s)));
    if (!promises_.empty()) places = (places + 1) / 2;
    if (static_cast<int64_t>(queue_.size()) >= places) {
      promise(now_s, rate, false);
      return kRefused;
    }
    queue_.push_back({id, now_s});
    return kWaits;
  }

  // A request that ran has ended; it began at `begun_s`.
  void ended(double begun_s, double now_s) {
    --running;
    ++freed_;
    busy_s_ += now_s - begun_s;
  }

  bool lets_in() const { return !queue_.empty() && running < limits.in_flight; }

  // The one whose turn it is.
  int64_t next(double now_s) {
    rate_.seen(now_s, freed_, busy_s_);
    ++running;
    return pop();
  }

  // When the oldest has waited for as long as it may.
  double too_late_s() const { return queue_.empty() ? 1e300 : queue_.front().since_s + limits.queue_s; }

  int64_t give_up(double now_s) {
    const int64_t id = pop();
    rate_.seen(now_s, freed_, busy_s_);
    promise(now_s, rate_.per_second(now_s, freed_, busy_s_, limits.in_flight), true);
    return id;
  }

 private:
  static constexpr int64_t kLeastPlaces = 2;
  static constexpr double kShare = 0.9, kMostS = 600, kLateS = 3, kLateShare = 0.5;
  static constexpr size_t kMostPromises = 65536;

  struct Waiting {
    int64_t id;
    double since_s;
  };
  struct Promise {
    double until_s;
    bool again;
  };

  int64_t pop() {
    const int64_t id = queue_.front().id;
    queue_.pop_front();
    return id;
  }

  void forget() {
    again_ -= promises_.front().again;
    promises_.pop_front();
  }

  // router/gate/promises.py: that it comes back is expected for a while, though it never does.
  void promise(double now_s, double rate, bool again) {
    const double ahead = static_cast<double>(again ? again_ : static_cast<int64_t>(promises_.size()));
    const double wait_s = static_cast<double>(queue_.size() + 1) / rate + ahead / (kShare * rate);
    if (wait_s > kMostS || promises_.size() >= kMostPromises) return;
    promises_.push_back({now_s + wait_s + kLateS + kLateShare * wait_s, again});
    again_ += again;
  }

  std::deque<Waiting> queue_;
  std::deque<Promise> promises_;
  int64_t freed_ = 0, again_ = 0;
  double busy_s_ = 0;
  FreedRate rate_;
};

}  // namespace simulated
}  // namespace headgate
